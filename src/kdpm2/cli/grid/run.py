"""The cells of a grid drawn one after another."""

import time
from collections.abc import Iterator
from typing import Protocol

from kdpm2.cli.drawing import Held, drawn
from kdpm2.cli.grid.cells import Cell, Grid
from kdpm2.cli.grid.kept import Done
from kdpm2.cli.pictures import Drawn
from kdpm2.cli.watching import Watch


class Keeper(Protocol):
    """What keeps cells while a grid is drawn."""

    def done(self, cell: Cell) -> Done | None:
        """A cell that was drawn before."""

    def add(self, cell: Cell, drawn: list[Drawn], done: Done) -> None:
        """Keep a cell."""


def run(
    grid: Grid, held: Held, keeper: Keeper | None = None, watch: Watch | None = None
) -> Iterator[tuple[Cell, Done]]:
    """Each cell as it is finished, in the order in which cells are drawn.

    Args:
        grid: What is drawn.
        held: Loads models.
        keeper: Has cells that were drawn before, and keeps those that are drawn.
        watch: Called after each call of the network. What it raises ends the run.
    """
    for cell in grid.in_order:
        before = keeper.done(cell) if keeper else None
        if before is not None:
            yield cell, before
            continue
        pipe = held.pipeline(cell.plan)
        started = time.perf_counter()
        pictures = [each for batch in drawn(pipe, cell.plan, cell.plan.pictures, watch, bars=False) for each in batch]
        seconds = time.perf_counter() - started
        done = Done([each.image for each in pictures], seconds, len(pipe.scheduler.timesteps))
        if keeper:
            keeper.add(cell, pictures, done)
        yield cell, done
