"""Rows of any pipeline of diffusers: those that differ in nothing but prompt, label and seed share a call.

A call that fails for several is made for each of them alone, and only those fail that fail alone too.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from kdpm2.cli.loading import Model
from kdpm2.generate.counted import Calls
from kdpm2.generate.model import key
from kdpm2.generate.wanted import Wanted
from kdpm2.noise import generator_of

Drawn = tuple[Wanted, Any]
"""A row, and its image or the Exception that it ended with."""

logger = logging.getLogger(__name__)

_EACH_ITS_OWN = ("prompt", "negative_prompt")


def draw(pipe: Any, model: Model, rows: Sequence[tuple[Wanted, Any]], batch: int, calls: Calls) -> Iterator[Drawn]:
    """The rows, each with its scheduler, as they are done."""
    alike = sorted(rows, key=lambda row: _shared(row[0]))
    for _, group in groupby(alike, key=lambda row: _shared(row[0])):
        held = list(group)
        for first in range(0, len(held), batch):
            some = [wanted for wanted, _ in held[first : first + batch]]
            pipe.scheduler = held[0][1]
            yield from _drawn(pipe, model, some, batch, calls)


def _shared(wanted: Wanted) -> str:
    """What rows must have in common to share a call, as a text that can be sorted."""
    called = {name: value for name, value in wanted.called.items() if name not in _EACH_ITS_OWN}
    own = [name in wanted.options for name in (*_EACH_ITS_OWN, "label")]
    return repr((sorted(called.items()), own, key(wanted)))


def _drawn(pipe: Any, model: Model, rows: list[Wanted], batch: int, calls: Calls) -> Iterator[Drawn]:
    images: list[Any] | None = None
    calls.add(1, len(rows), batch)
    try:
        images = _images(pipe, model, rows)
    except Exception as error:
        if len(rows) == 1:
            images = [error]
        else:
            logger.warning("a call for %d rows failed; it is now made for each", len(rows), exc_info=True)
    if images is not None:
        yield from zip(rows, images, strict=True)
        return
    for wanted in rows:
        yield from _drawn(pipe, model, [wanted], 1, calls)


def _images(pipe: Any, model: Model, rows: list[Wanted]) -> list[Any]:
    arguments = {name: value for name, value in rows[0].called.items() if name not in _EACH_ITS_OWN}
    for name in _EACH_ITS_OWN:
        if name in rows[0].options:
            arguments[name] = [wanted.options[name] for wanted in rows]
    if "labels" in model.accepted and model.classes is not None:
        arguments["labels"] = [wanted.options.get("label", model.classes - 1) for wanted in rows]
    elif model.on_pixels:
        arguments["num_images"] = len(rows)
    if "output_type" in model.accepted:
        arguments["output_type"] = "np"
    seeds = [wanted.seed for wanted in rows]
    pipe.scheduler.seed(seeds)  # for the noise of steps, where the pipeline does not pass the generators on
    images = getattr(pipe(generator=[generator_of(seed) for seed in seeds], **arguments), "images", None)
    if images is None or len(images) != len(rows):
        raise ValueError(f"the pipeline must draw one image for each row, got {0 if images is None else len(images)}")
    if not isinstance(images, np.ndarray):
        return list(images)
    shown = iter(pipe.numpy_to_pil(np.nan_to_num(images)))
    finite = [bool(np.isfinite(image).all()) for image in images]
    wrong = ArithmeticError("the picture has numbers that are not finite")
    return [picture if good else wrong for picture, good in zip(shown, finite, strict=True)]
