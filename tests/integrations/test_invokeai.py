"""The node pack for InvokeAI, in a stand-in of what it uses of it, and in InvokeAI."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

import kdpm2
from tests.integrations.checkouts import INTEGRATIONS, loaded, run

PLACES = {
    "app.invocations.baseinvocation": {"invocation": lambda *_, **__: lambda cls: cls},
    "app.invocations.fields": {"InputField": lambda default, **_: default},
}


class Node:
    def __init__(self, **options: Any) -> None:
        vars(self).update(options)

    def _run_diffusion(self, context: Any) -> Any:
        return context(self.scheduler)  # type: ignore[attr-defined]


@pytest.fixture
def invokeai(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The maps of InvokeAI after the pack was loaded, and the pack."""
    maps: dict[str, Any] = {
        "sd": {
            "kdpm_2_a_k": (diffusers.KDPM2AncestralDiscreteScheduler, {"use_karras_sigmas": True}),
            "kdpm_2": (diffusers.KDPM2DiscreteScheduler, {}),
            "euler": (diffusers.EulerDiscreteScheduler, {}),
        },
        "flux": {"euler": diffusers.FlowMatchEulerDiscreteScheduler},
        "z_image": {},
    }
    places: dict[str, dict[str, Any]] = {
        **PLACES,
        "app.invocations.flux_denoise": {"FluxDenoiseInvocation": type("FluxDenoiseInvocation", (Node,), {})},
        "app.invocations.z_image_denoise": {"ZImageDenoiseInvocation": type("ZImageDenoiseInvocation", (Node,), {})},
        "backend.flux.schedulers": {"FLUX_SCHEDULER_MAP": maps["flux"], "ZIMAGE_SCHEDULER_MAP": maps["z_image"]},
        "backend.stable_diffusion.schedulers": {"SCHEDULER_MAP": maps["sd"]},
    }
    for place, held in places.items():
        parts = f"invokeai.{place}".split(".")
        for count in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:count]), ModuleType(parts[count - 1]))
        module = ModuleType(f"invokeai.{place}")
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, f"invokeai.{place}", module)
    monkeypatch.setitem(sys.modules, "kdpm2_nodes", None)
    pack = loaded("kdpm2_nodes", INTEGRATIONS / "invokeai" / "kdpm2_nodes" / "__init__.py")
    return SimpleNamespace(**maps, pack=pack)


def test_the_names_of_dpm2_are_ours_and_others_stay(invokeai: Any) -> None:
    assert invokeai.sd["kdpm_2_a_k"] == (kdpm2.KDPM2AncestralDiscreteScheduler, {"use_karras_sigmas": True})
    assert invokeai.sd["kdpm_2"] == (kdpm2.KDPM2DiscreteScheduler, {})
    assert invokeai.sd["euler"] == (diffusers.EulerDiscreteScheduler, {})
    assert set(invokeai.flux) == {"euler", "kdpm_2", "kdpm_2_a"}
    assert set(invokeai.z_image) == {"kdpm_2", "kdpm_2_a"}


def made(invokeai: Any, kind: str, **options: Any) -> Any:
    """The scheduler that InvokeAI makes for a node."""
    held = {
        "flux": (invokeai.flux, "FluxDenoiseKDPM2Invocation"),
        "z_image": (invokeai.z_image, "ZImageDenoiseKDPM2Invocation"),
    }
    known, name = held[kind]
    given = {"num_train_timesteps": 1000} | ({"shift": 1.0} if kind == "z_image" else {})
    node = getattr(invokeai.pack, name)(**{"scheduler": "kdpm_2_a", "seed": 3, "eta": 1.0, "s_noise": 1.0} | options)
    return node._run_diffusion(lambda scheduler: known[scheduler](**given))


@pytest.mark.parametrize("kind", ["flux", "z_image"])
@pytest.mark.parametrize("levels", [[1.0, 0.7, 0.2, 0.0], [1.0, 0.7, 0.2]])
def test_a_flow_visits_the_levels_that_it_is_given(invokeai: Any, kind: str, levels: list[float]) -> None:
    scheduler = made(invokeai, kind, scheduler="kdpm_2")
    scheduler.set_timesteps(sigmas=levels, device="cpu")
    clean, x = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.3, 0.5]])
    start = x
    for t in scheduler.timesteps:
        x = scheduler.step(model_output=start - clean, timestep=t, sample=x).prev_sample  # of a straight path
    torch.testing.assert_close(x, start + (levels[-1] - 1) * (start - clean))


def test_the_options_and_the_seed_are_those_of_the_node(invokeai: Any) -> None:
    assert made(invokeai, "flux", eta=0.4, s_noise=0.9).config.eta == 0.4
    assert made(invokeai, "flux", eta=0.4, s_noise=0.9).config.s_noise == 0.9
    assert made(invokeai, "flux", scheduler="kdpm_2").config.eta == 0

    def picture(seed: int) -> torch.Tensor:
        scheduler = made(invokeai, "flux", seed=seed)
        scheduler.set_timesteps(sigmas=[1.0, 0.6, 0.0])
        x = torch.ones(1, 8)
        for t in scheduler.timesteps:
            x = scheduler.step(x / 2, t, x).prev_sample
        return x

    torch.testing.assert_close(picture(5), picture(5), rtol=0, atol=0)
    assert not torch.equal(picture(5), picture(6))


def test_in_invokeai_itself() -> None:
    assert "cases, largest difference" in run("invokeai", "KDPM2_INVOKEAI")
