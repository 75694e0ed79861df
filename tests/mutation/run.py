"""Changes the core one operator or number at a time, and prints which of the changes its tests do not notice.

Every worker mutates a copy of its own, so that the working tree stays as it is. A survivor has to be explained in
survivors.md, which quotes its change as it is printed here; the exit status is 1 if one is not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONFIG = str(HERE / "cosmic-ray.toml")
SESSION = "session.sqlite"
BIN = Path(sys.executable).parent


def environment(copy: Path) -> dict[str, str]:
    """That of a command which imports the package from `copy` and takes one core."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}


def start(copy: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([BIN / command[0], *command[1:]], cwd=copy, env=environment(copy))


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        sys.exit(f"{process.args!r} failed")


def prepare(copy: Path, worker: int, workers: int, modules: list[Path]) -> None:
    """Makes a copy of the repository whose session holds every `workers`-th mutant of `modules`, from `worker` on."""
    unused = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=unused)
    shutil.copy(ROOT / "pyproject.toml", copy)
    finish(start(copy, "cosmic-ray", "init", CONFIG, SESSION))
    finish(start(copy, "cr-filter-operators", SESSION, CONFIG))
    with use_db(copy / SESSION, WorkDB.Mode.open) as session:
        pending = sorted(session.pending_work_items, key=lambda item: repr(item.mutations))
        wanted = [item for item in pending if not modules or item.mutations[0].module_path in modules]
        chosen = {item.job_id for item in wanted[worker::workers]}
        for item in pending:
            if item.job_id not in chosen:
                session.set_result(item.job_id, WorkResult(WorkerOutcome.SKIPPED))


def results(copy: Path) -> Iterator[tuple[Any, WorkResult]]:
    """Each mutation that was tested, and how that went."""
    with use_db(copy / SESSION, WorkDB.Mode.open) as session:
        for item, result in session.completed_work_items:
            # cosmic-ray takes the lone * of a signature for a product.
            if result.worker_outcome != WorkerOutcome.SKIPPED and "SyntaxError:" not in result.output:
                yield item.mutations[0], result


def change(diff: str) -> str:
    """The lines that a mutant loses and gains."""
    lines = [line for line in diff.splitlines() if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
    return "\n".join(line for line in lines if line[1:].strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", type=Path, help="of those in cosmic-ray.toml; all if none is named")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        copies = [Path(folder, str(worker)) for worker in range(options.workers)]
        for worker, copy in enumerate(copies):
            prepare(copy, worker, len(copies), options.modules)
        finish(start(copies[0], "cosmic-ray", "baseline", CONFIG))
        for process in [start(copy, "python", "-m", "tests.mutation.worker", CONFIG, SESSION) for copy in copies]:
            finish(process)
        tested = [pair for copy in copies for pair in results(copy)]

    failed = [result.output for _, result in tested if result.worker_outcome != WorkerOutcome.NORMAL]
    if failed:
        sys.exit(f"{len(failed)} mutants could not be tested, the first since:\n{failed[0]}")
    survivors = [(mutation, result) for mutation, result in tested if result.test_outcome == TestOutcome.SURVIVED]
    timeouts = sum(result.output == "timeout" for _, result in tested)
    caught = len(tested) - len(survivors)
    explained = (HERE / "survivors.md").read_text(encoding="utf-8")
    unexplained = 0
    for mutation, result in sorted(survivors, key=lambda pair: (str(pair[0].module_path), pair[0].start_pos)):
        quoted = change(result.diff)
        known = f"\n{quoted}\n" in explained
        unexplained += not known
        mark = "" if known else " (unexplained)"
        print(f"{mutation.module_path}:{mutation.start_pos[0]} {mutation.operator_name}{mark}\n{quoted}")
    print(
        f"{len(tested)} mutants: {caught} caught ({timeouts} of them by the time limit), {len(survivors)} survived, "
        f"{unexplained} of them unexplained: {100 * caught / len(tested):.1f} % caught "
        f"in {(time.monotonic() - began) / 60:.0f} minutes"
    )
    sys.exit(unexplained > 0)


if __name__ == "__main__":
    main()
