"""An axis: an option of `kdpm2 sample`, and the values that it takes from cell to cell."""

import csv
import inspect
from typing import NamedTuple, get_args

import typer

from kdpm2 import _check
from kdpm2.cli import values
from kdpm2.cli.asked import Asked, drawing_options, read
from kdpm2.cli.options import refuse

_SET = "set_"
_ON_OFF = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


class Axis(NamedTuple):
    """Values of an option.

    Attributes:
        option: The option of the command that says so, `--x` or `--y`.
        name: Of the option that varies, with underscores.
        values: As they were written.
    """

    option: str
    name: str
    values: tuple[str, ...]

    def heading(self, place: int) -> str:
        """What is written above a column or beside a row."""
        return f"{self.name.replace('_', ' ')} {self.values[place]}"

    def as_written(self) -> str:
        """The axis as the command reads it."""
        return f"{self.name}={','.join(_quoted(value) for value in self.values)}"


def axis(option: str, text: str) -> Axis:
    """The axis that `NAME=A,B,..` says; a value with a comma stands in double quotes. Ends the command for others."""
    name, separator, listed = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    if not separator or not name:
        refuse(option, f"must be NAME=A,B,.. as in eta=0,0.5,1, got {values.short(text)}")
    known = [each for each in drawing_options() if each != _SET]
    if name not in known and name not in _of_schedulers():
        refuse(option, f"there is no option {values.short(name)}{_check.meant(name, [*known, *_of_schedulers()])}")
    try:
        (row,) = csv.reader([listed], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        refuse(option, f"must hold values separated by commas, got {values.short(listed)}")
    found = tuple(value.strip() for value in row)
    if not all(found) or not found:
        refuse(option, f"{name} must have a value between any two commas, got {values.short(listed)}")
    if len(set(found)) < len(found):
        twice = next(value for value in found if found.count(value) > 1)
        refuse(option, f"{name} must have each value once, got {values.short(twice)} twice")
    return Axis(option, name, found)


def with_value(asked: Asked, axis: Axis, value: str) -> Asked:
    """What is asked for with a value of an axis; ends the command if the option does not take it."""
    if axis.name not in drawing_options():
        return asked | {_SET: [*asked.get(_SET, []), f"{axis.name}={value}"]}
    if _is_switch(axis.name):
        if value.lower() not in _ON_OFF:
            refuse(axis.option, f"{axis.name} must be true or false, got {values.short(value)}")
        return asked | {axis.name: _ON_OFF[value.lower()]}
    try:
        one = read([f"--{axis.name.replace('_', '-')}={value}"])
    except typer.BadParameter as error:
        refuse(axis.option, f"{axis.name} {error.message.removeprefix('Value error, ')}")
    return asked | {axis.name: one[axis.name]}


def _is_switch(name: str) -> bool:
    """Whether an option of drawing is on or off."""
    kind, *_ = get_args(drawing_options()[name].annotation)
    return bool in get_args(kind)


def _of_schedulers() -> list[str]:
    """The options of the scheduler classes, any of which `--set` takes."""
    import kdpm2

    classes = (kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler)
    names = {name for each in classes for name in inspect.signature(each.__init__).parameters}
    return sorted(names - {"self"})


def _quoted(value: str) -> str:
    if any(letter in value for letter in ',"\n'):
        return '"' + value.replace('"', '""') + '"'
    return value
