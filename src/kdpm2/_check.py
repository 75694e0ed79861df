"""Argument checks, worded once: every message names the argument, what it got and what it takes."""

import math
import operator
from collections.abc import Collection
from typing import Any

_LONGEST_VALUE_SHOWN = 80


def shown(value: object) -> str:
    """`value` as an error message shows it: its repr, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE_SHOWN else text[:_LONGEST_VALUE_SHOWN] + "..."


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int in [low, high]; TypeError if it is no integer, ValueError if out of range."""
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"
    try:
        if isinstance(value, bool):
            raise TypeError
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer {allowed}, got {shown(value)}") from None
    if result < low or (high is not None and result > high):
        raise ValueError(f"{name} must be an integer {allowed}, got {result}")
    return result


def number(name: str, value: Any, low: float, high: float) -> float:
    """`value` as a float in [low, high]; TypeError if it is no number, ValueError if NaN or out of range."""
    allowed = f"a number from {low:g} to {high:g}"
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}")
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {allowed}, got {shown(value)}") from None
    if math.isnan(result) or not low <= result <= high:
        raise ValueError(f"{name} must be {allowed}, got {result}")
    return result


def positive(name: str, value: Any) -> float:
    """`value` as a finite float above 0; TypeError if it is no number, ValueError if out of range."""
    result = number(name, value, 0, math.inf)
    if not 0 < result < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {result:g}")
    return result


def flag(name: str, value: Any) -> bool:
    """`value` if it is a bool; TypeError otherwise."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return value


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """`value` if it is one of `allowed`; ValueError otherwise."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {shown(value)}")
    return value
