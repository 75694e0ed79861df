"""Rows become pictures, in one of two ways.

A network on pixels is called through `kdpm2.batching`: rows share its calls whatever their steps and settings
(`kdpm2.generate.batched`). Any other pipeline is called for rows that differ in nothing but prompt, label and seed
(`kdpm2.generate.grouped`). Either way a row that cannot be drawn has an error, and the others have pictures.
"""

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kdpm2.cli.loading import Model
from kdpm2.generate import batched, grouped
from kdpm2.generate.counted import Calls
from kdpm2.generate.model import Schedulers, loaded
from kdpm2.generate.wanted import Wanted

if TYPE_CHECKING:
    from PIL import Image

TOGETHER = 64
"""Rows in one call of a network on pixels, if nobody says how many. The built-in one is no faster with more."""


class Outcome(NamedTuple):
    """A row, and the PNG of its picture or what went wrong."""

    wanted: Wanted
    png: bytes | None
    error: str | None


class Painter:
    """Draws rows, with a model that is loaded once.

    Args:
        model: What is to draw.
        dtype: Of its weights, by name; None for that of its files.
        device: "auto", or a name of torch's.
        batch: How many rows share a call at most; None for 64 of a network on pixels, and 1 of another pipeline.
        most: How many rows there may be at once, which a call need not have more places than.

    Attributes:
        calls: What was called so far.

    Raises:
        ValueError: If the model cannot be loaded, or the device not used.
    """

    def __init__(self, model: Model, dtype: str | None, device: str, batch: int | None, most: int) -> None:
        self._model, self._pipe = model, loaded(model, dtype, device)
        self._schedulers = Schedulers(model.config)
        self._batch = min(most, batch or (TOGETHER if model.on_pixels else 1))
        self.calls = Calls()

    def draw(self, rows: Sequence[Wanted]) -> Iterator[Outcome]:
        """The rows, each as it is done."""
        together: list[tuple[Wanted, Any]] = []
        apart: list[tuple[Wanted, Any]] = []
        for wanted in rows:
            try:
                scheduler = self._schedulers.of(wanted)
            except ValueError as error:
                yield Outcome(wanted, None, f"ValueError: {error}")
                continue
            (together if self._model.on_pixels and batched.can_be(scheduler) else apart).append((wanted, scheduler))
        for way, chosen in ((batched, together), (grouped, apart)):
            for wanted, drawn in way.draw(self._pipe, self._model, chosen, self._batch, self.calls):
                if isinstance(drawn, Exception):
                    yield Outcome(wanted, None, f"{type(drawn).__name__}: {' '.join(str(drawn).split())}")
                else:
                    yield Outcome(wanted, _png(drawn), None)


def _png(image: "Image.Image") -> bytes:
    held = io.BytesIO()
    image.save(held, format="PNG")
    return held.getvalue()
