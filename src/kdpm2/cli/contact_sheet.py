"""Many small pictures on one, in a PNG that says how it was made."""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from kdpm2.cli.letters import Letters
from kdpm2.cli.output import printable

MARGIN = 2
SMALLEST_TILE = 64
MOST_COLUMNS = 10
_SMOOTH_BELOW = 16  # pixels
_SMALLEST_LETTERS, _LARGEST_LETTERS = 13, 28
_OF_A_TILE = 10  # a tile is so many times as wide as its letters are high


def enlargement(size: tuple[int, int]) -> int:
    """The whole factor by which images of a size are enlarged, so that one sees what is on them."""
    return max(1, round(SMALLEST_TILE / min(size)))


def enlarged(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image at another size: smoothly, but with hard pixels where it is one of pixels that one is to see.

    An 8x8 digit reads better smoothed; pictures of 16 pixels and more were drawn for their pixels.
    """
    hard = min(image.size) >= _SMOOTH_BELOW and size[0] >= image.width
    return image.resize(size, Image.Resampling.NEAREST if hard else Image.Resampling.BICUBIC)


def tiled(images: Sequence[Image.Image], captions: Sequence[str] | None = None, heading: str = "") -> Image.Image:
    """Images of one size in rows on white: ten a row, or a square if there are more than a hundred.

    Images smaller than 64 pixels are enlarged by a whole factor.

    Args:
        images: What to show.
        captions: Lines below each of them, broken where they are wider than it is.
        heading: What to write above all of them.
    """
    width, height = images[0].size
    factor = enlargement(images[0].size)
    width, height = width * factor, height * factor
    columns = min(len(images), max(MOST_COLUMNS, ceil(sqrt(len(images)))))
    rows = ceil(len(images) / columns)
    letters = Letters(max(_SMALLEST_LETTERS, min(_LARGEST_LETTERS, width // _OF_A_TILE)))
    below = [
        [line for part in caption.split("\n") for line in letters.lines(part, width)] for caption in captions or ()
    ]
    under = letters.height(max(map(len, below), default=0))
    across = columns * (width + MARGIN) + MARGIN
    top = letters.lines(heading, across - 2 * MARGIN) if heading else []
    above = letters.height(len(top)) + (MARGIN if top else 0)
    sheet = Image.new(images[0].mode, (across, above + rows * (height + under + MARGIN) + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    letters.write(pen, (MARGIN, 0), top)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        place = (MARGIN + column * (width + MARGIN), above + MARGIN + row * (height + under + MARGIN))
        sheet.paste(enlarged(image, (width, height)), place)
        if captions:
            letters.write(pen, (place[0], place[1] + height), below[i])
    return sheet


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
