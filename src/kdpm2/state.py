"""The state of a run that was stopped, as a mapping and as a file. A run continues from it, bit for bit.

The callback of `kdpm2.sample` gets such a state, and `state_dict` of a scheduler returns one. It is a mapping of
numbers, texts, lists, None, tensors and mappings of these. Its file is a safetensors file. Everything but the tensors
is JSON in the file's metadata. The file cannot run code.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kdpm2 import _check
from kdpm2.table import StageTable

_FORMAT = "kdpm2 state 1"


def digest(table: StageTable) -> str:
    """A short text that identifies a table. Another table has another one."""
    made = hashlib.sha256(table.rows.tobytes())
    made.update(table.stage_timesteps.tobytes())
    return made.hexdigest()


def check_digest(state: dict[str, Any], table: StageTable) -> None:
    """Raise ValueError if the state belongs to a run with another table."""
    if state.get("digest") != digest(table):
        raise ValueError(
            "state must be that of a run with the same steps, eta and prediction type, got one of another run: make "
            "the run that goes on like the one that was stopped"
        )


def save(file: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a state to a file. It replaces an older file in one atomic step.

    Raises:
        TypeError: If `state` holds something that is neither a tensor nor a JSON value.
        OSError: If the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    said = json.dumps({"format": _FORMAT, "state": _said(state, tensors)})
    into = Path(file)
    beside = into.with_name(f".{into.name}.{os.getpid()}")
    try:
        save_file(tensors, beside, metadata={"kdpm2": said})
        beside.replace(into)
    finally:
        beside.unlink(missing_ok=True)


def load(file: str | os.PathLike[str], device: str | torch.device = "cpu") -> dict[str, Any]:
    """The state that `save` wrote. Its tensors are on `device`, except those of generators, which stay on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds anything else.
    """
    try:
        with safe_open(file, "pt") as held:
            document = json.loads((held.metadata() or {}).get("kdpm2", "{}"))
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 - it is no mapping
        if document.get("format") != _FORMAT:
            raise ValueError(f"format must be {_FORMAT!r}, got {_check.shown(document.get('format'))}")
        state = _got(document["state"], tensors, torch.device(device))
        if not isinstance(state, dict):
            raise ValueError("there is no state in it")
        return state
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"file must be one that kdpm2.state.save wrote, got {os.fspath(file)!r}: {error}") from error


def _said(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What JSON takes for a value; its tensors are put into `tensors`."""
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, dict):
        return {"mapping": {name: _said(each, tensors) for name, each in value.items()}}
    return value


def _got(said: Any, tensors: dict[str, torch.Tensor], device: torch.device) -> Any:
    """What `_said` was given."""
    if not isinstance(said, dict):
        return said
    if "tensor" in said:
        tensor = tensors[said["tensor"]]
        return tensor if tensor.dtype is torch.uint8 else tensor.to(device)
    return {name: _got(each, tensors, device) for name, each in said["mapping"].items()}
