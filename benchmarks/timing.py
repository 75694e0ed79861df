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


@dataclass(frozen=True)
class Served:
    """How requests were answered that came at random times; `project` is the policy that batched them.

    Attributes:
        offered: How many came a second, on average.
        requests: How many there were.
        throughput: How many were answered a second, from the start to the last answer.
        calls: How often the network was called.
        occupancy: The share of the largest batch that a call was needed for, the mean of the calls.
        latencies: The percentiles 1 to 99 of the seconds from a request's arrival to its answer.
    """

    case: str
    project: str
    offered: float
    requests: int
    throughput: float
    calls: int
    occupancy: float
    latencies: tuple[float, ...]

    def percentile(self, percent: int) -> float:
        """Seconds within which so many of a hundred requests were answered."""
        return self.latencies[percent - 1]


Record: TypeAlias = Time | Memory | Served


@dataclass(frozen=True)
class Case:
    """Something to measure: a name, and a function that does it."""

    name: str
    measure: Callable[[], Sequence[Record]]


def nothing() -> None:
    """What there is to wait for on a CPU."""


class Stopwatch:
    """A clock that can be made to stand still."""

    def __init__(self) -> None:
        self._stood_still = 0.0

    def __call__(self) -> float:
        """Seconds since some moment."""
        return perf_counter() - self._stood_still

    def uncounted(self, call: Callable[[], Any]) -> None:
        """Call something in no time."""
        start = perf_counter()
        call()
        self._stood_still += perf_counter() - start


def side_by_side(
    works: Mapping[str, Work],
    repeats: int,
    synchronize: Callable[[], None] = nothing,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Seconds for one unit of work of each project, `repeats` times.

    Args:
        works: What each project does.
        repeats: How often each does it, at least 1; a first round warms up and is not counted.
        synchronize: Waits for a device that works by itself.
        clock: What to read the seconds from, `perf_counter` if None.
    """
    clock = clock or perf_counter
    times: dict[str, list[float]] = {project: [] for project in works}
    with _no_garbage_collection():
        for repeat in range(repeats + 1):
            for project, work in works.items():
                with work() as run:
                    synchronize()
                    start = clock()
                    units = run()
                    synchronize()
                    elapsed = (clock() - start) / units
                if repeat:
                    times[project].append(elapsed)
    return times


def summary(case: str, project: str, seconds: Sequence[float], bound: float | None = None) -> Time:
    """The record of a list of times."""
    first, _, third = quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    return Time(case, project, median(seconds), len(seconds), (first, third), bound)


def percentiles(values: Sequence[float]) -> tuple[float, ...]:
    """The percentiles 1 to 99, those between two values interpolated."""
    return tuple(quantiles(values, n=100, method="inclusive"))


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
