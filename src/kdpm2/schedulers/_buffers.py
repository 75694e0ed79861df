"""Tensors of a scheduler that programs read, move to a device, assign and edit.

diffusers' classes keep `sigmas`, `betas` and the like as plain tensors. Here they are made from the table or from the
model when they are first read. What a program does to them is noticed when they are next needed. The same values, on
any device, are no change. Other values are an edit. It takes effect, or an error names the attribute.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, overload

import torch


class Seen(NamedTuple):
    """A tensor as it was when last looked at. Its version is None if torch counts no changes of it."""

    tensor: Any
    version: int | None

    @staticmethod
    def now(tensor: torch.Tensor) -> "Seen":
        """The tensor as it is."""
        return Seen(tensor, None if tensor.is_inference() else tensor._version)

    def same(self, current: Any) -> bool:
        """Whether nothing was assigned or edited since, as far as torch counts edits."""
        return bool(current is self.tensor and (self.version is None or current._version == self.version))


_NEVER_LOOKED_AT = Seen(object(), None)


class Buffer:
    """A tensor that is an attribute of a scheduler. `make` makes it unless a program has assigned one.

    Args:
        make: The tensor from the scheduler, float32 and on the CPU; AttributeError where there is none.
    """

    def __init__(self, make: Callable[[Any], torch.Tensor]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, scheduler: None, owner: type) -> "Buffer": ...
    @overload
    def __get__(self, scheduler: object, owner: type) -> torch.Tensor: ...
    def __get__(self, scheduler: Any, owner: type) -> Any:
        """The tensor that was assigned, or a new one, which is then kept."""
        if scheduler is None:
            return self
        held = scheduler.__dict__
        if self._name not in held:
            with torch.inference_mode(False):  # kept for later, where changes have to be counted
                held[self._name] = self._make(scheduler)
            watched(scheduler)[self._name] = Seen.now(held[self._name])
        return held[self._name]

    def __set__(self, scheduler: Any, value: Any) -> None:
        """Keep the assigned tensor. What it means is found out when it is next needed."""
        scheduler.__dict__[self._name] = value
        watched(scheduler).setdefault(self._name, _NEVER_LOOKED_AT)

    def made(self, scheduler: Any) -> torch.Tensor:
        """What the tensor is without edits."""
        return self._make(scheduler)


def watched(scheduler: Any) -> dict[str, Seen]:
    """The buffers of a scheduler that were read or assigned, as they were last looked at."""
    seen: dict[str, Seen] = scheduler.__dict__.setdefault("_watched", {})
    return seen


def forget(scheduler: Any, names: Iterable[str]) -> None:
    """Let these buffers be made anew when they are next read."""
    for name in names:
        scheduler.__dict__.pop(name, None)
        watched(scheduler).pop(name, None)


def keep(scheduler: Any, name: str, tensor: torch.Tensor, names: Iterable[str]) -> None:
    """Keep a tensor whose values have taken effect; the other buffers are made anew when they are next read."""
    forget(scheduler, names)
    setattr(scheduler, name, tensor)
    watched(scheduler)[name] = Seen.now(tensor)


def edits(scheduler: Any, names: Iterable[str], closely: bool = False) -> dict[str, Any]:
    """Those of these buffers that no longer hold the values they were made with.

    Torch counts no edits made through NumPy; `closely` compares the values of all that are on the CPU.
    """
    found = {}
    for name in names:
        seen, current = watched(scheduler).get(name), scheduler.__dict__.get(name)
        if seen is None or (seen.same(current) and not (closely and current.is_cpu)):
            continue
        if _same_values(current, getattr(type(scheduler), name), scheduler):
            watched(scheduler)[name] = Seen.now(current)
        else:
            found[name] = current
    return found


def _same_values(current: Any, buffer: Buffer, scheduler: Any) -> bool:
    """Whether a tensor holds the values that the buffer was made with, except for rounding to its dtype."""
    try:
        made = buffer.made(scheduler)
    except AttributeError:  # there is none
        return False
    if not isinstance(current, torch.Tensor) or current.shape != made.shape or current.is_meta:
        return False
    if not current.is_floating_point():
        return False
    rounding = 2 * torch.finfo(current.dtype).eps
    return torch.allclose(current.detach().to("cpu", torch.float32), made, rtol=rounding, atol=0)
