"""`kdpm2 sample --pipeline` with a text-to-image pipeline on disk."""

import shlex
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import kdpm2
from kdpm2 import cli


@pytest.fixture(scope="module")
def saved(components: dict[str, Any], unets: dict[int, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    scheduler = diffusers.PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)
    diffusers.StableDiffusionPipeline(**components, unet=unets[4], scheduler=scheduler).save_pretrained(folder)
    return folder


def sample(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "300"}).invoke(cli.app, ["sample", *arguments])


def test_it_draws_what_the_pipeline_draws(saved: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    result = sample(
        "--pipeline", str(saved), "--prompt", "red fox", "--steps", "3", "--seed", "5", "--output", str(output)
    )
    assert result.exit_code == 0, result.output

    pipe = diffusers.DiffusionPipeline.from_pretrained(saved)
    pipe.scheduler = kdpm2.KDPM2AncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    expected = pipe("red fox", num_inference_steps=3, generator=torch.Generator().manual_seed(5)).images[0]
    picture: Any = Image.open(output)
    drawn = np.asarray(picture.resize((16, 16), Image.Resampling.BOX, box=(2, 2, 66, 66)), dtype=float)
    # Bicubic enlarging does not keep the mean of every block; neighbours of another seed differ far more.
    assert np.corrcoef(drawn.ravel(), np.asarray(expected, dtype=float).ravel())[0, 1] > 0.9
    assert picture.text["parameters"].startswith("red fox\nSteps: 3, Sampler: DPM2 a, Schedule type: Plain, Seed: 5, ")

    again = shlex.split(picture.text["command"])[2:]
    result = sample(*again, "--output", str(tmp_path / "b.png"))
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "b.png").tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "this pipeline needs one"), (["--prompt", "a", "--labels", "1"], "takes none")]
)
def test_what_does_not_fit_is_refused(saved: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = sample("--pipeline", str(saved), "--output", str(tmp_path / "a.png"), *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_batches_sizes_and_what_to_stay_away_from(saved: Path, tmp_path: Path) -> None:
    shared = ["--pipeline", str(saved), "--prompt", "fox", "--steps", "2", "--number", "3", "--guidance-scale", "4"]
    sizes = ["--height", "16", "--width", "24"]
    pictures = {}
    for name, more in {
        "one by one": [],
        "batches": ["--batch", "2"],
        "away": ["--batch", "3", "--negative-prompt", "hen"],
        "half": ["--dtype", "bfloat16"],
    }.items():
        result = sample(*shared, *sizes, *more, "--output", str(tmp_path / name))
        assert result.exit_code == 0, result.output
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == ["00000.png", "00001.png", "00002.png"]
        pictures[name] = np.stack([np.asarray(Image.open(file), dtype=int) for file in files])
    assert pictures["batches"].shape == (3, 16, 24, 3)
    assert np.abs(pictures["batches"] - pictures["one by one"]).max() <= 1
    assert np.abs(pictures["away"] - pictures["one by one"]).max() > 1
    assert not np.array_equal(pictures["half"], pictures["one by one"])
    text = Image.open(tmp_path / "away" / "00001.png").text  # type: ignore[attr-defined]
    assert text["parameters"].startswith("fox\nNegative prompt: hen\nSteps: 2, ")
    assert "--height 16 --width 24" in text["command"]
    assert "Seed: 1, Size: 24x16" in text["parameters"]
