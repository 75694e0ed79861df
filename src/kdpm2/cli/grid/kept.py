"""The cells that are drawn, kept in a folder as they come: a run that was stopped goes on from there.

A picture is a PNG of its own, which says the `kdpm2 sample` command that draws it. `grid.json` says which grid it is,
and what each finished cell took. A cell that is not in there is drawn again.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from kdpm2.cli import contact_sheet, said
from kdpm2.cli.grid import words
from kdpm2.cli.grid.cells import Cell, Grid
from kdpm2.cli.options import refuse
from kdpm2.cli.output import is_there, make_folder, printable, written
from kdpm2.cli.pictures import Drawn, Picture

_RECORD = "grid.json"


class Done(NamedTuple):
    """A cell that is drawn.

    Attributes:
        images: One a seed.
        seconds: How long it took.
        calls: How often the network was called for one picture.
    """

    images: list[Image.Image]
    seconds: float
    calls: int


class Kept:
    """A folder of cells.

    Args:
        option: The option that names it, for messages.
        folder: It need not be there yet.
        grid: What is drawn.
        force: Whether pictures of other commands are overwritten, and another grid's record.
    """

    def __init__(self, option: str, folder: Path, grid: Grid, force: bool) -> None:
        self._option, self._folder, self._grid, self._force = option, folder, grid, force
        self._command = words.command(grid)
        self._cells = self._read()
        for cell in grid.cells:
            for picture in () if force or cell.name in self._cells else cell.plan.pictures:
                self._check_own(cell, picture)

    def _read(self) -> dict[str, dict[str, float]]:
        """What the folder says of its finished cells; ends the command if they are another grid's."""
        record = self._folder / _RECORD
        if not is_there(record):
            return {}
        try:
            held: Any = json.loads(record.read_text(encoding="utf-8"))
            command, cells = str(held["command"]), dict(held["cells"])
            finished = {
                cell.name: {"seconds": float(cells[cell.name]["seconds"]), "calls": int(cells[cell.name]["calls"])}
                for cell in self._grid.cells
                if cell.name in cells
            }
        except (OSError, ValueError, TypeError, KeyError):
            command, finished = "something else", {}
        if command == self._command:
            return finished
        if not self._force:
            refuse(
                self._option,
                f"{self._folder} holds cells of another grid, of {command}; --force overwrites them",
            )
        return {}

    def _file(self, cell: Cell, picture: Picture | Drawn) -> Path:
        return self._folder / f"{cell.name}-{picture.seed:05}.png"

    def _check_own(self, cell: Cell, picture: Picture) -> None:
        file = self._file(cell, picture)
        own = said.command(said.of_one(cell.plan.given, picture))
        if is_there(file) and contact_sheet.command_in(file) != own:
            refuse(self._option, f"{file} is there already, and another command made it; --force overwrites it")

    def done(self, cell: Cell) -> Done | None:
        """A cell that was drawn before, None if it has to be drawn."""
        if cell.name not in self._cells:
            return None
        images = []
        for picture in cell.plan.pictures:
            file = self._file(cell, picture)
            if contact_sheet.command_in(file) != said.command(said.of_one(cell.plan.given, picture)):
                return None
            try:
                with Image.open(file, formats=["PNG"]) as image:
                    images.append(image.copy())
            except (OSError, SyntaxError):  # what Pillow raises for a file that was cut off
                return None
        took = self._cells[cell.name]
        return Done(images, took["seconds"], int(took["calls"]))

    def add(self, cell: Cell, drawn: Sequence[Drawn], done: Done) -> None:
        """Keep a cell: first its pictures, then that it is finished."""
        make_folder(self._option, self._folder)
        for each in drawn:
            one = said.of_one(cell.plan.given, Picture(each.seed, each.label))
            with written(self._option, self._file(cell, each), force=True) as unfinished:
                contact_sheet.save(each.image, unfinished, said.chunks(one, done.calls, each.image.size))
        self._cells[cell.name] = {"seconds": round(done.seconds, 3), "calls": done.calls}
        with written(self._option, self._folder / _RECORD, force=True) as unfinished:
            text = json.dumps({"command": self._command, "cells": self._cells}, indent=1)
            unfinished.write_text(printable(text), encoding="utf-8")

    def remove(self) -> None:
        """Take away the cells, and the folder if nothing else is in there."""
        for cell in self._grid.cells:
            for picture in cell.plan.pictures:
                self._file(cell, picture).unlink(missing_ok=True)
        (self._folder / _RECORD).unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()
