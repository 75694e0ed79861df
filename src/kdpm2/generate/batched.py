"""Rows of a network on pixels, through `kdpm2.batching`: each has its own steps, sampler and settings.

Every call of the network is for the same number of rows, with zeros where there are too few. So a picture has the same
bits whoever its neighbours are. The longest rows begin first, so that few places are empty at the end.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch

from kdpm2 import _check
from kdpm2.batching import Request
from kdpm2.batching.batch import Batches
from kdpm2.cli.loading import Model
from kdpm2.denoiser import Denoiser, Outputs
from kdpm2.generate.counted import Calls
from kdpm2.generate.wanted import Wanted
from kdpm2.guidance import Guidance
from kdpm2.zoo.pixels import as_output, outputs

Drawn = tuple[Wanted, Any]
"""A row, and its image or the Exception that it ended with."""


class _Asked(NamedTuple):
    wanted: Wanted
    scheduler: Any

    @property
    def noise(self) -> str:
        """The kind of noise, which is that of a whole solver."""
        return str(self.scheduler.config.get("noise", "gaussian"))


def can_be(scheduler: Any) -> bool:
    """Whether a scheduler's table says all that it does: it changes no clean sample, and needs no size of image."""
    config = scheduler.config
    return not (config.clip_sample or config.thresholding or config.use_dynamic_shifting)


def draw(pipe: Any, model: Model, rows: Sequence[tuple[Wanted, Any]], batch: int, calls: Calls) -> Iterator[Drawn]:
    """The rows, each with its scheduler, as they are done."""
    asked = sorted((_Asked(*each) for each in rows), key=lambda each: (each.noise, -len(each.scheduler.table)))
    for noise, those in groupby(asked, key=lambda each: each.noise):
        yield from _drawn(pipe, model, list(those), noise, batch, calls)


def _drawn(pipe: Any, model: Model, asked: list[_Asked], noise: str, most: int, calls: Calls) -> Iterator[Drawn]:
    batches: Batches[Wanted] = Batches(
        _OfRows(pipe.unet, asked[0].scheduler._schedule, asked[0].scheduler.config.prediction_type),
        most,
        (pipe.unet.config.in_channels, *pipe._height_width()),
        static=True,
        options={
            "most_stages": 2 * _check.MOST_STEPS,
            "dtype": pipe.unet.dtype,
            "device": pipe.device,
            "noise": noise,
            "mode": "eager",
        },
    )
    waiting = iter(asked)
    while True:
        while len(batches) < most and (one := next(waiting, None)) is not None:
            try:
                batches.admit(batches.checked(_request(one, model)), one.wanted)
            except (TypeError, ValueError) as error:
                yield one.wanted, error
        if not len(batches):
            return
        before = batches.network.made, batches.network.requests
        ended = batches.advance()
        made, rows = batches.network.made - before[0], batches.network.requests - before[1]
        calls.add(made, rows, made * most)
        for wanted, outcome in ended:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
                raise outcome  # the user's Ctrl-C is no fault of a row
            yield wanted, outcome if isinstance(outcome, Exception) else _image(outcome)


def _request(one: _Asked, model: Model) -> Request:
    given: dict[str, Any] = {}
    if model.classes is not None:
        given["label"] = one.wanted.options.get("label", model.classes - 1)
    applied = _guidance(one)
    if applied is not None:  # these cost twice as much, and share calls with one another
        given["guidance"] = {name: float(value) for name, value in applied._asdict().items()}
    return Request(table=one.scheduler.table, seed=one.wanted.seed, conditioning=given)


def _guidance(one: _Asked) -> Guidance | None:
    """That of a row; None if it asks for none."""
    said = one.wanted.options
    scale, plus_plus = said.get("guidance_scale", 1.0), said.get("guidance_plus_plus", False)
    if scale == 1 and not plus_plus:
        return None
    between, rescale = said.get("guidance_interval"), said.get("guidance_rescale", 0.0)
    applied = Guidance.of(one.scheduler._schedule, scale, plus_plus, between, rescale)
    applied.check(one.scheduler.table)
    return applied


class _OfRows(Denoiser):
    """The network, with the guidance of each row."""

    def outputs(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        *,
        label: torch.Tensor | None = None,
        guidance: dict[str, torch.Tensor] | None = None,
        **conditioning: Any,
    ) -> Outputs:
        """What the network says, each row with its own guidance."""
        return outputs(self.network, x, timestep, label, None if guidance is None else Guidance(**guidance))


def _image(sample: torch.Tensor) -> Any:
    if not sample.isfinite().all():
        return ArithmeticError("the picture has numbers that are not finite")
    return as_output(sample[None], "pil")[0]
