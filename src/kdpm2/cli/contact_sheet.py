"""Many small pictures on one, in a PNG that says how it was made."""

import textwrap
from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from kdpm2.cli.output import printable

MARGIN = 2
SMALLEST_TILE = 64
MOST_COLUMNS = 10
_LINE = 12  # pixels a line of text, in the one font that Pillow brings
_LETTER = 7  # at most


def enlargement(size: tuple[int, int]) -> int:
    """The whole factor by which images of a size are enlarged, so that one sees what is on them."""
    return max(1, SMALLEST_TILE // min(size))


def tiled(images: Sequence[Image.Image], captions: Sequence[str] | None = None, heading: str = "") -> Image.Image:
    """Images of one size in rows on white: ten a row, or a square if there are more than a hundred.

    Images smaller than 64 pixels are enlarged smoothly by a whole factor: an 8x8 digit reads better that way.

    Args:
        images: What to show.
        captions: Lines below each of them.
        heading: What to write above all of them.
    """
    width, height = images[0].size
    factor = enlargement(images[0].size)
    width, height = width * factor, height * factor
    columns = min(len(images), max(MOST_COLUMNS, ceil(sqrt(len(images)))))
    rows = ceil(len(images) / columns)
    below = _LINE * max((caption.count("\n") + 1 for caption in captions), default=0) if captions else 0
    across = columns * (width + MARGIN) + MARGIN
    lines = textwrap.wrap(heading, max(8, across // _LETTER))
    above = _LINE * len(lines) + (MARGIN if lines else 0)
    sheet = Image.new(images[0].mode, (across, above + rows * (height + below + MARGIN) + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    _write(pen, (MARGIN, 0), "\n".join(lines))
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        place = (MARGIN + column * (width + MARGIN), above + MARGIN + row * (height + below + MARGIN))
        sheet.paste(image.resize((width, height), Image.Resampling.BICUBIC), place)
        if captions:
            _write(pen, (place[0], place[1] + height), captions[i])
    return sheet


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str) -> None:
    font = ImageFont.load_default()
    for number, line in enumerate(text.split("\n")):
        # The letters that the font of every Pillow has.
        known = line.encode("latin-1", "replace").decode("latin-1")
        pen.text((place[0], place[1] + number * _LINE), known, fill="black", font=font)


def save(image: Image.Image, path: Path, text: Mapping[str, str]) -> None:
    """Write a PNG with text chunks."""
    chunks = PngInfo()
    for key, value in text.items():
        value = printable(value)
        chunks.add_itxt(key, value) if not value.isascii() else chunks.add_text(key, value)
    image.save(path, format="PNG", pnginfo=chunks)


def command_in(path: Path) -> str | None:
    """The command that a PNG says it was made by; None if it says none, or is no PNG."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return str(image.info["command"])
    except (OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError):
        return None
