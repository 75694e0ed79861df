"""Argument checks, worded once: every message names the argument, what it got and what it takes.

What is refused is refused before it costs anything: counts have a bound, and nothing is converted before it is counted.
"""

import difflib
import math
import operator
import reprlib
import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_STEPS = 100_000
"""The longest schedule there is, trained or visited: far above what models have, and still a table of some 50 MB."""
SMALLEST, LARGEST = 1e-18, 1e18
"""Between them lie all noise levels and other positive numbers: their squares are still float32 numbers."""

_shortened = reprlib.Repr()
_shortened.maxlist = _shortened.maxtuple = _shortened.maxdict = _shortened.maxset = 8
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 80


def shown(value: object) -> str:
    """`value` as an error message shows it: its repr, cut where it would fill the screen or take long to write."""
    try:
        return " ".join(_shortened.repr(value).split())
    except Exception:  # Python writes no integers of thousands of digits; other objects may say anything
        return f"{type(value).__name__} too long to show" if isinstance(value, int) else f"a {type(value).__name__}"


def meant(name: object, known: Iterable[str]) -> str:
    """What to add to a message about a name that is not known: the nearest one that is, or nothing."""
    near = difflib.get_close_matches(str(name)[:80], list(known), n=1, cutoff=0.7)
    return f": did you mean {near[0]!r}?" if near else ""


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int in [low, high]; TypeError if it is no integer, ValueError if out of range."""
    allowed = f"an integer at least {low}" if high is None else f"an integer from {low} to {high}"
    try:
        result = operator.index(_scalar(value))
    except Exception:  # what an object raises that is asked for its value is its own affair
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}") from None
    if result < low or (high is not None and result > high):
        raise ValueError(f"{name} must be {allowed}, got {shown(result)}")
    return result


def count(name: str, value: Any) -> int:
    """`value` as an int from 1 to MOST_STEPS; TypeError if it is no integer, ValueError if out of range."""
    result = integer(name, value, 1)
    if result > MOST_STEPS:
        raise ValueError(f"{name} must be an integer at least 1 and at most {MOST_STEPS}, got {shown(result)}")
    return result


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a float in [low, high]; TypeError if it is no number, ValueError if NaN or out of range."""
    return _within(name, value, low, high, f"a number from {low:g} to {high:g}")


def finite(name: str, value: Any) -> float:
    """`value` as a finite float; TypeError if it is no number, ValueError if NaN or infinite."""
    return _within(name, value, -sys.float_info.max, sys.float_info.max, "a finite number")


def positive(name: str, value: Any) -> float:
    """`value` as a float in [SMALLEST, LARGEST]; TypeError if it is no number, ValueError if out of range."""
    result = _within(name, value, math.ulp(0), sys.float_info.max, "a finite number above 0")
    return _within(name, result, SMALLEST, LARGEST, f"a finite number above 0, from {SMALLEST:g} to {LARGEST:g}")


def _within(name: str, value: Any, low: float, high: float, allowed: str) -> float:
    try:
        result = float(_real(value))
    except OverflowError:
        raise ValueError(f"{name} must be {allowed}, got {shown(value)}") from None
    except Exception:  # as above
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}") from None
    if not low <= result <= high:
        raise ValueError(f"{name} must be {allowed}, got {result:g}")
    return result


def flag(name: str, value: Any) -> bool:
    """`value` if it is a bool; TypeError otherwise."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """`value` if it is one of `allowed`; ValueError otherwise."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {shown(value)}")
    return value


def listed(name: str, values: Iterable[Any], most: int, of_what: str) -> list[Any]:
    """`values` as a list; ValueError if they are more than `most`, whatever length they say they have."""
    held = list(islice(values, most + 1))
    if len(held) > most:
        raise ValueError(f"{name} must hold at most {most} {of_what}, got more")
    return held


def numbers(name: str, values: Any, most: int = MOST_STEPS + 1) -> NDArray[np.float64]:
    """`values`, a flat list, array or tensor of numbers, as a new array of shape (N,); NaN and infinity are numbers.

    TypeError if it is none, ValueError if it has another shape, or N is not from 1 to `most`.
    """
    try:
        array = _array(values, most + 1)
    except OverflowError:
        raise ValueError(f"{name} must hold numbers that fit into a float, got {shown(values)}") from None
    except Exception:  # as above
        raise TypeError(f"{name} must be a flat list or array of numbers, got {shown(values)}") from None
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must hold at least one number in one dimension, got an array of shape {array.shape}")
    if len(array) > most:
        raise ValueError(f"{name} must hold at most {most} numbers, got more")
    return array


def elements(name: str, values: Any) -> NDArray[np.float64]:
    """`values`, a number or an array, tensor or list of numbers, as an array of its shape; TypeError if it is none."""
    if type(values) is np.ndarray and values.dtype == np.float64:
        return values
    if isinstance(values, (list, tuple)):
        return numbers(name, values)
    try:
        shape = getattr(values, "shape", ())
        flat = values.reshape(-1) if shape else [values]
        return numbers(name, flat, most=sys.maxsize - 1).reshape(tuple(shape))
    except (TypeError, RuntimeError):
        raise TypeError(f"{name} must be a number or an array of numbers, got {shown(values)}") from None


def _scalar(value: Any) -> Any:
    """What an array or tensor without dimensions holds; anything else as it is. TypeError for a bool or a date."""
    if hasattr(value, "item"):
        if value.ndim or getattr(value.dtype, "kind", None) in ("m", "M"):
            raise TypeError
        value = value.item()
    if isinstance(value, bool):
        raise TypeError
    return value


def _real(value: Any) -> Any:
    """`value` if it is a number, and not merely a text that `float` would read one from; TypeError otherwise."""
    value = _scalar(value)
    if not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError
    return value


def _array(values: Any, limit: int) -> NDArray[np.float64]:
    """The first `limit` of `values`: a length may be enormous, or not be true."""
    if hasattr(values, "detach"):  # a tensor: torch is not needed to know it
        if values.ndim != 1:
            return np.broadcast_to(0.0, tuple(values.shape))
        values = values.detach()[:limit].cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    if hasattr(values, "__array__"):
        array = np.asarray(values)
        if array.ndim != 1:
            return np.broadcast_to(0.0, array.shape)
        if array.dtype.kind in "iuf" and not isinstance(values, np.ma.MaskedArray):
            return array[:limit].astype(np.float64)
        if array.dtype.kind != "O":
            raise TypeError
        values = array[:limit].tolist()
    if isinstance(values, (str, bytes, bytearray, Mapping)) or not hasattr(values, "__getitem__"):
        raise TypeError
    held = list(islice(values, limit))
    if not set(map(type, held)) <= {int, float}:
        held = [float(_real(value)) for value in held]
    return np.array(held, dtype=np.float64)
