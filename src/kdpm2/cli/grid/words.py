"""What a grid says of how it was made: the command that makes it again, and its settings in short."""

import shlex
from typing import Any

import kdpm2
from kdpm2.cli import values
from kdpm2.cli.grid.cells import Grid
from kdpm2.cli.options import as_arguments, flattened
from kdpm2.cli.output import printable

_PLACE = ("device", "batch")  # where it is drawn; the pictures are the same elsewhere
_SHOWN_ONCE = ("model", "number", "seed", "labels", "at_sigmas", "at_timesteps")


def command(grid: Grid) -> str:
    """The command that makes the grid again."""
    axes = [word for axis in (grid.x, grid.y) if axis for word in (axis.option, axis.as_written())]
    given = {name: _as_text(value) for name, value in grid.asked.items() if name not in _PLACE}
    words = [word for pair in as_arguments(given) for word in pair if word]
    return printable(shlex.join(["kdpm2", "grid", *axes, "--seeds", str(grid.seeds), *words]))


def shared(grid: Grid) -> str:
    """The settings that all cells share, as a heading."""
    first = grid.cells[0].plan.given
    same = {
        name: value
        for name, value in first.items()
        if name not in _SHOWN_ONCE and all(cell.plan.given.get(name) == value for cell in grid.cells)
    }
    said = [f"{name.replace('_', ' ')} {_shown(value)}" for name, value in same.items()]
    models = {cell.plan.model.built_in for cell in grid.cells}
    model = [f"kdpm2 {each.name}" for each in models if each is not None and len(models) == 1]
    return ", ".join([*model, *said])


def chunks(grid: Grid, total: str) -> dict[str, str]:
    """The texts of the grid's PNG."""
    axes = [f"{axis.option.strip('-').upper()}: {axis.as_written()}" for axis in (grid.x, grid.y) if axis]
    first = grid.cells[0].plan.pictures[0].seed
    seeds = f"Seeds: {first}-{first + grid.seeds - 1}"
    parameters = "\n".join([shared(grid), *axes, f"{seeds}, {total}, Version: kdpm2 {kdpm2.__version__}"])
    return {"parameters": parameters, "command": command(grid)}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))


def _as_text(value: Any) -> Any:
    """A value of several as one text; the values of `--set` stay several."""
    if isinstance(value, values.Numbers):
        return flattened(value)
    return ",".join(map(str, value)) if isinstance(value, values.Labels) else value
