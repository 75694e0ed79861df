"""The command `kdpm2 grid`."""

from pathlib import Path
from typing import Annotated

import typer

from kdpm2._progress import bar
from kdpm2.cli import contact_sheet, values
from kdpm2.cli.asked import Asked, takes_drawing_options
from kdpm2.cli.drawing import Held
from kdpm2.cli.grid import words
from kdpm2.cli.grid.axis import axis
from kdpm2.cli.grid.cells import Grid, grid_of
from kdpm2.cli.grid.kept import Done, Kept
from kdpm2.cli.grid.picture import picture, total
from kdpm2.cli.grid.run import run
from kdpm2.cli.grouped import option
from kdpm2.cli.options import OUTPUT, WHAT, refuse
from kdpm2.cli.output import check, printable, written

_AXES = "Axes"


@takes_drawing_options
def draw_grid(
    x: Annotated[
        str | None, option("NAME=A,B,..", _AXES, "An option and its values, one a column, as in eta=0,0.5,1")
    ] = None,
    y: Annotated[str | None, option("NAME=A,B,..", _AXES, "Another, one a row, as in steps=5,8")] = None,
    seeds: Annotated[
        int, option("N", WHAT, "Pictures in each cell, of seeds that count up [4]", parser=values.whole(1, 1000))
    ] = 4,
    *,
    asked: Asked,
    output: Annotated[Path, option("FILE", OUTPUT, "The picture, a .png [grid.png]")] = Path("grid.png"),
    folder: Annotated[
        Path | None, option("FOLDER", OUTPUT, "Keep the single pictures there [FILE.cells, until the grid is drawn]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what other commands made", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Draw the same seeds side by side, with one or two options that change from cell to cell.

    The other options say what all cells share. Any of them can be an axis, and so can any that --set takes. A value
    with a comma stands in double quotes. A run that was stopped goes on if the same command is given again.
    """
    if x is None:
        refuse("--x", "must say which option changes, and its values, as in --x eta=0,0.5,1")
    check("--output", output, [".png"], force)
    if folder is not None:
        check("--folder", folder, [None], force)
    grid = grid_of(asked, axis("--x", x), None if y is None else axis("--y", y), seeds)
    option, where = ("--folder", folder) if folder else ("--output", output.with_name(f"{output.name}.cells"))
    kept = Kept(option, where, grid, force)
    done: dict[str, Done] = {}
    try:
        _draw(grid, kept, done)
    except BaseException:
        if done:
            finished = f"{len(done)} of {len(grid.cells)} cells"
            typer.echo(printable(f"{finished} are kept in {where}: the same command goes on there"), err=True)
        raise
    with written("--output", output, force) as unfinished:
        contact_sheet.save(picture(grid, done), unfinished, words.chunks(grid, total(grid, done)))
    if folder is None:
        kept.remove()
    size = f"{grid.columns} by {grid.rows} cells of {grid.seeds}"
    typer.echo(printable(f"{output}: {size}; {total(grid, done)}"))


def _draw(grid: Grid, kept: Kept, done: dict[str, Done]) -> None:
    with bar(total=len(grid.cells), unit="cell") as progress:
        for cell, drawn in run(grid, Held(), kept):
            done[cell.name] = drawn
            progress.update()
