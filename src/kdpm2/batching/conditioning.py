"""Conditioning: it is checked and copied when a request comes, and stacked when the network is called.

Tensors of one sample are stacked into a tensor (B, ...), and numbers into one of shape (B,). Tensors can be stacked if
they have the same shape and dtype. Numbers can always be stacked. They become float32 if one of them is a float, bool
if all are bools, and int64 otherwise. So 7 and 7.5 can be stacked, and a network that takes labels gets integers.
"""

from collections.abc import Mapping
from typing import Any

import torch

from kdpm2 import _check
from kdpm2._check_tensor import is_dense, without_waiting

_DEEPEST = 8
_NUMBER = "number"


def taken(given: Any, device: torch.device) -> dict[str, Any]:
    """A copy on a device. Later changes by the caller do not reach it.

    Args:
        given: Keyword arguments for the network, for one sample: dense tensors, numbers, and mappings of these.
        device: Device of the copies.

    Raises:
        TypeError: If it holds anything else.
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
    """A key that two values share if they can be stacked."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, dict):
        return {name: kind(value[name]) for name in sorted(value)}
    return _NUMBER


def together(values: list[Any], device: torch.device) -> Any:
    """Values of one kind, stacked for the network, with zeros for None. At least one must not be None."""
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
