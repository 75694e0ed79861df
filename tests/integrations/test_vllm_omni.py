"""The adapter for vLLM-Omni: what it does for any pipeline that loads a scheduler by its name."""

import configparser
import copy
import json
import os
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from tests.integrations.checkouts import INTEGRATIONS, loaded, run

FOLDER = INTEGRATIONS / "vllm_omni"
adapter = loaded("kdpm2_vllm_omni", FOLDER / "kdpm2_vllm_omni.py")


def model_folder(path: Path, **config: Any) -> str:
    """A model as pipelines find it: its scheduler's file in a folder."""
    diffusers.FlowMatchEulerDiscreteScheduler(**config).save_pretrained(path / "scheduler")
    return str(path)


def picture(scheduler: Any) -> torch.Tensor:
    """By the loop of vLLM-Omni's pipelines, which pass no generator; a request has a copy of the scheduler."""
    scheduler.set_timesteps(sigmas=[1.0, 0.8, 0.6, 0.4, 0.2], device="cpu")
    own = copy.deepcopy(scheduler)
    own.set_begin_index(0)
    x = torch.linspace(-1, 1, 8)[None]
    for t in scheduler.timesteps:
        x = own.step(x / 3, t, x, return_dict=False)[0]
    return x


def test_the_entry_points_name_the_schedulers() -> None:
    project = configparser.ConfigParser()
    project.read(FOLDER / "pyproject.toml")
    named = project['project.entry-points."vllm_omni.schedulers"']
    assert {name: json.loads(place).split(":") for name, place in named.items()} == {
        name: ["kdpm2_vllm_omni", cls.__name__] for name, cls in adapter.SCHEDULERS.items()
    }


def test_a_seed_makes_pictures_again_on_every_rank(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, shift=3.0)

    def ranks(**options: Any) -> list[torch.Tensor]:
        made = [adapter.KDPM2AncestralScheduler.from_pretrained(folder, subfolder="scheduler", **options)]
        made.append(adapter.KDPM2AncestralScheduler.from_config(made[0].config, **options))
        assert all(each._is_flow and each.config.flow_shift == 3.0 for each in made)
        return [picture(each) for each in made]

    for options in ({}, {"seed": 5}):
        torch.manual_seed(len(options))
        first, second = ranks(**options)
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(ranks(seed=5)[0], ranks(seed=6)[0])
    torch.testing.assert_close(ranks()[0], ranks(seed=0)[0], rtol=0, atol=0)


def test_a_release_without_the_registry_is_told_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    euler = diffusers.FlowMatchEulerDiscreteScheduler
    monkeypatch.setattr(euler, "from_pretrained", euler.__dict__.get("from_pretrained", euler.from_pretrained))
    folder = model_folder(tmp_path, shift=2.0)
    for name in ("KDPM2_SCHEDULER", "KDPM2_OPTIONS"):
        monkeypatch.delitem(os.environ, name, raising=False)
    adapter.install()
    assert type(euler.from_pretrained(folder, subfolder="scheduler")) is euler
    monkeypatch.setenv("KDPM2_SCHEDULER", "kdpm2_ancestral")
    monkeypatch.setenv("KDPM2_OPTIONS", json.dumps({"eta": 0.4, "seed": 3}))
    adapter.install()
    made = euler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
    assert type(made) is adapter.KDPM2AncestralScheduler
    assert (made.config.eta, made.config.flow_shift) == (0.4, 2.0)
    monkeypatch.setenv("KDPM2_SCHEDULER", "euler")
    with pytest.raises(ValueError, match="KDPM2_SCHEDULER must be one of kdpm2, kdpm2_ancestral, got 'euler'"):
        adapter.install()


@pytest.mark.parametrize(("scheduler", "options", "said"), [
    ("", '{"eta": 0.4}', "KDPM2_SCHEDULER must be one of kdpm2, kdpm2_ancestral, got ''"),
    ("kdpm2", "{'seed': 0}", "KDPM2_OPTIONS must be a JSON object"),
    ("kdpm2", "[0]", "KDPM2_OPTIONS must be a JSON object"),
])  # fmt: skip
def test_what_the_environment_says_has_an_effect_or_is_refused(
    scheduler: str, options: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDPM2_SCHEDULER", scheduler)
    monkeypatch.setenv("KDPM2_OPTIONS", options)
    with pytest.raises(ValueError, match=said):
        adapter.install()


def test_in_vllm_omni_itself() -> None:
    assert "cases, largest difference" in run("vllm_omni", "KDPM2_VLLM_OMNI")
