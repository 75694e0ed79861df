"""What requests bring along for the network: looked at and copied when they come, put together when it is called.

Tensors of one sample each become one tensor, (B, ...), and numbers one of shape (B,). Tensors can be put together
where they have one shape and dtype; numbers always can, and are float32 where one of them is a float, else int64, or
bool where all are. So 7 and 7.5 are of one kind, and a network that takes labels may be given integers.
"""

from collections.abc import Mapping
from typing import Any

import torch

from kdpm2 import _check
from kdpm2._check_tensor import is_dense, without_waiting

_DEEPEST = 8
_NUMBER = "number"


def taken(given: Any, device: torch.device) -> dict[str, Any]:
    """A copy on a device, which the caller's later changes leave alone.

    Args:
        given: Keyword arguments of the network, of one sample: dense tensors, numbers, and mappings of these.
        device: Where the tensors are to be.

    Raises:
        TypeError: If there is anything else in it.
        ValueError: If a number takes more than 64 bits.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"conditioning must be a mapping of keyword arguments, got {_check.shown(given)}")
    return {name: _taken(name, each, device, 0) for name, each in given.items()}


def _taken(name: Any, value: Any, device: torch.device, depth: int) -> Any:
    if not isinstance(name, str):
        raise TypeError(f"conditioning must have names of keyword arguments, got {_check.shown(name)}")
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {key: _taken(key, each, device, depth + 1) for key, each in value.items()}
    if isinstance(value, torch.Tensor) and is_dense(value) and not value.is_meta:
        return value.detach().to(device, copy=True)
    if isinstance(value, (bool, int)):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{name} must be a number of at most 64 bits, got {_check.shown(value)}")
        return value if isinstance(value, bool) else int(value)
    if isinstance(value, float):
        return float(value)
    raise TypeError(
        f"{name} in the conditioning must be a dense tensor, a number or a mapping of these, got {_check.shown(value)}"
    )


def kind(value: Any) -> Any:
    """What must be the same for two values to be put together."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, dict):
        return {name: kind(value[name]) for name in sorted(value)}
    return _NUMBER


def together(values: list[Any], device: torch.device) -> Any:
    """Values of one kind as the network takes them, zeros for those that are None; not all may be."""
    there = next(value for value in values if value is not None)
    if isinstance(there, torch.Tensor):
        nothing = torch.zeros_like(there)
        return torch.stack([nothing if value is None else value for value in values])
    if isinstance(there, dict):
        return {name: together([value and value[name] for value in values], device) for name in there}
    numbers = [0 if value is None else value for value in values]
    return without_waiting(torch.tensor(numbers, dtype=_dtype(values), device="cpu"), device)


def _dtype(numbers: list[Any]) -> torch.dtype:
    types = set(map(type, numbers)) - {type(None)}
    if float in types:
        return torch.float32
    return torch.bool if types == {bool} else torch.int64
