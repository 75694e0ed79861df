"""The extension for SD.Next, in a stand-in of what it uses of it, and in SD.Next."""

import inspect
import sys
from collections import namedtuple
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.integrations.checkouts import INTEGRATIONS, loaded, run

SamplerData = namedtuple("SamplerData", ["name", "constructor", "aliases", "options"])


class OptionInfo:
    """A setting; of numbers that are no integers, SD.Next's page asks by which component they are shown."""

    def __init__(
        self, default: Any, label: str, component: Any = None, component_args: Any = None, section: Any = None
    ) -> None:
        self.default, self.label, self.component, self.section = default, label, component, section
        assert component is not None or type(default) in (str, int, bool)


@pytest.fixture
def sdnext(monkeypatch: pytest.MonkeyPatch) -> Any:
    """SD.Next's modules with the extension, named `extension`."""
    config: dict[str, Any] = {}
    callbacks: dict[str, Any] = {}
    labels: dict[str, Any] = {"scheduler_eta": OptionInfo(1.0, "eta", "Slider", section="hidden")}
    opts = SimpleNamespace(scheduler_eta=0.6, data_labels=labels, add_option=labels.__setitem__)

    class DiffusionSampler:
        """Makes a scheduler of the options that a class has, as SD.Next does."""

        def __init__(self, name: str, constructor: Any, model: Any) -> None:
            options = {"beta_schedule": "scaled_linear", "prediction_type": "epsilon", "loworder": 1, **config[name]}
            if "Flow" in name:
                options["prediction_type"] = "flow_prediction"
            known = inspect.signature(constructor).parameters
            self.sampler = constructor(**{option: value for option, value in options.items() if option in known})

    members: dict[str, dict[str, Any]] = {
        "script_callbacks": {"on_ui_settings": lambda call: callbacks.update(settings=call)},
        "scripts_manager": {"Script": object, "AlwaysVisible": object()},
        "sd_samplers": {"list_samplers": lambda: None, "set_samplers": lambda: None},
        "sd_samplers_common": {"SamplerData": SamplerData},
        "sd_samplers_diffusers": {
            "samplers_data_diffusers": [SamplerData(name, None, [], {}) for name in ("Default", "KDPM2 a", "LCM")],
            "DiffusionSampler": DiffusionSampler,
            "config": config,
        },
        "shared": {"opts": opts, "OptionInfo": OptionInfo},
    }
    package = ModuleType("modules")
    monkeypatch.setitem(sys.modules, "modules", package)
    for name, held in members.items():
        module = ModuleType(f"modules.{name}")
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        setattr(package, name, module)
    gradio = ModuleType("gradio")
    vars(gradio).update(Slider=object())
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.setitem(sys.modules, "kdpm2_samplers", None)
    extension = loaded("kdpm2_samplers", INTEGRATIONS / "sdnext" / "scripts" / "kdpm2_samplers.py")
    return SimpleNamespace(**vars(package), extension=extension, callbacks=callbacks)


def scheduler(sdnext: Any, name: str) -> Any:
    [found] = [each for each in sdnext.sd_samplers_diffusers.samplers_data_diffusers if each.name == name]
    return found.constructor(None).sampler


def test_the_samplers_stand_beside_the_own_ones_once(sdnext: Any) -> None:
    sdnext.extension.register()
    names = [each.name for each in sdnext.sd_samplers_diffusers.samplers_data_diffusers]
    assert names == ["Default", "KDPM2 a", *sdnext.extension.SAMPLERS, "LCM"]


def test_the_settings_have_a_section_of_their_own_also_when_the_page_is_made_again(sdnext: Any) -> None:
    """SD.Next saves a page by the order of its settings, section by section."""
    labels = sdnext.shared.opts.data_labels
    for _ in range(2):
        sdnext.callbacks["settings"]()
        labels["another"] = OptionInfo(1, "of another extension", section=("another", "another"))
        assert labels["scheduler_eta"].default == labels["kdpm2_s_noise"].default == 1.0
    assert list(labels) == ["another", "scheduler_eta", "kdpm2_s_noise"]
    assert {labels[name].section for name in ("scheduler_eta", "kdpm2_s_noise")} == {("kdpm2", "kdpm2")}


@pytest.mark.parametrize("flow", [False, True])
def test_eta_is_that_of_the_settings(sdnext: Any, flow: bool) -> None:
    made = scheduler(sdnext, "DPM2 a (kdpm2)" + " FlowMatch" * flow)
    assert made.config.eta == 0.6
    assert made._is_flow is flow
    assert ("Flow" in type(made).__name__) is flow  # SD.Next looks at this


def test_a_flow_draws_its_noise_from_the_seeds_of_the_images(sdnext: Any) -> None:
    def picture(seeds: list[int]) -> torch.Tensor:
        sdnext.extension.Seeds().process_batch(None, batch_number=0, prompts=[], seeds=seeds)
        made = scheduler(sdnext, "DPM2 a (kdpm2) FlowMatch")
        made.set_timesteps(3)
        x = torch.ones(len(seeds), 4)
        for t in made.timesteps:
            x = made.step(x / 2, t, x, return_dict=False)[0]
        return x

    both = picture([3, 4])
    torch.testing.assert_close(both, torch.cat([picture([3]), picture([4])]))
    assert not torch.equal(both[0], both[1])


def test_in_sdnext_itself() -> None:
    assert "cases, largest difference" in run("sdnext", "KDPM2_SDNEXT")
