"""`serve`: takes requests, yields samples, and lets requests share network calls.

The network gets the stacked conditioning of the requests (see `kdpm2.batching.conditioning`). Arguments that are the
same for all requests belong to the network itself.
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
    """A request that is done, and its sample, which shares no memory with others."""

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
    """Yield the sample of each request when it is done. Requests begin in the order in which they come.

    A request is taken from `requests` only when there is room for it. While `requests` waits for its next item, all
    samples wait. So use `Server` for requests that come at any time. A request's `priority`, `deadline` and `key` have
    an effect only there. Requests whose conditioning cannot be stacked are in different batches, which take turns. If a
    network call for several requests fails, the network is called for each of them alone. If one also fails alone, the
    error is raised here, and ends the loop.

    Args:
        denoiser: A `kdpm2.Denoiser`, or a function of x (B, ...) and sigma (B,) that returns the clean samples.
        requests: The samples that are wanted.
        max_batch: Largest number of requests that run at once, at least 1.
        shape: Shape of one sample, without the batch dimension.
        static: Whether each batch always has `max_batch` places. Networks that are compiled or recorded for one shape
            need this. Samples and conditioning in empty places are 0.
        most_stages: The longest table that a request may have: 199 stages are 100 steps.
        dtype: Dtype of the samples.
        device: Device of the samples.
        noise: A name of `kdpm2.noise.NOISES`, as in `BatchedSolver`.
        mode: "eager" or "compile", as in `BatchedSolver`. With "compile", batches are static.

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
