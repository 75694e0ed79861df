"""`serve`: requests in, samples out, and between them one network call for all that are on their way.

The network is called with what each request brings along, put together: tensors of one sample each become one tensor,
(B, ...), and so do numbers, (B,). What all requests share is for the network itself to hold.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2._check_tensor import is_dense
from kdpm2.batching.solver import BatchedSolver
from kdpm2.denoiser import Denoiser, Network, as_denoiser
from kdpm2.table import StageTable, asked_for

_DEEPEST = 8


@dataclass(frozen=True, eq=False)
class Request:
    """A sample that is wanted.

    Attributes:
        table: What to do; None if `sigmas` say.
        sigmas: Shape (N+1,): where the steps start, and the end, as `kdpm2.sample` takes them.
        eta: Stochasticity, with `sigmas`: 0 is deterministic, 1 ancestral.
        s_noise: Scale of the noise, with `sigmas`.
        x: The sample at the first noise level, without a batch; None for one that is made of the seed.
        seed: Of the noise; None for a new one.
        conditioning: Keyword arguments of the network, of this one sample: tensors without a batch, numbers, and
            mappings of these. Names, shapes and dtypes are the same for all requests of a server; what is the same for
            all of them is the network's own, as by `functools.partial`.
    """

    table: StageTable | None = None
    sigmas: torch.Tensor | NDArray[Any] | Sequence[float] | None = None
    eta: float = 1.0
    s_noise: float = 1.0
    x: torch.Tensor | None = None
    seed: int | None = None
    conditioning: Mapping[str, Any] = field(default_factory=dict)


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
    requests that come when they like there is `Server`. What the network raises is raised here, and ends it.

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
    batch = Batch(denoiser, max_batch, shape, static, options)
    if not isinstance(requests, Iterable):
        raise TypeError(f"requests must be an iterable of Request, got {_check.shown(requests)}")
    return _served(batch, iter(requests))


def _served(batch: "Batch", requests: Iterator[Request]) -> Iterator[Result]:
    waiting: dict[int, Request] = {}
    more = True
    while True:
        while more and batch.room:
            request = next(requests, None)
            if request is None:
                more = False
                break
            waiting[batch.admit(batch.checked(request))] = request
        if not waiting:
            return
        for id, sample in batch.advance():
            yield Result(waiting.pop(id), sample)


class Checked(NamedTuple):
    """A request whose values have been looked at and copied, its conditioning as tensors on the solver's device."""

    table: StageTable
    x: torch.Tensor | None
    seed: int | None
    conditioning: dict[str, Any]


class Batch:
    """The requests on their way, with their conditioning, and the network that is called for them.

    `checked` may be called from any thread, all else from one.
    """

    def __init__(
        self, denoiser: Network, max_batch: int, shape: Sequence[int], static: bool, options: dict[str, Any]
    ) -> None:
        self._denoiser: Denoiser = as_denoiser(denoiser)
        self._most = _check.integer("max_batch", max_batch, 1)
        fixed = _check.flag("static", static) or options["mode"] == "compile"
        self.solver = BatchedSolver(shape, capacity=self._most if fixed else None, **options)
        self._shape, self._device = tuple(shape), options["device"]
        self._conditioning: dict[int, dict[str, Any]] = {}
        self._together: tuple[list[int | None], dict[str, Any]] = ([], {})
        self._kind: Any = None

    @property
    def room(self) -> int:
        """How many more requests may come."""
        return self._most - len(self.solver)

    def checked(self, request: Any) -> Checked:
        """What a request wants; TypeError or ValueError if that cannot be done."""
        if not isinstance(request, Request):
            raise TypeError(f"requests must hold kdpm2.batching.Request, got {_check.shown(request)}")
        if not isinstance(request.conditioning, Mapping):
            raise TypeError(
                f"conditioning must be a mapping of keyword arguments, got {_check.shown(request.conditioning)}"
            )
        table = _table(self._denoiser, request)
        self.solver.check(table, request.x, request.seed)
        conditioning = {name: _tensor(name, each, 0) for name, each in request.conditioning.items()}
        x = None if request.x is None else request.x.detach().clone()
        return Checked(table, x, request.seed, _moved(conditioning, self._device))

    def admit(self, wanted: Checked) -> int:
        """Take in a request; ValueError if its conditioning is of another kind than that of those before."""
        kind = _kind(wanted.conditioning)
        if self._kind is not None and kind != self._kind:
            raise ValueError(
                f"conditioning must have the names, shapes and dtypes of the first request's, {self._kind}, got {kind}"
            )
        id = self.solver.admit(wanted.table, wanted.x, wanted.seed)
        self._kind = kind
        self._conditioning[id] = wanted.conditioning
        return id

    def cancel(self, id: int) -> None:
        """Drop a request."""
        self.solver.cancel(id)
        del self._conditioning[id]

    @torch.no_grad()
    def advance(self) -> list[tuple[int, torch.Tensor]]:
        """One network call, and one stage for all; the ids and samples of those that are done."""
        ids, x, _, timestep = self.solver.next_inputs()
        if ids != self._together[0]:
            each = [self._conditioning.get(-1 if id is None else id) for id in ids]
            self._together = (ids, _stacked(each))
        done = self.solver.advance(self._denoiser.predict(x, timestep, **self._together[1]))
        for id, _ in done:
            del self._conditioning[id]
        return [(id, sample) for id, sample in done]


def _table(denoiser: Denoiser, request: Request) -> StageTable:
    """What a request says of its steps."""
    if (request.table is None) == (request.sigmas is None):
        raise ValueError(
            "table must be given without sigmas, or sigmas without a table, got "
            + ("both" if request.table is not None else "neither")
        )
    asked: Any = request.sigmas if request.table is None else request.table
    return asked_for(denoiser.schedule, asked, denoiser.prediction_type, request.eta, request.s_noise)


def _tensor(name: Any, value: Any, depth: int) -> Any:
    """A tensor, a number as one, or a mapping of such; TypeError otherwise."""
    if not isinstance(name, str):
        raise TypeError(f"conditioning must have names of keyword arguments, got {_check.shown(name)}")
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {key: _tensor(key, each, depth + 1) for key, each in value.items()}
    if isinstance(value, torch.Tensor) and is_dense(value):
        return value.detach()
    if isinstance(value, (bool, int, float)):
        try:
            return torch.tensor(value)
        except (OverflowError, RuntimeError, ValueError):
            raise ValueError(f"{name} must be a number of at most 64 bits, got {_check.shown(value)}") from None
    raise TypeError(
        f"{name} in the conditioning must be a dense tensor, a number or a mapping of these, got {_check.shown(value)}"
    )


def _kind(value: Any) -> Any:
    """What must be the same for two values to be put together."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    return {name: _kind(value[name]) for name in sorted(value)}


def _moved(value: Any, device: str | torch.device) -> Any:
    """A copy on a device, which the caller's later changes leave alone."""
    if isinstance(value, torch.Tensor):
        return value.to(device, copy=True)
    return {name: _moved(each, device) for name, each in value.items()}


def _stacked(values: list[Any]) -> Any:
    """Values of one kind together, zeros for those that are not there."""
    there = next(value for value in values if value is not None)
    if isinstance(there, torch.Tensor):
        nothing = torch.zeros_like(there)
        return torch.stack([nothing if value is None else value for value in values])
    return {name: _stacked([None if value is None else value[name] for value in values]) for name in there}
