import inspect
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import (
    CMStochasticIterativeScheduler,
    DDPMPipeline,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from PIL import Image
from typer.testing import CliRunner, Result

from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, cli, curves, spacing
from kdpm2 import __version__ as kdpm2_version
from kdpm2.cli import contact_sheet
from kdpm2.cli import options as cli_options

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


def test_a_sheet_of_a_hundred_digits_by_default(tmp_path: Path) -> None:
    sheet = sample(tmp_path / "digits.png", "--steps", "2")
    assert sheet.size == (10 * DRAWN + 2, 10 * DRAWN + 2)


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
    by_name = {name for name, _, _ in cli_options._OPTIONS}
    assert all(f"--{name.replace('_', '-')}" in shown for name in by_name)
    for cls in (KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler):
        known = set(inspect.signature(cls.__init__).parameters) - {"self"}
        by_choice = {name for name in known if name.startswith("use_") and name not in by_name}
        assert by_choice == set(curves.FLAGS)
        # What is left says what a model was trained on, or is for pipelines; --set reaches it.
        rest = known - by_name - by_choice - {"ays_sigmas", "sigma_curve", "timestep_spacing"}
        of_samples = {"sample_space", "clip_sample", "clip_sample_range", "thresholding", "snr_shift_scale"}
        rest -= of_samples | {"dynamic_thresholding_ratio", "sample_max_value"}
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
        ("schedule --steps 0", "num_inference_steps must be an integer at least 1, got 0"),
        ("schedule --eta -1", "eta must be a number from 0 to 1, got -1"),
        ("schedule --sampler discrete --eta 1", "the discrete sampler has no option eta"),
        ("schedule --s-churn 1", "the ancestral sampler has no option s_churn"),
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
