"""A request that a `Server` has accepted, its future, and the order in which waiting requests are taken."""

import logging
import threading
from bisect import bisect_left, insort
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from kdpm2.batching.request import Checked

logger = logging.getLogger(__name__)


class SampleFuture(Future[torch.Tensor]):
    """The future of a sample, whose callbacks cannot end the server's thread.

    `Future` logs an `Exception` of a callback and goes on. In the server's thread this class also logs other errors,
    such as SystemExit or asyncio's CancelledError. In a thread that cancels, those are raised.

    Args:
        server: The server's thread, which keeps nothing once it is over.
    """

    def __init__(self, server: threading.Thread) -> None:
        super().__init__()
        self._server = server

    def add_done_callback(self, fn: Callable[[Future[torch.Tensor]], object]) -> None:
        """Have `fn(future)` called when the future is done, or at once if it is."""
        super().add_done_callback(partial(_called, fn, self._server))


def _called(fn: Callable[[Any], object], server: threading.Thread, future: Future[torch.Tensor]) -> None:
    try:
        fn(future)
    except Exception:
        raise
    except BaseException:
        if threading.current_thread() is not server:
            raise
        logger.exception("a callback of a future tried to end the server's thread")


@dataclass(eq=False)
class Job:
    """A request that is not done.

    Attributes:
        number: Higher for a job that came later.
        future: Pending until the sample is there.
        priority: Jobs with a higher one begin sooner.
        key: The caller's name for it.
        wanted: What to do; None once a batch has it.
        since: When it came, as `time.monotonic` in seconds.
        expires: When it ends if it still waits, on the same clock; None for never.
        calls: The number of network calls before it came.
        begun: Whether it has had its first stage.
        told: Whether threads that wait for its future know that it is running or cancelled.
    """

    number: int
    future: SampleFuture
    priority: int
    key: str | int | None
    wanted: Checked | None
    since: float
    expires: float | None = None
    calls: int = 0
    begun: bool = False
    told: bool = False


class Waiting:
    """Waiting jobs, by priority and then by age. No operation searches through all of them."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}  # the oldest first
        self._by_rank: list[tuple[int, int]] = []  # priority, -number: the first to be taken is the last
        self._by_expiry: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def all(self) -> list[Job]:
        """Every job, the oldest first."""
        return list(self._jobs.values())

    def add(self, job: Job) -> None:
        """Add a job that came after all others."""
        self._jobs[job.number] = job
        insort(self._by_rank, (job.priority, -job.number))
        if job.expires is not None:
            insort(self._by_expiry, (job.expires, job.number))

    def remove(self, number: int) -> None:
        """Take a job out, if it is there."""
        job = self._jobs.pop(number, None)
        if job is None:
            return
        del self._by_rank[bisect_left(self._by_rank, (job.priority, -number))]
        if job.expires is not None:
            del self._by_expiry[bisect_left(self._by_expiry, (job.expires, number))]

    def first(self) -> Job:
        """The oldest job of the highest priority."""
        return self._jobs[-self._by_rank[-1][1]]

    def oldest(self) -> Job:
        """The job that came first."""
        return next(iter(self._jobs.values()))

    def expired(self, now: float) -> list[Job]:
        """The jobs whose deadline has passed."""
        return [self._jobs[number] for _, number in self._by_expiry[: bisect_left(self._by_expiry, (now, 0))]]
