"""`Request`: a sample that is wanted, and how a request is checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.asked_for import asked_for
from kdpm2.batching import conditioning
from kdpm2.batching.solver import BatchedSolver
from kdpm2.by_step import ByStep
from kdpm2.denoiser import Denoiser
from kdpm2.table import StageTable

LONGEST_WAIT = 1e6
"""Seconds, about eleven days. For a longer wait there is None."""

_HIGHEST_PRIORITY = 10**6
_LARGEST_KEY = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Request:
    """A sample that is wanted.

    Attributes:
        table: The sampler, as a table. None if `sigmas` are given instead.
        sigmas: Shape (N+1,): where the steps start, and the end, as `kdpm2.sample` takes them.
        eta: Only with `sigmas`: 0 for the deterministic sampler, 1 for ancestral sampling. It may change on the way, as
            `kdpm2.by_step` says.
        s_noise: Only with `sigmas`: scale of the noise; likewise.
        x: The sample at the first noise level, without a batch dimension. None to make it from the seed.
        seed: Seed of the noise. None for a new one.
        conditioning: Keyword arguments for the network, for this one sample: tensors without a batch dimension,
            numbers, and mappings of these. Requests share network calls if the names, shapes and dtypes are the same.
            Any number goes with any other number. Arguments that are the same for all requests belong to the network
            itself, for example with `functools.partial`.
        priority: From -1,000,000 to 1,000,000. A `Server` takes waiting requests of a higher priority first.
        deadline: In seconds, from when the queue of a `Server` took the request. If it still waits then, it ends with a
            TimeoutError. None for no deadline.
        key: A text, or an integer of 64 bits. `Server.restore` returns futures by their keys. None for no key.
        keep_estimate: Only with `sigmas`: as in `kdpm2.sample`.
    """

    table: StageTable | None = None
    sigmas: torch.Tensor | NDArray[Any] | Sequence[float] | None = None
    eta: ByStep = 1.0
    s_noise: ByStep = 1.0
    x: torch.Tensor | None = None
    seed: int | None = None
    conditioning: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    deadline: float | None = None
    key: str | int | None = None
    keep_estimate: bool = False


class Checked(NamedTuple):
    """A request after its check, copied. Its conditioning is as `conditioning.taken` returns it."""

    table: StageTable
    x: torch.Tensor | None
    seed: int | None
    conditioning: dict[str, Any]
    priority: int = 0
    deadline: float | None = None
    key: str | int | None = None


def checked(request: Any, denoiser: Denoiser, solver: BatchedSolver, device: torch.device) -> Checked:
    """Check a request against a solver; any thread may call it.

    Raises:
        TypeError: If it is not a request, or something in it has the wrong type.
        ValueError: If something in it is out of range, or contradicts something else.
    """
    if not isinstance(request, Request):
        raise TypeError(f"requests must hold kdpm2.batching.Request, got {_check.shown(request)}")
    table = _table(denoiser, request)
    solver.check(table, request.x, request.seed)
    priority = _check.integer("priority", request.priority, -_HIGHEST_PRIORITY, _HIGHEST_PRIORITY)
    deadline = None if request.deadline is None else _check.number("deadline", request.deadline, 0, LONGEST_WAIT)
    given = conditioning.taken(request.conditioning, device)
    x = None if request.x is None else request.x.detach().clone()
    return Checked(table, x, request.seed, given, priority, deadline, checked_key(request.key))


def _table(denoiser: Denoiser, request: Request) -> StageTable:
    """The table that a request asks for."""
    if (request.table is None) == (request.sigmas is None):
        raise ValueError(
            "table must be given without sigmas, or sigmas without a table, got "
            + ("both" if request.table is not None else "neither")
        )
    asked: Any = request.sigmas if request.table is None else request.table
    schedule, predicted = denoiser.schedule, denoiser.prediction_type
    table = asked_for(schedule, asked, predicted, request.eta, request.s_noise, keep_estimate=request.keep_estimate)
    denoiser.check(table)
    return table


def checked_key(value: Any) -> str | int | None:
    """A request's key; TypeError if it is neither a text nor an integer, ValueError if that is too large."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"key must be a text, an integer or None, got {_check.shown(value)}")
    return _check.integer("key", value, -_LARGEST_KEY - 1, _LARGEST_KEY)
