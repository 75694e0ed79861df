"""`Server`: takes requests from any thread, returns futures, and has one thread that makes the samples.

A request waits in a queue until there is room for it. If the queue is full, `submit` waits, so requests never pile up.
A future is pending until its sample is there, and it can be cancelled at any time. A place in the queue is then free at
once, a place in a batch at the next stage.

Callbacks of futures run in the server's thread, or in the thread that cancels, and never under a lock. An error that a
callback raises is logged, and the server goes on. A callback in the server's thread must not wait for samples of the
same server.
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
    """Makes samples for any number of threads, with one network. A `with` block waits for what was submitted.

    If a network call for several requests fails, the network is called for each of them alone. The future of a request
    that also fails alone gets the error, and the server goes on. If the server's thread dies, every future gets the
    error, and `submit` raises RuntimeError.

    The waiting request with the highest priority begins first. Among equal priorities, the first to come begins first.
    At most `max_batch` requests run. There is one exception: a request that has waited for `patience` network calls
    begins in any case. If there is no room, it begins in another batch, and batches take turns. Requests whose
    conditioning cannot be stacked are in different batches, too.

    With conditioning of one kind there are at most L = 1 + ceil(queue_size / max_batch) batches. So a request of S
    stages that is in the queue is done after at most patience + 1 + L·S network calls. The length and the priority of
    other requests do not matter. (Each other kind of conditioning may add 1 to L. Calls for one request alone, after a
    call that failed, are not counted.)

    If nothing refers to a server any more, it finishes what was submitted, and its thread ends. At the end of the
    process, unfinished requests are cancelled. A forked child has no such thread, and `submit` raises RuntimeError
    there.

    Args:
        denoiser: A `kdpm2.Denoiser`, or a function of x (B, ...) and sigma (B,) that returns the clean samples. Only
            the server's thread calls it.
        max_batch: Largest number of requests in a network call, at least 1.
        shape: Shape of one sample, without the batch dimension.
        queue_size: How many requests the server takes besides `max_batch`, at least 1. None for as many as `max_batch`.
        patience: The largest number of network calls, at least 0, that a request waits before it begins. None for no
            limit: there is then one batch for each kind of conditioning.
        static: As in `serve`. So are `most_stages`, `dtype`, `device`, `noise` and `mode`.

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
            request: The sample that is wanted.
            timeout: Longest time to wait, in seconds. None for no limit. A callback in the server's thread never waits,
                because it would wait for itself.

        Returns:
            The future of the sample. It can be cancelled until the sample is there.

        Raises:
            TypeError: If the request, or something in it, has the wrong type.
            ValueError: If something in the request is out of range or contradicts something else, or if another request
                with the same key is not done.
            TimeoutError: If the queue stayed full.
            RuntimeError: If the server is closed or has died, or this is a forked child of its process.
        """
        self._worker.check_process()
        wanted = self._worker.batches.checked(request)
        return self._worker.add(wanted, _seconds(timeout))

    def close(self, cancel: bool = False, timeout: float | None = None) -> None:
        """Take no more requests, and wait until all are done. A thread that waits in `submit` gets a RuntimeError.

        If a callback in the server's thread calls it, it does not wait.

        Args:
            cancel: Whether to cancel requests that are not done. A network call in progress is waited for in any case.
            timeout: Longest time to wait, in seconds. None for no limit.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If `timeout` is out of range.
            TimeoutError: If the server is not done by then. It stays closed for new requests.
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
        """The numbers of requests and network calls, now and since the server was made.

        Returns:
            queued: Requests that wait.
            running: Requests that have begun.
            done: Requests whose futures have a sample.
            failed: Requests whose futures have an error, including those whose deadline passed.
            cancelled: Requests whose futures were cancelled.
            network_calls: Calls of the network, including those that failed.
            occupancy: The mean number of requests in a network call, divided by `max_batch`: from 0 to 1.
            waiting_seconds_mean: The mean time from `submit` to the first stage, for requests that have begun; 0 if
                none has.
            waiting_seconds_largest: The longest such time.

        Raises:
            RuntimeError: If this is a forked child of the server's process.
        """
        self._worker.check_process()
        return self._worker.counted()

    def snapshot(self, folder: str | PathLike[str], timeout: float | None = None) -> None:
        """Write the unfinished requests to a folder, between two stages. The server goes on.

        The snapshot holds everything that `restore` needs for requests with a `key`, both running and waiting ones.
        Requests without a key are left out. An older snapshot in the folder is replaced as a whole.

        Args:
            folder: The folder to write to. It is made if it does not exist.
            timeout: Longest time to wait for a network call, in seconds. None for no limit.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If `timeout` is out of range.
            TimeoutError: If the network call took longer. Nothing is then written.
            OSError: If the folder cannot be written.
            RuntimeError: If the server is closed and done, or has died. Also if a callback in its thread calls this, or
                a forked child of its process.
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
        """A server that continues what `snapshot` wrote. Its options are those of the server that wrote it.

        Args:
            folder: The folder that was given to `snapshot`.
            denoiser: The denoiser of the server that wrote it.
            device: Device of the samples. None for the one that they were on.

        Returns:
            The server, and the futures of its requests by their keys.

        Raises:
            TypeError: If `denoiser` cannot be called, or `folder` is not a path.
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
    """Cancel and wait. A thread that is still inside torch would abort the ending process."""
    with ExitStack() as stack:  # all of it, whatever a callback raises
        workers = [worker for worker in at_work if not worker.is_forked()]
        for worker in workers:
            stack.callback(worker.thread.join, _LONGEST_GOODBYE)
        for worker in workers:  # first, as the last that is on the stack
            stack.callback(worker.shut, cancel=True)


atexit.register(_say_goodbye)
