"""`kdpm2.generate` in one process: what it makes, that it goes on after any end, and rows that fail."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdpm2 import zoo
from kdpm2.generate import Report, batched, forecast, generate, worker
from kdpm2.generate.parts import WebDataset
from tests.generate.made import Difference, levels, pictures, rows

FEW = rows(20, steps=(3, 6))


def made(given: Any, output: Path, **more: Any) -> Report:
    return generate(given, output, **{"format": "webdataset", "engine": "local", "rows_per_file": 8, "batch": 8, **more})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run made of `FEW`; not to be written to."""
    output = tmp_path_factory.mktemp("whole") / "output"
    made(FEW, output)
    return output


def test_each_row_has_its_picture(whole: Path) -> None:
    held = {picture.number: picture for picture in pictures(whole)}
    assert sorted(held) == list(range(20))
    for number, row in enumerate(FEW):
        said = held[number].made_of
        assert {name: said[name] for name in row if name != "label"} == {n: v for n, v in row.items() if n != "label"}
        assert said["label"] == (None if row["label"] == "any" else row["label"])


def test_a_picture_is_that_of_the_scheduler_alone(whole: Path) -> None:
    """Drawn by diffusers' own way to do it: the pipeline with a scheduler, one picture a call."""
    pipe = zoo.digits()
    pipe.set_progress_bar_config(disable=True)
    for picture in pictures(whole)[:5]:
        said = picture.made_of
        pipe.scheduler.register_to_config(eta=said["eta"])
        pipe.scheduler.seed([said["seed"]])
        table = pipe.scheduler
        table.set_timesteps(said["steps"])
        x = torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(said["seed"] % 2**32))
        if said["seed"] >= 2**32:
            continue
        x = x * table.init_noise_sigma
        label = torch.tensor([zoo.NO_LABEL if said["label"] is None else said["label"]])
        with torch.no_grad():
            for timestep in table.timesteps:
                output = pipe.unet(table.scale_model_input(x, timestep), timestep, label).sample
                x = table.step(output, timestep, x).prev_sample
        alone = (x / 2 + 0.5).clamp(0, 1)[0, 0].numpy()
        assert np.abs(alone - levels(picture)).max() <= 0.5 / 255 + 1e-5
