"""The options beyond diffusers' classes, through the schedulers' configuration."""

import inspect
import json
import math
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import AysSchedules

import kdpm2
from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from kdpm2 import noise_schedule, sampling
from kdpm2.noise import Brownian, seeded
from tests import oracle
from tests.versions import takes

BOTH: list[Any] = [Ancestral, Discrete]
FLOW: dict[str, Any] = {"prediction_type": "flow_prediction"}
EULER = diffusers.FlowMatchEulerDiscreteScheduler
CASES: list[tuple[Any, dict[str, Any]]] = [
    (Ancestral, {"eta": 0.5, "s_noise": 1.01}),
    (Ancestral, {"noise": "brownian"}),
    (Discrete, {"s_churn": 5.0, "s_tmin": 0.1, "s_tmax": 10.0, "s_noise": 1.01}),
    *((cls, {"use_polyexponential_sigmas": True, "rho": 2.0}) for cls in BOTH),
    *((cls, {"use_karras_sigmas": True, "rho": 5.0, "sigma_min": 0.1, "sigma_max": 10.0}) for cls in BOTH),
    *((cls, {"use_lu_lambdas": True}) for cls in BOTH),
    *((cls, {"ays_sigmas": "sdxl"}) for cls in BOTH),
    *((cls, {"tuned_sigmas": [14.0, 6.0, 2.0, 0.5, 0.03]}) for cls in BOTH),
    *((cls, {**FLOW, "tuned_sigmas": [1.0, 0.9, 0.5, 0.01]}) for cls in BOTH),
    *((cls, {"sigma_data": 0.5, "tuned_sigmas": [80.0, 5.0, 0.5, 0.01]}) for cls in BOTH),
    *((cls, {"timestep_spacing": spacing}) for cls in BOTH for spacing in ("simple", "sgm_uniform")),
    *((cls, {"final_sigmas_type": "sigma_min", "timestep_spacing": "leading", "steps_offset": 1}) for cls in BOTH),
    *((cls, {"discard_next_to_last_sigma": True}) for cls in BOTH),
    *((cls, {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}) for cls in BOTH),
    *((cls, {"timestep_type": "continuous", "prediction_type": "v_prediction"}) for cls in BOTH),
    *((cls, {**FLOW, "flow_shift": 3.0}) for cls in BOTH),
    *((cls, {**FLOW, "shift_terminal": 0.1, "timestep_spacing": "trailing"}) for cls in BOTH),
    *((cls, {"sigma_data": 0.5}) for cls in BOTH),
    *((cls, {"sigma_data": 1.0, "prediction_type": "v_prediction", "use_exponential_sigmas": True}) for cls in BOTH),
]
every_case = pytest.mark.parametrize(("cls", "options"), CASES, ids=str)


def run(scheduler: Any, x: torch.Tensor, stages: slice = slice(None), generator: Any = None) -> torch.Tensor:
    for timestep in scheduler.timesteps[stages]:
        output = oracle.network(scheduler.scale_model_input(x, timestep), timestep)
        x = scheduler.step(output, timestep, x, generator=generator).prev_sample
    return x


def made(cls: Any, steps: int = 6, **options: Any) -> Any:
    scheduler = cls(**options)
    scheduler.set_timesteps(steps)
    return scheduler


@every_case
def test_every_option_is_saved_and_changes_the_run(cls: Any, options: dict[str, Any], tmp_path: Path) -> None:
    scheduler = made(cls, **options)
    scheduler.seed(1)
    samples = run(scheduler, torch.ones(2, 3))
    assert samples.isfinite().all()
    scheduler.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "scheduler_config.json").read_text(), parse_constant=pytest.fail)
    assert {name: saved[name] for name in options} == options
    for again in (cls.from_pretrained(tmp_path), cls.from_config(scheduler.config)):
        again.set_timesteps(6)
        again.seed(1)
        assert torch.equal(run(again, torch.ones(2, 3)), samples)
    plain = made(cls, **(FLOW if options.get("prediction_type") == "flow_prediction" else {}))
    plain.seed(1)
    assert not torch.allclose(run(plain, torch.ones(2, 3)), samples)


@every_case
@pytest.mark.parametrize("copied", [deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))])
@pytest.mark.parametrize("cut", [1, 4])
def test_a_seeded_run_goes_on_in_a_copy(cls: Any, options: dict[str, Any], copied: Any, cut: int) -> None:
    scheduler = made(cls, **options)
    scheduler.seed([3, 4])
    x = run(scheduler, torch.ones(2, 3), slice(0, cut))
    copy = copied(scheduler)
    expected = run(scheduler, x, slice(cut, None))
    assert torch.equal(run(copy, x, slice(cut, None)), expected)


def test_only_defaults_of_the_two_classes_differ() -> None:
    ancestral, discrete = (inspect.signature(cls.__init__).parameters for cls in BOTH)
    assert set(ancestral) - set(discrete) == {"eta", "noise"}
    assert set(discrete) - set(ancestral) == {"s_churn", "s_tmin", "s_tmax", "invert"}
    shared = [name for name in ancestral if name in discrete]
    assert shared == [name for name in discrete if name in ancestral]
    assert all(ancestral[name].default == discrete[name].default for name in shared)


@pytest.mark.parametrize("options", [{}, FLOW, {"sigma_data": 0.5}], ids=["vp", "flow", "edm"])
def test_without_noise_ancestral_is_discrete(options: dict[str, Any]) -> None:
    x = torch.randn(3, dtype=torch.float64)
    assert torch.equal(run(made(Ancestral, eta=0.0, **options), x), run(made(Discrete, **options), x))


@pytest.mark.parametrize("eta", [0.3, 0.8])
@pytest.mark.parametrize("s_noise", [0.9, 1.1])
def test_eta_and_s_noise_are_those_of_the_functions(eta: float, s_noise: float) -> None:
    schedule = noise_schedule.discrete()
    scheduler = made(Ancestral, 12, eta=eta, s_noise=s_noise)
    sigmas = scheduler._table.sigmas
    x = torch.randn(3, 4, dtype=torch.float64) * sigmas[0]

    def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return oracle.network(x, timestep[0].float())

    model = kdpm2.Denoiser(network, schedule)
    expected = sampling.sample(model, x, sigmas, eta=eta, s_noise=s_noise, seeds=2)
    scheduler.seed(2)
    # The network sees float32 timesteps, which are not rounded alike in both.
    torch.testing.assert_close(run(scheduler, x), expected, rtol=1e-5, atol=1e-5)


def test_churn_is_that_of_the_function() -> None:
    churn: dict[str, Any] = {"s_churn": 4.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.007}
    scheduler = made(Discrete, 8, **churn)
    sigmas = scheduler._table.sigmas
    assert sigmas[0] < 50
    x = torch.randn(3, 4, dtype=torch.float64) * sigmas[0]
    told: list[dict[str, Any]] = []

    def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return oracle.network(x, timestep[0].float())

    torch.manual_seed(6)
    model = kdpm2.Denoiser(network, noise_schedule.discrete())
    expected = sampling.sample_dpm_2(model, x, torch.from_numpy(sigmas), callback=told.append, disable=True, **churn)
    # The first step's noise belongs to the initial sample.
    torch.manual_seed(6)
    churned = x + scheduler._table.initial_noise * torch.randn_like(x)
    torch.testing.assert_close(told[0]["x"], churned)
    torch.testing.assert_close(run(scheduler, churned), expected, rtol=1e-5, atol=1e-5)
    gamma = 4.0 / 8
    assert told[0]["sigma_hat"].item() == pytest.approx(sigmas[0] * (1 + min(gamma, math.sqrt(2) - 1)))
    level = math.sqrt(sigmas[0] ** 2 + (1.007 * sigmas[0]) ** 2 * ((1 + min(gamma, math.sqrt(2) - 1)) ** 2 - 1))
    assert scheduler.init_noise_sigma.item() == pytest.approx(level, rel=1e-6)


@pytest.mark.parametrize("cls", BOTH)
def test_without_churn_a_generator_is_left_as_it_is(cls: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    options: dict[str, Any] = {"eta": 0.0} if cls is Ancestral else {}
    run(made(cls, **options), torch.ones(3), generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_every_run_of_one_seed_is_the_same() -> None:
    scheduler = made(Ancestral)
    x = torch.ones(2, 3)
    unseeded = [run(scheduler, x) for _ in range(2)]
    assert not torch.equal(*unseeded)
    scheduler.seed(5)
    first, again = (run(scheduler, x) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(run(scheduler, x, generator=seeded(5)), first)
    # A generator with the same seed is likely to have drawn x.
    assert not torch.equal(run(scheduler, x, generator=torch.Generator().manual_seed(5)), first)
    scheduler.seed([7, 8])
    pair = run(scheduler, x)
    scheduler.seed([8])
    assert torch.equal(run(scheduler, x[1:]), pair[1:])
    scheduler.seed(None)
    assert not torch.equal(run(scheduler, x), run(scheduler, x))


@pytest.mark.parametrize("wrong", [-1, 2**64, 1.5, "1", [], [1, -1], [None], True])
def test_seeds_that_are_none_are_refused(wrong: Any) -> None:
    scheduler = made(Ancestral)
    scheduler.seed(5)
    expected = run(scheduler, torch.ones(3))
    with pytest.raises((TypeError, ValueError), match="seed"):
        scheduler.seed(wrong)
    assert torch.equal(run(scheduler, torch.ones(3)), expected)


def brownian_run(steps: int, generator: Any = None, seed: Any = None, **options: Any) -> torch.Tensor:
    scheduler = made(Ancestral, steps, noise="brownian", prediction_type="sample", **options)
    scheduler.seed(seed)
    denoiser = kdpm2.zoo.gaussian(0.5, 4)
    x = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 14.6
    for timestep, sigma in zip(scheduler.timesteps, scheduler._table.stage_sigmas, strict=True):
        output = denoiser(x, torch.full((2,), sigma))
        x = scheduler.step(output, timestep, x, generator=generator() if callable(generator) else generator).prev_sample
    return x


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_brownian_noise_makes_one_seed_converge(spacing: str) -> None:
    samples = [brownian_run(steps, seed=[1, 2], timestep_spacing=spacing) for steps in (15, 30, 60, 120)]
    moved = [(b - a).abs().mean().item() for a, b in pairwise(samples)]
    assert moved[2] < moved[1] < moved[0]
    assert moved[2] < 0.08
    other = brownian_run(15, seed=[3, 4], timestep_spacing=spacing)
    assert (other - samples[0]).abs().mean() > 0.3


def test_brownian_seeds_come_from_the_generators() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    first = brownian_run(5, generator=generators)
    again = brownian_run(5, generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)])
    assert torch.equal(first, again)
    # Another number of steps draws as much from the generator: one seed.
    states = []
    for steps in (5, 9):
        generator = torch.Generator().manual_seed(1)
        brownian_run(steps, generator=generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("stage", [1, 3, 5])
@pytest.mark.parametrize("wrong", [5, [None], [torch.Generator()] * 2], ids=["number", "none", "two for three"])
def test_a_wrong_generator_is_refused_when_the_path_is_there_too(wrong: Any, stage: int) -> None:
    scheduler = made(Ancestral, noise="brownian")
    x = run(scheduler, torch.randn(3, 4), slice(stage))
    with pytest.raises((TypeError, ValueError), match="generator must be"):
        scheduler.step(x, scheduler.timesteps[stage], x, generator=wrong)


def test_brownian_noise_is_normal() -> None:
    path = Brownian(torch.zeros(50_000), 0.0, 14.6, 1)
    one, two = path(14.6, 3.0), path(3.0, 0.5)
    for noise in (one, two):
        assert noise.mean().item() == pytest.approx(0, abs=0.02)
        assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert (one * two).mean().item() == pytest.approx(0, abs=0.02)
    assert path(14.6, 3.0).dtype == torch.float32
    assert Brownian(torch.zeros(3, dtype=torch.bfloat16), 0.0, 1.0, 1)(1.0, 0.5).dtype == torch.bfloat16


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_zero_terminal_snr_starts_from_pure_noise(cls: Any, spacing: str) -> None:
    options: dict[str, Any] = {
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": spacing,
    }
    scheduler = made(cls, 10, beta_schedule="scaled_linear", **options)
    noise = torch.randn(4, 5)
    x = noise * scheduler.init_noise_sigma
    assert scheduler.timesteps[0] == 999
    torch.testing.assert_close(scheduler.scale_model_input(x, scheduler.timesteps[0]), noise, rtol=1e-6, atol=1e-6)
    # The network's v for clean data of 0.3 everywhere: exactly what a perfect one says.
    for timestep, sigma in zip(scheduler.timesteps, scheduler._table.stage_sigmas, strict=True):
        alpha = 1 / math.hypot(1, sigma)
        v = alpha * (x - 0.3) / sigma - sigma * alpha * 0.3
        x = scheduler.step(v, timestep, x).prev_sample
        assert x.isfinite().all()
    torch.testing.assert_close(x, torch.full_like(x, 0.3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("cls", BOTH)
def test_a_run_to_the_smallest_sigma(cls: Any) -> None:
    scheduler = made(cls, 5, final_sigmas_type="sigma_min", use_karras_sigmas=True)
    assert len(scheduler.timesteps) == 10
    assert scheduler.num_inference_steps == 5
    x = torch.randn(100_000, 1, dtype=torch.float64) * scheduler._table.sigmas[0]
    denoiser = kdpm2.zoo.gaussian(0.5)
    scheduler.register_to_config(prediction_type="sample")
    scheduler.set_timesteps(40)
    for timestep, sigma in zip(scheduler.timesteps, scheduler._table.stage_sigmas, strict=True):
        x = scheduler.step(denoiser(x, torch.full((len(x),), sigma)), timestep, x).prev_sample
    assert scheduler.step_index is None
    assert x.var().item() == pytest.approx(0.25 + scheduler._table.sigmas[-1] ** 2, rel=0.03)


@pytest.mark.parametrize("cls", BOTH)
def test_sigmas_and_timesteps_of_ones_own(cls: Any) -> None:
    scheduler = cls()
    for name in ("StableDiffusionSigmas", "StableDiffusionXLSigmas"):
        scheduler.set_timesteps(sigmas=AysSchedules[name])
        assert len(scheduler.timesteps) == 19
        assert scheduler.num_inference_steps == 10
        expected = torch.tensor(AysSchedules[name], dtype=torch.float32)
        assert torch.equal(scheduler.sigmas[:-1].unique(), expected.unique())
        without_zero = cls()
        without_zero.set_timesteps(sigmas=AysSchedules[name][:-1], num_inference_steps=10)
        assert torch.equal(without_zero.timesteps, scheduler.timesteps)
    for name in ("StableDiffusionTimesteps", "StableDiffusionXLTimesteps"):
        scheduler.set_timesteps(timesteps=AysSchedules[name], device="cpu")
        assert scheduler.timesteps[::2].tolist() == AysSchedules[name]
        reference = diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012)
        reference.set_timesteps(timesteps=AysSchedules[name])
        torch.testing.assert_close(scheduler.sigmas[:-1].unique(), reference.sigmas.unique(), rtol=1e-5, atol=0)


OTHERS: list[tuple[Any, dict[str, Any]]] = [
    (EULER, {}),
    (EULER, {"shift": 3.0, "use_karras_sigmas": True}),
    (diffusers.FlowMatchHeunDiscreteScheduler, {"shift": 2.0}),
    (diffusers.EDMEulerScheduler, {}),
    (diffusers.EDMEulerScheduler, {"prediction_type": "v_prediction", "sigma_data": 1.0, "sigma_max": 120.0}),
    (diffusers.EDMEulerScheduler, {"sigma_schedule": "exponential", "final_sigmas_type": "sigma_min"}),
    (diffusers.EDMDPMSolverMultistepScheduler, {"sigma_min": 0.01, "rho": 5.0}),
]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    "theirs",
    [other(**options) for other, options in OTHERS if takes(other, *options)],
    ids=lambda theirs: type(theirs).__name__,
)
def test_the_schedulers_of_other_models(cls: Any, theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    theirs.set_timesteps(7)
    for ours in (cls.from_config(theirs.config), cls.from_pretrained(tmp_path)):
        ours.set_timesteps(7)
        expected = theirs.sigmas if "Heun" not in type(theirs).__name__ else theirs.sigmas[[0, *range(1, 14, 2)]]
        if theirs.config.get("final_sigmas_type") == "sigma_min":  # where the other solver ends is not taken over
            expected = torch.cat([expected[:-1], torch.zeros(1)])
        torch.testing.assert_close(torch.tensor(ours._table.sigmas).float(), expected, rtol=1e-5, atol=1e-7)
        if "EDM" in type(theirs).__name__:
            torch.testing.assert_close(ours.init_noise_sigma.item(), theirs.init_noise_sigma, rtol=1e-6, atol=0)
            x, output = torch.randn(2, 3), torch.randn(2, 3)
            first = ours.timesteps[0]
            expected = theirs.scale_model_input(x, theirs.timesteps[0])
            torch.testing.assert_close(ours.scale_model_input(x, first), expected)
            clean = ours.step(output, first, x).pred_original_sample
            torch.testing.assert_close(clean, theirs.precondition_outputs(x, output, theirs.sigmas[0]))
        ours.save_pretrained(tmp_path / "ours")
        again = cls.from_pretrained(tmp_path / "ours")
        again.set_timesteps(7)
        assert torch.equal(again.timesteps, ours.timesteps)
        back = type(theirs).from_config(ours.config)
        for name in ("shift", "sigma_data", "sigma_max", "prediction_type"):
            if name in theirs.config:
                assert back.config[name] == theirs.config[name]


SHIFTED: list[dict[str, Any]] = [
    {},
    {"shift_terminal": 0.1},
    {"time_shift_type": "linear"},
    {"shift_terminal": 0.1, "time_shift_type": "linear"},
]


@pytest.mark.parametrize("options", [options for options in SHIFTED if takes(EULER, *options)], ids=str)
def test_dynamic_shifting(options: dict[str, Any]) -> None:
    theirs = EULER(use_dynamic_shifting=True, **options)
    ours = Ancestral.from_config(theirs.config)
    assert ours.config.base_shift == 0.5
    even = np.linspace(1, 1 / 9, 9)
    theirs.set_timesteps(sigmas=even, mu=0.9)
    ours.set_timesteps(sigmas=even, mu=0.9)
    np.testing.assert_allclose(ours._table.sigmas, theirs.sigmas.numpy(), rtol=1e-5, atol=1e-7)
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(9, mu=0.9)
    np.testing.assert_allclose(ours._table.sigmas, theirs.sigmas.numpy(), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="mu must be a number with use_dynamic_shifting=True, got None"):
        ours.set_timesteps(9)
    with pytest.raises(ValueError, match=r"mu|exp"):
        ours.set_timesteps(9, mu=-1.0 if "time_shift_type" in options else 1e9)


if takes(diffusers.UniPCMultistepScheduler, "use_flow_sigmas"):  # from 0.32 on

    def test_a_multistep_solvers_flow() -> None:
        theirs = diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, **FLOW)
        theirs.set_timesteps(20)
        for config in (theirs.config, Ancestral.from_config(theirs.config).config):
            ours = Discrete.from_config(config)
            ours.set_timesteps(20)
            np.testing.assert_allclose(ours._table.sigmas, theirs.sigmas.numpy(), rtol=0, atol=3e-3)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("stage", [0, 1, 4, 7])
def test_noise_is_added_to_a_flow_by_mixing(cls: Any, stage: int) -> None:
    scheduler = made(cls, **FLOW, flow_shift=3.0)
    clean, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    sigma = torch.tensor(scheduler._table.stage_sigmas[stage], dtype=torch.float32)
    expected = (1 - sigma) * clean + sigma * noise
    timestep = scheduler.timesteps[stage : stage + 1].clone()
    torch.testing.assert_close(scheduler.scale_noise(clean, timestep, noise), expected)
    torch.testing.assert_close(scheduler.add_noise(clean, noise, timestep), expected)
    assert scheduler.init_noise_sigma == 1
    assert torch.equal(scheduler.scale_model_input(clean, timestep[0]), clean)


@pytest.mark.parametrize("name", ["betas", "alphas_cumprod", "log_sigmas"])
def test_what_a_flow_does_not_have(name: str) -> None:
    with pytest.raises(AttributeError, match=f"{name}|alphas"):
        getattr(made(Ancestral, **FLOW), name)
    assert not hasattr(made(Ancestral, sigma_data=0.5), name)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "eta": (lambda: Ancestral(eta=-0.1), "eta must be a number from 0 to 1, got -0.1"),
    "s_noise": (lambda: Discrete(s_noise=math.nan), "s_noise must be a number from 0 to 1000, got nan"),
    "noise": (lambda: Ancestral(noise="pink"), "noise must be one of 'gaussian', 'brownian', 'philox', .* got 'pink'"),
    "s_churn": (lambda: Discrete(s_churn=-1.0), "s_churn must be a number from 0 to inf, got -1"),
    "flow": (
        lambda: Ancestral(use_flow_sigmas=True),
        "prediction_type must be one of 'flow_prediction', 'sample' for a flow model, got 'epsilon'",
    ),
    "shift": (
        lambda: Ancestral(flow_shift=3.0),
        "flow_shift, .* must be 1, False and None for a model that is no flow",
    ),
    "dynamic": (lambda: Ancestral(use_dynamic_shifting=True), "for a model that is no flow"),
    "both": (lambda: Ancestral(sigma_data=0.5, **FLOW), "sigma_data must be None for a flow model, got 0.5"),
    "type": (lambda: Ancestral(timestep_type="real"), "timestep_type must be one of 'discrete', 'continuous'"),
    "two curves": (
        lambda: Ancestral(use_lu_lambdas=True, ays_sigmas="sd15"),
        "only one of .* may be set, got use_lu_lambdas, ays_sigmas",
    ),
    "ays": (lambda: Ancestral(ays_sigmas="sd3"), "ays_sigmas must be one of 'sd15', 'sdxl', 'svd', got 'sd3'"),
    "inverted": (
        lambda: Ancestral.from_config({"_class_name": EULER.__name__, "shift": 1.0, "invert_sigmas": True}),
        "invert_sigmas must be False",
    ),
    "no steps": (lambda: Ancestral().set_timesteps(), "num_inference_steps must be an integer at least 1 without"),
    "sigmas and timesteps": (
        lambda: Ancestral().set_timesteps(sigmas=[1.0], timesteps=[500, 400]),
        "timesteps must be as many as sigmas, 1 above 0, got 2",
    ),
    "limited": (
        lambda: Ancestral().set_timesteps(num_train_timesteps=10, sigmas=[2.0, 1.0]),
        "num_train_timesteps must be None with sigmas or timesteps of one's own, got 10",
    ),
    "scalar": (
        lambda: Ancestral().set_timesteps(sigmas=np.array(5.0)),
        "sigmas must hold at least one number in one dimension",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_wrong_options_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize("options", [{}, {"s_churn": 40.0}, {"final_sigmas_type": "sigma_min"}], ids=str)
def test_training_noises_every_timestep_whatever_runs_do(options: dict[str, Any]) -> None:
    scheduler = Discrete(**options)
    clean, noise = torch.zeros(1000, 2), torch.ones(1000, 2)
    noisy = scheduler.add_noise(clean, noise, torch.arange(1000))
    torch.testing.assert_close(noisy[:, 0].log(), Discrete().log_sigmas)


def test_an_order_that_pipelines_count_with() -> None:
    scheduler = Ancestral()
    scheduler.set_timesteps(sigmas=[10.0, 5.0, 1.0])
    assert scheduler.order == 1
    scheduler.set_timesteps(3)
    assert scheduler.order == 2


def test_a_shift_in_the_words_of_diffusers() -> None:
    theirs = EULER(shift=3.0)
    assert Ancestral.from_config(theirs.config, shift=7.0).config.flow_shift == 7
    ours = Ancestral.from_config(theirs.config, flow_shift=5.0)
    for config in (ours.config, Discrete.from_config(ours.config).config, Ancestral(flow_shift=5.0, **FLOW).config):
        assert type(theirs).from_config(config).config.shift == 5
    assert Discrete.from_config(ours.config, flow_shift=2.0).config.shift == 2


def test_configurations_that_say_more_than_they_mean() -> None:
    euler = diffusers.EulerDiscreteScheduler(sigma_min=0.002, sigma_max=700.0)
    plain, curved = (
        made(Ancestral.from_config, 6, config=euler.config, **k) for k in ({}, {"use_karras_sigmas": True})
    )
    assert plain.sigmas[0] == made(Ancestral, 6, beta_start=0.0001, beta_end=0.02).sigmas[0]
    assert curved.sigmas[0] == 700
    flow = EULER()
    flow.register_to_config(
        shift_terminal=0.0, sigma_max=80.0, sigma_min=0.002, sigma_data=1.0, final_sigmas_type="sigma_min"
    )
    with pytest.raises(ValueError, match=r"sigma_max must be at most 1 for a flow model.*got 80"):
        Ancestral.from_config(flow.config)
    unipc, shifted = diffusers.UniPCMultistepScheduler, {"use_flow_sigmas": True, "flow_shift": 3.0}
    wan = unipc(use_karras_sigmas=True, **FLOW, **(shifted if takes(unipc, *shifted) else {}))
    ours = made(Ancestral.from_config, 6, config={**wan.config, **shifted})
    assert ours._table.sigmas[-2] < 0.02


@pytest.mark.parametrize("name", ["CosineDPMSolverMultistepScheduler", "CMStochasticIterativeScheduler"])
def test_schedulers_of_models_that_these_samplers_do_not_know(name: str) -> None:
    with pytest.raises(ValueError, match="config must be of a scheduler whose models these samplers know"):
        Ancestral.from_config(getattr(diffusers, name)().config)


@pytest.mark.parametrize("cls", BOTH)
def test_a_run_without_gradients_leaves_the_next_one_alone(cls: Any) -> None:
    scheduler = made(cls)
    with torch.inference_mode():
        scheduler.scale_model_input(torch.ones(3), scheduler.timesteps[0])
    scheduler.set_begin_index(0)
    scheduler._step_index = None
    x = torch.ones(3, requires_grad=True)
    scheduler.scale_model_input(x, scheduler.timesteps[0]).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("options", [{"discard_next_to_last_sigma": True}, {"final_sigmas_type": "sigma_min"}], ids=str)
@pytest.mark.parametrize("cls", BOTH)
def test_an_image_may_begin_at_every_step(cls: Any, options: dict[str, Any]) -> None:
    scheduler = made(cls, 10, **options)
    for step in range(10):
        scheduler.set_begin_index(2 * step)
        assert scheduler.state_in_first_order
        assert scheduler._table.stage_sigmas[2 * step] == scheduler._table.sigmas[step]


def test_a_misspelled_option_is_said_to_be_ignored(caplog: pytest.LogCaptureFixture) -> None:
    diffusers.utils.logging.enable_propagation()
    scheduler = Discrete.from_config(Ancestral().config, eta=0.5, use_karas_sigmas=True)
    diffusers.utils.logging.disable_propagation()
    assert "KDPM2DiscreteScheduler has no option eta, use_karas_sigmas: ignored" in caplog.text
    assert not scheduler.config.use_karras_sigmas
    with pytest.raises(TypeError, match="use_karas_sigmas"):
        Discrete(use_karas_sigmas=True)


@pytest.mark.parametrize("cls", [Ancestral, Discrete])
def test_a_table_of_another_solver_is_run_as_it_is(cls: Any) -> None:
    schedule = kdpm2.noise_schedule.discrete(beta_start=0.00085, beta_end=0.012)
    sigmas = np.array([10.0, 4.0, 1.0, 0.2, 0.0])
    steps = kdpm2.spacing.given(schedule, sigmas)
    # Euler's method: one stage a step, x + (σ' - σ)·m for a network that predicts noise.
    one = kdpm2.table.dpm2(schedule, steps, eta=0.0)
    first = one.first_stage
    rows = one.rows[first].copy()
    rows[:, [1, 2, 3, 4]] = np.stack([np.ones(4), np.diff(sigmas), np.zeros(4), np.zeros(4)], axis=1)
    euler = replace(
        one,
        step=np.arange(4),
        starts_step=np.full(4, True),
        stage_sigmas=one.stage_sigmas[first],
        stage_timesteps=one.stage_timesteps[first],
        rows=rows,
        entry_rows=rows,
    )
    scheduler = cls()
    scheduler.set_timesteps(sigmas=euler)
    assert scheduler.timesteps.tolist() == pytest.approx(euler.stage_timesteps.tolist())
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10
    sample, expected = x, x
    for timestep, sigma, following in zip(scheduler.timesteps.tolist(), sigmas[:-1], sigmas[1:], strict=True):
        sample = scheduler.step(scheduler.scale_model_input(sample, timestep).sin(), timestep, sample)[0]
        expected = expected + (following - sigma) * (expected / np.sqrt(sigma**2 + 1)).sin()
    torch.testing.assert_close(sample, expected, rtol=1e-9, atol=1e-9)
