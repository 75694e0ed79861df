"""`Server`: requests from any thread, each a future, and one thread that makes them.

A request waits in a queue until there is room for it. If the queue is full, `submit` waits, so requests never pile up.
A future is pending until its sample is there, and it can be cancelled at any time. A place in the queue is then free at
once, a place in a batch at the next stage.

Callbacks of futures run in the server's thread, or in the one that cancels, and never under a lock. Whatever one raises
is logged, and the server goes on. One that runs in the server's thread must not wait for samples of the same server.
"""

import atexit
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike
from types import TracebackType
from typing import Any

import torch

from kdpm2 import _check
from kdpm2._check_tensor import FLOATING, on_device
from kdpm2.batching import saved
from kdpm2.batching.batch import Batches
from kdpm2.batching.jobs import Job, SampleFuture
from kdpm2.batching.request import LONGEST_WAIT, Request
from kdpm2.batching.worker import Worker, at_work
from kdpm2.denoiser import Network, as_denoiser

_LONGEST_QUEUE = 2**20
_MOST_PATIENCE = 2**31 - 1
_LONGEST_GOODBYE = 60.0
"""Seconds that the end of a process waits for a network call, for those torch would abort it for."""
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATING}


class Server:
    """Samples for any number of threads, from one network; a context manager that waits for what was submitted.

    What the network raises for a request, even if it is called for that one alone, is given to its future, and the
    server goes on. If its thread dies all the same, every future ends with the error, and `submit` says so.

    The order: of those that wait, the highest priority is taken first, and of one priority the first that came. At
    most `max_batch` are on their way, but one that has waited for `patience` network calls begins in any case, in
    another batch where there is no room, and batches take turns. Requests whose conditioning cannot be put together
    are in different batches too. With conditioning of one kind there are at most L = 1 + ceil(queue_size / max_batch)
    batches. So once a request of S stages is in the queue, it is done after at most patience + 1 + L·S network calls,
    however long those before it are, and whatever their priority. (Each other kind of conditioning may add 1 to L, and
    calls for one request alone, which follow a call that failed, come on top.)

    A server that nobody refers to any more makes what was submitted, and then its thread ends. At the end of the
    process what is not done is cancelled. A forked child has no thread, and its `submit` says so.

    Args:
        denoiser: A `kdpm2.Denoiser`, or a function of x (B, ...) and sigma (B,) that returns the clean samples; called
            from the server's thread alone.
        max_batch: How many requests a network call may be for, at least 1.
        shape: Of one sample, without the batch.
        queue_size: How many requests there may be besides `max_batch`, at least 1; as many as `max_batch` if None.
        patience: For how many network calls, at least 0, a request waits at most before it begins; None for as many as
            it takes, so that there are more batches than one for different conditioning only.
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
        patience: int | None = 50,
        static: bool = False,
        most_stages: int = 199,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        noise: str = "gaussian",
        mode: str = "eager",
    ) -> None:
        options = {"most_stages": most_stages, "dtype": dtype, "device": device, "noise": noise, "mode": mode}
        batches: Batches[Job] = Batches(denoiser, max_batch, shape, static, options)
        size = batches.most if queue_size is None else _check.integer("queue_size", queue_size, 1, _LONGEST_QUEUE)
        if patience is not None:
            patience = _check.integer("patience", patience, 0, _MOST_PATIENCE)
        self._options = {
            **options,
            "dtype": str(dtype).removeprefix("torch."),
            "device": str(device),
            "max_batch": batches.most,
            "shape": [int(length) for length in shape],
            "queue_size": size,
            "patience": patience,
            "static": bool(static),
        }
        self._worker = Worker(batches, size, patience)
        weakref.finalize(self, self._worker.shut).atexit = False  # the end of the process is seen to below
        self._worker.start()

    def submit(self, request: Request, timeout: float | None = None) -> SampleFuture:
        """Ask for a sample, from any thread. Waits while the queue is full.

        Args:
            request: What is wanted.
            timeout: For how many seconds to wait at most; None for as long as it takes. A callback in the server's
                thread does not wait: it would for itself.

        Returns:
            The future of the sample, which may be cancelled until it is there.

        Raises:
            TypeError: If the request, or something in it, has the wrong type.
            ValueError: If something in it is out of range, or contradicts something else, or another request with its
                key is not done.
            TimeoutError: If the queue stayed full.
            RuntimeError: If the server is closed or has died, or this is a forked child of its process.
        """
        self._worker.check_process()
        wanted = self._worker.batches.checked(request)
        return self._worker.add(wanted, _seconds(timeout))

    def close(self, cancel: bool = False, timeout: float | None = None) -> None:
        """Take no more requests, and wait until those there are done; those who wait in `submit` are told.

        Called by a callback in the server's thread it does not wait.

        Args:
            cancel: Whether to cancel what is not done; a network call is waited for in any case.
            timeout: For how many seconds to wait at most; None for as long as it takes.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If `timeout` is out of range.
            TimeoutError: If the server is not done by then. It takes no more requests.
        """
        cancel, timeout = _check.flag("cancel", cancel), _seconds(timeout)
        self._worker.shut(cancel)
        if self._worker.is_current() or self._worker.is_forked():
            return
        self._worker.thread.join(timeout)
        if self._worker.thread.is_alive():
            raise TimeoutError(f"the server was not done after {timeout:g} seconds; it is closed for new requests")

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=error is not None)

    def counters(self) -> dict[str, float]:
        """What there is, and what there was since the server was made.

        Returns:
            queued: Requests that wait.
            running: Requests in batches.
            done: Requests whose futures have a sample.
            failed: Requests whose futures have an error, that of a deadline included.
            cancelled: Requests whose futures were cancelled.
            network_calls: Calls of the network, those that failed too.
            occupancy: How many requests these were for in the mean, divided by `max_batch`: from 0 to 1.
            waiting_seconds_mean: From `submit` to the first stage, of those that had one; 0 if none had.
            waiting_seconds_largest: Of the one that waited longest.

        Raises:
            RuntimeError: If this is a forked child of the server's process.
        """
        self._worker.check_process()
        return self._worker.counted()

    def snapshot(self, folder: str | PathLike[str], timeout: float | None = None) -> None:
        """Write what there is to do to a folder, between two stages; the server goes on.

        All that `restore` needs for requests with a `key` is in it, whether they have begun or wait: their solvers'
        snapshots, their conditioning, and what is asked for. An older snapshot there is replaced as a whole.

        Args:
            folder: Made if it is not there.
            timeout: For how many seconds to wait for a network call at most; None for as long as it takes.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If `timeout` is out of range.
            TimeoutError: If the network call took longer. Nothing is then written.
            OSError: If the folder cannot be written.
            RuntimeError: If the server is closed and done, or has died, or the caller is a callback in its thread or a
                forked child of its process.
        """
        worker, timeout = self._worker, _seconds(timeout)
        worker.check_process()
        if worker.is_current():
            raise RuntimeError("snapshot must be called from another thread than the server's, got a callback in it")
        worker.between_stages(
            lambda: saved.write(folder, self._options, worker.batches.turns, worker.waiting_now()), timeout
        )

    @classmethod
    def restore(
        cls, folder: str | PathLike[str], denoiser: Network, device: str | torch.device | None = None
    ) -> "tuple[Server, dict[str | int, SampleFuture]]":
        """A server that goes on with what `snapshot` wrote, with the options of the one that wrote it.

        Args:
            folder: What `snapshot` was given.
            denoiser: As that one's.
            device: Where the samples are to be; None for where they were.

        Returns:
            The server, and the futures of its requests by their keys.

        Raises:
            TypeError: If `denoiser` cannot be called, or `folder` is no path.
            ValueError: If `folder` holds anything but what `snapshot` wrote, or torch cannot use the device.
        """
        if device is not None:
            device = on_device(torch.empty(0, device="cpu"), device).device
        denoiser = as_denoiser(denoiser)
        held = saved.read(folder, device)
        with saved.refusing(folder):
            options: dict[str, Any] = {**held.options, "dtype": _DTYPES[held.options["dtype"]]}
            server = cls(denoiser, **options)
            try:
                return server, server._worker.between_stages(lambda: server._worker.take_over(held), None)
            except BaseException:
                server.close(cancel=True)
                raise


def _seconds(timeout: float | None) -> float | None:
    return None if timeout is None else _check.number("timeout", timeout, 0, LONGEST_WAIT)


def _say_goodbye() -> None:
    """Cancel and wait: a thread in the middle of torch would abort a process that ends."""
    with ExitStack() as stack:  # all of it, whatever a callback raises
        workers = [worker for worker in at_work if not worker.is_forked()]
        for worker in workers:
            stack.callback(worker.thread.join, _LONGEST_GOODBYE)
        for worker in workers:  # first, as the last that is on the stack
            stack.callback(worker.shut, cancel=True)


atexit.register(_say_goodbye)
