"""What a training run looks like on the way: its loss as a curve, and samples of every kind."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from kdpm2 import KDPM2AncestralDiscreteScheduler
from kdpm2.zoo.pixels import PixelPipeline
from training.emoji.pictures import KINDS, SIZE
from training.emoji.run import SCHEDULE, Run

_OF_A_KIND, _ENLARGED, _GAP = 4, 2, 2
_GUIDANCE, _STEPS = 2.0, 10
_SMOOTHED = 50  # steps


def scheduler(cls: Any = KDPM2AncestralDiscreteScheduler) -> Any:
    """The scheduler that goes with the network."""
    return cls(**SCHEDULE, prediction_type="v_prediction", use_karras_sigmas=True)


def show(run: Run, folder: Path) -> None:
    """Write samples of the averaged weights, and the curve up to now, into a folder."""
    pipe: Any = PixelPipeline(run.average.eval(), scheduler())
    pipe.set_progress_bar_config(disable=True)
    labels = [kind for _ in range(_OF_A_KIND) for kind in range(len(KINDS))]
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(labels))]
    images = pipe(labels, None, _STEPS, _GUIDANCE, generators).images
    side = SIZE * _ENLARGED
    sheet = Image.new("RGB", ((side + _GAP) * len(KINDS), (side + _GAP) * _OF_A_KIND), "white")
    for number, image in enumerate(images):
        row, column = divmod(number, len(KINDS))
        place = column * (side + _GAP), row * (side + _GAP)
        sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), place)
    sheet.save(folder / f"samples-{run.step:05}.png")
    _on_the_way(folder).save(folder / "progress.png")
    _curve(run.losses).savefig(folder / "curve.png", dpi=100)


def _on_the_way(folder: Path) -> Image.Image:
    """The first rows of all sheets up to now: the same seeds, from step to step."""
    height = SIZE * _ENLARGED + _GAP
    rows = [Image.open(path) for path in sorted(folder.glob("samples-*.png"))]
    together = Image.new("RGB", (rows[0].width, height * len(rows)), "white")
    for number, row in enumerate(rows):
        together.paste(row.crop((0, 0, row.width, height)), (0, number * height))
    return together


def _curve(losses: list[float]) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    smooth = np.convolve(losses, np.ones(_SMOOTHED) / _SMOOTHED, "valid") if len(losses) >= _SMOOTHED else losses
    axes.plot(np.arange(len(smooth)) + len(losses) - len(smooth), smooth)
    axes.set(xlabel="step", ylabel=f"loss, mean of {_SMOOTHED} steps", xscale="log", yscale="log")
    return figure
