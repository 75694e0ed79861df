"""What a `Server` and its thread share, and what the thread does.

One lock guards the jobs. It is held only for short operations, never during a callback, a network call or file access.
The thread has no reference to the `Server`, so Python notices when nothing refers to the `Server` any more.
"""

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, TypeVar

import torch

from kdpm2 import _check
from kdpm2.batching.batch import Batch, Batches, Outcome
from kdpm2.batching.counters import Counters
from kdpm2.batching.jobs import Job, SampleFuture, Waiting
from kdpm2.batching.request import Checked, checked_key
from kdpm2.batching.saved import Saved

Made = TypeVar("Made")

at_work: "weakref.WeakSet[Worker]" = weakref.WeakSet()
"""Those whose thread may be running; the thread itself keeps its own in here."""


class Worker:
    """Jobs, the batches that make them, and the thread that does.

    Args:
        batches: These make the samples. From `start` on only the thread uses them, except for `checked`.
        queue_size: How many jobs the worker takes besides those of one full batch.
        patience: The largest number of network calls that a job waits for room. None for no limit.
    """

    def __init__(self, batches: Batches[Job], queue_size: int, patience: int | None) -> None:
        self.batches, self.patience = batches, patience
        self.queue_size, self._most_jobs = queue_size, batches.most + queue_size
        self.waiting, self._jobs = Waiting(), dict[int, Job]()
        self._keys: set[str | int] = set()
        self._tasks: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._counters, self._next_number = Counters(), 0
        self._open, self._ended = True, False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._process = os.getpid()
        self.thread = threading.Thread(target=self._run, name="kdpm2 server", daemon=True)

    def start(self) -> None:
        """Let the thread run."""
        at_work.add(self)
        self.thread.start()

    def is_current(self) -> bool:
        """Whether the caller is the thread."""
        return threading.current_thread() is self.thread

    def is_forked(self) -> bool:
        """Whether this process is a forked child of the one with the thread. The lock may then be held for ever."""
        return os.getpid() != self._process

    def check_process(self) -> None:
        """RuntimeError in a forked child."""
        if self.is_forked():
            raise RuntimeError(
                f"a server does not survive a fork: this one serves process {self._process}, and this is its child "
                f"{os.getpid()}; make a new one here"
            )

    # From any thread.

    def add(self, wanted: Checked, timeout: float | None) -> SampleFuture:
        """Accept a request; see `Server.submit`."""
        own = self.is_current()
        with self._changed:
            is_room = self._changed.wait_for(
                lambda: not self._open or len(self._jobs) < self._most_jobs, 0 if own else timeout
            )
            if not self._open:
                raise self._refusal() from self._error
            if not is_room and own:
                raise TimeoutError("the server's queue is full, and a callback in the server's thread cannot wait")
            if not is_room:
                raise TimeoutError(f"the server's queue stayed full for {timeout:g} seconds")
            return self._queue(wanted).future

    def _queue(self, wanted: Checked) -> Job:
        job = self._promise(wanted, wanted.key, wanted.priority, wanted.deadline)
        self.waiting.add(job)
        self._changed.notify_all()
        return job

    def _promise(self, wanted: Checked | None, key: str | int | None, priority: int, deadline: float | None) -> Job:
        """A new job, neither waiting nor in a batch yet. The caller holds the lock."""
        if key in self._keys:
            raise ValueError(f"key must be that of no other request that is not done, got {key!r}")
        now, number = time.monotonic(), self._next_number
        future = SampleFuture(self.thread)
        expires = None if deadline is None else now + deadline
        job = Job(number, future, priority, key, wanted, now, expires, self.batches.network.made)
        self._next_number += 1
        self._jobs[number] = job
        if key is not None:
            self._keys.add(key)
        # The first of its callbacks. A future outlives the server, and keeps nothing of it.
        future.add_done_callback(partial(_left, weakref.ref(self), number))
        return job

    def forget(self, number: int, future: Future[torch.Tensor]) -> None:
        """Free the place of a job whose future is done."""
        cancelled = future.cancelled()
        failed = not cancelled and future.exception() is not None
        with self._changed:  # in which no future is asked, as each has a lock of its own
            job = self._jobs.pop(number)
            self.waiting.remove(number)
            if job.key is not None:
                self._keys.discard(job.key)
            to_tell = cancelled and not job.told
            job.told = job.told or cancelled
            self._counters.ended(cancelled, failed)
            self._changed.notify_all()
        if to_tell:
            future.set_running_or_notify_cancel()

    def shut(self, cancel: bool = False) -> None:
        """Take no more jobs, and cancel the present ones if asked to. Does not wait."""
        if self.is_forked():
            return
        with self._changed:
            self._open = False
            self._changed.notify_all()
            jobs = list(self._jobs.values()) if cancel else []
        with ExitStack() as stack:  # each is cancelled, whatever the callbacks of others raise
            for job in jobs[::-1]:
                stack.callback(job.future.cancel)

    def waiting_now(self) -> list[Job]:
        """Jobs that are in no batch, the oldest first."""
        with self._changed:
            return self.waiting.all()

    def between_stages(self, task: Callable[[], Made], timeout: float | None) -> Made:
        """Have the thread do a task between two network calls, and return its result."""
        done: Future[Made] = Future()
        with self._changed:
            if self._ended:
                raise self._refusal() from self._error
            self._tasks.append((task, done))
            self._changed.notify_all()
        if not wait([done], timeout).done and done.cancel():
            raise TimeoutError(f"the server's network call took longer than {timeout:g} seconds")
        return done.result()

    def counted(self) -> dict[str, float]:
        """See `Server.counters`."""
        with self._changed:
            queued, counters, network = len(self.waiting), self._counters, self.batches.network
            return {
                "queued": queued,
                "running": len(self._jobs) - queued,
                "done": counters.done,
                "failed": counters.failed,
                "cancelled": counters.cancelled,
                "network_calls": network.made,
                "occupancy": network.requests / max(network.made, 1) / self.batches.most,
                **counters.waiting_seconds(),
            }

    def _refusal(self) -> RuntimeError:
        if self._error is None:
            return RuntimeError("the server is closed")
        return RuntimeError(f"the server has died of {_check.shown(self._error)}")

    # In the thread.

    def _run(self) -> None:
        try:
            while self._awaited():
                self._do_tasks()
                self._drop_what_waited_too_long()
                while self._admit_one():
                    pass
                if self.batches.turns:
                    self._advance()
        except BaseException as error:  # of no request: a mistake in here, or no memory for what is needed at least
            self._die(error)

    def _awaited(self) -> bool:
        """Wait until there is something to do. False if nothing can come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._tasks or self.batches.turns or not self._open)
            self._ended = not self._jobs and not self._tasks and not self._open
        self.batches.drop(lambda job: job.future.done())
        return not self._ended

    def _do_tasks(self) -> None:
        while self._tasks:
            task, done = self._tasks.popleft()
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(task())
                except BaseException as error:  # the caller's to know
                    done.set_exception(error)

    def take_over(self, held: Saved) -> dict[str | int, SampleFuture]:
        """Continue what another server has left; a task for `between_stages`.

        Raises:
            TypeError: If something of it has the wrong type.
            ValueError: If a server like this one could not have left it.
        """
        jobs: list[Job] = []
        if sum(len(each.keys) for each in held.begun) + len(held.waiting) > self._most_jobs:
            raise ValueError("more requests than there is room for")
        with self._changed:
            for solver, keys, given in held.begun:
                batch: Batch[Job] = self.batches.taken_over(solver, list(given.values()))
                for id, key in keys.items():
                    job = self._promise(None, checked_key(key), 0, None)
                    job.begun = True
                    batch.hold(id, given[id], job)
                    jobs.append(job)
            jobs += [self._queue(self.batches.checked(request)) for request in held.waiting]
        return {job.key: job.future for job in jobs if job.key is not None}

    def _drop_what_waited_too_long(self) -> None:
        with self._changed:
            expired = self.waiting.expired(time.monotonic())
        for job in expired:
            assert job.expires is not None
            self._end(job, TimeoutError(f"the deadline of {job.expires - job.since:g} seconds passed in the queue"))

    def _admit_one(self) -> bool:
        """Let the next job begin, if there is one. Returns whether there was."""
        with self._changed:
            job = self._next()
            if job is None:
                return False
            self.waiting.remove(job.number)
        wanted, job.wanted = job.wanted, None
        assert wanted is not None
        try:
            self.batches.admit(wanted, job)
        except BaseException as error:  # too large for the device
            self._end(job, error)
        return True

    def _next(self) -> Job | None:
        """The job that begins now: the oldest if its patience is over, else the first if a call has room."""
        if not len(self.waiting):
            return None
        oldest = self.waiting.oldest()
        if self.patience is not None and self.batches.network.made - oldest.calls >= self.patience:
            return oldest
        return self.waiting.first() if len(self.batches) < self.batches.most else None

    def _advance(self) -> None:
        now = time.monotonic()
        with self._changed:
            for job in self.batches.next_owners():
                if not job.begun:
                    job.begun = True
                    self._counters.began(now - job.since)
        for job, outcome in self.batches.advance():
            self._end(job, outcome)

    def _end(self, job: Job, outcome: Outcome) -> None:
        """Give a future its sample or error, unless it is cancelled or done already."""
        with self._changed:
            told, job.told = job.told, True
        future = job.future
        if told or (future.done() and not future.cancelled()):
            return
        try:
            if not future.running() and not future.set_running_or_notify_cancel():
                return
        except (InvalidStateError, RuntimeError):  # somebody else was quicker, and has maybe just said that it runs
            pass
        with suppress(InvalidStateError):  # likewise
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _die(self, error: BaseException) -> None:
        with self._changed:
            self._open, self._ended, self._error = False, True, error
            self._changed.notify_all()
            jobs, tasks = list(self._jobs.values()), list(self._tasks)
        with ExitStack() as stack:  # each is told, whatever comes
            for job in jobs[::-1]:
                stack.callback(self._end, job, error)
            for _, done in tasks:
                if done.set_running_or_notify_cancel():
                    stack.callback(done.set_exception, error)


def _left(worker: "weakref.ref[Worker]", number: int, future: Future[torch.Tensor]) -> None:
    there = worker()
    if there is not None and not there.is_forked():
        there.forget(number, future)
