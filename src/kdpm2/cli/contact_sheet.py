"""Many small pictures on one, in a PNG that says how it was made."""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kdpm2.cli.output import printable

MARGIN = 2
SMALLEST_TILE = 64
MOST_COLUMNS = 10


def tiled(images: Sequence[Image.Image]) -> Image.Image:
    """Images of one size in rows on white: ten a row, or a square if there are more than a hundred.

    Images smaller than 64 pixels are enlarged smoothly by a whole factor: an 8x8 digit reads better that way.
    """
    width, height = images[0].size
    factor = max(1, SMALLEST_TILE // min(width, height))
    width, height = width * factor, height * factor
    columns = min(len(images), max(MOST_COLUMNS, ceil(sqrt(len(images)))))
    rows = ceil(len(images) / columns)
    size = (columns * (width + MARGIN) + MARGIN, rows * (height + MARGIN) + MARGIN)
    sheet = Image.new(images[0].mode, size, "white")
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        place = (MARGIN + column * (width + MARGIN), MARGIN + row * (height + MARGIN))
        sheet.paste(image.resize((width, height), Image.Resampling.BICUBIC), place)
    return sheet


def save(image: Image.Image, path: Path, text: Mapping[str, str]) -> None:
    """Write a PNG with text chunks."""
    chunks = PngInfo()
    for key, value in text.items():
        value = printable(value)
        chunks.add_itxt(key, value) if not value.isascii() else chunks.add_text(key, value)
    image.save(path, format="PNG", pnginfo=chunks)
