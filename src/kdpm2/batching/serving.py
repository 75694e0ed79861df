"""`serve`: requests in, samples out, and between them one network call for as many as may share it.

The network is called with what each request brings along, put together (see `kdpm2.batching.conditioning`). What all
requests share is for the network itself to hold.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from kdpm2 import _check
from kdpm2.batching.batch import Batches
from kdpm2.batching.request import Request
from kdpm2.denoiser import Network


class _End:
    pass


_END = _End()


class Result(NamedTuple):
    """A request that is done, and its sample, a tensor of its own."""

    request: Request
    sample: torch.Tensor


def serve(
    denoiser: Network,
    requests: Iterable[Request],
    max_batch: int,
    *,
    shape: Sequence[int],
    static: bool = False,
    most_stages: int = 199,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    noise: str = "gaussian",
    mode: str = "eager",
) -> Iterator[Result]:
    """Samples of requests, as they are done; first come, first served.

    No more requests are taken from `requests` than there is room for. That waits for the next one where it has to: for
    requests that come when they like there is `Server`, and `priority`, `deadline` and `key` are for it alone. Requests
    whose conditioning cannot be put together are in different batches, which take turns. What the network raises for
    a request, even if it is called for that one alone, is raised here, and ends it.

    Args:
        denoiser: A `kdpm2.Denoiser`, or a function of x (B, ...) and sigma (B,) that returns the clean samples.
        requests: What is wanted.
        max_batch: How many requests may be on their way at once, at least 1.
        shape: Of one sample, without the batch.
        static: Whether each batch is of `max_batch` samples, the rest of them 0, for networks that are compiled or
            recorded for one shape. The conditioning in empty places is 0 too.
        most_stages: The longest table that a request may have.
        dtype: Of the samples.
        device: Where they are.
        noise: "gaussian" or "philox", as `BatchedSolver` takes it.
        mode: "eager" or "compile", likewise; the latter is static.

    Raises:
        TypeError: If an argument, or a request, has the wrong type.
        ValueError: If one is out of range, or contradicts another.
    """
    options = {"most_stages": most_stages, "dtype": dtype, "device": device, "noise": noise, "mode": mode}
    batches: Batches[Request] = Batches(denoiser, max_batch, shape, static, options)
    if not isinstance(requests, Iterable):
        raise TypeError(f"requests must be an iterable of Request, got {_check.shown(requests)}")
    return _served(batches, iter(requests))


def _served(batches: Batches[Request], requests: Iterator[Request]) -> Iterator[Result]:
    more = True
    while True:
        while more and len(batches) < batches.most:
            request = next(requests, _END)  # no request, as None may be that somebody means to be one
            if isinstance(request, _End):
                more = False
                break
            batches.admit(batches.checked(request), request)
        if not len(batches):
            return
        for request, outcome in batches.advance():
            if isinstance(outcome, BaseException):
                raise outcome
            yield Result(request, outcome)
