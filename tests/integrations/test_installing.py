"""What the packs install: kdpm2 alone, since with its dependencies pip could replace packages of the program's own."""

import runpy
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import kdpm2
from tests.integrations.checkouts import INTEGRATIONS

ALONE = """
import sys
for name in ("diffusers", "huggingface_hub", "transformers", "typer"):
    sys.modules[name] = None
"""
IN_COMFYUI = """
from types import SimpleNamespace
from tests.integrations import against_comfyui, comfyui_stand_in, test_comfyui
comfyui_stand_in.load()
pack = against_comfyui.pack()
for flow in (False, True):
    for noise in ("gaussian", "brownian"):
        assert test_comfyui.sampled(pack, test_comfyui.FLOW_SIGMAS, flow=flow, noise=noise).isfinite().all()
model = SimpleNamespace(get_model_object=lambda name: test_comfyui.sampling_of(False))
options = {"steps": 5, "denoise": 1.0, "timestep_spacing": "linspace", "discard_next_to_last_sigma": True}
for curve in ("beta", "ays_sd15", "karras"):
    more = {"sigma_curve": curve, "steps_offset": 0, "sigma_max": 0, "sigma_min": 0, "rho": 0, "tuned_sigmas": ""}
    assert pack.node_list[1].execute(model, **options, **more)[0].isfinite().all()
"""
IN_A_WEB_UI = """
import torch
import kdpm2
from kdpm2 import noise_schedule, sampling
denoiser = kdpm2.Denoiser(lambda x, sigma: x / 2, noise_schedule.SigmaConditioned(True), "sample")
sigmas = torch.tensor([0.9, 0.5, 0.0])
assert sampling.sample_dpm_2_ancestral(denoiser, torch.ones(1, 4), sigmas, disable=True).isfinite().all()
"""


@pytest.mark.parametrize("program", [IN_COMFYUI, IN_A_WEB_UI], ids=["ComfyUI", "web UI"])
def test_what_these_programs_lack_is_not_needed(program: str) -> None:
    command = [sys.executable, "-c", ALONE + program]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=INTEGRATIONS.parent, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("pack", ["a1111", "sdnext"])
@pytest.mark.parametrize("there", [False, True])
def test_a_web_ui_installs_kdpm2_once_and_alone(pack: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, launch = list[str](), ModuleType("launch")
    vars(launch).update(is_installed=lambda name: there, run_pip=lambda command, name: asked.append(command))
    monkeypatch.setitem(sys.modules, "launch", launch)
    runpy.run_path(str(INTEGRATIONS / pack / "install.py"), run_name="__main__")
    assert asked == ([] if there else ["install --no-deps kdpm2"])


def test_comfyui_gets_the_kdpm2_that_its_pack_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = list[Any]()
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    runpy.run_path(str(INTEGRATIONS / "comfyui" / "install.py"), run_name="__main__")
    [(_, _, *pip, needed)] = commands
    assert pip == ["pip", "install", "--no-deps"]
    project = (INTEGRATIONS / "comfyui" / "pyproject.toml").read_text()
    assert f'version = "{kdpm2.__version__}"' in project
    assert f'dependencies = ["{needed}"]' in project
    assert needed.startswith("kdpm2>=" + kdpm2.__version__.rpartition(".")[0])
