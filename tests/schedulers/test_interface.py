"""What the classes offer is what diffusers' classes of the same name offer."""

import inspect
import json
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import kdpm2
from tests import oracle

PAIRS = [
    (diffusers.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2AncestralDiscreteScheduler),
    (diffusers.KDPM2DiscreteScheduler, kdpm2.KDPM2DiscreteScheduler),
]
OURS = [ours for _, ours in PAIRS]
UNUSUAL: dict[str, Any] = {
    "num_train_timesteps": 500,
    "beta_start": 0.001,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "use_exponential_sigmas": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def run(scheduler: Any, x: torch.Tensor, stages: slice = slice(None)) -> torch.Tensor:
    extra = {"generator": torch.Generator().manual_seed(1)} if "Ancestral" in type(scheduler).__name__ else {}
    for timestep in scheduler.timesteps[stages]:
        output = oracle.network(scheduler.scale_model_input(x, timestep), timestep)
        x = scheduler.step(output, timestep, x, **extra).prev_sample
    return x


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_same_names_arguments_and_defaults(theirs: Any, ours: Any) -> None:
    assert not issubclass(ours, theirs)
    assert issubclass(ours, diffusers.SchedulerMixin)
    assert issubclass(ours, diffusers.ConfigMixin)
    public = {name for name in dir(theirs()) if not name.startswith("_")} - {"sample"}
    assert public <= set(dir(ours()))
    for method in ("__init__", "scale_model_input", "set_begin_index", "set_timesteps", "step", "add_noise"):
        expected = inspect.signature(getattr(theirs, method)).parameters
        actual = inspect.signature(getattr(ours, method)).parameters
        # Options of our own come after, and none of them has to be given.
        assert list(actual)[: len(expected)] == list(expected)
        for name, parameter in actual.items():
            if name in expected and (method, name) != ("set_timesteps", "num_inference_steps"):
                assert parameter.default == expected[name].default
            else:
                assert parameter.default is not inspect.Parameter.empty
    assert ours.order == 2
    assert len(ours()) == 1000


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
@pytest.mark.parametrize("config", [{}, UNUSUAL], ids=["default", "unusual"])
def test_same_values_held(theirs: Any, ours: Any, config: dict[str, Any]) -> None:
    reference, scheduler = theirs(**config), ours(**config)
    names = [name for name in reference.config if not name.startswith("_")]
    assert all(scheduler.config[name] == reference.config[name] for name in names)
    for steps in (None, 7):
        if steps:
            reference.set_timesteps(steps)
            scheduler.set_timesteps(steps)
        assert scheduler.num_inference_steps == reference.num_inference_steps
        names = ["betas", "alphas", "alphas_cumprod", "log_sigmas", "sigmas_interpol"]
        for name in names + (["sigmas_up", "sigmas_down"] if "Ancestral" in ours.__name__ else []):
            actual, expected = getattr(scheduler, name), getattr(reference, name)
            assert actual.shape == expected.shape
            assert actual.dtype == expected.dtype
            # With as many steps as timesteps diffusers' offset leaves the trained range, and its up loses digits.
            tolerance = 1e-4 if steps else 0.3
            torch.testing.assert_close(actual, expected.nan_to_num(0), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cls", OURS)
def test_output_in_both_forms(cls: Any) -> None:
    scheduler = cls()
    scheduler.set_timesteps(5)
    x, output = torch.randn(2, 3), torch.randn(2, 3)
    result = scheduler.step(output, scheduler.timesteps[0], x)
    scheduler.set_timesteps(5)
    pair = scheduler.step(output, scheduler.timesteps[0], x, return_dict=False)
    assert isinstance(pair, tuple)
    assert type(result).__name__ == cls.__name__ + "Output"
    assert torch.equal(result.prev_sample, pair[0])
    assert torch.equal(result["prev_sample"], pair[0])
    assert torch.equal(result[1], pair[1])
    torch.testing.assert_close(result.pred_original_sample, x - scheduler.sigmas[0] * output)


@pytest.mark.parametrize("cls", OURS)
def test_a_pair_is_a_plain_tuple_of_tensors(cls: Any) -> None:
    scheduler = cls()
    scheduler.set_timesteps(5)
    x = torch.randn(2, 3)
    pair = scheduler.step(x, scheduler.timesteps[0], x, return_dict=False)
    assert type(pair) is tuple
    clean = pair[1].clone()
    x.zero_()  # what was made of it is made
    assert torch.equal(torch.stack(pair)[1], clean)
    assert torch.equal(torch.cat(pair)[2:], clean)
    assert torch.equal(torch.utils._pytree.tree_map(torch.neg, pair)[1], -clean)


@pytest.mark.parametrize("cls", OURS)
def test_saved_and_loaded(cls: Any, tmp_path: Path) -> None:
    scheduler = cls(**UNUSUAL)
    scheduler.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert saved["_class_name"] == cls.__name__
    assert saved["beta_end"] == 0.02
    for loaded in (cls.from_pretrained(tmp_path), cls.from_config(scheduler.config), cls.from_config(saved)):
        assert type(loaded) is cls
        assert torch.equal(run(loaded, torch.ones(3)), run(cls(**UNUSUAL), torch.ones(3)))


@pytest.mark.parametrize("cls", OURS)
def test_trained_betas_are_saved_as_numbers(cls: Any, tmp_path: Path) -> None:
    betas = np.linspace(0.001, 0.02, 50)
    cls(num_train_timesteps=50, trained_betas=betas).save_pretrained(tmp_path)
    torch.testing.assert_close(cls.from_pretrained(tmp_path).betas, torch.tensor(betas, dtype=torch.float32))


@pytest.mark.parametrize("cls", OURS)
def test_from_the_configurations_of_other_schedulers_and_back(cls: Any) -> None:
    for other in (diffusers.PNDMScheduler, diffusers.EulerDiscreteScheduler, diffusers.DPMSolverMultistepScheduler):
        theirs = other(beta_start=0.001, beta_end=0.02, beta_schedule="scaled_linear")
        ours = cls.from_config(theirs.config)
        assert ours.config.beta_end == 0.02
        back = other.from_config(ours.config)
        assert back.config.beta_schedule == "scaled_linear"


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_compatibles(theirs: Any, ours: Any) -> None:
    of_other_models = {
        diffusers.FlowMatchEulerDiscreteScheduler,
        diffusers.FlowMatchHeunDiscreteScheduler,
        diffusers.EDMEulerScheduler,
        diffusers.EDMDPMSolverMultistepScheduler,
    }
    assert {*theirs().compatibles, ours} | of_other_models == set(ours().compatibles)


@pytest.mark.parametrize("cls", OURS)
@pytest.mark.parametrize("cut", range(8))
@pytest.mark.parametrize("copied", [deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))])
def test_a_copy_made_in_mid_run_goes_on_as_the_original(cls: Any, cut: int, copied: Any) -> None:
    scheduler = cls()
    scheduler.set_timesteps(4)
    x = run(scheduler, torch.ones(3), slice(0, cut))
    copy = copied(scheduler)
    expected = run(scheduler, x, slice(cut, None))
    assert torch.equal(run(copy, x, slice(cut, None)), expected)


@pytest.mark.parametrize("cls", OURS)
def test_a_pipeline_may_edit_the_configuration(cls: Any) -> None:
    scheduler = cls(timestep_spacing="leading")
    scheduler.register_to_config(steps_offset=1)
    scheduler.set_timesteps(10)
    assert scheduler.timesteps[::2].tolist() == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]


def test_pipelines_find_generator_and_an_eta_that_is_0() -> None:
    assert all("generator" in inspect.signature(cls.step).parameters for cls in OURS)
    assert all(inspect.signature(cls.step).parameters["eta"].default == 0 for cls in OURS)
