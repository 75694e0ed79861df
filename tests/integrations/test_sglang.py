"""The adapter for SGLang-Diffusion, in a stand-in of its registry and of what its loader does."""

import copy
import inspect
import sys
from abc import ABC
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import kdpm2
from tests.integrations.checkouts import INTEGRATIONS, loaded, run

FLOW = {"num_train_timesteps": 1000, "shift": 3.0, "_diffusers_version": "0.29.0"}  # of Stable Diffusion 3
# A part of Wan's: of UniPCMultistepScheduler, in a version that knows flows.
WAN = {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "solver_order": 2,
    "prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0, "final_sigmas_type": "zero",
    "timestep_spacing": "linspace", "_class_name": "UniPCMultistepScheduler", "_diffusers_version": "0.33.0",
}  # fmt: skip
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}


class BaseScheduler(ABC):  # noqa: B024
    pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    held: dict[str, Any] = {}
    places: dict[str, dict[str, Any]] = {
        "registry": {"ModelRegistry": SimpleNamespace(register_model=held.__setitem__)}
    }
    places["schedulers.base"] = {"BaseScheduler": BaseScheduler}
    for place, members in places.items():
        parts = f"sglang.multimodal_gen.runtime.models.{place}".split(".")
        for count in range(1, len(parts)):
            name = ".".join(parts[:count])
            if name not in sys.modules:
                monkeypatch.setitem(sys.modules, name, ModuleType(name))
        module = ModuleType(".".join(parts))
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "kdpm2_sglang", None)
    loaded("kdpm2_sglang", INTEGRATIONS / "sglang" / "kdpm2_sglang.py")
    return held


def load(cls: Any, config: dict[str, Any]) -> Any:
    """As SGLang's loader: options that the constructor does not take are dropped."""
    parameters = inspect.signature(cls.__init__).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        config = {name: value for name, value in config.items() if name in parameters or name.startswith("_")}
    return cls(**config)


@pytest.mark.parametrize("name", ["KDPM2Scheduler", "KDPM2AncestralScheduler"])
@pytest.mark.parametrize(("config", "source"), [
    (FLOW, "FlowMatchEulerDiscreteScheduler"), (WAN, "UniPCMultistepScheduler"), (BETAS, "DDIMScheduler"),
    ({"num_train_timesteps": 1000}, "FlowMatchEulerDiscreteScheduler"),
])  # fmt: skip
def test_a_models_file_means_what_it_means_to_from_config(
    registry: dict[str, Any], name: str, config: dict[str, Any], source: str
) -> None:
    made = load(registry[name], config)
    ours = kdpm2.KDPM2DiscreteScheduler if name == "KDPM2Scheduler" else kdpm2.KDPM2AncestralDiscreteScheduler
    expected = ours.from_config({**config, "_class_name": source})
    for scheduler in (made, expected):
        scheduler.set_timesteps(6)
    assert made._is_flow is (config is not BETAS)
    torch.testing.assert_close(made.sigmas, expected.sigmas)
    torch.testing.assert_close(made.timesteps, expected.timesteps)
    assert made.config.prediction_type == expected.config.prediction_type
    assert made.num_train_timesteps == 1000
    assert isinstance(made, BaseScheduler)


def test_the_shift_can_be_set_after(registry: dict[str, Any]) -> None:
    made = load(registry["KDPM2AncestralScheduler"], FLOW)
    made.set_shift(7.0)
    made.set_timesteps(sigmas=[1.0, 0.5])
    torch.testing.assert_close(made.sigmas[2], torch.tensor(7 * 0.5 / (1 + 6 * 0.5)))


def test_without_a_generator_the_noise_has_a_seed(registry: dict[str, Any]) -> None:
    def picture(**config: Any) -> torch.Tensor:
        made = copy.deepcopy(load(registry["KDPM2AncestralScheduler"], FLOW | config))
        made.set_timesteps(4)
        x = torch.ones(1, 8)
        for t in made.timesteps:
            x = made.step(model_output=x / 3, timestep=t, sample=x, return_dict=False)[0]
        return x

    torch.testing.assert_close(picture(), picture(seed=0), rtol=0, atol=0)
    assert not torch.equal(picture(), picture(seed=1))


def test_in_sglang_itself() -> None:
    assert "cases, largest difference" in run("sglang", "KDPM2_SGLANG")
