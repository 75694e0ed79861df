"""The extension for the web UIs of AUTOMATIC1111 and Forge, in a stand-in of what it uses of them, and in them."""

import sys
from collections import namedtuple
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from kdpm2 import sampling
from tests.integrations.checkouts import INTEGRATIONS, loaded, run

SIGMAS = torch.tensor([0.9, 0.6, 0.3, 0.1, 0.0])


class SamplerData(namedtuple("SamplerData", ["name", "constructor", "aliases", "options"])):
    pass


class KDiffusionSampler:
    def __init__(self, func: Any, model: Any) -> None:
        self.func, self.config = func, None

    def get_sigmas(self, p: Any, steps: int) -> torch.Tensor:
        return SIGMAS[[0, 1, 2, 4]] if self.config.options["discard_next_to_last_sigma"] else SIGMAS  # type: ignore[attr-defined]


@pytest.fixture
def webui(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of a web UI, and those of the extension as `extension`."""
    opts = SimpleNamespace(hidden=[], always_discard_next_to_last_sigma=False)
    opts.add_option = lambda key, info: setattr(opts, key, info)
    callbacks: dict[str, Any] = {}
    members: dict[str, dict[str, Any]] = {
        "script_callbacks": {
            "on_before_ui": lambda call: callbacks.update(before_ui=call),
            "on_ui_settings": lambda call: callbacks.update(settings=call),
        },
        "sd_samplers": {"all_samplers": [], "all_samplers_map": {}, "set_samplers": lambda: None},
        "sd_samplers_common": {"SamplerData": SamplerData},
        "sd_samplers_kdiffusion": {"KDiffusionSampler": KDiffusionSampler, "sampler_extra_params": {}},
        "shared": {"opts": opts, "OptionInfo": lambda default, label, **rest: default},
    }
    package = ModuleType("modules")
    monkeypatch.setitem(sys.modules, "modules", package)
    for name, held in members.items():
        module = ModuleType(f"modules.{name}")
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        setattr(package, name, module)
    k_diffusion, their_sampling = ModuleType("k_diffusion"), ModuleType("k_diffusion.sampling")
    vars(their_sampling).update(default_noise_sampler=lambda x: lambda sigma, after: torch.ones_like(x) * after)
    vars(k_diffusion).update(sampling=their_sampling)
    monkeypatch.setitem(sys.modules, "k_diffusion", k_diffusion)
    monkeypatch.setitem(sys.modules, "k_diffusion.sampling", their_sampling)
    monkeypatch.setitem(sys.modules, "kdpm2_sampler", None)
    extension = loaded("kdpm2_sampler", INTEGRATIONS / "a1111" / "scripts" / "kdpm2_sampler.py")
    return SimpleNamespace(**vars(package), extension=extension, callbacks=callbacks)


def registered(webui: Any) -> Any:
    for _ in range(2):  # the user interface can be reloaded
        webui.callbacks["before_ui"]()
    [config] = webui.sd_samplers.all_samplers
    sampler = config.constructor(None)
    sampler.config = config
    return sampler


def test_it_is_registered_once_and_like_the_own_one(webui: Any) -> None:
    sampler = registered(webui)
    assert webui.sd_samplers.all_samplers_map == {sampler.config.name: sampler.config}
    assert sampler.config.options == {
        "scheduler": "karras",
        "discard_next_to_last_sigma": True,
        "uses_ensd": True,
        "second_order": True,
    }
    assert webui.sd_samplers_kdiffusion.sampler_extra_params[sampler.func] == ["s_noise"]


@pytest.mark.parametrize(("kept", "always"), [(False, False), (True, False), (True, True)])
def test_the_next_to_last_sigma_is_a_setting(webui: Any, kept: bool, always: bool) -> None:
    sampler = registered(webui)
    webui.callbacks["settings"]()
    webui.shared.opts.always_discard_next_to_last_sigma = always
    assert webui.shared.opts.kdpm2_keep_next_to_last_sigma is False
    webui.shared.opts.kdpm2_keep_next_to_last_sigma = kept
    p = SimpleNamespace(extra_generation_params={})
    assert len(sampler.get_sigmas(p, 3)) == (5 if kept and not always else 4)
    assert ("Keep penultimate sigma" in p.extra_generation_params) is (kept and not always)


def denoiser_of(kind: str) -> Any:
    """What the web UIs hand to a sampler, around a network that finds the same clean sample everywhere."""
    held = {
        "a1111": SimpleNamespace(inner_model=SimpleNamespace()),
        "a1111 flow": SimpleNamespace(inner_model=SimpleNamespace(add_noise_to_latent=None)),
        "forge": SimpleNamespace(predictor=SimpleNamespace(prediction_type="epsilon")),
        "forge flow": SimpleNamespace(predictor=SimpleNamespace(prediction_type="const")),
    }[kind]

    class Denoiser:
        inner_model = held

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor, clean: float) -> torch.Tensor:
            return torch.full_like(x, clean)

    return Denoiser()


@pytest.mark.parametrize("kind", ["a1111", "a1111 flow", "forge", "forge flow"])
def test_samples_keep_the_noise_of_their_level(webui: Any, kind: str) -> None:
    """A network that knows the clean sample 2: after each step it is 2, or (1-σ)·2, and noise of deviation σ."""
    webui.extension.k_diffusion.sampling.default_noise_sampler = lambda x: lambda *_: torch.randn_like(x)
    torch.manual_seed(0)
    x = torch.randn(1, 1, 100, 100)
    flow = kind.endswith("flow")
    start = x * 0.9 + 2 * (1 - 0.9 * flow)
    steps = list[dict[str, Any]]()
    webui.extension.sample(denoiser_of(kind), start, SIGMAS, {"clean": 2.0}, steps.append, True)
    for step in steps:
        sigma = float(step["sigma"])
        assert float(step["x"].mean()) == pytest.approx(2 * (1 - sigma * flow), abs=0.03)
        assert float(step["x"].std()) == pytest.approx(sigma, rel=0.03)


def test_eta_noise_and_callback_are_handed_on(webui: Any) -> None:
    x, denoiser = torch.randn(2, 4, 8, 8), denoiser_of("a1111")
    steps = list[dict[str, Any]]()
    made = webui.extension.sample(denoiser, x, SIGMAS[:-1], {"clean": 1.0}, steps.append, True, eta=0.5, s_noise=0.7)
    noise = webui.extension.k_diffusion.sampling.default_noise_sampler(x)
    plain = sampling.sample_dpm_2_ancestral(denoiser, x, SIGMAS[:-1], {"clean": 1.0}, None, True, 0.5, 0.7, noise)
    torch.testing.assert_close(made, plain, rtol=0, atol=0)
    assert [step["i"] for step in steps] == [0, 1, 2]


@pytest.mark.parametrize("variable", ["KDPM2_A1111", "KDPM2_FORGE"])
def test_in_the_web_ui_itself(variable: str) -> None:
    assert "cases, largest difference" in run("webui", variable)
