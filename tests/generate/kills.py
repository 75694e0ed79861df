"""Runs that die, and are started again: python -m tests.generate.kills --times 20.

In turn: the driver of a local run by SIGKILL, that of a run on Ray, an actor, a raylet of a cluster of three. Once the
disk is full: the output is on a small tmpfs, which is made larger afterwards (it needs root). Each job goes on until
all is made, and what there is then is compared with an undisturbed run. It needs Ray.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.generate.cluster import raylets
from tests.generate.made import Difference, pictures, rows

ROWS, ROWS_PER_FILE, BATCH = 96, 8, 8
STEPS = (4, 12)
KINDS = ("driver, local", "driver, ray", "actor", "raylet", "full disk")
_LONGEST = 1200.0


def started(output: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A run, in a process of its own."""
    words = [sys.executable, "-m", "tests.generate.kills", "--draw", str(output), *arguments]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def draw(output: Path, engine: str, address: str | None) -> None:
    """What such a process does."""
    from kdpm2.generate import Cluster, generate

    cluster = Cluster(address, actors=2, cpus=1) if engine == "ray" else Cluster()
    report = generate(
        rows(ROWS, steps=STEPS),
        output,
        engine=engine,
        cluster=cluster,
        format="webdataset",
        rows_per_file=ROWS_PER_FILE,
        batch=BATCH,
    )
    if report.failed:
        raise SystemExit(f"{report.failed} rows failed")


def parts(output: Path) -> int:
    """How many parts are there."""
    return len(list((output / "pictures").glob("part-*")))


def waits(process: "subprocess.Popen[bytes]", output: Path, more: int, seconds: float) -> bool:
    """Wait until a run has made so many more parts, and so long after; whether it is still on its way then."""
    before, until = parts(output), time.monotonic() + _LONGEST
    while process.poll() is None and parts(output) < before + more:
        if time.monotonic() > until:
            raise SystemExit("a run makes nothing")
        time.sleep(0.05)
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    return process.poll() is None


def ended(process: "subprocess.Popen[bytes]") -> int:
    """How a run ended that is let live."""
    _, said = process.communicate(timeout=_LONGEST)
    if process.returncode:
        print(said.decode()[-2000:], file=sys.stderr)
    return process.returncode


class Job:
    """One output folder, and what is done to those who fill it.

    Attributes:
        counts: Kills by name, and runs.
    """

    def __init__(self, output: Path, chance: random.Random, counts: "Counter[str]") -> None:
        self._output, self._chance, self.counts = output, chance, counts

    def driver(self, engine: str, times: int) -> None:
        """Kill the driver so many times at most, and then let it live."""
        for _ in range(times):
            process = started(self._output, engine)
            self.counts["runs"] += 1
            if not waits(process, self._output, self._chance.randint(0, 2), self._chance.uniform(0, 1.5)):
                break
            os.killpg(process.pid, signal.SIGKILL) if engine == "local" else process.kill()
            process.wait()
            self.counts[f"driver, {engine}"] += 1
        self._finish(started(self._output, engine))

    def actors(self, times: int) -> None:
        """Kill an actor so many times at most, in one run on Ray."""
        process = started(self._output, "ray")
        self._disturb(process, times, "actor", lambda: self._actors_of(psutil.Process(process.pid)))
        self._finish(process)

    @staticmethod
    def _actors_of(process: psutil.Process) -> list[psutil.Process]:
        return [each for each in process.children(recursive=True) if "MapWorker" in " ".join(each.cmdline())]

    def raylets(self, times: int) -> None:
        """Kill a node of a cluster so many times at most, and put another in its place."""
        with raylets(3) as cluster:
            process = started(self._output, "ray", cluster.address)
            self.counts["runs"] += 1
            for _ in range(times):
                if not waits(process, self._output, 1, self._chance.uniform(0, 1.5)):
                    break
                node = self._chance.choice([node for node in cluster.list_all_nodes() if node is not cluster.head_node])
                cluster.remove_node(node, allow_graceful=False)
                self.counts["raylet"] += 1
                cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
            self._finish(process)

    def _disturb(self, process: Any, times: int, name: str, victims: Any) -> None:
        self.counts["runs"] += 1
        for _ in range(times):
            if not waits(process, self._output, 1, self._chance.uniform(0, 1.5)):
                return
            there = victims()
            if there:
                self._chance.choice(there).kill()
                self.counts[name] += 1

    def full_disk(self) -> None:
        """Fill the disk, and then make room."""
        self._output.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o"]
        subprocess.run([*mount, "size=96k", "tmpfs", str(self._output)], check=True)
        try:
            process = started(self._output, "local")
            _, said = process.communicate(timeout=_LONGEST)
            if not process.returncode or b"No space left" not in said:
                raise SystemExit(f"the disk was not full: {said.decode()[-500:]}")
            self.counts["full disk"] += 1
            self.counts["runs"] += 1
            print(f"the disk was full after {parts(self._output)} parts", flush=True)
            subprocess.run([*mount, "remount,size=64m", "tmpfs", str(self._output)], check=True)
            self._finish(started(self._output, "local"))
            self.judged = pictures(self._output)
        finally:
            subprocess.run(["umount", str(self._output)], check=True)

    def _finish(self, process: "subprocess.Popen[bytes]") -> None:
        self.counts["runs"] += 1
        if ended(process):
            raise SystemExit("a run that was let live has failed")
        self.judged = pictures(self._output)
        left = list(self._output.rglob(".kdpm2-*"))
        if left and self.counts["actor"] + self.counts["raylet"] == 0:
            raise SystemExit(f"left behind: {left}")


def main() -> int:
    """The command; 1 if a set of pictures is another than that of an undisturbed run."""
    parser = argparse.ArgumentParser(prog="python -m tests.generate.kills")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=4, help="kills of one output folder, at most")
    parser.add_argument("--kinds", default=";".join(KINDS), help="in turn")
    parser.add_argument("--draw", type=Path)
    parser.add_argument("how", nargs="*")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if asked.draw:
        draw(asked.draw, *asked.how, *[None] * (2 - len(asked.how)))
        return 0
    chance, counts, wrong, begun = random.Random(asked.seed), Counter[str](), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "whole", "local", None)
        whole = pictures(Path(folder) / "whole")
        kinds, job = asked.kinds.split(";"), 0
        while (left := asked.times - sum(counts[kind] for kind in KINDS)) > 0:
            one = Job(Path(folder) / str(job), chance, counts)
            kind = kinds[job % len(kinds)]
            times = min(left, asked.each)
            ways: dict[str, Callable[[], None]] = {
                "full disk": one.full_disk,
                "driver, local": partial(one.driver, "local", times),
                "driver, ray": partial(one.driver, "ray", times),
                "actor": partial(one.actors, times),
                "raylet": partial(one.raylets, times),
            }
            ways[kind]()
            difference = Difference(whole, one.judged)
            wrong += not difference.none
            print(f"job {job}, {kind}: {difference}; {dict(counts)}, {time.monotonic() - begun:.0f} s", flush=True)
            job += 1
            if kind == "full disk" and len(kinds) > 1:  # once
                kinds.remove(kind)
    print(f"{len(whole)} rows; " + ", ".join(f"{name}: {count}" for name, count in counts.items()))
    print(f"jobs whose pictures are not those of an undisturbed run: {wrong}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
