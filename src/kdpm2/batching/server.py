"""`Server`: requests from any thread, each a future, and one thread that makes them.

A request waits in a queue until there is room for it, and whoever submits one waits until there is room in the queue:
what comes faster than it can be made is slowed down, and nothing piles up. A future is pending until its sample is
there, so that it can be cancelled at any time; its place is then free from the next stage on.
"""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType

import torch

from kdpm2 import _check
from kdpm2.batching.serving import Batch, Checked, Request
from kdpm2.denoiser import Network

_LONGEST_QUEUE = 2**20
_LONGEST_WAIT = 1e6

Entry = tuple[Checked, "Future[torch.Tensor]"]


class Server:
    """Samples for any number of threads, from one network; a context manager that waits for what was submitted.

    What the network raises is given to the futures of all requests that were in its batch, and the server goes on.

    Args:
        denoiser: A `kdpm2.Denoiser`, or a function of x (B, ...) and sigma (B,) that returns the clean samples; called
            from the server's thread alone.
        max_batch: How many requests may be on their way at once, at least 1.
        shape: Of one sample, without the batch.
        queue_size: How many requests may wait besides, at least 1; as many as `max_batch` if None.
        static: As `most_stages`, `dtype`, `device`, `noise` and `mode`: what `serve` takes.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range, or contradicts another.
    """

    def __init__(
        self,
        denoiser: Network,
        max_batch: int,
        *,
        shape: Sequence[int],
        queue_size: int | None = None,
        static: bool = False,
        most_stages: int = 199,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        noise: str = "gaussian",
        mode: str = "eager",
    ) -> None:
        options = {"most_stages": most_stages, "dtype": dtype, "device": device, "noise": noise, "mode": mode}
        self._batch = Batch(denoiser, max_batch, shape, static, options)
        size = max_batch if queue_size is None else _check.integer("queue_size", queue_size, 1, _LONGEST_QUEUE)
        self._queue: deque[Entry] = deque()
        self._queue_size = size
        self._live: dict[int, Future[torch.Tensor]] = {}
        self._open, self._changed = True, threading.Condition()  # guards the queue and what is live
        self._worker = threading.Thread(target=self._work, name="kdpm2 server", daemon=True)
        self._worker.start()

    def submit(self, request: Request, timeout: float | None = None) -> "Future[torch.Tensor]":
        """Ask for a sample, from any thread. Waits while the queue is full.

        Args:
            request: What is wanted.
            timeout: For how many seconds to wait at most; None for as long as it takes.

        Returns:
            The future of the sample, which may be cancelled until it is there.

        Raises:
            TypeError: If the request, or something in it, has the wrong type.
            ValueError: If something in it is out of range, or contradicts something else.
            TimeoutError: If the queue stayed full.
            RuntimeError: If the server is closed.
        """
        wanted = self._batch.checked(request)
        if timeout is not None:
            timeout = _check.number("timeout", timeout, 0, _LONGEST_WAIT)
        future: Future[torch.Tensor] = Future()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._open or len(self._queue) < self._queue_size, timeout):
                raise TimeoutError(f"the server's queue stayed full for {timeout:g} seconds")
            if not self._open:
                raise RuntimeError("the server is closed")
            self._queue.append((wanted, future))
            self._changed.notify_all()
        return future

    def close(self, cancel: bool = False) -> None:
        """Take no more requests, and wait until those there are done; those who wait in `submit` are told.

        Args:
            cancel: Whether to cancel what is not done.

        Raises:
            TypeError: If `cancel` is no bool.
        """
        _check.flag("cancel", cancel)
        with self._changed:
            self._open = False
            if cancel:
                for future in [*self._live.values(), *(future for _, future in self._queue)]:
                    future.cancel()
            self._changed.notify_all()
        if threading.current_thread() is not self._worker:  # a future's callback may close the server
            self._worker.join()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=error is not None)

    def _work(self) -> None:
        while self._awaited():
            self._drop_cancelled()
            self._admit()
            if not self._live:
                continue
            try:
                samples = dict(self._batch.advance())
            except BaseException as error:  # the network's, whatever it is: later requests may fare better
                for id, future in self._taken(list(self._live)):
                    self._batch.cancel(id)
                    if future.set_running_or_notify_cancel():
                        future.set_exception(error)
            else:
                for id, future in self._taken(list(samples)):
                    if future.set_running_or_notify_cancel():
                        future.set_result(samples[id])

    def _awaited(self) -> bool:
        """Wait until there is something to do; False if there never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._live or self._queue or not self._open)
            return bool(self._live or self._queue)

    def _drop_cancelled(self) -> None:
        for id, future in self._taken([id for id, future in self._live.items() if future.cancelled()]):
            self._batch.cancel(id)
            future.set_running_or_notify_cancel()  # tells those who wait for it

    def _admit(self) -> None:
        """Take in what waits, as far as there is room."""
        while self._batch.room:
            with self._changed:
                if not self._queue:
                    return
                wanted, future = self._queue.popleft()
                self._changed.notify_all()
            try:
                id = self._batch.admit(wanted)
            except Exception as error:  # of another kind than those before, or too large for the device
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
                continue
            with self._changed:
                self._live[id] = future

    def _taken(self, ids: list[int]) -> list[tuple[int, "Future[torch.Tensor]"]]:
        with self._changed:
            return [(id, self._live.pop(id)) for id in ids]
