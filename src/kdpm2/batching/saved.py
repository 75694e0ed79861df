"""The unfinished requests of a `Server`, in a folder.

A state holds the solver of each batch (see `kdpm2.batching.snapshot`), the conditioning of its requests, and the
waiting requests. It holds only requests with a key, because nobody could ask for the others.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
import torch

from kdpm2 import _check
from kdpm2.batching import conditioning, snapshot
from kdpm2.batching import folder as files
from kdpm2.batching.batch import Batch
from kdpm2.batching.jobs import Job
from kdpm2.batching.request import Request
from kdpm2.batching.solver import BatchedSolver
from kdpm2.table import StageTable

_FORMAT = "kdpm2 server 1"
_MOST_CONDITIONING = 2**31  # bytes of what came with all requests, and of the samples of those that wait
_TABLE = {
    "sigmas": ("N+1", torch.float64),
    "up": ("N", torch.float64),
    "down": ("N", torch.float64),
    "mid": ("N", torch.float64),
    "step": ("S", torch.int64),
    "starts_step": ("S", torch.bool),
    "stage_sigmas": ("S", torch.float64),
    "stage_timesteps": ("S", torch.float64),
    "stage_alphas": ("S", torch.float64),
    "rows": ("S,7", torch.float64),
    "entry_rows": ("S,7", torch.float64),
}


class Begun(NamedTuple):
    """Requests that have begun.

    Attributes:
        solver: Holds these requests and no others.
        keys: The key of each request, by the solver's ids.
        conditioning: That of each request, as `conditioning.taken` returns it.
    """

    solver: BatchedSolver
    keys: dict[int, str | int]
    conditioning: dict[int, dict[str, Any]]


class Saved(NamedTuple):
    """What a folder holds: a server's options, the requests that have begun, and those that waited."""

    options: dict[str, Any]
    begun: list[Begun]
    waiting: list[Request]


def write(
    folder: str | PathLike[str], options: dict[str, Any], batches: Iterable[Batch[Job]], waiting: Iterable[Job]
) -> None:
    """Write a server's state to a folder, and replace an older one.

    Raises:
        TypeError: If `folder` is no path, or the conditioning has a dtype that safetensors cannot write.
        OSError: If it cannot be written.
    """
    if not isinstance(folder, (str, PathLike)):
        raise TypeError(f"folder must be a path, got {_check.shown(folder)}")
    tensors: dict[str, torch.Tensor] = {}
    begun: list[dict[str, Any]] = []
    for batch in batches:
        jobs = {id: job for id, job in batch.owners.items() if job.key is not None and not job.future.done()}
        if jobs:
            requests = [
                {"id": id, "key": job.key, "conditioning": _put(batch.conditioning_of(id), tensors)}
                for id, job in jobs.items()
            ]
            solver, held = snapshot.taken(batch.solver)
            tensors |= {f"{len(begun)}.{name}": tensor for name, tensor in held.items()}
            begun.append({"solver": solver, "requests": requests})
    queue = [_waiting(job, tensors) for job in waiting if job.key is not None and not job.future.done()]
    files.write(folder, {"format": _FORMAT, "options": options, "begun": begun, "waiting": queue}, tensors)


def read(folder: str | PathLike[str], device: str | torch.device | None) -> Saved:
    """Read what `write` put into a folder. None for `device` is the one that the tensors were on.

    Raises:
        TypeError: If `folder` is no path.
        ValueError: If it holds anything else.
    """
    state, tensors = files.read(folder, _most_bytes)
    with refusing(folder):
        if state["format"] != _FORMAT:
            raise ValueError(f"format must be {_FORMAT!r}, got {_check.shown(state['format'])}")
        options = state["options"]
        if device is not None:
            options["device"] = str(device)
        place, begun = torch.device(options["device"]), []
        for number, batch in enumerate(state["begun"]):
            said, prefix = batch["requests"], f"{number}."
            held = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
            solver = snapshot.solver_of(BatchedSolver, batch["solver"], held, place, folder)
            keys = {each["id"]: each["key"] for each in said}
            given = {each["id"]: conditioning.taken(_got(each["conditioning"], tensors), place) for each in said}
            for id in set(solver.ids) - set(keys):
                solver.cancel(id)
            if not keys or set(solver.ids) != set(keys) or len(keys) != len(said):
                raise ValueError
            begun.append(Begun(solver, keys, given))
        return Saved(options, begun, [_request(each, tensors) for each in state["waiting"]])


def _most_bytes(state: dict[str, Any]) -> int:
    return sum(snapshot.most_bytes(batch["solver"]) for batch in state["begun"]) + _MOST_CONDITIONING


@contextmanager
def refusing(folder: str | PathLike[str]) -> Iterator[None]:
    """Turn any error inside into a ValueError about the content of the folder."""
    try:
        yield
    except Exception as error:  # what is wrong with a file of another's may be anything
        reason = f": {error}" if str(error) else ""
        raise ValueError(
            f"folder must hold a snapshot that Server.snapshot wrote, unchanged, got {fspath(folder)!r}{reason}"
        ) from error


def _waiting(job: Job, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    wanted = job.wanted
    assert wanted is not None  # a batch has those whose is None
    deadline = None if job.expires is None else max(job.expires - time.monotonic(), 0.0)
    return {
        "key": job.key,
        "priority": job.priority,
        "deadline": deadline,
        "seed": wanted.seed,
        "x": None if wanted.x is None else _put(wanted.x, tensors),
        "conditioning": _put(wanted.conditioning, tensors),
        "table": {
            field.name: _put(
                value if isinstance(value, (bool, float)) else torch.as_tensor(value, device="cpu"), tensors
            )
            for field in fields(StageTable)
            for value in [getattr(wanted.table, field.name)]
        },
    }


def _request(said: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Request:
    table = {name: _got(value, tensors) for name, value in said.pop("table").items()}
    lengths = {"N": len(table["up"]), "N+1": len(table["up"]) + 1, "S": len(table["step"])}
    # Before CFG++ was known, tables were written without it.
    table.setdefault("stage_alphas", torch.ones(lengths["S"], dtype=torch.float64, device="cpu"))
    for name, (shape, dtype) in _TABLE.items():
        expected = (lengths["S"], 7) if shape == "S,7" else (lengths[shape],)
        if table[name].dtype != dtype or tuple(table[name].shape) != expected:
            raise ValueError(f"{name} of a table")
        table[name] = np.asarray(table[name].numpy(), dtype=np.intp if name == "step" else None)
    x, given = said.pop("x"), said.pop("conditioning")
    return Request(
        table=StageTable(**table),
        x=None if x is None else _got(x, tensors),
        conditioning=_got(given, tensors),
        **said,
    )


def _put(value: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A tensor, a number or a mapping of these, for JSON. The values of tensors go into `tensors`."""
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, dict):
        return {"mapping": {name: _put(each, tensors) for name, each in value.items()}}
    return {"number": value}


def _got(said: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """What `_put` was given."""
    ((what, value),) = said.items()
    if what == "tensor":
        return tensors[value]
    if what == "mapping":
        return {name: _got(each, tensors) for name, each in value.items()}
    return value
