"""`kdpm2 generate` beside a plain loop: python -m benchmarks.generating --rows 2000.

The same rows of the digits model, of 4 to 40 steps, in one process with one thread:

- *plain loop*: a batch of rows after another, and in it a call of the pipeline for the rows of each number of steps,
  which is all that a pipeline can batch;
- *generate*: `kdpm2.generate` with the local engine and the same batch size, with writing its files.

With `--mixed-eta`, rows differ in eta too, and the plain loop has to draw nearly each of them alone. `--ways` says what
is run: plain, local, and ray, a run on Ray with one actor. `--memory` measures the largest memory of the driver
instead, with fewer and more rows.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


def rows(count: int, mixed_eta: bool, steps: tuple[int, int] = (4, 40)) -> Iterator[Row]:
    """Rows of mixed steps, made as they are read."""
    chance = random.Random(0)
    for i in range(count):
        eta = {"eta": round(chance.random(), 2)} if mixed_eta else {}
        yield {"id": i, "seed": i, "label": i % 10, "steps": chance.randint(*steps), **eta}


def plain(given: Sequence[Row], batch: int, folder: Path) -> None:
    """The loop that one would write: each batch in as few calls of the pipeline as can be."""
    from kdpm2 import KDPM2AncestralDiscreteScheduler, zoo
    from kdpm2.noise import generator_of

    pipe = zoo.digits()
    pipe.set_progress_bar_config(disable=True)
    config = pipe.scheduler.config
    for first in range(0, len(given), batch):
        alike = sorted(given[first : first + batch], key=_settings)
        for (steps, eta), group in groupby(alike, key=_settings):
            some = list(group)
            pipe.scheduler = KDPM2AncestralDiscreteScheduler.from_config(config, eta=eta)
            generators = [generator_of(row["seed"]) for row in some]
            images = pipe([row["label"] for row in some], num_inference_steps=steps, generator=generators).images
            for row, image in zip(some, images, strict=True):
                image.save(folder / f"{row['id']:06}.png")


def _settings(row: Row) -> tuple[int, float]:
    return row["steps"], row.get("eta", 1.0)


def seconds(call: Any) -> tuple[float, float]:
    """How long a call takes: by the clock, and of this process's processor."""
    wall, own = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - own


def compare(count: int, batch: int, rows_per_file: int, mixed_eta: bool, wanted: Sequence[str]) -> None:
    """Print rows a second of each way, and how many times the first one's that is."""
    from kdpm2.generate import Cluster, generate

    given = list(rows(count, mixed_eta))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plain").mkdir()

        def generated(engine: str) -> Any:
            cluster = Cluster(actors=1, cpus=1) if engine == "ray" else Cluster()
            print(
                generate(
                    given,
                    folder / engine,
                    batch=batch,
                    rows_per_file=rows_per_file,
                    format="webdataset",
                    engine=engine,
                    cluster=cluster,
                )
            )

        ways = {
            "plain": ("plain loop", lambda: plain(given, batch, folder / "plain")),
            "local": ("generate", lambda: generated("local")),
            "ray": ("generate on Ray, 1 actor", lambda: generated("ray")),
        }
        first: tuple[float, float] | None = None
        for way, call in map(ways.__getitem__, wanted):
            wall, own = seconds(call)
            first = first or (wall, own)
            print(
                f"{way}: {count / wall:.1f} rows a second by the clock ({first[0] / wall:.2f} times), "
                f"{count / own:.1f} by this process's processor ({first[1] / own:.2f} times)",
                flush=True,
            )


def memory(counts: Sequence[int]) -> None:
    """Print the largest memory of a driver, each in a process of its own."""
    for count in counts:
        words = [sys.executable, "-m", "benchmarks.generating", "--one", str(count)]
        print(subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def one(count: int) -> None:
    """Plan and draw rows of one step, on Ray, so that the driver does nothing else than drive."""
    from kdpm2.generate import Cluster, generate

    with tempfile.TemporaryDirectory() as folder:
        given = rows(count, mixed_eta=True, steps=(1, 1))
        report = generate(
            given, Path(folder) / "out", engine="ray", format="webdataset", cluster=Cluster(actors=1, cpus=1)
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{report.made:,} rows: the driver had at most {peak:.0f} MiB, {report.made / report.seconds:.1f} rows a second"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generating")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rows-per-file", type=int, default=500)
    parser.add_argument("--mixed-eta", action="store_true")
    parser.add_argument("--ways", nargs="+", choices=["plain", "local", "ray"], default=["plain", "local"])
    parser.add_argument("--memory", type=int, nargs="*", metavar="ROWS")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if asked.one:
        one(asked.one)
    elif asked.memory is not None:
        memory(asked.memory or [1000, 20_000])
    else:
        compare(asked.rows, asked.batch, asked.rows_per_file, asked.mixed_eta, asked.ways)


if __name__ == "__main__":
    main()
