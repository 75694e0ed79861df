"""Words on a picture, in lines that fit."""

from math import ceil

from PIL import ImageDraw, ImageFont

_INK = "black"


class Letters:
    """The font that Pillow brings.

    Args:
        size: Height of a line's letters in pixels; Pillow before 10.1 has one size, 11.
    """

    def __init__(self, size: int) -> None:
        try:
            self._font = ImageFont.load_default(size)
        except TypeError:  # Pillow before 10.1
            self._font, size = ImageFont.load_default(), 11
        self._line = round(size * 1.3)

    def height(self, lines: int) -> int:
        """Of so many lines, in pixels."""
        return lines * self._line

    def width(self, text: str) -> int:
        """Of a text on one line, in pixels."""
        return ceil(self._font.getlength(_known(text)))

    def lines(self, text: str, width: int) -> list[str]:
        """The text in lines of a width, broken between words, and within those that are longer than a line."""
        lines: list[str] = []
        line = ""
        for word in text.split():
            while word:
                longer = f"{line} {word}" if line else word
                if self.width(longer) <= width:
                    line, word = longer, ""
                elif line:
                    lines, line = [*lines, line], ""
                else:
                    fits = next((n for n in range(len(word), 1, -1) if self.width(word[:n]) <= width), 1)
                    lines, word = [*lines, word[:fits]], word[fits:]
        return [*lines, line] if line or not lines else lines

    def write(self, pen: ImageDraw.ImageDraw, place: tuple[int, int], lines: list[str], ink: str = _INK) -> None:
        """Draw lines from a place down."""
        for number, line in enumerate(lines):
            pen.text((place[0], place[1] + number * self._line), _known(line), fill=ink, font=self._font)


def _known(text: str) -> str:
    """A text in the letters that the font of every Pillow has."""
    return text.encode("latin-1", "replace").decode("latin-1")
