"""What the command line says, read as numbers: each option refuses what it does not take, before anything is loaded."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import typer

from kdpm2 import _check, restart
from kdpm2.zoo.built_in import BUILT_IN

ANY = "any"
"""The label of a picture that may be of any class."""

_OF_RESTART = restart.Restart._fields
_MOST_DIGITS = 40  # of what may still be a number: Python takes its time to read long ones


class Numbers(list[float]):
    """Numbers of one option."""


@dataclass(frozen=True)
class InWords:
    """An option that takes several numbers.

    Attributes:
        text: As it was written.
        value: As a scheduler takes it.
    """

    text: str
    value: Any = field(compare=False)

    def __str__(self) -> str:
        return self.text


class ByStep(InWords):
    """An option that changes on the way: a list of numbers, or a window, as `kdpm2.by_step` takes it."""


class Restarts(InWords):
    """Intervals in which a run restarts, as `kdpm2.restart` takes them; None for no restarts."""


NO_RESTARTS = "none"


class Labels(list[int | str]):
    """Classes of one option; `ANY` stands for no class in particular."""


def whole(low: int, high: int, multiple: int = 1) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""
    of = "" if multiple == 1 else f" that is a multiple of {multiple}"

    def read(text: str) -> int:
        sign, digits = ("-", str(text)[1:]) if str(text).startswith("-") else ("", str(text))
        value = int(sign + digits) if len(digits) <= _MOST_DIGITS and digits.isdecimal() else None
        if value is None or not low <= value <= high or value % multiple:
            raise typer.BadParameter(f"must be a whole number from {low} to {high}{of}, got {short(text)}")
        return value

    return read


def real(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """A reader of finite numbers from `low` to `high`."""
    allowed = "a finite number" if math.isinf(high) else f"a number from {low:g} to {high:g}"

    def read(text: str) -> float:
        try:
            value = float(text) if len(str(text)) <= _MOST_DIGITS else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not low <= value <= high:
            raise typer.BadParameter(f"must be {allowed}, got {short(text)}")
        return value

    return read


def varying(text: str) -> float | ByStep:
    """A number; numbers with commas between them; or a window, as in ``value=1,end=0.5``."""
    text = str(text)
    try:
        if "=" in text:
            return ByStep(text, {name: float(value) for name, value in _named(text).items()})
        return ByStep(text, list(numbers(text))) if "," in text else float(text)
    except ValueError:
        raise typer.BadParameter(
            f"must be a number, numbers with commas between them, or a window like value=1,end=0.5, got {short(text)}"
        ) from None


def restarts(text: str) -> Restarts:
    """Intervals with semicolons between them: ``sigma_min=0.3,sigma_max=2,steps=3,times=2``, or ``0.3,2,3,2``."""
    text = str(text)
    if text.strip().lower() == NO_RESTARTS:
        return Restarts(NO_RESTARTS, None)
    try:
        parts = [part for part in text.split(";") if part.strip()]
        named = [
            _named(part) if "=" in part else dict(zip(_OF_RESTART, part.split(","), strict=False)) for part in parts
        ]
        if not parts or any(len(part.split(",")) > len(_OF_RESTART) for part in parts):
            raise ValueError
        found = [{name: _number(value) for name, value in each.items()} for each in named]
    except ValueError:
        raise typer.BadParameter(
            "must be sigma_min,sigma_max,steps,times as in 0.3,2,3,2 or sigma_min=0.3,sigma_max=2, with a semicolon "
            f"between two intervals, or {NO_RESTARTS}, got {short(text)}"
        ) from None
    try:
        restart.checked("restarts", found)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"must be intervals in which a run can restart: {error}") from error
    return Restarts(text, found)


def in_words(value: Any) -> str:
    """What a scheduler takes of such an option, as `varying` and `restarts` read it.

    Raises:
        TypeError: If it is no number, list, window or list of intervals.
    """
    if value is None:
        return NO_RESTARTS
    if isinstance(value, Mapping):
        return ",".join(f"{name}={in_words(each)}" for name, each in value.items() if each is not None)
    if isinstance(value, (list, tuple)):
        several = any(isinstance(each, (list, tuple, Mapping)) for each in value)
        return (";" if several else ",").join(map(in_words, value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"must be numbers, got {_check.shown(value)}")
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _named(text: str) -> dict[str, str]:
    """The values of names, as in ``value=1,end=0.5``; ValueError for anything else."""
    pairs = [part.split("=", 1) for part in text.split(",")]
    named = {name.strip(): value for name, value in pairs}
    if len(named) < len(pairs):
        raise ValueError
    return named


def _number(text: str) -> int | float:
    if len(text) > _MOST_DIGITS:
        raise ValueError
    return int(text) if text.strip().isdecimal() else float(text)


def numbers(text: str) -> Numbers:
    """Numbers separated by commas, with spaces or without."""
    parts = str(text).split(",")
    try:
        if len(parts) > _check.MOST_STEPS + 1 or max(map(len, parts)) > _MOST_DIGITS:
            raise ValueError
        return Numbers(float(part) for part in parts)
    except ValueError:
        raise typer.BadParameter(f"must be numbers separated by commas, got {short(text)}") from None


def interval(text: str) -> Numbers:
    """Two numbers that rise, from 0 on."""
    found = numbers(text)
    if len(found) != 2 or not 0 <= found[0] < found[1]:
        raise typer.BadParameter(f"must be two noise levels, the lower first, as in 0.3,5, got {short(text)}")
    return found


def labels(text: str) -> Labels:
    """Classes separated by commas, with spaces or without; `ANY` among them."""
    parts = [part.strip() for part in str(text).split(",")]
    if len(parts) > _check.MOST_STEPS:
        raise typer.BadParameter(f"must be at most {_check.MOST_STEPS} labels, got {len(parts)}")
    words = {ANY, *(kind for each in BUILT_IN.values() for kind in each.kinds if not kind.isdecimal())}
    for part in parts:
        if part not in words and not (part.isdecimal() and len(part) <= _MOST_DIGITS):
            raise typer.BadParameter(
                f"must be whole numbers separated by commas, or {ANY!r} for any class, got {short(text)}"
            )
    return Labels(part if part in words else int(part) for part in parts)


def short(text: object) -> str:
    """A text as a message shows it: on one line, and cut where it is long."""
    return _check.shown(str(text))
