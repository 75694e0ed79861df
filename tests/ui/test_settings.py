"""What the page says is what the command says, there and back."""

import json
import shlex
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, cli
from kdpm2.cli.drawing import Held, drawn
from kdpm2.ui import exported
from kdpm2.ui.models import Models
from kdpm2.ui.settings import START, WrongSettingError, of_command

PAGES: list[dict[str, Any]] = [
    {},
    {"eta": 0.0, "steps": 5, "labels": "3,any"},
    {"eta": 0, "guidance_scale": 0, "sigmas": "karras"},
    {"sampler": "discrete", "s_churn": 2.5, "s_noise": 1.005, "spacing": "trailing", "seed": 2**40},
    {"guidance_scale": 2.5, "discard_next_to_last_sigma": True, "number": 3, "others": "--noise brownian --rho 5"},
    {"eta_by_step": "1,0", "s_noise_by_step": "value=1.01,sigma_min=1", "restarts": "0.3,2,2;1,4", "number": 3},
    {"sampler": "discrete", "s_noise": 1.005, "restarts": "sigma_min=0.3,sigma_max=2", "eta_by_step": "1,0"},
    {"steps": None, "others": "--at-sigmas 9,3,1 --set beta_start=0.001"},
    {"sigmas": "plain", "spacing": "sgm_uniform", "eta": 0.35, "others": "--no-use-flow-sigmas --dtype float32"},
]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models([])


@pytest.mark.parametrize("page", PAGES)
def test_the_page_comes_back_from_its_command(page: dict[str, Any], models: Models) -> None:
    plan = models.plan(START | page)
    said, own = of_command(shlex.split(exported.command(plan)), models.named)
    assert not own
    again = models.plan(said)
    assert again.given == plan.given
    assert again.pictures == plan.pictures
    assert np.array_equal(again.scheduler.table.stage_sigmas, plan.scheduler.table.stage_sigmas)
    if page.get("sampler") == "discrete":
        assert "eta" not in again.scheduler.config
    else:
        assert again.scheduler.config.eta == ([1, 0] if "eta_by_step" in page else page.get("eta", 1))


@pytest.mark.parametrize("page", PAGES[1:7])
def test_what_is_copied_draws_the_same(page: dict[str, Any], models: Models) -> None:
    plan = models.plan(START | {"steps": 3} | page | {"number": 2})
    pipe = Held().pipeline(plan)
    images = [each.image for batch in drawn(pipe, plan, plan.pictures, bars=False) for each in batch]
    names: dict[str, Any] = {}
    exec(exported.python(plan), names)
    for one, other in zip(images, names["images"], strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    cls = KDPM2DiscreteScheduler if page.get("sampler") == "discrete" else KDPM2AncestralDiscreteScheduler
    loaded = cls.from_config(json.loads(exported.scheduler_config(plan)))
    loaded.set_timesteps(plan.called["num_inference_steps"])
    assert np.array_equal(loaded.table.up, plan.scheduler.table.up)


def test_a_grid_comes_back_from_its_command(models: Models) -> None:
    command = "kdpm2 grid --x eta=0,1 --y steps=5,8 --seeds 3 --seed 7 --labels 3 --eta 0.5"
    said, own = of_command(shlex.split(command), models.named)
    assert own == {"--x": "eta=0,1", "--y": "steps=5,8", "--seeds": "3"}
    assert (said["seed"], said["labels"], said["number"], said["eta"]) == (7, "3", 3, 0.5)
    assert said["pipeline"] == "digits"  # the one model there was when commands did not say
    said, _ = of_command(shlex.split(f"{command} --model emoji --guidance-scale 1.5"), models.named)
    assert (said["pipeline"], said["guidance_scale"]) == ("emoji", 1.5)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ({"eta": 2.0}, "eta must be a number from 0 to 1, got 2"),
        ({"pipeline": "digits", "labels": "3,12"}, "--labels: each must be from 0 to 9, or any, got '12'"),
        ({"labels": "x"}, "--labels: must be whole numbers separated by commas"),
        ({"number": 101}, "pictures: must be a whole number from 1 to 100, got '101'"),
        ({"number": None}, "pictures: must be a whole number from 1 to 100, got '0'"),
        ({"eta_by_step": "1,x"}, "--eta: must be numbers separated by commas, got '1,x'"),
        ({"eta_by_step": "value=1,ende=1"}, "--eta: eta must have the keys value, outside, start"),
        ({"eta_by_step": "1,2"}, "--eta: each of eta must be a number from 0 to 1, got 2"),
        ({"restarts": "0.3"}, "--restarts: must be intervals in which a run can restart: each of restarts must have"),
        ({"restarts": "0.3,0.31"}, "--restarts: sigma_max of restarts must be above the level where the run turns"),
        ({"restarts": "0.3,2", "others": "--noise brownian"}, "noise must be another kind with restarts"),
        ({"others": "--etta 1"}, "No such option"),
        ({"others": '--rho "5'}, "other options: No closing quotation"),
        ({"others": "--pipeline /etc"}, "/etc is not among the models of this page: start kdpm2 ui --pipeline /etc"),
        ({"pipeline": "digits", "others": "--pipeline /etc"}, "/etc is not among the models of this page"),
        ({"others": "--set etta=1"}, "--set: the ancestral sampler has no option etta: did you mean 'eta'?"),
        ({"others": "--prompt cat"}, "--prompt: this pipeline takes none"),
        ({"sampler": "discrete", "others": "--eta 1"}, "the discrete sampler has no option eta"),
    ],
)
def test_wrong_settings_are_named(page: dict[str, Any], message: str, models: Models) -> None:
    with pytest.raises(WrongSettingError) as error:
        models.plan(START | page)
    assert message in str(error.value)


def test_a_model_with_settings_of_its_own(unconditional: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chosen"
    shutil.copytree(unconditional, folder)
    scheduler = KDPM2AncestralDiscreteScheduler(eta=0.5, s_noise=1.01, discard_next_to_last_sigma=True)
    scheduler.save_pretrained(folder / "scheduler")
    models = Models([str(folder)])
    said, _ = of_command(["kdpm2", "sample", "--pipeline", str(folder)], models.named)
    assert (said["eta"], said["s_noise"], said["discard_next_to_last_sigma"]) == (0.5, 1.01, True)
    for eta, discarded in ((0.5, True), (1, False)):
        page = said | {"eta": eta, "discard_next_to_last_sigma": discarded}
        plan = models.plan(page)
        assert plan.scheduler.config.eta == eta
        assert plan.scheduler.config.discard_next_to_last_sigma == discarded
        again, _ = of_command(shlex.split(exported.command(plan)), models.named)
        assert (again["eta"], again["discard_next_to_last_sigma"]) == (eta, discarded)


def test_a_model_that_changes_on_the_way(unconditional: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chosen"
    shutil.copytree(unconditional, folder)
    restarts = [{"sigma_min": 0.3, "sigma_max": 2.0}]
    chosen = KDPM2AncestralDiscreteScheduler(eta=[1, 0.25], s_noise={"value": 1.01, "end": 0.5}, restarts=restarts)
    chosen.save_pretrained(folder / "scheduler")
    models = Models([str(folder)])
    said, _ = of_command(["kdpm2", "sample", "--pipeline", str(folder)], models.named)
    assert said["eta_by_step"] == "1,0.25"
    assert sorted(said["s_noise_by_step"].split(",")) == ["end=0.5", "value=1.01"]
    assert sorted(said["restarts"].split(",")) == ["sigma_max=2", "sigma_min=0.3"]
    own = models.plan(said)
    assert not {"eta", "s_noise", "restarts"} & own.given.keys()
    chosen.set_timesteps(25)
    assert np.array_equal(own.scheduler.table.rows, chosen.table.rows)
    # Emptied fields are no changes on the way, whatever the model says.
    plain = models.plan(said | {"eta_by_step": "", "s_noise_by_step": "", "restarts": ""})
    config = plain.scheduler.config
    assert (config.eta, config.s_noise, config.restarts) == (1, 1, None)
    again, _ = of_command(shlex.split(exported.command(plain)), models.named)
    assert models.plan(again).given == plain.given


def test_what_another_model_takes_stays_on_the_page(text_to_image: Path) -> None:
    models = Models([str(text_to_image)])
    page = START | {"prompt": "a cat", "labels": "3", "number": 1}
    assert "prompt" not in models.plan(page).called
    plan = models.plan(page | {"pipeline": str(text_to_image)})
    assert plan.called["prompt"] == "a cat"
    assert plan.pictures[0].label is None


@pytest.mark.parametrize(
    "words",
    [
        "",
        "ls /",
        "kdpm2 schedule --steps 3",
        "kdpm2 sample --etta 3",
        "kdpm2",
        "kdpm2 sample --number x",
        "kdpm2 sample --number 200",
        "kdpm2 grid --x eta=0,1 --seeds x",
        "kdpm2 sample --pipeline /etc",
    ],
)
def test_other_commands_are_no_settings(words: str, models: Models) -> None:
    with pytest.raises(WrongSettingError):
        of_command(shlex.split(words), models.named)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--host 0.0.0.0", "0.0.0.0 lets other machines in: whoever reaches it can draw here; if so, add --listen"),
        ("--host example.org", "must be an address like 127.0.0.1, got 'example.org'"),
        ("--port 70000", "must be a whole number from 0 to 65535, got '70000'"),
        ("--pipeline ./nothing --port 0", "there is no folder './nothing'"),
    ],
)
def test_the_page_is_for_this_machine_unless_told_otherwise(arguments: str, message: str) -> None:
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'kdpm2[ui]'")
    result = CliRunner(env={"COLUMNS": "300"}).invoke(cli.app, ["ui", *arguments.split()])
    assert result.exit_code == 2
    assert message in result.output


def test_a_port_that_is_taken_is_named() -> None:
    pytest.importorskip("gradio", reason="the page needs gradio: pip install 'kdpm2[ui]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner(env={"COLUMNS": "300"}).invoke(cli.app, ["ui", "--port", str(port)])
    assert result.exit_code == 2
    assert f"{port} of 127.0.0.1 cannot be had" in result.output


def test_without_gradio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner(env={"COLUMNS": "300"}).invoke(cli.app, ["ui"])
    assert result.exit_code == 2
    assert "needs gradio: pip install 'kdpm2[ui]'" in result.output


def test_the_levels_are_drawn_in_the_colour_of_the_page(models: Models, tmp_path: Path) -> None:
    from kdpm2.ui import levels

    table = models.plan(START).scheduler.table
    drawing = levels.drawn([("now", table), ("before", table)])
    assert drawing.startswith('<svg role="img"')
    assert "currentColor" in drawing
    assert drawing.count("before: 15 network calls, sigma 14.6, ") == 1
    with_restart = levels.drawn([("", models.plan(START | {"steps": 2, "restarts": "0.03,2,1"}).scheduler.table)])
    assert "settings: 5 network calls, sigma 14.6, 0.0292, 0" not in with_restart
    assert "settings: 5 network calls, sigma 14.6, 2, 0.0292, 0" in with_restart
