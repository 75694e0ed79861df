import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from PIL import Image
from typer.testing import CliRunner, Result

from kdpm2 import cli, contact_sheet, curves, spacing

DRAWN = contact_sheet.SMALLEST_TILE + contact_sheet.MARGIN


def kdpm2(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(cli.app, arguments)


def sample(output: Path, *arguments: str) -> Image.Image:
    result = kdpm2("sample", "--output", str(output), *arguments)
    assert result.exit_code == 0, result.output
    assert str(output) in result.output
    return Image.open(output)


def tile(sheet: Image.Image, i: int) -> Any:
    row, column = divmod(i, contact_sheet.MOST_COLUMNS)
    left, top = column * DRAWN + contact_sheet.MARGIN, row * DRAWN + contact_sheet.MARGIN
    side = contact_sheet.SMALLEST_TILE
    return np.asarray(sheet.crop((left, top, left + side, top + side)), dtype=float)


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    folder = tmp_path_factory.mktemp("unconditional")
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def test_a_sheet_of_a_hundred_digits_by_default(tmp_path: Path) -> None:
    sheet = sample(tmp_path / "digits.png", "--steps", "2")
    assert sheet.size == (10 * DRAWN + 2, 10 * DRAWN + 2)


def test_the_sheet_says_how_it_was_made_and_is_made_again(tmp_path: Path) -> None:
    options = "--steps 5 --number 4 --seed 3 --labels 7,1 --sampler discrete --sigmas beta --guidance-scale 2.5"
    first = sample(tmp_path / "a.png", *options.split())
    assert first.text["parameters"] == (  # type: ignore[attr-defined]
        "digits 7,1\nSteps: 5, Sampler: DPM2, Schedule type: Beta, CFG scale: 2.5, Seed: 3, Size: 8x8, "
        "Model: kdpm2 digits, Version: kdpm2 0.1.0"
    )
    program, command, *arguments = shlex.split(first.text["command"])  # type: ignore[attr-defined]
    assert (program, command) == ("kdpm2", "sample")
    assert first.tobytes() == sample(tmp_path / "b.png", *arguments).tobytes()


def test_image_i_of_seed_s_is_the_same_in_any_company(tmp_path: Path) -> None:
    many = sample(tmp_path / "many.png", "--steps", "6", "--number", "5", "--seed", "20", "--labels", "4")
    one = sample(tmp_path / "one.png", "--steps", "6", "--number", "1", "--seed", "23", "--labels", "4")
    assert np.abs(tile(many, 3) - tile(one, 0)).max() <= 1
    assert np.abs(tile(many, 2) - tile(one, 0)).max() > 30


@pytest.mark.parametrize("options", ["", "--sampler discrete", "--sigmas plain --spacing trailing", "--sigmas karras"])
def test_unconditional_pipelines(unconditional: Path, tmp_path: Path, options: str) -> None:
    arguments = ["--pipeline", str(unconditional), "--steps", "3", "--number", "2", *options.split()]
    sheet = sample(tmp_path / "a.png", *arguments)
    assert sheet.mode == "RGB"
    assert str(unconditional) in sheet.text["command"]  # type: ignore[attr-defined]
    assert np.std(tile(sheet, 1)) > 5
    alone = sample(tmp_path / "b.png", *arguments[:4], "--number", "1", "--seed", "1", *options.split())
    assert np.array_equal(tile(sheet, 1), tile(alone, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--output samples.jpg", "must end in .png, got samples.jpg"),
        ("--output no/such/folder.png", "the folder no/such does not exist"),
        ("--labels 1,x", "must be whole numbers separated by commas, got '1,x'"),
        ("--labels 12", "each of labels must be an integer from 0 to 10, got 12"),
        ("--steps 0", "num_inference_steps must be an integer at least 1, got 0"),
        ("--steps 1001 --spacing leading", "num_inference_steps must be at most num_train_timesteps=1000"),
        ("--guidance-scale -3", "guidance_scale must be a number from 0 to 100, got -3"),
        ("--prompt cat", "this pipeline takes none"),
        ("--device abacus", "'abacus' cannot be used here"),
        ("--pipeline ./nothing", "there is no folder './nothing'"),
        ("--pipeline nothing", "there is no folder 'nothing'"),
        ("--sigmas cubic", "'cubic' is not one of"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = kdpm2("sample", "--number", "1", *arguments.split())
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_options_that_a_pipeline_does_not_take_are_refused(unconditional: Path, tmp_path: Path) -> None:
    for option, value in {"--prompt": "cat", "--labels": "1", "--guidance-scale": "2"}.items():
        output = tmp_path / "a.png"
        result = kdpm2("sample", "--pipeline", str(unconditional), "--output", str(output), option, value)
        assert result.exit_code == 2
        assert option.strip("-").replace("-", "_") in result.output
        assert not output.exists()


def test_models_that_these_samplers_cannot_sample_are_refused(unconditional: Path, tmp_path: Path) -> None:
    pipe = DDPMPipeline.from_pretrained(unconditional)
    pipe.register_modules(scheduler=FlowMatchEulerDiscreteScheduler())
    pipe.save_pretrained(tmp_path / "flow")
    result = kdpm2("sample", "--pipeline", str(tmp_path / "flow"), "--output", str(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert "its FlowMatchEulerDiscreteScheduler is for models that KDPM2 cannot sample" in result.output


def test_the_options_are_those_of_the_library() -> None:
    assert [*cli.Spacing.__members__] == [*spacing.TIMESTEP_SPACINGS]
    assert [*cli.Sigmas.__members__] == ["plain", *curves.SIGMA_CURVES]


def test_help_needs_no_torch() -> None:
    assert "--guidance-scale" in kdpm2("sample", "--help").output


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (7, 7, 1), (25, 10, 3), (121, 11, 11), (100, 10, 10)]
)
def test_tiling(count: int, columns: int, rows: int) -> None:
    images = [Image.new("L", (100, 50), i) for i in range(count)]
    sheet = contact_sheet.tiled(images)
    assert sheet.size == (columns * 102 + 2, rows * 52 + 2)
    row, column = divmod(count - 1, columns)
    assert sheet.getpixel((2 + 102 * column + 50, 2 + 52 * row + 25)) == count - 1


def test_a_prompt_in_any_script_is_kept(tmp_path: Path) -> None:
    contact_sheet.save(Image.new("L", (4, 4)), tmp_path / "a.png", {"parameters": "猫 σ", "command": "kdpm2"})
    assert Image.open(tmp_path / "a.png").text == {"parameters": "猫 σ", "command": "kdpm2"}  # type: ignore[attr-defined]
