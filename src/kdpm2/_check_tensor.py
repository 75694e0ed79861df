"""Checks of tensors and arrays, for what works with torch; the messages are in the style of `kdpm2._check`."""

from typing import Any, TypeAlias

import numpy as np
import torch

from kdpm2 import _check

FLOATING = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""The dtypes that torch computes with; float8 is for storage alone."""

Kind: TypeAlias = tuple[tuple[int, ...], torch.dtype, torch.device]


def floating_dtype(name: str, value: object) -> torch.dtype:
    """`value` if it is a dtype that torch computes with; TypeError otherwise."""
    if not isinstance(value, torch.dtype) or value not in FLOATING:
        raise TypeError(f"{name} must be a floating-point torch.dtype, of 16 bits at least, got {_check.shown(value)}")
    return value


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values lie in memory as plain numbers."""
    return tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized


def floating(name: str, value: object) -> torch.Tensor:
    """`value` if it is a dense floating-point tensor; TypeError otherwise."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, or all samples NumPy arrays, got {_check.shown(value)}")
    if value.dtype not in FLOATING:
        of_what = "of 16 bits at least" if value.is_floating_point() else "floating point"
        raise TypeError(f"{name} must be {of_what}, got {value.dtype}")
    if not is_dense(value):
        raise TypeError(f"{name} must be a dense tensor, got {'a nested one' if value.is_nested else value.layout}")
    return value


def kind_of(name: str, value: object) -> Kind:
    """The shape, dtype and device of a dense floating-point tensor; TypeError for anything else."""
    tensor = floating(name, value)
    return tensor.shape, tensor.dtype, tensor.device


def alike(a: Any, b: Any) -> bool:
    """Whether these are two dense floating-point tensors of one shape on one device: what every stage has to check."""
    try:
        return (
            a.shape == b.shape
            and a.device == b.device
            and a.dtype in FLOATING
            and (b.dtype is a.dtype or b.dtype in FLOATING)
            and a.layout is b.layout is torch.strided  # which nothing but tensors have
        )
    except (AttributeError, RuntimeError, TypeError):  # no tensor, or a nested one, which has no shape
        return False


def check_like(name: str, value: Any, other_name: str, kind: Kind) -> None:
    """`value` is `floating`, and has the shape and device of `other_name`, of this kind, but maybe another dtype.

    The one check that every stage pays for: what is wrong is found out only if something is.
    """
    shape, _, device = kind
    try:
        if (
            value.shape == shape
            and value.dtype in FLOATING
            and value.device == device
            and value.layout is torch.strided
            and isinstance(value, torch.Tensor)
        ):
            return
    except (AttributeError, RuntimeError, TypeError):  # no tensor, or a nested one, which has no shape
        pass
    tensor = floating(name, value)
    if tensor.shape != shape:
        raise ValueError(f"{name} must have the shape of {other_name}, {tuple(shape)}, got {tuple(tensor.shape)}")
    raise ValueError(f"{name} must be on the device of {other_name}, {device}, got {tensor.device}")


def from_array(name: str, array: Any) -> torch.Tensor:
    """A tensor that shares the array's memory, where torch can; TypeError if it holds no floating-point numbers."""
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        of_what = "of 64 bits at most" if array.dtype.kind == "f" else "floating point"
        raise TypeError(f"{name} must be {of_what}, got an array of {_check.shown(array.dtype)}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array without a mask, got {_check.shown(array)}")
    native = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    readable = native.flags.writeable and min(native.strides, default=0) >= 0
    return torch.from_numpy(native if readable else native.copy())


def on_device(tensor: torch.Tensor, device: str | torch.device | None) -> torch.Tensor:
    """`tensor` on a device; ValueError if torch cannot use it."""
    try:
        return tensor.to(device=device)
    except (AssertionError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device must be one that torch can use here, got {_check.shown(device)}: {reason}") from error


def without_waiting(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on a device that is there, which is not waited for.

    A copy from memory that is not pinned is over when this returns; it would wait for a GPU's other work besides.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")
