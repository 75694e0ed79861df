"""The cells of a grid, each a plan of its own; all of them are checked before anything is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import typer

from kdpm2.cli.asked import Asked
from kdpm2.cli.grid.axis import Axis, with_value
from kdpm2.cli.loading import Model, describe
from kdpm2.cli.options import refuse
from kdpm2.cli.plan import Plan, planned

MOST_CELLS = 1000
MOST_PICTURES = 10_000


@dataclass(frozen=True)
class Cell:
    """A place in a grid, and what is drawn there."""

    column: int
    row: int
    plan: Plan

    @property
    def name(self) -> str:
        """What its files are called by."""
        return f"x{self.column}-y{self.row}"


@dataclass(frozen=True)
class Grid:
    """What a grid is to show.

    Attributes:
        x: What changes from column to column.
        y: What changes from row to row; None for one row.
        asked: What all cells share.
        seeds: How many pictures a cell has.
        cells: Row by row.
    """

    x: Axis
    y: Axis | None
    asked: Asked
    seeds: int
    cells: tuple[Cell, ...]

    @property
    def columns(self) -> int:
        """How many there are."""
        return len(self.x.values)

    @property
    def rows(self) -> int:
        """How many there are."""
        return 1 if self.y is None else len(self.y.values)

    @cached_property
    def in_order(self) -> tuple[Cell, ...]:
        """The cells in the order in which they are drawn: those that need the same model follow one another."""
        turns: dict[tuple[object, ...], list[Cell]] = {}
        for cell in self.cells:
            plan = cell.plan
            needed = plan.model.name, plan.model.built_in, plan.dtype, plan.device
            turns.setdefault(needed, []).append(cell)
        return tuple(cell for turn in turns.values() for cell in turn)


def grid_of(
    asked: Asked, x: Axis, y: Axis | None, seeds: int, described: Callable[[str, str], Model] = describe
) -> Grid:
    """The grid over two axes; ends the command for what cannot be drawn, naming the cell."""
    rows = (None,) if y is None else y.values
    if y is not None and y.name == x.name:
        refuse(y.option, f"must be another option than that of {x.option}, got {y.name} for both")
    count = len(x.values) * len(rows)
    if count > MOST_CELLS:
        refuse(x.option, f"makes {count} cells, {len(x.values)} by {len(rows)}; at most {MOST_CELLS}")
    if count * seeds > MOST_PICTURES:
        refuse("--seeds", f"makes {count * seeds} pictures in {count} cells, {seeds} in each; at most {MOST_PICTURES}")
    described = cache(described)
    cells = []
    for row, in_row in enumerate(rows):
        of_row = asked if y is None or in_row is None else with_value(asked, y, in_row)
        for column, in_column in enumerate(x.values):
            one = with_value(of_row, x, in_column)
            try:
                plan = planned(one, seeds, described)
            except typer.BadParameter as error:
                where = x.heading(column) if y is None else f"{x.heading(column)}, {y.heading(row)}"
                error.message = f"{error.message} (in the cell of {where})"
                raise
            cells.append(Cell(column, row, plan))
    return Grid(x, y, asked, seeds, tuple(cells))
