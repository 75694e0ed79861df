"""Servers and solvers killed by SIGKILL at random moments, and started again: python -m tests.soak.kill --times 100.

Each life is a child process. It goes on with the last snapshot, writes finished samples to a log, each on the disk
before the next snapshot is written, and is killed. That goes on until all is in the log, and then anew.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import torch

from kdpm2.batching import BatchedSolver, saved
from kdpm2.batching.folder import STATE_FILE
from tests.soak.asked import TOLERANCES, Alone, asked
from tests.soak.lives import REQUESTS, STEPS, lines, serve, solve

LIVES = {"Server.snapshot": serve, "BatchedSolver.snapshot": solve}
EARLIEST, LATEST = 0.05, 1.5
"""Seconds from the start of a child to its end, at least and at most."""
MOST_KILLS = 10
"""Of one job, so that both ways get their share."""


class Killed:
    """What was seen.

    Attributes:
        counts: Kills, jobs, requests, made again, lost, doubled, wrong, by name.
        leftovers: The most files in the folder besides one snapshot, after a kill and after a whole snapshot.
    """

    def __init__(self, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.leftovers = [0, 0]
        self.told: list[str] = []
        self._chance, self._alone = random.Random(seed), Alone()

    def job(self, way: str, first: int, most_kills: int, folder: Path) -> None:
        """One set of requests, with children that are killed until all is done; the last ones are let live."""
        kills = 0
        while not (folder / "over").exists():
            covered = held(way, first, folder / "snapshot")
            seconds = self._chance.uniform(EARLIEST, LATEST) if kills < most_kills else 60.0
            child = started(way, first, folder)
            if self._ended(child, seconds):
                kills += 1
            restored = [set(map(int, line[1:])) for line in lines(folder) if line[0] == "restored"]
            if restored and (folder / "restored").exists():
                (folder / "restored").unlink()
                missing = covered - restored[-1]
                self._tell("lost", len(missing), f"{way}: {sorted(missing)} were in the snapshot")
            self.leftovers[0] = max(self.leftovers[0], beside(folder / "snapshot"))
        self.leftovers[1] = max(self.leftovers[1], beside(folder / "snapshot"))
        self.counts.update({f"killed, {way}": kills, "kills": kills, "jobs": 1, "requests": REQUESTS})
        self._judge(way, first, folder)

    def _ended(self, child: int, seconds: float) -> bool:
        """Whether a child had to be killed, which happens so many seconds after its start."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                self._tell("lost", int(status != 0), f"a child ended with {status}")
                if status:
                    raise SystemExit("\n".join(self.told))
                return False
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return True

    def _judge(self, way: str, first: int, folder: Path) -> None:
        made: dict[int, list[str]] = {}
        for line in lines(folder):
            if line[0] == "done":
                made.setdefault(int(line[1]), []).append(line[2])
            if line[0] == "lost":
                self._tell("lost", 1, f"{way}: {line[1]} was in a snapshot, and is not restored")
        lost = set(range(first, first + REQUESTS)) - set(made)
        self._tell("lost", len(lost), f"{way}: {sorted(lost)} were never made")
        for seed, samples in made.items():
            self.counts["made again"] += len(samples) - 1
            self._tell("doubled", len(set(samples)) - 1, f"{way}: {seed} was made with other bits")
            sample = torch.frombuffer(bytearray.fromhex(samples[0]), dtype=torch.float32)
            alone = self._alone(asked(seed, STEPS), torch.float32, "gaussian").flatten()
            off = float((sample - alone).abs().max())
            self._tell("wrong", int(not off <= TOLERANCES[torch.float32]), f"{way}: {seed} is {off:g} off")

    def _tell(self, verdict: str, count: int, words: str) -> None:
        self.counts[verdict] += count
        if count and len(self.told) < 20:
            self.told.append(f"{verdict}: {words}")


def started(way: str, first: int, folder: Path) -> int:
    """A child that lives; its process id. A fork, as imports would take longer than it lives."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        LIVES[way](first, folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def held(way: str, first: int, folder: Path) -> set[int]:
    """The requests in a snapshot; none if there is none. Raises if it cannot be read."""
    if not (folder / STATE_FILE).exists():
        return set()
    if way == "BatchedSolver.snapshot":
        return {first + id for id in BatchedSolver.restore(folder).ids}
    kept = saved.read(folder, None)
    keys = [key for begun in kept.begun for key in begun.keys.values()] + [one.key for one in kept.waiting]
    return {int(key) for key in keys if key is not None}


def beside(folder: Path) -> int:
    """How many files there are that no snapshot refers to: a writer's temporaries, and what is left of older ones."""
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    hidden = sum(name.startswith(".") and "lock" not in name for name in names)
    return hidden + max(sum(name.startswith("tensors-") for name in names) - 1, 0)


def main() -> int:
    """The command; 1 if anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kill")
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked_for = parser.parse_args()
    torch.set_num_threads(1)
    killed, job = Killed(asked_for.seed), 0
    while killed.counts["kills"] < asked_for.times:
        with tempfile.TemporaryDirectory() as folder:
            way = list(LIVES)[job % len(LIVES)]
            most = min(asked_for.times - killed.counts["kills"], MOST_KILLS)
            killed.job(way, job * REQUESTS, most, Path(folder))
        job += 1
    counts = killed.counts
    print("\n".join(f"{name}: {counts[name]:,}" for name in (*(f"killed, {way}" for way in LIVES), "jobs", "requests")))
    print("\n".join(f"{name}: {counts[name]:,}" for name in ("made again", "lost", "doubled", "wrong")))
    print(f"files left besides a snapshot: at most {killed.leftovers[0]}, at the end of a job {killed.leftovers[1]}")
    print("\n".join(killed.told))
    return int(any(counts[verdict] for verdict in ("lost", "doubled", "wrong")))


if __name__ == "__main__":
    sys.exit(main())
