"""Servers to which everything happens at random, for minutes: python -m tests.soak --minutes 30 --seed 0."""

import argparse
import logging
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from kdpm2.batching import Server
from tests.soak.asked import SHAPE, Alone, asked, clean
from tests.soak.faults import CHANCES, OTHERS, Faults, memory_runs_out
from tests.soak.memory import Memory, Watch
from tests.soak.rounds import Report, Round
from tests.soak.ticket import VERDICTS

LARGEST_DRIFT = 0.05


def soak(seconds: float, seed: int, compiled: bool, folder: Path) -> tuple[Report, Faults, Memory]:
    """Rounds until the time is over."""
    faults, alone, report = Faults(seed), Alone(), Report()
    watch = Watch(min(10.0, seconds / 30), min(60.0, seconds / 4))
    with memory_runs_out(faults):
        if compiled:
            warm()
        until, number = time.monotonic() + seconds, seed * 10**6
        watch.start()
        while time.monotonic() < until:
            Round(number, faults, alone, report, folder, compiled).run()
            number += 1
    return report, faults, watch.stop()


def warm() -> None:
    """Have torch compile what the rounds that compile need: it takes longer than a round waits for anything."""
    with Server(clean, 4, shape=SHAPE, mode="compile") as server:
        server.submit(asked(0).request()).exception()


def table(report: Report, faults: Faults) -> str:
    """A line for each fault, in Markdown."""
    lines = ["| fault | injected | lost | doubled | wrong |", "| --- | ---: | ---: | ---: | ---: |"]
    for fault in (*CHANCES, *OTHERS):
        counts = " | ".join(str(report.found[verdict][fault]) for verdict in VERDICTS)
        lines.append(f"| {fault} | {faults.injected[fault]:,} | {counts} |")
    counts = " | ".join(str(report.found[verdict]["any"]) for verdict in VERDICTS)
    return "\n".join([*lines, f"| all of them | {faults.injected.total():,} | {counts} |"])


def main() -> int:
    """The command; 1 if anything was lost, doubled or wrong, or memory grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true")
    asked_for = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("kdpm2", "concurrent.futures"):  # they tell of every fault
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with tempfile.TemporaryDirectory() as folder:
        report, faults, memory = soak(asked_for.minutes * 60, asked_for.seed, not asked_for.no_compile, Path(folder))
    left = sum(thread.name == "kdpm2 server" for thread in threading.enumerate())
    print(table(report, faults))
    print(f"{report.asked:,} requests in {report.rounds:,} rounds, {report.made:,} samples compared")
    print(
        f"memory: {memory.first:.1f} MiB at first, {memory.last:.1f} in the end, {memory.most:.1f} at most, "
        f"{memory.slope:+.3f} a minute, drift {memory.drift:+.2%}, looked at {memory.looks} times; "
        f"{left} threads of servers left"
    )
    print("\n".join(report.told))
    bad = any(report.found[verdict]["any"] for verdict in VERDICTS)
    return int(bad or memory.drift >= LARGEST_DRIFT or left)


if __name__ == "__main__":
    sys.exit(main())
