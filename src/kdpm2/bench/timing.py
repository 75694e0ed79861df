"""Medians of runs that alternate between projects in one process, so that what disturbs one disturbs the others.

A work is a context manager: entering it makes ready what is not to be timed, what it yields is run on the clock, and
leaving it cleans up. A run says how many units it did; times are those of one unit.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import Any, TypeAlias

Run: TypeAlias = Callable[[], float]
Work: TypeAlias = Callable[[], AbstractContextManager[Run]]


@dataclass(frozen=True)
class Time:
    """What one project takes for one case.

    Attributes:
        seconds: Median for one unit of work.
        repeats: How many times it was measured, after a first run that does not count.
        quartiles: The first and the third, in seconds.
        bound: Seconds below which it cannot be, where that is known.
    """

    case: str
    project: str
    seconds: float
    repeats: int
    quartiles: tuple[float, float]
    bound: float | None = None


@dataclass(frozen=True)
class Memory:
    """The most memory that one project has at once, in units of the sample's size."""

    case: str
    project: str
    samples: float


Record: TypeAlias = Time | Memory


@dataclass(frozen=True)
class Case:
    """Something to measure: a name, and a function that does it."""

    name: str
    measure: Callable[[], Sequence[Record]]


def nothing() -> None:
    """What there is to wait for on a CPU."""


def side_by_side(
    works: Mapping[str, Work], repeats: int, synchronize: Callable[[], None] = nothing
) -> dict[str, list[float]]:
    """Seconds for one unit of work of each project, `repeats` times.

    Args:
        works: What each project does.
        repeats: How often each does it, at least 1; a first round warms up and is not counted.
        synchronize: Waits for a device that works by itself.
    """
    times: dict[str, list[float]] = {project: [] for project in works}
    with _no_garbage_collection():
        for repeat in range(repeats + 1):
            for project, work in works.items():
                with work() as run:
                    synchronize()
                    start = perf_counter()
                    units = run()
                    synchronize()
                    elapsed = (perf_counter() - start) / units
                if repeat:
                    times[project].append(elapsed)
    return times


def summary(case: str, project: str, seconds: Sequence[float], bound: float | None = None) -> Time:
    """The record of a list of times."""
    first, _, third = quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    return Time(case, project, median(seconds), len(seconds), (first, third), bound)


def repeated(work: Callable[[], Any], times: int) -> Work:
    """A work that needs no preparation, done so often that a clock can tell."""

    @contextmanager
    def prepared() -> Iterator[Run]:
        def run() -> int:
            for _ in range(times):
                work()
            return times

        yield run

    return prepared


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
