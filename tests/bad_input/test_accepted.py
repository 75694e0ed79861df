"""What looks wrong and is right: it is kept as it is, or has one meaning."""

from array import array
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from tests import oracle
from tests.bad_input.calls import INF, NAN, STEPS, X


def whole_run(cls: Any, x: torch.Tensor, **options: Any) -> torch.Tensor:
    scheduler = cls(**options)
    scheduler.set_timesteps(STEPS)
    scheduler.seed(1)
    for timestep in scheduler.timesteps:
        x = scheduler.step(oracle.network(scheduler.scale_model_input(x, timestep), timestep), timestep, x).prev_sample
    return x


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_what_is_no_number_in_a_sample_is_kept_where_it_is(cls: Any, wrong: float) -> None:
    x = X.clone()
    x[1, 2] = wrong
    samples, expected = whole_run(cls, x), whole_run(cls, X)
    assert not samples[1, 2].isfinite()
    samples[1, 2] = expected[1, 2]
    assert torch.equal(samples, expected)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 4)])
@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_samples_of_size_zero_go_through(cls: Any, shape: tuple[int, ...]) -> None:
    assert whole_run(cls, torch.ones(shape)).shape == shape


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T.contiguous().T,
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
        lambda x: x.flip(0).flip(0).expand(2, 3),
    ],
)
@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_how_a_sample_lies_in_memory_changes_nothing(cls: Any, view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert torch.equal(whole_run(cls, view(X)), whole_run(cls, X))


@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_gradients_flow_through_a_run_that_is_the_same_run(cls: Any) -> None:
    x = X.clone().requires_grad_()
    samples = whole_run(cls, x)
    assert torch.equal(samples.detach(), whole_run(cls, X))
    samples.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.any()


class Steps(IntEnum):
    FIVE = 5


NUMBERS: list[Callable[[float], Any]] = [np.float64, np.float32, np.array, torch.tensor]
INTEGERS: list[Callable[[int], Any]] = [np.int64, np.int8, np.array, torch.tensor, Steps]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_kind_of_number_is_a_number(number: Callable[[float], Any], tmp_path: Path) -> None:
    options = {"beta_start": 0.25, "beta_end": 0.5, "num_train_timesteps": 8, "sigma_min": 0.75, "rho": 2.0}
    kinds = {name: number(value) if isinstance(value, float) else value for name, value in options.items()}
    expected, made = (Ancestral(use_karras_sigmas=True, s_noise=0.5, **values) for values in (options, kinds))
    made.save_pretrained(tmp_path)
    for scheduler in (made, Ancestral.from_pretrained(tmp_path)):
        assert {name: scheduler.config[name] for name in options} == options
        assert torch.equal(scheduler.sigmas, expected.sigmas)


@pytest.mark.parametrize("integer", INTEGERS)
def test_every_kind_of_integer_is_an_integer(integer: Callable[[int], Any]) -> None:
    expected, made = Ancestral(), Ancestral()
    expected.set_timesteps(5)
    made.set_timesteps(integer(5))
    assert torch.equal(made.timesteps, expected.timesteps)
    assert made.num_inference_steps == 5
    made.set_begin_index(integer(5))
    assert made.begin_index == 5


@pytest.mark.parametrize(
    "values",
    [
        (4.0, 3.0, 2.0),
        range(4, 1, -1),
        np.array([4, 3, 2]),
        np.array([4.0, 3.0, 2.0], dtype=np.float16),
        np.array([4.0, 3.0, 2.0], dtype=">f8"),
        torch.tensor([4.0, 3.0, 2.0], dtype=torch.bfloat16),
        torch.nn.Parameter(torch.tensor([4.0, 3.0, 2.0])),
        [torch.tensor(4.0), np.float32(3), 2],
        array("d", [4.0, 3.0, 2.0]),
    ],
)
def test_every_kind_of_sequence_holds_sigmas(values: Any) -> None:
    scheduler = Ancestral()
    scheduler.set_timesteps(sigmas=values)
    assert list(dict.fromkeys(scheduler.sigmas.tolist())) == [4.0, 3.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "FlowMatchEulerDiscreteScheduler": {},
        "Stable Diffusion 3": {"shift": 3.0},
        "Flux": {"shift": 3.0, "use_dynamic_shifting": True, "max_image_seq_len": 4096, "base_image_seq_len": 256},
        "LTX": {"use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "shift_terminal": 0.1},
        "without the lengths": {"base_shift": None, "max_shift": None, "base_image_seq_len": None},
        "Qwen": {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192},
    }.items(),
)
@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_what_flow_models_have_for_their_pipelines_is_kept(cls: Any, name: str, values: dict[str, Any]) -> None:
    theirs = {**diffusers.FlowMatchEulerDiscreteScheduler().config, **values}
    ours = cls.from_config(theirs)
    for option in ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len"):
        assert ours.config[option] == theirs[option]


def test_a_wan_configuration_keeps_betas_that_play_no_part() -> None:
    solver = {"_class_name": "UniPCMultistepScheduler", "solver_order": 2, "beta_start": 0.0001, "beta_end": 0.02}
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    ours = Ancestral.from_config({**solver, **flow})
    ours.set_timesteps(5)
    assert ours.config.beta_end == 0.02
    assert ours.sigmas[0] == 1


def sigmas(cls: Any, steps: int, own: list[float] | None = None, **options: Any) -> list[float]:
    scheduler = cls(**options)
    scheduler.set_timesteps(None if own else steps, sigmas=own)
    kept: list[float] = scheduler.sigmas.unique().flip(0).tolist()
    return kept


def test_two_options_that_seem_to_contradict_each_other_have_one_meaning() -> None:
    plain = sigmas(Ancestral, 1)
    # The sigma left out of two is the second: one step from the top to 0.
    assert sigmas(Ancestral, 1, discard_next_to_last_sigma=True) == plain == [plain[0], 0.0]
    # The caller's own 0 is the end, whatever the configuration says.
    assert sigmas(Ancestral, 2, [4.0, 1.0, 0.0], final_sigmas_type="sigma_min") == [4.0, 1.0, 0.0]
    assert sigmas(Ancestral, 2, [4.0, 1.0], final_sigmas_type="sigma_min") == [4.0, 1.0]
    # Zero terminal SNR is as good with timesteps in log σ as without.
    rescaled: dict[str, Any] = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    assert sigmas(Ancestral, 5, timestep_type="continuous", **rescaled) == sigmas(Ancestral, 5, **rescaled)
    # Without noise, where it would come from is all the same.
    quiet = Ancestral(eta=0.0, noise="brownian")
    quiet.set_timesteps(sigmas=[1.0, 0.5, 0.4999999])
    assert not quiet.sigmas_up.any()
    # A flow has no betas to rescale, and any eta.
    flow: dict[str, Any] = {"prediction_type": "flow_prediction"}
    assert sigmas(Ancestral, 5, rescale_betas_zero_snr=True, **flow) == sigmas(Ancestral, 5, **flow)
    for eta in (0.0, 0.5, 1.0):
        assert whole_run(Ancestral, X, eta=eta, **flow).isfinite().all()


def test_the_longest_schedule_is_made() -> None:
    scheduler = Ancestral(prediction_type="flow_prediction", num_train_timesteps=100_000)
    scheduler.set_timesteps(100_000)
    assert len(scheduler.timesteps) == 199_999
    assert scheduler.timesteps.isfinite().all()
