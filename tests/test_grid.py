import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from kdpm2 import cli

STEPS = {"2": 3, "3": 5}
SMALL = ["--x", "eta=0,1", "--y", "steps=2,3", "--seeds", "2", "--labels", "3,8", "--model", "digits"]


def kdpm2(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(cli.app, arguments)


def grid(output: Path, *arguments: str) -> Any:
    result = kdpm2("grid", "--output", str(output), *arguments)
    assert result.exit_code == 0, result.output
    return Image.open(output)


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path), dtype=float)


def test_cells_are_what_the_command_sample_draws(tmp_path: Path) -> None:
    grid(tmp_path / "grid.png", *SMALL, "--folder", str(tmp_path / "cells"))
    for column, eta in enumerate(("0", "1")):
        for row, steps in enumerate(STEPS):
            into = tmp_path / f"alone-{eta}-{steps}"
            alone = ["--eta", eta, "--steps", steps, "--number", "2", "--labels", "3,8"]
            alone += ["--model", "digits", "--output", str(into)]
            assert kdpm2("sample", *alone).exit_code == 0
            for seed in range(2):
                cell = tmp_path / "cells" / f"x{column}-y{row}-{seed:05}.png"
                assert np.abs(pixels(cell) - pixels(into / f"{seed:05}.png")).max() <= 1
                (of_cell, of_one) = (Image.open(each).text for each in (cell, into / f"{seed:05}.png"))  # type: ignore[attr-defined]
                assert of_cell == of_one
    assert np.abs(pixels(tmp_path / "cells/x0-y0-00000.png") - pixels(tmp_path / "cells/x1-y0-00000.png")).max() > 30


def test_the_grid_says_how_it_was_made_and_is_made_again(tmp_path: Path) -> None:
    first = grid(tmp_path / "a.png", *SMALL, "--guidance-scale", "2", "--set", "rho=5", "--sigmas", "karras")
    calls = 2 * 2 * sum(STEPS.values())
    assert f"Network calls: {calls}, " in first.text["parameters"]
    assert "X: eta=0,1\nY: steps=2,3\nSeeds: 0-1" in first.text["parameters"]
    program, command, *arguments = shlex.split(first.text["command"])
    assert (program, command) == ("kdpm2", "grid")
    again = grid(tmp_path / "b.png", *arguments)
    assert again.text["command"] == first.text["command"]
    assert {each.name for each in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_the_picture_shows_every_cell_in_its_place(tmp_path: Path) -> None:
    axes = ["--x", "eta=0,1", "--y", "seed=0,5", "--seeds", "1", "--labels", "1", "--steps", "3", "--model", "digits"]
    sheet = np.asarray(grid(tmp_path / "grid.png", *axes, "--folder", str(tmp_path / "cells")).convert("L"))
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (64, 64))
    places = {}
    for row, seed in enumerate((0, 5)):
        for column in range(2):
            single = Image.open(tmp_path / "cells" / f"x{column}-y{row}-{seed:05}.png")
            tile = np.asarray(single.resize((64, 64), Image.Resampling.BICUBIC))
            found = np.argwhere((windows[:, :, ::21, ::7] == tile[::21, ::7]).all(axis=(2, 3)))
            ((top, left),) = found
            places[column, row] = (int(left), int(top))
    assert places[0, 0][0] == places[0, 1][0] < places[1, 0][0] == places[1, 1][0]
    assert places[0, 0][1] == places[1, 0][1] < places[0, 1][1] == places[1, 1][1]


def test_values_in_words_are_axes(tmp_path: Path) -> None:
    axes = ["--x", 'eta=0.5,"1,0","value=1,end=0.5"', "--y", 'restarts=none,"0.3,2,2;1,4"']
    drawn = grid(tmp_path / "a.png", *axes, "--steps", "5", "--seeds", "1", "--folder", str(tmp_path / "cells"))
    for column, eta in enumerate(("0.5", "1,0", "value=1,end=0.5")):
        for row, restarts in enumerate(("none", "0.3,2,2;1,4")):
            into = tmp_path / f"alone-{column}-{row}.png"
            alone = ["--labels", "0", "--eta", eta, "--restarts", restarts, "--steps", "5", "--number", "1"]
            assert kdpm2("sample", *alone, "--output", str(into)).exit_code == 0
            cell = Image.open(tmp_path / "cells" / f"x{column}-y{row}-00000.png")
            assert cell.text["command"] == Image.open(into).text["command"]  # type: ignore[attr-defined]
    # Five steps once, and once with the two and three of the ways down.
    assert f"Network calls: {3 * (9 + 9 + 2 * 5)}, " in drawn.text["parameters"]
    assert 'Y: restarts=none,"0.3,2,2;1,4"' in drawn.text["parameters"]
    assert len({pixels(each).tobytes() for each in (tmp_path / "cells").glob("*.png")}) == 6


AXES = [
    (["--x", "etta=0,1"], "Invalid value for --x: there is no option 'etta': did you mean 'eta'?"),
    (["--x", "number=1,2"], "there is no option 'number'"),
    (["--x", "eta"], "Invalid value for --x: must be NAME=A,B,.. as in eta=0,0.5,1, got 'eta'"),
    (["--x", "eta=0,,1"], "eta must have a value between any two commas"),
    (["--x", "eta=0,0"], "eta must have each value once, got '0' twice"),
    (["--x", "eta=0,3"], "eta must be a number from 0 to 1, got 3 (in the cell of eta 3)"),
    (["--x", "eta=0,red"], "Invalid value for --x: eta must be a number, numbers with commas"),
    (["--x", 'eta=0,"1,x"'], "Invalid value for --x: eta must be numbers separated by commas, got '1,x'"),
    (["--x", 'eta=0,"value=1,ende=1"'], "eta must have the keys value, outside, start"),
    (["--x", 'restarts="0.3"'], "Invalid value for --x: restarts must be intervals in which a run can restart: each"),
    (["--x", 'restarts="2,1"'], "sigma_max of restarts must be above sigma_min=2, got 1"),
    (["--x", 'restarts="1,2,3,4,5"'], "restarts must be sigma_min,sigma_max,steps,times as in 0.3,2,3,2"),
    (["--x", 'restarts=none,"0.3,0.31"'], "sigma_max of restarts must be above the level where the run turns"),
    (["--x", "sigmas=karras,cubic"], "Invalid value for --x: sigmas 'cubic' is not one of 'plain', 'karras'"),
    (["--x", "discard_next_to_last_sigma=1"], "discard_next_to_last_sigma must be true or false, got '1'"),
    (["--x", "eta=0,1", "--y", "eta=0.5"], "Invalid value for --y: must be another option than that of --x, got eta"),
    (["--x", "beta_start=0.1,red"], "beta_start"),
    (["--x", "sampler=ancestral,discrete", "--eta", "1"], "the discrete sampler has no option eta"),
    (["--x", "prompt=cat,dog"], "Invalid value for --prompt: this pipeline takes none (in the cell of prompt cat)"),
    (["--x", "guidance_plus_plus=1"], "guidance_plus_plus must be true or false, got '1'"),
    (["--x", 'guidance_interval="5,1"'], "guidance_interval must be two noise levels, the lower first"),
    (["--x", 'at_sigmas="9,1","9,x"'], "must be numbers separated by commas, got '9,x'"),
    (["--x", 'at_sigmas="9,1'], "must hold values separated by commas"),
    (
        ["--x", f"seed={','.join(map(str, range(100)))}", "--y", f"steps={','.join(map(str, range(1, 101)))}"],
        "makes 10000 cells, 100 by 100; at most 1000",
    ),
    (["--x", f"seed={','.join(map(str, range(11)))}", "--seeds", "1000"], "makes 11000 pictures in 11 cells"),
    (["--x", "pipeline=./nothing"], "there is no folder './nothing'"),
    (["--x", "eta=0,1", "--output", "grid.jpg"], "must end in .png, got grid.jpg"),
    ([], "must say which option changes, and its values"),
]


@pytest.mark.parametrize(("arguments", "message"), AXES)
def test_wrong_axes_are_refused_before_anything_is_loaded(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sys.modules["kdpm2.cli.drawing"], "load", loaded)
    monkeypatch.chdir(tmp_path)
    result = kdpm2("grid", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_a_pipeline_without_prompts_takes_none(tmp_path: Path, unconditional: Path) -> None:
    shared = ["--pipeline", str(unconditional), "--output", str(tmp_path / "a.png")]
    refused = kdpm2("grid", "--x", "prompt=a cat,a dog", *shared)
    assert refused.exit_code == 2
    assert "Invalid value for --prompt: this pipeline takes none" in refused.output


def test_a_pipeline_with_prompts_needs_one_in_each_cell(tmp_path: Path, text_to_image: Path) -> None:
    shared = ["--pipeline", str(text_to_image), "--seeds", "1", "--guidance-scale", "7"]
    refused = kdpm2("grid", "--x", "steps=2,3", *shared, "--output", str(tmp_path / "a.png"))
    assert refused.exit_code == 2
    assert "Invalid value for --prompt: this pipeline needs one (in the cell of steps 2)" in refused.output
    axes = ["--x", "steps=2,3", "--y", 'prompt="a cat, at night",a dog']
    folder = tmp_path / "cells"
    short = grid(tmp_path / "a.png", *axes, *shared, "--folder", str(folder))
    for row, prompt in enumerate(("a cat, at night", "a dog")):
        words = shlex.split(Image.open(folder / f"x1-y{row}-00000.png").text["command"])  # type: ignore[attr-defined]
        assert words[words.index("--prompt") + 1] == prompt
    assert np.abs(pixels(folder / "x1-y0-00000.png") - pixels(folder / "x1-y1-00000.png")).max() > 0
    long = grid(tmp_path / "b.png", "--x", "steps=2,3", "--y", f"prompt={'a cat at night ' * 40},a dog", *shared)
    assert long.height > short.height  # so that a long heading does not run into the next


def test_each_model_is_loaded_once(tmp_path: Path, unconditional: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = sys.modules["kdpm2.cli.drawing"]
    load, names = drawing.load, []

    def counted(option: str, model: Any, *others: Any) -> Any:
        names.append(model.name)
        return load(option, model, *others)

    monkeypatch.setattr(drawing, "load", counted)
    other = tmp_path / "other"
    shutil.copytree(unconditional, other)
    arguments = ["--x", f"pipeline={unconditional},{other}", "--y", "steps=1,2", "--seeds", "1"]
    grid(tmp_path / "a.png", *arguments)
    assert names == [str(unconditional), str(other)]


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = sys.modules["kdpm2.cli.grid.run"]
    drawn, count = module.drawn, 0

    def stopping(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return drawn(*arguments, **more)

    monkeypatch.setattr(module, "drawn", stopping)
    output = tmp_path / "grid.png"
    stopped = kdpm2("grid", *SMALL, "--output", str(output))
    assert stopped.exit_code != 0
    kept = tmp_path / "grid.png.cells"
    assert f"2 of 4 cells are kept in {kept}: the same command goes on there" in stopped.output
    assert not output.exists()
    other = kdpm2("grid", *SMALL, "--guidance-scale", "2", "--output", str(output))
    assert other.exit_code == 2
    assert f"{kept} holds cells of another grid, of kdpm2 grid --x eta=0,1 --y steps=2,3" in other.output
    grid(output, *SMALL)
    assert count == 5  # one was stopped, and the two that were missing are drawn
    assert not kept.exists()
    assert Image.open(output).size == grid(tmp_path / "whole.png", *SMALL).size


def test_a_picture_that_was_lost_is_drawn_again(tmp_path: Path) -> None:
    folder, output = tmp_path / "cells", tmp_path / "grid.png"
    grid(output, *SMALL, "--folder", str(folder))
    lost = folder / "x1-y0-00001.png"
    before = pixels(lost)
    whole = lost.read_bytes()
    for left in (None, whole[:-60]):
        if left is None:
            lost.unlink()
        else:
            lost.write_bytes(left)
        grid(output, *SMALL, "--folder", str(folder), "--force")
        assert np.abs(pixels(lost) - before).max() <= 1


def test_what_others_made_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    folder.mkdir()
    theirs = folder / "x0-y0-00000.png"
    theirs.write_bytes(b"of value")
    result = kdpm2("grid", *SMALL, "--folder", str(folder), "--output", str(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert f"{theirs} is there already, and another command made it" in result.output
    assert theirs.read_bytes() == b"of value"
    (folder / "grid.json").write_text("[", encoding="utf-8")
    result = kdpm2("grid", *SMALL, "--folder", str(folder), "--output", str(tmp_path / "a.png"))
    assert result.exit_code == 2
    assert "holds cells of another grid, of something else" in result.output


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "grid.png"
    command = [sys.executable, "-m", "kdpm2", "grid", "--x", "eta=0,0.5,1", "--y", "steps=20,21,22", "--seeds", "2"]
    process = subprocess.Popen([*command, "--output", str(output)], stderr=subprocess.PIPE)
    record = tmp_path / "grid.png.cells" / "grid.json"
    while not record.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not output.exists()
    assert json.loads(record.read_text(encoding="utf-8"))["cells"]
    subprocess.run([*command, "--output", str(output)], check=True, capture_output=True)
    assert Image.open(output).width > 300
