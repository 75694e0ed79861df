"""A picture that is wanted, and one that is drawn."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image


class Picture(NamedTuple):
    """What makes a picture this one among those of a run: its seed, and its class if the model has some."""

    seed: int
    label: int | str | None


class Drawn(NamedTuple):
    """A picture with its image."""

    seed: int
    label: int | str | None
    image: "Image.Image"
