"""A grid as one picture: values along its edges, what each cell took below it, and a legend."""

from collections.abc import Mapping
from math import ceil, sqrt

from PIL import Image, ImageDraw

from kdpm2.cli.contact_sheet import enlarged, enlargement
from kdpm2.cli.grid import words
from kdpm2.cli.grid.cells import Grid
from kdpm2.cli.grid.kept import Done
from kdpm2.cli.letters import Letters

LARGEST_SIDE = 16_384
_GAP = 2  # between the pictures of a cell
_WIDEST_BESIDE = 200  # pixels of text at which it is broken, where pictures are smaller
_PAD = 8  # around a cell, and along the edges
_FAINT = "#555555"
_LONGEST_CAPTION = "59 min 59 s, 199 calls"


def total(grid: Grid, done: Mapping[str, Done]) -> str:
    """How many calls of the network all cells took, and how long."""
    calls = sum(done[cell.name].calls * grid.seeds for cell in grid.cells if cell.name in done)
    seconds = sum(each.seconds for each in done.values())
    return f"Network calls: {calls}, {lasting(seconds)}"


def lasting(seconds: float) -> str:
    """A time as one reads it."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def picture(grid: Grid, done: Mapping[str, Done]) -> Image.Image:
    """The grid; cells that are not done yet stay empty."""
    some = next(iter(done.values())).images[0]
    block = _Block(grid, some.size)
    letters = Letters(max(12, min(32, block.width // 22)))
    headings = [grid.x.heading(column) for column in range(grid.columns)]
    beside = [] if grid.y is None else [grid.y.heading(row) for row in range(grid.rows)]
    left = min(max(map(letters.width, beside), default=0), max(block.width, _WIDEST_BESIDE))
    cell_width = max(block.width, letters.width(_LONGEST_CAPTION)) + _PAD
    across = left + _PAD + grid.columns * cell_width + _PAD
    heads = [letters.lines(text, cell_width - _PAD) for text in headings]
    top = letters.lines(words.shared(grid), across - 2 * _PAD)
    above = _PAD + letters.height(len(top)) + _PAD + letters.height(max(map(len, heads))) + _PAD // 2
    rows = [letters.lines(text, left) for text in beside]
    beside_height = letters.height(max(map(len, rows), default=0))
    cell_height = max(block.height + letters.height(1), beside_height) + _PAD
    foot = letters.lines(_legend(grid, done), across - 2 * _PAD)
    height = above + grid.rows * cell_height + letters.height(len(foot)) + _PAD
    sheet = Image.new("RGB", (across, height), "white")
    pen = ImageDraw.Draw(sheet)
    letters.write(pen, (_PAD, _PAD), top)
    for column, head in enumerate(heads):
        place = left + _PAD + column * cell_width + _PAD // 2
        letters.write(pen, (place, above - _PAD // 2 - letters.height(len(head))), head)
    for row, lines in enumerate(rows):
        middle = above + row * cell_height + max(0, block.height - letters.height(len(lines))) // 2
        letters.write(pen, (_PAD, middle), lines)
    for cell in grid.cells:
        if cell.name in done:
            corner = (left + _PAD + cell.column * cell_width + _PAD // 2, above + cell.row * cell_height)
            block.put(sheet, corner, done[cell.name])
            letters.write(pen, (corner[0], corner[1] + block.height), [_caption(done[cell.name])], _FAINT)
    letters.write(pen, (_PAD, above + grid.rows * cell_height), foot, _FAINT)
    return sheet


class _Block:
    """The pictures of a cell in a square."""

    def __init__(self, grid: Grid, size: tuple[int, int]) -> None:
        self._columns = ceil(sqrt(grid.seeds))
        rows = ceil(grid.seeds / self._columns)
        larger: float = enlargement(size)
        most = max(grid.columns * self._columns * size[0], grid.rows * rows * size[1]) * larger
        larger *= min(1, LARGEST_SIDE / most)
        self._tile = (max(1, round(size[0] * larger)), max(1, round(size[1] * larger)))
        self.width = self._columns * (self._tile[0] + _GAP) - _GAP
        self.height = rows * (self._tile[1] + _GAP) - _GAP

    def put(self, sheet: Image.Image, corner: tuple[int, int], done: Done) -> None:
        """Paste the pictures of a cell."""
        for i, image in enumerate(done.images):
            row, column = divmod(i, self._columns)
            place = (corner[0] + column * (self._tile[0] + _GAP), corner[1] + row * (self._tile[1] + _GAP))
            sheet.paste(enlarged(image.convert("RGB"), self._tile), place)


def _caption(done: Done) -> str:
    return f"{lasting(done.seconds)}, {done.calls} calls"


def _legend(grid: Grid, done: Mapping[str, Done]) -> str:
    pictures = grid.cells[0].plan.pictures
    seeds = f"seed {pictures[0].seed}" if grid.seeds == 1 else f"seeds {pictures[0].seed} to {pictures[-1].seed}"
    labels = dict.fromkeys(str(picture.label) for picture in pictures if picture.label is not None)
    of_label = f", labels {','.join(labels)}" if labels else ""
    same = all(cell.plan.pictures == pictures for cell in grid.cells)
    each = f"In each cell: {seeds}{of_label}. " if same else ""
    return (
        f"{each}Below a cell: the time that it took, and the network calls for one of its pictures. "
        f"{total(grid, done)} in all."
    )
