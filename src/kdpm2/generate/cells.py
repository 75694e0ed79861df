"""What a cell of a row may hold: each option refuses what it does not take, by its name.

A cell may be a text that says a number, as those of CSV do. An empty one, and a missing value of pandas, is None.
"""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import typer

from kdpm2 import _check
from kdpm2.cli import values
from kdpm2.cli.options import SCHEDULER_OPTIONS, WORDS, Sampler, Sigmas, Spacing
from kdpm2.noise.seeds import LARGEST_SEED

_LARGEST_EXACT = 2**53
_LARGEST_ID = 2**63 - 1
_LONGEST_ID = 1000
_LONGEST_TEXT = 2**20
_LONGEST_SIDE = 16_384
_MOST_LABELS = 2**31


class Cell(NamedTuple):
    """What an option holds, and how it is read, as read(name, value)."""

    kind: type
    read: Callable[[str, Any], Any]


def is_empty(value: object) -> bool:
    """Whether a cell says nothing."""
    return value is None or (isinstance(value, str) and not value) or (isinstance(value, float) and math.isnan(value))


def whole(low: int, high: int, multiple: int = 1) -> Cell:
    """A whole number from `low` to `high`."""

    def read(name: str, value: Any) -> int:
        result = _check.integer(name, _as_whole(value), low, high)
        if result % multiple:
            raise ValueError(f"{name} must be a multiple of {multiple}, got {result}")
        return result

    return Cell(int, read)


def real(low: float = -math.inf, high: float = math.inf) -> Cell:
    """A finite number from `low` to `high`."""

    def read(name: str, value: Any) -> float:
        return _check.finite(name, _check.number(name, _number_said(value), low, high))

    return Cell(float, read)


def in_words(kind: type) -> Cell:
    """What takes several numbers: as the command writes it, or lists and mappings of numbers. A number stays one."""
    read_words = WORDS[kind]

    def read(name: str, value: Any) -> float | str:
        plain = value.tolist() if hasattr(value, "tolist") else value
        try:
            found = read_words(plain if isinstance(plain, str) else values.in_words(plain))
        except TypeError as error:
            raise TypeError(f"{name} {error}") from error
        except typer.BadParameter as error:
            raise ValueError(f"{name} {error.message}") from error
        return str(found) if isinstance(found, values.InWords) else _check.finite(name, found)

    return Cell(float if kind is values.ByStep else str, read)


def one_of(allowed: Any) -> Cell:
    """A member of an enumeration, by its name."""
    names = [each.value for each in allowed]
    return Cell(str, lambda name, value: _check.choice(name, getattr(value, "value", value), names))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {_check.shown(value)}")
    if len(value) > _LONGEST_TEXT:
        raise ValueError(f"{name} must be a text of at most {_LONGEST_TEXT} letters, got {len(value)}")
    return value


def _flag(name: str, value: Any) -> bool:
    said = {"true": True, "false": False}
    return _check.flag(name, said.get(value.lower(), value) if isinstance(value, str) else value)


def _label(name: str, value: Any) -> int | None:
    """A class; None for any."""
    return None if value == values.ANY else whole(0, _MOST_LABELS).read(name, value)


def _id(name: str, value: Any) -> int | str:
    """An integer, or a text."""
    value = value if isinstance(value, str) else _as_whole(value)
    if isinstance(value, str):
        if not 0 < len(value) <= _LONGEST_ID:
            raise ValueError(f"{name} must be a text of 1 to {_LONGEST_ID} letters, got {_check.shown(value)}")
        return value
    return _check.integer(name, value, -_LARGEST_ID - 1, _LARGEST_ID)


def _interval(name: str, value: Any) -> list[float]:
    """Two noise levels, the lower first: a list, or a text with a comma between them."""
    parts = value.split(",") if isinstance(value, str) else value
    levels = _check.numbers(name, [_number_said(part) for part in parts] if isinstance(value, str) else parts, most=2)
    if levels.shape != (2,) or not 0 <= levels[0] < levels[1]:
        raise ValueError(f"{name} must be two noise levels, the lower first, as in 0.3,5, got {_check.shown(value)}")
    return [float(level) for level in levels]


def entry(name: str, value: Any) -> str:
    """Any other entry of a scheduler's configuration, as JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
            return value
        except (ValueError, RecursionError):  # no JSON: the text itself, as with --set
            pass
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise TypeError(f"{name} must be a number, a text, true, false or a list, got {_check.shown(value)}") from None


TEXT, FLAG, LABEL, ID, SEED = (
    Cell(str, _text),
    Cell(bool, _flag),
    Cell(int, _label),
    Cell(str, _id),
    whole(0, LARGEST_SEED),
)

CALLED: dict[str, Cell] = {
    "prompt": TEXT,
    "negative_prompt": TEXT,
    "label": LABEL,
    "height": whole(8, _LONGEST_SIDE, 8),
    "width": whole(8, _LONGEST_SIDE, 8),
    "steps": whole(1, _check.MOST_STEPS),
    "guidance_scale": real(0, 100),
    "guidance_plus_plus": FLAG,
    "guidance_interval": Cell(str, _interval),
    "guidance_rescale": real(0, 1),
}
"""What a pipeline is called with."""

_OF_TYPE = {
    int: whole(-_check.MOST_STEPS, _check.MOST_STEPS),
    float: real(),
    **{kind: in_words(kind) for kind in WORDS},
    str: TEXT,
    bool: FLAG,
}
SCHEDULED: dict[str, Cell] = {
    "sampler": one_of(Sampler),
    "sigmas": one_of(Sigmas),
    "spacing": one_of(Spacing),
    **{name: _OF_TYPE[kind] for name, kind in SCHEDULER_OPTIONS.items()},
}
"""The options of a scheduler that the command has, too."""


def _as_whole(value: Any) -> Any:
    """An integer that is written as a text or as a float, as pandas writes columns with gaps; else the value itself."""
    if isinstance(value, str) and len(value) <= 40 and value.lstrip("-").isdecimal():
        return int(value)
    value = _number_said(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT:
        return int(value)
    return value


def _number_said(value: Any) -> Any:
    """The number that a text says; else the value itself."""
    if isinstance(value, str) and len(value) <= 40:
        try:
            return float(value)
        except ValueError:
            return value
    return value
