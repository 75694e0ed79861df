"""What the command line says, read as numbers: each option refuses what it does not take, before anything is loaded."""

import math
from collections.abc import Callable

import typer

from kdpm2 import _check

ANY = "any"
"""The label of a picture that may be of any class."""

_MOST_DIGITS = 40  # of what may still be a number: Python takes its time to read long ones


class Numbers(list[float]):
    """Numbers of one option."""


class ByStep:
    """An option that changes on the way, as `kdpm2.by_step` takes it.

    Attributes:
        text: As it was written.
        value: A list of numbers, or a window.
    """

    def __init__(self, text: str, value: list[float] | dict[str, float]) -> None:
        self.text, self.value = text, value

    def __str__(self) -> str:
        return self.text


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
            window = dict(part.split("=", 1) for part in text.split(","))
            return ByStep(text, {name.strip(): float(value) for name, value in window.items()})
        return ByStep(text, list(numbers(text))) if "," in text else float(text)
    except ValueError:
        raise typer.BadParameter(
            f"must be a number, numbers with commas between them, or a window like value=1,end=0.5, got {short(text)}"
        ) from None


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
    for part in parts:
        if part != ANY and not (part.isdecimal() and len(part) <= _MOST_DIGITS):
            raise typer.BadParameter(
                f"must be whole numbers separated by commas, or {ANY!r} for any class, got {short(text)}"
            )
    return Labels(part if part == ANY else int(part) for part in parts)


def short(text: object) -> str:
    """A text as a message shows it: on one line, and cut where it is long."""
    return _check.shown(str(text))
