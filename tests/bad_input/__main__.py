"""How many wrong calls there are and how long the slowest takes: python -m tests.bad_input."""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from tests.bad_input.absurd import ABSURD
from tests.bad_input.calls import REFUSED, RUNS, begun
from tests.bad_input.catalogue import CATALOGUE


def seconds(wrong: Callable[[Any], object], scheduler: Any) -> float:
    """How long the call takes to be refused."""
    began = time.perf_counter()
    try:
        wrong(scheduler)
    except REFUSED:
        return time.perf_counter() - began
    raise AssertionError("not refused")


def peak(wrong: Callable[[Any], object], scheduler: Any) -> float:
    """How many bytes the call takes at most, as far as Python and NumPy know."""
    tracemalloc.start()
    try:
        seconds(wrong, scheduler)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


cases = {id_: wrong for id_, (wrong, _) in (CATALOGUE | ABSURD).items()}
schedulers = {run: begun(run) for run in RUNS}
for scheduler in schedulers.values():
    seconds(cases["from_config num_train_timesteps=0"], scheduler)  # diffusers imports all its schedulers once
times = {id_: max(seconds(wrong, scheduler) for scheduler in schedulers.values()) for id_, wrong in cases.items()}
sizes = {id_: peak(ABSURD[id_][0], schedulers["ancestral"]) for id_ in ABSURD}
slowest, largest = max(times, key=lambda id_: times[id_]), max(sizes, key=lambda id_: sizes[id_])
print(f"{len(cases)} wrong calls, each in {len(schedulers)} runs: {', '.join(schedulers)}")
print(f"slowest: {times[slowest] * 1e3:.1f} ms, {slowest[:100]}")
print(f"of {len(ABSURD)} absurd sizes the largest in memory: {sizes[largest] / 2**20:.1f} MiB, {largest[:100]}")
