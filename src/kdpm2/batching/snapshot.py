"""What a snapshot of a `BatchedSolver` holds: its options, and each request with its samples, rows and noise.

The tensors hold all requests, one after another: `sample` and `previous`, (R, ...); `coefficients`, (S, 7),
`conditions`, (3, S), and `step`, (S,), of all their stages; `generators`, (R, bytes), where noise has generators.
"""

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdpm2 import _check
from kdpm2._check_tensor import FLOATING, on_device
from kdpm2.batching.folder import refusing
from kdpm2.batching.live import Live, Rows
from kdpm2.noise import LARGEST_SEED, kind_named
from kdpm2.update import COLUMNS

if TYPE_CHECKING:
    from kdpm2.batching.solver import BatchedSolver

_MORE_COLUMNS = 1  # of coefficients, which version 0.1 wrote and nobody reads
_FEWER_CONDITIONS = 2  # that versions up to 0.2 wrote, which knew no CFG++
_MOST_ELEMENTS = 2**32  # 16 GB of float32: a file may not ask for more
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATING}


def taken(solver: "BatchedSolver") -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The state of a solver: values for JSON, and tensors on the CPU."""
    places = {id(request): place for place, request in enumerate(solver._places)}
    requests = list(solver._requests.values())
    pairs, said, generators = [], [], []
    for request in requests:
        place = places.get(id(request))
        kept = request.waiting
        if kept is None:
            assert place is not None
            kept = solver._sample[place], solver._previous[place]
        pairs.append(kept)
        noise = request.noise.state()
        if "generators" in noise:
            generators.append(noise.pop("generators")[0])
        counted = {"id": request.id, "seed": request.seed, "stage": request.stage, "stages": len(request.rows)}
        keeps = {"keeps_estimate": True} if request.rows.keeps_estimate else {}
        said.append(counted | keeps | ({"noise": noise} if noise else {}))
    tensors: dict[str, torch.Tensor] = {}
    if requests:
        rows = [request.rows for request in requests]
        tensors["sample"], tensors["previous"] = (torch.stack(each).cpu() for each in zip(*pairs, strict=True))
        tensors["coefficients"] = torch.from_numpy(np.concatenate([each.coefficients for each in rows]))
        tensors["conditions"] = torch.from_numpy(np.concatenate([each.conditions for each in rows], axis=1))
        tensors["step"] = torch.from_numpy(np.concatenate([each.step for each in rows]))
    if generators:
        tensors["generators"] = torch.stack(generators)
    state = {
        "shape": list(solver._shape),
        "capacity": solver._capacity,
        "most_stages": solver._most_stages,
        "dtype": str(solver._dtype).removeprefix("torch."),
        "device": str(solver._device),
        "noise": solver._noise,
        "mode": solver._mode,
        "next_id": solver._next_id,
        "requests": said,
    }
    return state, tensors


def most_bytes(state: dict[str, Any]) -> int:
    """The largest number of bytes of a solver's tensors in this state; any error if it is no such state."""
    elements: int = math.prod(state["shape"]) * max(state["capacity"] or 1, len(state["requests"]))
    if not 0 <= elements <= _MOST_ELEMENTS:
        raise ValueError(f"shape and capacity must be of at most {_MOST_ELEMENTS} elements in all, got {elements}")
    stages: int = sum(request["stages"] for request in state["requests"])
    if not 0 <= stages <= _MOST_ELEMENTS:
        raise ValueError(f"stages must be at most {_MOST_ELEMENTS} in all, got {stages}")
    generators = len(torch.Generator(device="cpu").get_state()) * len(state["requests"])
    return 8 * (2 * elements + (len(COLUMNS) + _MORE_COLUMNS + 4) * stages) + generators


def solver_of(
    cls: type["BatchedSolver"],
    state: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    device: str | torch.device | None,
    folder: str | os.PathLike[str],
) -> "BatchedSolver":
    """A solver from what `taken` returned; ValueError if it is anything else, or torch cannot use the device."""
    with refusing(folder):
        device = state.pop("device") if device is None else device
        state.pop("device", None)
    place = on_device(torch.empty(0, device="cpu"), device).device
    with refusing(folder):
        if place.type == "meta":
            raise ValueError("device must be one that holds numbers, got 'meta'")
        said, next_id = state.pop("requests"), state.pop("next_id")
        state["dtype"] = _DTYPES[_check.choice("dtype", state["dtype"], _DTYPES)]
        solver = cls(**state, device=place)
        if "conditions" in tensors and len(tensors["conditions"]) == _FEWER_CONDITIONS:
            tensors["conditions"] = torch.cat([tensors["conditions"], torch.zeros_like(tensors["conditions"][:1])])
        if "coefficients" in tensors:
            tensors["coefficients"] = tensors["coefficients"][..., : len(COLUMNS)]
        _check_tensors(solver, said, tensors)
        _take_over(solver, said, tensors)
        solver._next_id = _check.integer("next_id", next_id, max(solver._requests, default=-1) + 1)
    return solver


def _check_tensors(solver: "BatchedSolver", said: Any, tensors: dict[str, torch.Tensor]) -> None:
    """The tensors are those of these requests; any error if they are not."""
    stages, samples = sum(each["stages"] for each in said), (len(said), *solver._shape)
    expected = {
        "sample": (samples, solver._dtype),
        "previous": (samples, solver._dtype),
        "coefficients": ((stages, len(COLUMNS)), solver._working),
        "conditions": ((3, stages), solver._working),
        "step": ((stages,), torch.int64),
    }
    if solver._kind_of_noise.drawn_on:
        size = len(torch.Generator(device="cpu").get_state())
        expected["generators"] = ((len(said), size), torch.uint8)
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    expected = expected if said else {}
    for name in sorted({*expected, *found}):
        if found.get(name) != expected.get(name):
            raise ValueError(f"{name} must be of shape and dtype {expected.get(name)}, got {found.get(name)}")
    if solver._capacity is not None and len(said) > solver._capacity:
        raise ValueError(f"requests must be at most capacity={solver._capacity}, got {len(said)}")


def _take_over(solver: "BatchedSolver", said: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Let the requests wait for their places in a solver."""
    start = 0
    like = torch.empty((1, *solver._shape), dtype=solver._dtype, device=solver._device)
    for number, each in enumerate(said):
        stages = _check.integer("stages", each["stages"], 1, solver._most_stages)
        own = slice(start, start + stages)
        start += stages
        id = _check.integer("id", each["id"], 0)
        if id in solver._requests:
            raise ValueError(f"id must be another for each request, got {id} twice")
        seed = _check.integer("seed", each["seed"], 0, LARGEST_SEED)
        state = {"seeds": [seed], **each.get("noise", {})}
        if "generators" in tensors:
            state["generators"] = tensors["generators"][number : number + 1]
        noise = kind_named(solver._noise).of_state(state, like)
        waiting = (tensors["sample"][number].to(solver._device), tensors["previous"][number].to(solver._device))
        coefficients, conditions, step = (tensors[name].numpy() for name in ("coefficients", "conditions", "step"))
        keeps = _check.flag("keeps_estimate", each.get("keeps_estimate", False))
        rows = Rows(coefficients[own], conditions[:, own], step[own], keeps)
        stage = _check.integer("stage", each["stage"], 0, stages - 1)
        solver._requests[id] = Live(id, seed, rows, noise, waiting, stage)
