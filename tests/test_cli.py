import importlib.util
import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import (
    CMStochasticIterativeScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DModel,
)
from PIL import Image, ImageChops, ImageFont
from typer.testing import CliRunner, Result

from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, cli, curves, spacing
from kdpm2 import __version__ as kdpm2_version
from kdpm2.cli import contact_sheet
from kdpm2.cli import options as cli_options

DRAWN = contact_sheet.SMALLEST_TILE + contact_sheet.MARGIN


def kdpm2(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(cli.app, arguments)


def sample(output: Path, *arguments: str) -> Image.Image:
    """A sheet of a pipeline, or of the digits, which are the quickest."""
    model = () if {"--pipeline", "--model"} & {*arguments} else ("--model", "digits")
    result = kdpm2("sample", "--output", str(output), *model, *arguments)
    assert result.exit_code == 0, result.output
    assert str(output) in result.output
    return Image.open(output)


def tile(sheet: Image.Image, i: int) -> Any:
    row, column = divmod(i, contact_sheet.MOST_COLUMNS)
    left, top = column * DRAWN + contact_sheet.MARGIN, row * DRAWN + contact_sheet.MARGIN
    side = contact_sheet.SMALLEST_TILE
    return np.asarray(sheet.crop((left, top, left + side, top + side)), dtype=float)


def test_the_sheet_of_each_built_in_model(tmp_path: Path) -> None:
    digits = sample(tmp_path / "digits.png", "--steps", "2")
    assert digits.size == (10 * DRAWN + 2, 10 * DRAWN + 2)
    result = kdpm2("sample", "--steps", "1", "--output", str(tmp_path / "emoji.png"))
    assert result.exit_code == 0, result.output
    emoji = Image.open(tmp_path / "emoji.png")
    drawn = 3 * 24 + contact_sheet.MARGIN
    assert emoji.size == (10 * drawn + 2, 6 * drawn + 2)
    assert emoji.text["command"].endswith("--model emoji --guidance-scale 2.0")  # type: ignore[attr-defined]


def test_the_sheet_says_how_it_was_made_and_is_made_again(tmp_path: Path) -> None:
    options = "--steps 5 --number 4 --seed 3 --labels 7,1 --sampler discrete --sigmas beta --guidance-scale 2.5"
    first = sample(tmp_path / "a.png", *options.split())
    assert first.text["parameters"] == (  # type: ignore[attr-defined]
        "digits 7,1\nSteps: 5, Sampler: DPM2, Schedule type: Beta, CFG scale: 2.5, Seed: 3, Size: 8x8, "
        f"Model: kdpm2 digits, Version: kdpm2 {kdpm2_version}"
    )
    program, command, *arguments = shlex.split(first.text["command"])  # type: ignore[attr-defined]
    assert (program, command) == ("kdpm2", "sample")
    assert first.tobytes() == sample(tmp_path / "b.png", *arguments).tobytes()


def test_forms_of_guidance_are_made_again(tmp_path: Path) -> None:
    options = "--steps 4 --number 3 --guidance-scale 0.7 --guidance-plus-plus --guidance-interval 0.5,5"
    first = sample(tmp_path / "a.png", *options.split())
    _, _, *arguments = shlex.split(first.text["command"])  # type: ignore[attr-defined]
    assert first.tobytes() == sample(tmp_path / "b.png", *arguments).tobytes()
    plain = sample(tmp_path / "c.png", *options.split()[:-3])
    assert first.tobytes() != plain.tobytes()


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
        ("--output samples.jpg", "must end in .png or .npz, or be a folder, got samples.jpg"),
        ("--output no/such/folder.png", "the folder no/such does not exist"),
        ("--labels 1,x", "must be whole numbers separated by commas, or 'any' for any class, got '1,x'"),
        ("--model digits --labels 12", "Invalid value for --labels: each must be from 0 to 9, or any, got '12'"),
        ("--steps 0", "Invalid value for '--steps': must be a whole number from 1 to 100000, got '0'"),
        ("--steps 1001 --spacing leading", "Invalid value for --steps: must be at most num_train_timesteps=1000"),
        ("--guidance-scale -3", "Invalid value for '--guidance-scale': must be a number from 0 to 100, got '-3'"),
        (
            "--guidance-scale 2 --guidance-interval 5,1",
            "must be two noise levels, the lower first, as in 0.3,5, got '5,1'",
        ),
        (
            "--model digits --guidance-rescale 0.5",
            "Invalid value for --guidance-rescale: needs --guidance-scale: without it there is no",
        ),
        ("--prompt cat", "this pipeline takes none"),
        ("--device abacus", "'abacus' cannot be used here"),
        ("--pipeline ./nothing", "there is no folder './nothing'"),
        ("--pipeline nothing", "there is no folder 'nothing'"),
        ("--sigmas cubic", "'cubic'"),
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
        assert f"Invalid value for {option}: " in result.output
        assert not output.exists()


def test_models_that_these_samplers_cannot_sample_are_refused(unconditional: Path, tmp_path: Path) -> None:
    pipe = DDPMPipeline.from_pretrained(unconditional)
    pipe.register_modules(scheduler=CMStochasticIterativeScheduler())
    pipe.save_pretrained(tmp_path / "consistency")
    result = kdpm2("sample", "--pipeline", str(tmp_path / "consistency"), "--output", str(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert "its CMStochasticIterativeScheduler is for models that KDPM2 cannot sample" in result.output


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(shift=2.0), EDMEulerScheduler()])
@pytest.mark.parametrize("sampler", ["ancestral", "discrete"])
def test_flow_and_edm_models(unconditional: Path, tmp_path: Path, scheduler: Any, sampler: str) -> None:
    pipe = DDPMPipeline.from_pretrained(unconditional)
    pipe.register_modules(scheduler=scheduler)
    pipe.save_pretrained(tmp_path / "model")
    arguments = ["--pipeline", str(tmp_path / "model"), "--sampler", sampler, "--steps", "4"]
    assert np.std(tile(sample(tmp_path / "a.png", *arguments), 0)) > 5


OPTIONS = [
    "--eta 0.5 --s-noise 1.01",
    "--eta value=1,end=0.5 --s-noise 1.02,1",
    "--restarts sigma_min=0.3,sigma_max=2,steps=2",
    "--sampler discrete --restarts 0.3,2,2,1;1,4",
    "--noise brownian",
    "--sampler discrete --s-churn 3 --s-tmin 0.1 --s-tmax 5 --s-noise 1.01",
    "--sigmas karras --sigma-min 0.1 --sigma-max 10 --rho 5",
    "--sigmas polyexponential",
    "--sigmas lu",
    "--sigmas ays_sd15",
    "--spacing simple --sigmas plain",
    "--spacing sgm_uniform --sigmas plain",
    "--final-sigmas-type sigma_min",
    "--discard-next-to-last-sigma",
    "--rescale-betas-zero-snr --spacing trailing",
    "--set beta_end=0.02",
    "--set tuned_sigmas=[14.6,6,2,0.5,0.1,0.03] --sigmas plain",
    "--at-sigmas 14,6,2,0.5,0.1",
    "--at-timesteps 999,800,500,200,100",
    "--sampler discrete --timestep-type continuous --no-discard-next-to-last-sigma",
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image.Image]:
    """A picture without options, by its sampler."""
    folder = tmp_path_factory.mktemp("plain")
    arguments = ["--number", "1", "--labels", "3", "--steps", "5"]
    return {name: sample(folder / f"{name}.png", *arguments, "--sampler", name) for name in ("ancestral", "discrete")}


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_changes_the_picture_and_is_written_into_it(
    options: str, plain: dict[str, Image.Image], tmp_path: Path
) -> None:
    count = [] if "--at-" in options else ["--steps", "5"]
    changed = sample(tmp_path / "changed.png", "--number", "1", "--labels", "3", *count, *options.split())
    assert not np.array_equal(tile(plain["discrete" if "discrete" in options else "ancestral"], 0), tile(changed, 0))
    arguments = shlex.split(changed.text["command"])[2:]  # type: ignore[attr-defined]
    assert sample(tmp_path / "again.png", *arguments).tobytes() == changed.tobytes()


def test_the_command_line_has_every_option_of_the_schedulers() -> None:
    shown = kdpm2("sample", "--help").output
    by_name = {name for name, *_ in cli_options._OPTIONS}
    assert all(f"{name.replace('_', '-')}" in shown for name in by_name)
    for cls in (KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler):
        known = set(inspect.signature(cls.__init__).parameters) - {"self"}
        by_choice = {name for name in known if name.startswith("use_") and name not in by_name}
        assert by_choice == set(curves.FLAGS)
        # What is left says what a model was trained on, or is for pipelines; --set reaches it.
        rest = known - by_name - by_choice - {"ays_sigmas", "sigma_curve", "tuned_sigmas", "timestep_spacing"}
        of_samples = {"sample_space", "clip_sample", "clip_sample_range", "thresholding", "snr_shift_scale"}
        rest -= of_samples | {"dynamic_thresholding_ratio", "sample_max_value", "invert"}
        assert all(name.startswith(("beta_", "trained_", "num_train", "base_", "max_")) for name in rest)


def test_a_schedule_in_print(tmp_path: Path) -> None:
    result = kdpm2("schedule", "--steps", "3", "--eta", "0.5", "--sigmas", "karras", "--rho", "5")
    assert result.exit_code == 0, result.output
    scheduler = KDPM2AncestralDiscreteScheduler(eta=0.5, use_karras_sigmas=True, rho=5.0)
    scheduler.set_timesteps(3)
    rows = [line.split() for line in result.output.splitlines()[1:6]]
    np.testing.assert_allclose([float(row[2]) for row in rows], scheduler.timesteps.numpy(), rtol=1e-5)
    np.testing.assert_allclose([float(row[3]) for row in rows][::2], scheduler.sigmas[[0, 1, 3]], rtol=1e-5)
    np.testing.assert_allclose([float(row[4]) for row in rows[1::2]], scheduler.sigmas_down[[0, 1]], rtol=1e-5)
    np.testing.assert_allclose([float(row[5]) for row in rows[1::2]], scheduler.sigmas_up[[0, 1]], rtol=1e-5)
    assert "ends at sigma 0; starts from noise times 25.1461" in result.output


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", ""), ("png", "--sampler discrete --s-churn 4"), ("png", "--steps 1"), ("svg", ""), ("pdf", "")],
)
def test_a_schedule_drawn(tmp_path: Path, suffix: str, options: str) -> None:
    plot = tmp_path / f"plot.{suffix}"
    result = kdpm2("schedule", "--plot", str(plot), *options.split())
    assert result.exit_code == 0, result.output
    assert plot.stat().st_size > 5000
    if suffix == "png":
        assert len(np.unique(np.asarray(Image.open(plot)))) > 20


def test_the_schedule_of_a_saved_pipeline_or_scheduler(unconditional: Path, tmp_path: Path) -> None:
    whole = kdpm2("schedule", "--pipeline", str(unconditional), "--steps", "4")
    assert whole.exit_code == 0, whole.output
    expected = KDPM2AncestralDiscreteScheduler.from_pretrained(unconditional, subfolder="scheduler")
    expected.set_timesteps(4)
    assert f"{expected._table.stage_sigmas[0]:.6g}" in whole.output
    alone = kdpm2("schedule", "--pipeline", str(unconditional / "scheduler"), "--steps", "4")
    assert alone.output == whole.output
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).save_pretrained(tmp_path)
    flow = kdpm2("schedule", "--pipeline", str(tmp_path), "--steps", "4", "--mu", "0.8")
    assert flow.exit_code == 0, flow.output
    assert "starts from noise times 1" in flow.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("schedule --plot plot.gif", "must end in .png or .svg or .pdf, got plot.gif"),
        ("schedule --plot no/plot.png", "the folder no does not exist"),
        ("schedule --pipeline .", "there is no scheduler_config.json in . or ./scheduler"),
        ("schedule --steps 0", "Invalid value for '--steps': must be a whole number from 1 to 100000, got '0'"),
        ("schedule --eta -1", "Invalid value for --eta: eta must be a number from 0 to 1, got -1"),
        ("schedule --sampler discrete --eta 1", "the discrete sampler has no option eta"),
        ("schedule --s-churn 1", "the ancestral sampler has no option s_churn"),
        ("schedule --set s_nosie=1", "the ancestral sampler has no option s_nosie: did you mean 's_noise'?"),
        ("schedule --set colour=red", "the ancestral sampler has no option colour"),
        ("schedule --set colour", "must be NAME=VALUE, got 'colour'"),
        ("schedule --at-sigmas 1,2", "sigmas must fall strictly, got 1 before 2"),
        ("schedule --at-sigmas a", "must be numbers separated by commas, got 'a'"),
        ("schedule --use-flow-sigmas", "prediction_type must be one of 'flow_prediction', 'sample'"),
        ("sample --at-sigmas 2,1 --steps 3", "must be left out with --at-sigmas or --at-timesteps"),
    ],
)
def test_wrong_schedules_are_refused(
    tmp_path: Path, arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = kdpm2(*arguments.split())
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_the_options_are_those_of_the_library() -> None:
    assert [*cli_options.Spacing.__members__] == [*spacing.TIMESTEP_SPACINGS]
    assert [*cli_options.Sigmas.__members__] == ["plain", *spacing.CURVE_NAMES]


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


def test_small_pictures_are_enlarged_and_from_16_pixels_on_keep_their_pixels() -> None:
    chance = np.random.default_rng(0)
    for side, tile_side in ((8, 64), (16, 64), (24, 72)):
        image = Image.fromarray(chance.choice([0, 255], (side, side)).astype(np.uint8))
        sheet = contact_sheet.tiled([image])
        assert sheet.width == tile_side + 2 * contact_sheet.MARGIN
        margin = contact_sheet.MARGIN
        levels = np.unique(np.asarray(sheet)[margin:-margin, margin:-margin])
        assert (len(levels) == 2) == (side >= 16)


def test_a_prompt_in_any_script_is_kept(tmp_path: Path) -> None:
    contact_sheet.save(Image.new("L", (4, 4)), tmp_path / "a.png", {"parameters": "猫 σ", "command": "kdpm2"})
    assert Image.open(tmp_path / "a.png").text == {"parameters": "猫 σ", "command": "kdpm2"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["sample --steps 2 --number 1 --output", "schedule --steps 2 --plot"])
def test_nothing_is_overwritten_unless_told(tmp_path: Path, command: str) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"of value")
    arguments = [*command.split(), str(there)]
    refused = kdpm2(*arguments)
    assert refused.exit_code == 2
    assert "is there already; --force overwrites it" in refused.output
    assert there.read_bytes() == b"of value"
    assert kdpm2(*arguments, "--force").exit_code == 0
    assert Image.open(there).size[0] > 10
    assert [*tmp_path.iterdir()] == [there]


def test_a_run_that_fails_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: object, path: Path, text: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(contact_sheet, "save", fail)
    there = tmp_path / "there.png"
    there.write_bytes(b"of value")
    result = kdpm2("sample", "--steps", "2", "--number", "1", "--output", str(there), "--force")
    assert result.exit_code == 2
    assert "there.png cannot be written: no space left" in result.output
    assert there.read_bytes() == b"of value"
    assert [*tmp_path.iterdir()] == [there]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    result = kdpm2("sample", "--output", str(tmp_path / "folder.png"), "--force")
    assert result.exit_code == 2
    assert "is no file" in result.output


def pictures_in(folder: Path) -> dict[int, Any]:
    return {int(path.stem): Image.open(path) for path in folder.iterdir()}


def test_a_folder_of_single_pictures_each_of_which_says_how_it_was_made(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    arguments = ["--output", str(folder), "--steps", "4", "--labels", "7, any", "--seed", "99998", "--batch", "2"]
    arguments += ["--model", "digits"]
    result = kdpm2("sample", *arguments, "--number", "3")
    assert result.exit_code == 0, result.output
    assert "3 images" in result.output
    first = pictures_in(folder)
    assert sorted(first) == [99998, 99999, 100000]
    assert first[99998].size == (8, 8)
    assert first[99999].text["parameters"].startswith("digits any\nSteps: 4, ")
    again = shlex.split(first[100000].text["command"])[2:]
    alone = tmp_path / "alone"
    assert kdpm2("sample", *again, "--output", str(alone)).exit_code == 0
    assert np.abs(np.asarray(pictures_in(alone)[100000], int) - np.asarray(first[100000], int)).max() <= 1
    # A run that is begun again draws what is missing.
    (folder / "99999.png").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    result = kdpm2("sample", *arguments, "--number", "4")
    assert result.exit_code == 0, result.output
    assert "2 images, 2 were there already" in result.output
    assert sorted(pictures_in(folder)) == [99998, 99999, 100000, 100001]
    assert all((folder / name).stat().st_mtime_ns == time for name, time in times.items())
    # Those of another command stay, unless told.
    result = kdpm2("sample", *arguments, "--number", "4", "--eta", "0.5")
    assert result.exit_code == 2
    assert "99998.png is there already, and another command made it" in result.output
    assert kdpm2("sample", *arguments, "--number", "4", "--eta", "0.5", "--force").exit_code == 0


def test_an_npz_has_the_pictures_and_what_they_are(tmp_path: Path) -> None:
    there = tmp_path / "digits.npz"
    arguments = ["sample", "--output", str(there), "--number", "3", "--steps", "2", "--labels", "3,1", "--seed", "5"]
    arguments += ["--model", "digits"]
    assert kdpm2(*arguments).exit_code == 0
    with np.load(there) as held:
        assert held["images"].shape == (3, 8, 8)
        assert held["images"].dtype == np.uint8
        assert held["seeds"].tolist() == [5, 6, 7]
        assert held["labels"].tolist() == ["3", "1", "3"]
        assert str(held["command"]).startswith("kdpm2 sample --steps 2 --number 3")
    assert "is there already" in kdpm2(*arguments).output


def test_the_sheet_is_labelled(tmp_path: Path) -> None:
    arguments = ["--steps", "2", "--number", "4", "--labels", "3,any"]
    plain = sample(tmp_path / "plain.png", *arguments)
    labelled = sample(tmp_path / "labelled.png", *arguments, "--annotate")
    assert labelled.size[1] >= plain.size[1] + 3 * 10  # a heading, a label and a seed
    assert "--annotate" in labelled.text["command"]  # type: ignore[attr-defined]
    assert labelled.crop((0, 0, labelled.width, 12)).getextrema()[0] < 100  # type: ignore[operator]
    # The heading is broken where it is wider than the sheet, so that nothing of it is cut off.
    margin = labelled.crop((labelled.width - contact_sheet.MARGIN, 0, *labelled.size))
    assert margin.getextrema()[0] == 255
    refused = kdpm2("sample", *arguments, "--annotate", "--output", str(tmp_path / "folder"))
    assert "Invalid value for --annotate: labels a contact sheet" in refused.output


def test_captions_are_as_readable_on_larger_pictures() -> None:
    def ink(side: int) -> tuple[int, int]:
        sheet = contact_sheet.tiled([Image.new("L", (side, side), "white")] * 2, ["seed 1\nseed 2"] * 2)
        box = ImageChops.invert(sheet).getbbox()
        assert box is not None
        left, top, right, bottom = box
        assert left >= contact_sheet.MARGIN
        assert top > side
        assert right < 2 * (side + contact_sheet.MARGIN)
        return bottom - top, sheet.height - side

    (small, below_small), (large, below_large) = ink(64), ink(512)
    assert below_small >= small >= 18  # two lines of letters with ascenders
    assert below_large >= large
    if "size" in inspect.signature(ImageFont.load_default).parameters:  # since Pillow 10.1
        assert large > 1.5 * small


def test_a_caption_wider_than_its_picture_is_broken() -> None:
    long = f"seed {2**64 - 1}"
    sheet = contact_sheet.tiled([Image.new("L", (64, 64), "white")] * 2, [long, ""])
    beside = sheet.crop((64 + 2 * contact_sheet.MARGIN, 0, *sheet.size))
    assert beside.getextrema() == (255, 255)
    short = contact_sheet.tiled([Image.new("L", (64, 64), "white")] * 2, ["seed 1", ""])
    assert sheet.height > short.height


def test_any_is_the_class_that_stands_for_none(tmp_path: Path) -> None:
    named = sample(tmp_path / "a.png", "--steps", "2", "--number", "2", "--labels", "any")
    numbered = sample(tmp_path / "b.png", "--steps", "2", "--number", "2", "--labels", "10")
    assert named.tobytes() == numbered.tobytes()
    assert named.text == numbered.text  # type: ignore[attr-defined]


def test_the_built_in_model_can_be_named(tmp_path: Path) -> None:
    arguments = ["--steps", "2", "--number", "2"]
    assert kdpm2("sample", *arguments, "--output", str(tmp_path / "unnamed.png")).exit_code == 0
    named = sample(tmp_path / "named.png", *arguments, "--model", "emoji")
    assert named.tobytes() == Image.open(tmp_path / "unnamed.png").tobytes()
    digits = sample(tmp_path / "digits.png", *arguments, "--model", "digits")
    assert "--model digits" in digits.text["command"]  # type: ignore[attr-defined]
    assert "Model: kdpm2 digits" in digits.text["parameters"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "letters"], "'letters' is not "),
        (["--model", "digits", "--pipeline", "."], "names a built-in model, and must be left out with --pipeline"),
    ],
)
def test_what_is_no_built_in_model_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = kdpm2("sample", *arguments, "--output", str(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_all_64_bits_of_a_seed_count(tmp_path: Path) -> None:
    small, large = (
        sample(tmp_path / f"{seed}.png", "--steps", "2", "--number", "1", "--seed", str(seed))
        for seed in (1, 2**32 + 1)
    )
    assert small.tobytes() != large.tobytes()
    sample(tmp_path / "largest.png", "--steps", "2", "--number", "1", "--seed", str(2**64 - 1))


LARGE = [
    ("--seed", str(2**64)),
    ("--seed", str(2**64 - 1)),  # of the first of a hundred
    ("--seed", "9" * 5000),
    ("--number", "1000000000"),
    ("--number", "20000"),
    ("--labels", "1," * 200_000 + "1"),
    ("--labels", "9" * 5000),
    ("--steps", "9" * 5000),
    ("--steps", "100001"),
    ("--batch", "1000000"),
    ("--height", "12"),
    ("--eta", "9" * 5000),
    ("--at-sigmas", "9" * 5000),
    ("--dtype", "int8"),
    ("--guidance-scale", "nan"),
]


@pytest.mark.parametrize(("option", "value"), LARGE)
def test_what_is_out_of_range_is_refused_before_anything_is_loaded(
    option: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sys.modules["kdpm2.cli.drawing"], "load", loaded)
    result = kdpm2("sample", "--output", str(tmp_path / "a.png"), option, value)
    assert result.exit_code == 2, result.output
    line = result.output.splitlines()[-1]
    assert f"Invalid value for {option}" in line.replace("'", "")
    assert len(line) < 300
    assert not list(tmp_path.iterdir())


def test_no_option_is_refused_after_a_model_was_loaded(
    unconditional: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sys.modules["kdpm2.cli.drawing"], "load", loaded)
    shared = ["sample", "--output", str(tmp_path / "a.png")]
    pipeline = ["--pipeline", str(unconditional)]
    for arguments, option in (
        (["--eta", "3"], "--eta"),
        (["--sigma-min", "-1", "--sigmas", "karras"], "--sigma-min"),
        (["--set", "beta_start=red"], "--set"),
        (["--at-sigmas", "1,2"], "--at-sigmas"),
        (["--device", "abacus"], "--device"),
        (["--negative-prompt", "cat"], "--negative-prompt"),
        (["--width", "64"], "--width"),
        ([*pipeline, "--eta", "3"], "--eta"),
        ([*pipeline, "--labels", "3"], "--labels"),
        ([*pipeline, "--prompt", "cat"], "--prompt"),
        ([*pipeline, "--guidance-scale", "3"], "--guidance-scale"),
    ):
        result = kdpm2(*shared, *arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert f"Invalid value for {option}: " in result.output, (arguments, result.output)


def test_batches_of_a_pipeline_are_the_pictures_of_their_seeds(unconditional: Path, tmp_path: Path) -> None:
    shared = ["--pipeline", str(unconditional), "--steps", "3", "--number", "5", "--seed", "7"]
    one_by_one = sample(tmp_path / "a.png", *shared)
    in_batches = sample(tmp_path / "b.png", *shared, "--batch", "2")
    assert np.abs(np.asarray(one_by_one, dtype=int) - np.asarray(in_batches, dtype=int)).max() <= 1
    assert one_by_one.text == in_batches.text  # type: ignore[attr-defined]


def test_labels_are_those_of_the_network(tmp_path: Path) -> None:
    pipe = DDPMPipeline.from_pretrained(labelled_pipeline(tmp_path / "model"))
    assert pipe.unet.config.num_class_embeds == 5
    shared = ["sample", "--pipeline", str(tmp_path / "model"), "--steps", "2", "--output", str(tmp_path / "a.png")]
    assert kdpm2(*shared, "--labels", "3,any", "--number", "2").exit_code == 0
    refused = kdpm2(*shared, "--labels", "5", "--force")
    assert "Invalid value for --labels: each must be from 0 to 3, or any, got '5'" in refused.output


def labelled_pipeline(folder: Path) -> Path:
    """The folder of a saved pipeline on pixels, for four classes and none."""
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=5,
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def test_half_the_precision(tmp_path: Path) -> None:
    full = sample(tmp_path / "a.png", "--steps", "3", "--number", "1")
    half = sample(tmp_path / "b.png", "--steps", "3", "--number", "1", "--dtype", "bfloat16")
    assert full.tobytes() != half.tobytes()
    assert "--dtype bfloat16" in half.text["command"]  # type: ignore[attr-defined]


DRAWING = ["Noise of the steps:", "  --eta 0..1      Ancestral: share of a step's noise that is new [1]"]


@pytest.mark.parametrize(
    ("command", "some"),
    [("sample", DRAWING), ("grid", DRAWING), ("schedule", DRAWING), ("tune", []), ("ui", ["What it offers:"])],
)
def test_help_fits_80_columns(command: str, some: list[str]) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(cli.app, [command, "--help"])
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 100
    assert {*some, "Other:"} <= {*lines}


def run_process(*arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{prelude}\nfrom kdpm2.cli import main\nmain()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "kdpm2", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"kdpm2 {kdpm2_version}\n"


@pytest.mark.parametrize("close", ["os.close(2)", "os.close(2); os.close(1); os.close(0)"])
def test_a_closed_standard_error_changes_nothing(tmp_path: Path, close: str) -> None:
    def status(*arguments: str) -> int:
        code = f"import os, sys; {close}; os.execv(sys.executable, [sys.executable, '-m', 'kdpm2', *sys.argv[1:]])"
        return subprocess.run([sys.executable, "-c", code, *arguments], check=False).returncode

    assert status("sample", "--steps", "0") == 2
    picture = tmp_path / "a.png"
    drawn = status("sample", "--model", "digits", "--steps", "2", "--number", "2", "--output", str(picture))
    assert drawn == 0
    assert Image.open(picture).size == (2 * DRAWN + 2, DRAWN + 2)


def test_nobody_need_listen_to_standard_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["sample", "--steps", "2", "--number", "2", "--output", str(tmp_path / "a.png")]
    done = subprocess.run(
        [sys.executable, "-m", "kdpm2", *arguments], stderr=writer, stdout=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "a.png").exists()


# As where it is not installed.
WITHOUT_TRANSFORMERS = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.partition(".")[0] == "transformers" else found(name, *rest)
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "transformers":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def test_a_library_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "text_encoder": ["transformers", "CLIPTextModel"]}'
    )
    arguments = ["sample", "--pipeline", str(tmp_path / "model"), "--prompt", "a", "--output", str(tmp_path / "a.png")]
    done = run_process(*arguments, prelude=WITHOUT_TRANSFORMERS)
    assert done.returncode == 2, done.stderr
    assert "it needs transformers, which is not installed: pip install 'kdpm2[pipelines]'" in done.stderr
    assert importlib.util.find_spec("transformers") is not None


def test_offline_it_says_so(tmp_path: Path) -> None:
    result = kdpm2("sample", "--pipeline", "owner/name", "--prompt", "a", "--output", str(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert "owner/name cannot be loaded: the hub cannot be reached, and no copy of it is here" in result.output
    assert "offline" in result.output
