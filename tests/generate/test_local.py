"""`kdpm2.generate` in one process: what it makes, that it goes on after any end, and rows that fail."""

import csv
import errno
import json
import os
import random
import signal
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner, Result

from kdpm2 import KDPM2AncestralDiscreteScheduler, cli, zoo
from kdpm2.generate import Report, drawing, forecast, generate
from kdpm2.generate import model as models
from kdpm2.generate.parts import WebDataset
from kdpm2.generate.progress import Progress
from kdpm2.noise import generator_of
from tests.generate.made import Difference, levels, pictures, rows

FEW = rows(20, steps=(3, 6))


def made(given: Any, output: Path, **more: Any) -> Report:
    return generate(
        given, output, **{"format": "webdataset", "engine": "local", "rows_per_file": 8, "batch": 8, **more}
    )


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


def test_a_picture_is_that_of_its_scheduler_alone(whole: Path) -> None:
    """Drawn one at a time with the scheduler, as a loop of diffusers is written."""
    unet = zoo.digits().unet
    for picture in pictures(whole)[:5]:
        said = picture.made_of
        scheduler = KDPM2AncestralDiscreteScheduler.from_config(zoo.digits().scheduler.config, eta=said["eta"])
        scheduler.seed([said["seed"]])
        scheduler.set_timesteps(said["steps"])
        x = torch.randn((1, 1, 8, 8), generator=generator_of(said["seed"])) * scheduler.init_noise_sigma
        label = torch.tensor([zoo.NO_LABEL if said["label"] is None else said["label"]])
        with torch.no_grad():
            for timestep in scheduler.timesteps:
                output = unet(scheduler.scale_model_input(x, timestep), timestep, label).sample
                x = scheduler.step(output, timestep, x).prev_sample
        alone = (x / 2 + 0.5).clamp(0, 1)[0, 0].numpy()
        assert np.abs(alone - levels(picture)).max() <= 0.5 / 255 + 1e-5


def test_the_order_and_the_cuts_of_rows_change_no_bit(whole: Path, tmp_path: Path) -> None:
    shuffled = FEW[::-1]
    made(shuffled, tmp_path / "output", rows_per_file=11)
    difference = Difference(pictures(whole), pictures(tmp_path / "output"))
    assert difference.none, difference


def test_another_batch_size_changes_at_most_the_rounding(whole: Path, tmp_path: Path) -> None:
    made(FEW, tmp_path / "output", batch=3)
    difference = Difference(pictures(whole), pictures(tmp_path / "output"))
    assert not difference.missing
    assert difference.largest <= 1 / 255 + 1e-9
    assert difference.other <= 2


def test_a_row_without_a_seed_has_that_of_its_id(tmp_path: Path) -> None:
    given = [{"id": id, "steps": 2} for id in (7, "cat", 3)]
    made(given, tmp_path / "a", seed=100)
    made(given[::-1], tmp_path / "b", seed=100)
    assert {kept.made_of["id"]: kept.made_of["seed"] for kept in pictures(tmp_path / "a")}["7"] == 107
    assert Difference(pictures(tmp_path / "a"), pictures(tmp_path / "b")).none


def test_every_option_of_a_row_counts(tmp_path: Path) -> None:
    """Each row but the first says one thing, and none of the pictures is another's."""
    changes: list[dict[str, Any]] = [
        {}, {"steps": 4}, {"label": 3}, {"guidance_scale": 3.0}, {"eta": 0.2}, {"s_noise": 0.9},
        {"noise": "philox"}, {"noise": "brownian"}, {"sampler": "discrete"}, {"sampler": "discrete", "s_churn": 2.0},
        {"sigmas": "exponential"}, {"sigmas": "plain", "spacing": "trailing"}, {"beta_start": 0.002},
        {"clip_sample": True, "clip_sample_range": 0.5}, {"guidance_scale": 3.0, "guidance_rescale": 0.9},
        {"guidance_scale": 3.0, "guidance_interval": "0.5,5"}, {"guidance_scale": 0.7, "guidance_plus_plus": "true"},
    ]  # fmt: skip
    given = [{"id": i, "seed": 5, "label": 1, "steps": 3, **change} for i, change in enumerate(changes)]
    report = made(given, tmp_path / "output", rows_per_file=20)
    assert (report.made, report.failed) == (len(given), 0)
    assert len({kept.png for kept in pictures(tmp_path / "output")}) == len(given)


def test_options_that_change_on_the_way(tmp_path: Path) -> None:
    """In lists and mappings, or as the command writes them: the same pictures, and words in the column."""
    window, twice = (
        {"value": 1, "end": 0.5},
        [{"sigma_min": 0.3, "sigma_max": 2, "steps": 2}, {"sigma_min": 1, "sigma_max": 4}],
    )
    plain: dict[str, Any] = {"seed": 1, "label": 3, "steps": 4}
    said: list[dict[str, Any]] = [
        {"eta": 0.5},
        {"eta": [1, 0]},
        {"eta": window, "restarts": twice},
        {"s_noise": [1.02, 1], "restarts": None},
    ]
    words = [
        {"eta": "0.5"},
        {"eta": "1,0"},
        {"eta": "value=1,end=0.5", "restarts": "sigma_min=0.3,sigma_max=2,steps=2;sigma_min=1,sigma_max=4"},
        {"s_noise": "1.02,1"},
    ]
    names = ["seed", "label", "steps", "eta", "s_noise", "restarts"]
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(plain | each for each in words)
    made([plain | each for each in said], tmp_path / "said", options={"restarts": "none"})
    made(tmp_path / "rows.csv", tmp_path / "words", options={"restarts": "none"})
    held, others = pictures(tmp_path / "said"), pictures(tmp_path / "words")
    assert [kept.png for kept in held] == [kept.png for kept in others]
    assert [kept.made_of for kept in held] == [kept.made_of for kept in others]
    assert [kept.made_of["eta"] for kept in held] == ["0.5", "1,0", "value=1,end=0.5", None]
    assert [kept.made_of["restarts"] for kept in held][:3] == ["none", "none", words[2]["restarts"]]
    unet = zoo.digits().unet
    for kept, row in zip(held, said, strict=True):
        scheduler = KDPM2AncestralDiscreteScheduler.from_config(zoo.digits().scheduler.config, **row)
        scheduler.seed([1])
        scheduler.set_timesteps(4)
        x = torch.randn(1, 1, 8, 8, generator=generator_of(1)) * scheduler.init_noise_sigma
        with torch.no_grad():
            for t in scheduler.timesteps:
                output = unet(scheduler.scale_model_input(x, t), t, torch.tensor([3])).sample
                x = scheduler.step(output, t, x).prev_sample
        alone = (x / 2 + 0.5).clamp(0, 1)[0, 0].numpy()
        assert np.abs(alone - levels(kept)).max() <= 0.5 / 255 + 1e-5


def test_a_run_that_is_over_makes_nothing(whole: Path) -> None:
    report = made(FEW, whole)
    assert (report.done_before, report.made, report.failed, report.calls) == (20, 0, 0, 0)
    assert forecast(FEW, whole, format="webdataset", rows_per_file=8).done == 20


def test_killed_at_any_moment_it_goes_on(whole: Path, tmp_path: Path) -> None:
    output, chance, kills = tmp_path / "output", random.Random(0), 0
    while True:
        child = os.fork()
        if not child:
            try:
                made(FEW, output)
                os._exit(0)
            finally:
                os._exit(1)
        until = time.monotonic() + (chance.uniform(0.02, 0.6) if kills < 8 else 600)
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
            time.sleep(0.005)
        if ended != (0, 0):
            assert ended[1] == 0
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        for shard in (output / "pictures").glob("part-*"):  # what can be seen is whole
            with tarfile.open(shard) as tar:
                assert len(tar.getnames()) in (16, 8)
    assert Difference(pictures(whole), pictures(output)).none
    assert not list(output.rglob(".kdpm2-*"))


class Broken:
    """The network that cannot draw what has this label."""

    def __init__(self, unet: Any, label: int) -> None:
        self._unet, self._label = unet, label

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unet, name)

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, label: torch.Tensor) -> Any:
        if (label == self._label).any():
            raise RuntimeError("no such label")
        return self._unet(x, timestep, label)


def broken(monkeypatch: pytest.MonkeyPatch, label: int) -> None:
    load = models.loaded

    def loaded(*arguments: Any) -> Any:
        pipe = load(*arguments)
        object.__setattr__(pipe, "unet", Broken(pipe.unet, label))
        return pipe

    monkeypatch.setattr(drawing, "loaded", loaded)


def test_a_row_that_cannot_be_drawn_fails_alone_and_is_tried_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, bad = tmp_path / "output", FEW[2]["label"]
    wrong = [row["id"] for row in FEW if row["label"] == bad]
    with monkeypatch.context() as patch:
        broken(patch, bad)
        report = made(FEW, output)
        assert (report.made, report.failed) == (20 - len(wrong), len(wrong))
        again = made(FEW, output, retry_failed=True)
        assert (again.made, again.failed) == (0, len(wrong))
    lines = [json.loads(line) for file in sorted((output / "failures").iterdir()) for line in file.open()]
    assert [line["id"] for line in lines] == wrong
    assert all(line["error"] == "RuntimeError: no such label" for line in lines)
    assert made(FEW, output).made == 0
    assert made(FEW, output, retry_failed=True).made == len(wrong)
    assert not list((output / "failures").iterdir())
    assert Difference(pictures(whole), pictures(output)).none


def test_rows_that_all_fail_are_done_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [{"id": i, "label": 4, "steps": 2} for i in range(4)]
    with monkeypatch.context() as patch:
        broken(patch, 4)
        assert made(given, tmp_path / "output").failed == 4
        assert made(given, tmp_path / "output").calls == 0
    report = made(given, tmp_path / "output", retry_failed=True)
    assert (report.made, report.failed) == (4, 0)


def test_numbers_that_are_not_finite_are_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        broken(patch, 4)
        patch.setattr(Broken, "__call__", lambda self, x, timestep, label: SimpleNamespace(sample=x * torch.nan))
        report = made([{"id": 0, "steps": 2}], tmp_path / "output")
    assert report.failed == 1
    assert "ArithmeticError" in next((tmp_path / "output" / "failures").iterdir()).read_text()


def test_a_disk_that_is_full_ends_the_run_and_loses_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, write, calls = tmp_path / "output", WebDataset.write, []

    def full(self: WebDataset, part: int, held: Any) -> None:
        calls.append(part)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, part, held)

    with monkeypatch.context() as patch:
        patch.setattr(WebDataset, "write", full)
        with pytest.raises(OSError, match="No space left"):
            made(FEW, output)
    assert made(FEW, output).done_before == 8
    assert Difference(pictures(whole), pictures(output)).none


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    with FileLock(tmp_path / "output" / ".lock"), pytest.raises(ValueError, match="no other run writes"):
        made(FEW, tmp_path / "output")


def command(*words: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(cli.app, ["generate", *map(str, words)])


def test_the_command_without_a_table(tmp_path: Path) -> None:
    words = ["--number", 6, "--labels", "3,any", "--steps", 2, "--format", "png", "--engine", "local", "--eta", 0.5]
    result = command(tmp_path / "output", *words, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "6 rows: 0 have a picture, 0 failed, 6 are to be drawn" in result.output
    assert "writes 1 folders of PNGs" in result.output
    assert not (tmp_path / "output").exists()
    result = command(tmp_path / "output", *words)
    assert result.exit_code == 0, result.output
    assert "6 of 6 rows have a picture" in result.output
    said = [kept.made_of for kept in pictures(tmp_path / "output")]
    assert [(each["id"], each["seed"], each["label"], each["eta"]) for each in said] == [
        (i, i, (3, None)[i % 2], 0.5) for i in range(6)
    ]
    assert "6 rows: 6 have a picture" in command(tmp_path / "output", *words, "--dry-run").output


def test_the_command_says_that_rows_have_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--number", 4, "--labels", "3,4", "--steps", 2, "--format", "png", "--engine", "local"]
    with monkeypatch.context() as patch:
        broken(patch, 4)
        result = command(tmp_path / "output", *words)
    assert result.exit_code == 3
    assert "2 of 4 rows have a picture" in result.output
    assert "failed: 2" in result.output
    assert command(tmp_path / "output", *words).exit_code == 3
    assert command(tmp_path / "output", *words, "--retry-failed").exit_code == 0


def test_a_line_a_minute_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 30.0, 61.0, 62.0, 130.0])
    monkeypatch.setattr("kdpm2.generate.progress.time.monotonic", lambda: next(clock))
    shown = Progress(1000, True)
    for made in (True, False, True, True):
        shown.told(made, rows=100)
    assert capsys.readouterr().err.splitlines() == [
        "200 of 1,000 rows, 3.28 a second, 0:04:04 left, 100 failed",
        "400 of 1,000 rows, 3.08 a second, 0:03:15 left, 100 failed",
    ]
