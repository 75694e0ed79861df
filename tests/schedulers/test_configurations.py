"""The configuration is what counts, when it is read; another scheduler's says what the model is, and no more."""

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import kdpm2
from tests import oracle
from tests.versions import takes

CLASSES = [kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler]
ANCESTRAL, DISCRETE = CLASSES
FLOW: dict[str, Any] = {"prediction_type": "flow_prediction"}
LATENT: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
each_class = pytest.mark.parametrize("cls", CLASSES)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if "kdpm2" in record.name]


def made(cls: Any, steps: int = 5, **options: Any) -> Any:
    scheduler = cls(**options)
    scheduler.set_timesteps(steps)
    return scheduler


def by_attribute(scheduler: Any, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(scheduler.config, name, value)


def by_registering(scheduler: Any, **changes: Any) -> None:
    scheduler.register_to_config(**changes)


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"use_karras_sigmas": True}),
    ({}, {"use_karras_sigmas": True, "sigma_max": 10.0, "rho": 5.0}),
    ({}, {"ays_sigmas": "sdxl"}),
    ({}, {"timestep_spacing": "trailing"}),
    ({}, {"timestep_spacing": "leading", "steps_offset": 1}),
    ({}, {"prediction_type": "v_prediction"}),
    ({}, {"beta_end": 0.02}),
    ({}, {"beta_schedule": "sigmoid", "num_train_timesteps": 500}),
    ({}, {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3}),
    ({}, {"rescale_betas_zero_snr": True}),
    ({}, {"snr_shift_scale": 3.0}),
    ({}, {"s_noise": 1.1}),
    ({}, {"clip_sample": True}),
    ({}, {"final_sigmas_type": "sigma_min"}),
    ({}, FLOW),
    (FLOW, {"flow_shift": 6.9}),
    ({**FLOW, "flow_shift": 3.0}, {"shift": 5.0}),
    (FLOW, {"shift_terminal": 0.1}),
    ({"sigma_data": 0.5}, {"sigma_max": 20.0}),
]


@each_class
@pytest.mark.parametrize("change", [by_attribute, by_registering])
@pytest.mark.parametrize(("options", "changes"), CHANGES, ids=str)
def test_a_change_counts_from_the_next_schedule_on(
    cls: Any, change: Any, options: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    scheduler = made(cls, **options)
    if "beta_end" in changes:
        scheduler.alphas_cumprod[0]  # what was shown of the model is not kept
    change(scheduler, **changes)
    scheduler.set_timesteps(5)
    words = {"flow_shift" if name == "shift" else name: value for name, value in changes.items()}
    expected = made(cls, **{**options, **words})
    assert torch.equal(scheduler.timesteps, expected.timesteps)
    np.testing.assert_array_equal(scheduler.table.rows, expected.table.rows)
    assert scheduler.init_noise_sigma == expected.init_noise_sigma
    x, output = torch.randn(2, 3), torch.randn(2, 3)
    ours, theirs = (each.step(output, each.timesteps[0], x).pred_original_sample for each in (scheduler, expected))
    assert torch.equal(ours, theirs)
    # What is saved, and handed on, is what was changed.
    scheduler.save_pretrained(tmp_path)
    for again in (
        cls.from_pretrained(tmp_path),
        cls.from_config(scheduler.config),
        pickle.loads(pickle.dumps(scheduler)),
    ):
        again.set_timesteps(5)
        np.testing.assert_array_equal(again.table.rows, expected.table.rows)


@each_class
def test_an_edit_is_saved_and_handed_on_before_it_takes_effect(cls: Any, tmp_path: Path) -> None:
    scheduler = cls(**LATENT)
    scheduler.config.use_karras_sigmas = True
    assert cls.from_config(scheduler.config).config.use_karras_sigmas
    scheduler.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["use_karras_sigmas"] is True


@each_class
def test_what_the_network_predicts_counts_from_the_next_run_on(cls: Any) -> None:
    """As in diffusers' classes, which read it at every step."""
    scheduler, theirs = made(cls), getattr(diffusers, cls.__name__)()
    theirs.set_timesteps(5)
    x, output = torch.randn(2, 3) * 10, torch.randn(2, 3)
    samples = []
    for each in (scheduler, theirs):
        each.register_to_config(prediction_type="v_prediction")
        each.scale_model_input(x, each.timesteps[0])
        samples.append(each.step(output, each.timesteps[0], x).prev_sample)
    torch.testing.assert_close(samples[0], samples[1], rtol=1e-4, atol=1e-5)


@each_class
def test_a_change_that_cannot_be_used_is_refused_and_the_run_goes_on(cls: Any) -> None:
    scheduler = made(cls)
    timesteps = scheduler.timesteps
    x = scheduler.step(torch.ones(2), timesteps[0], torch.ones(2)).prev_sample
    scheduler.config.beta_schedule = "cubic"
    with pytest.raises(ValueError, match=r"beta_schedule must be one of 'linear', 'scaled_linear', .* got 'cubic'"):
        scheduler.set_timesteps(7)
    for t in timesteps[1:]:
        x = scheduler.step(torch.ones(2), t, x).prev_sample
    scheduler.config.beta_schedule = "linear"
    scheduler.set_timesteps(7)
    assert len(scheduler.timesteps) == 13


# --- The models that other schedulers were made for


def trained(config: dict[str, Any]) -> Any:
    """σ at each trained timestep, from the formulas, in float64."""
    count, kind = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    t = np.arange(count + 1) / count
    if kind == "linear":
        betas = np.linspace(start, end, count)
    elif kind == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, count) ** 2
    elif kind == "sigmoid":
        betas = (end - start) / (1 + np.exp(-np.linspace(-6, 6, count))) + start
    else:
        half = np.abs(0.5 - t)
        ratio = np.exp(-0.5 * np.copysign(1, 0.5 - t) * np.log(1 - 2 * half + 1e-6))
        bar = {
            "squaredcos_cap_v2": np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2,
            "exp": np.exp(-12 * t),
            "laplace": np.sqrt(ratio / (1 + ratio)),
        }[kind]
        betas = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    product = np.cumprod(1 - betas)
    scale = config.get("snr_shift_scale", 1.0)
    product = product / (scale + (1 - scale) * product)
    return np.sqrt((1 - product) / product)


@each_class
@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "exp", "laplace"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_every_beta_schedule_is_that_of_its_formula(cls: Any, kind: str, scale: float) -> None:
    config = {"beta_schedule": kind, "beta_start": 1e-4, "beta_end": 0.02, "snr_shift_scale": scale}
    expected = trained(config)
    np.testing.assert_allclose(cls(**config).log_sigmas.numpy(), np.log(expected), rtol=1e-3, atol=1e-3)
    if kind == "sigmoid":
        theirs = diffusers.DDPMScheduler(beta_schedule=kind)
        torch.testing.assert_close(cls(beta_schedule=kind, beta_start=1e-4, beta_end=0.02).betas, theirs.betas)


@pytest.mark.parametrize("name", ["exp", "laplace"])
def test_schedules_of_alpha_bar_are_those_of_diffusers(name: str) -> None:
    from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar

    if name == "laplace" and "laplace" not in (betas_for_alpha_bar.__doc__ or "") + str(
        betas_for_alpha_bar.__code__.co_consts
    ):
        return  # an older diffusers
    torch.testing.assert_close(
        ANCESTRAL(beta_schedule=name).betas, betas_for_alpha_bar(1000, alpha_transform_type=name)
    )


@each_class
@pytest.mark.parametrize("door", ["in memory", "its file", "its file, with what differs from the default alone"])
@pytest.mark.parametrize("source", ["DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "PNDMScheduler"])
def test_the_betas_that_a_class_has_by_default_are_the_models(cls: Any, source: str, door: str, tmp_path: Path) -> None:
    theirs = getattr(diffusers, source)(num_train_timesteps=1000)
    if door == "in memory":
        ours = cls.from_config(theirs.config)
    else:
        theirs.save_pretrained(tmp_path)
        if "alone" in door:
            (tmp_path / "scheduler_config.json").write_text(json.dumps({"_class_name": source}))
        ours = cls.from_pretrained(tmp_path)
    ours.set_timesteps(10)
    levels = trained({})
    for stage in range(0, 19, 2):
        timestep = float(ours.timesteps[stage])
        assert float(ours.sigmas[stage]) == pytest.approx(np.interp(timestep, range(1000), levels), rel=1e-3)


@each_class
def test_the_ends_that_a_configuration_holds_are_those_of_a_curve_chosen_later(cls: Any) -> None:
    euler = diffusers.EulerDiscreteScheduler(
        **LATENT, sigma_min=0.002, sigma_max=700.0, timestep_type="continuous", prediction_type="v_prediction"
    )
    u = np.linspace(0, 1, 5)
    expected = (700 ** (1 / 7) + u * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7
    later = cls.from_config(euler.config)
    later.config.use_karras_sigmas = True
    for ours in (
        cls.from_config(euler.config, use_karras_sigmas=True),
        cls.from_config({**euler.config, "use_karras_sigmas": True}),
        later,
    ):
        ours.set_timesteps(5)
        np.testing.assert_allclose(ours.table.sigmas[:5], expected, rtol=1e-6)


@each_class
@pytest.mark.parametrize("keyword", [{}, {"final_sigmas_type": "sigma_min"}])
def test_where_another_solver_ends_is_not_ours(cls: Any, keyword: dict[str, Any]) -> None:
    if not takes(diffusers.DPMSolverMultistepScheduler, "final_sigmas_type"):
        return
    theirs = diffusers.DPMSolverMultistepScheduler(**LATENT, use_karras_sigmas=True, final_sigmas_type="sigma_min")
    for config in (theirs.config, json.loads(theirs.to_json_string())):
        ours = cls.from_config(config, **keyword)
        ours.set_timesteps(5)
        assert (float(ours.sigmas[-1]) == 0) == (keyword == {})
    # Ours is ours, in memory and from its file.
    own = cls(final_sigmas_type="sigma_min")
    for config in (own.config, json.loads(own.to_json_string()), {"final_sigmas_type": "sigma_min"}):
        assert cls.from_config(config).config.final_sigmas_type == "sigma_min"


@each_class
@pytest.mark.parametrize("option", [{"flow_shift": 3.0}, {"use_dynamic_shifting": True}], ids=str)
def test_the_options_of_flows_that_multistep_solvers_hold_for_every_model(cls: Any, option: dict[str, Any]) -> None:
    ours = cls.from_config({"_class_name": "UniPCMultistepScheduler", **LATENT, **option})
    ours.set_timesteps(5)
    assert ours.sigmas[0] == made(cls, **LATENT).sigmas[0]


def test_the_eta_of_another_solver_is_not_ours(tmp_path: Path) -> None:
    theirs = diffusers.RePaintScheduler()
    theirs.save_pretrained(tmp_path)
    for ours in (ANCESTRAL.from_config(theirs.config), ANCESTRAL.from_pretrained(tmp_path)):
        assert ours.config.eta == 1


@each_class
@pytest.mark.parametrize("door", ["in memory", "its file"])
def test_options_that_are_left_out_are_warned_of_once(cls: Any, warnings: Any, door: str) -> None:
    theirs = diffusers.DDPMScheduler(thresholding=True, clip_sample_range=1.5)
    config = theirs.config if door == "in memory" else json.loads(theirs.to_json_string())
    ours = cls.from_config(config)
    ours.set_timesteps(5)
    assert not ours.config.clip_sample
    assert not ours.config.thresholding
    for name in ("clip_sample=True", "thresholding=True"):
        assert sum(f"{name} of DDPMScheduler is left out" in each for each in warnings()) == 1
    assert len(warnings()) == 2
    kept = cls.from_config(config, clip_sample=True, thresholding=False)
    assert kept.config.clip_sample
    assert kept.config.clip_sample_range == 1.5
    assert len(warnings()) == 2
    cls.from_config(diffusers.DDPMScheduler(clip_sample=False).config)
    assert len(warnings()) == 2


@each_class
def test_more_options_that_are_left_out(cls: Any, warnings: Any) -> None:
    cls.from_config(diffusers.EulerDiscreteScheduler(interpolation_type="log_linear").config)
    cls.from_config(diffusers.DPMSolverMultistepScheduler(lambda_min_clipped=-5.1).config)
    if takes(diffusers.FlowMatchEulerDiscreteScheduler, "stochastic_sampling"):
        cls.from_config(diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True).config)
        assert "stochastic_sampling=True of FlowMatchEulerDiscreteScheduler is left out" in warnings()[2]
    assert "interpolation_type=log_linear of EulerDiscreteScheduler is left out" in warnings()[0]
    assert "lambda_min_clipped=-5.1 of DPMSolverMultistepScheduler is left out" in warnings()[1]


UNKNOWN: dict[str, dict[str, Any]] = {
    "Würstchen": {"_class_name": "DDPMWuerstchenScheduler", "s": 0.008, "scaler": 1.0},
    "MiniMax-H3": {"_class_name": "MiniMaxH3Scheduler", "shift": 12.0},
    "IPNDM": {"_class_name": "IPNDMScheduler", "num_train_timesteps": 1000, "trained_betas": None},
    "VQ-Diffusion": {"_class_name": "VQDiffusionScheduler", "num_vec_classes": 4097, "num_train_timesteps": 100},
    "aMUSEd": {"_class_name": "AmusedScheduler", "mask_token_id": 8255, "masking_schedule": "cosine"},
    "ScoreSdeVp": {"_class_name": "ScoreSdeVpScheduler", "beta_max": 20, "beta_min": 0.1, "sampling_eps": 1e-3},
    "ScoreSdeVe": {"_class_name": "ScoreSdeVeScheduler", "sigma_max": 1348.0, "sigma_min": 0.01, "snr": 0.15},
    "consistency": {"_class_name": "CMStochasticIterativeScheduler", "sigma_data": 0.5, "sigma_max": 80.0, "rho": 7.0},
    "Cosmos-Predict2": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.0, "sigma_max": 80.0},
    "Mochi": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.0, "invert_sigmas": True},
    "somebody's flow": {"_class_name": "SomebodysFlowScheduler", "num_train_timesteps": 1000, "shift": 5.0},
    "somebody's": {"_class_name": "SomebodysScheduler", "num_train_timesteps": 1000},
    "no class": {"speed": 5.0},
}


@each_class
@pytest.mark.parametrize("config", UNKNOWN.values(), ids=UNKNOWN)
def test_a_configuration_for_other_models_is_refused_by_its_class_or_keys(cls: Any, config: dict[str, Any]) -> None:
    who = config.get("_class_name", "speed")
    flow = who == "FlowMatchEulerDiscreteScheduler"
    with pytest.raises(ValueError, match="sigma_max|invert_sigmas" if flow else who):
        cls.from_config(config)
    theirs = getattr(diffusers, who, None)
    if theirs is not None and not flow:
        options = {name: value for name, value in config.items() if name != "_class_name"}
        with pytest.raises(ValueError, match="config must be of a scheduler whose models these samplers know"):
            cls.from_config(theirs(**options).config)


@each_class
def test_a_flow_that_a_pipeline_takes_for_edms_is_refused(cls: Any) -> None:
    """Cosmos-Predict2's pipelines register these on the scheduler that they are given."""
    scheduler = cls(**FLOW)
    scheduler.register_to_config(sigma_max=80.0, sigma_min=0.002, sigma_data=1.0, final_sigmas_type="sigma_min")
    with pytest.raises(ValueError, match="sigma_data must be None for a flow model, got 1"):
        scheduler.set_timesteps(5)


@each_class
def test_fewer_betas_than_timesteps_are_as_many_timesteps(cls: Any, warnings: Any) -> None:
    betas = [0.001, 0.01, 0.1]
    scheduler = made(cls, 4, trained_betas=betas)
    torch.testing.assert_close(scheduler.betas, torch.tensor(betas))
    assert scheduler.timesteps[0] == 2
    product = np.prod(1 - np.array(betas))
    assert float(scheduler.sigmas[0]) == pytest.approx(((1 - product) / product) ** 0.5)
    assert len(warnings()) == 1
    assert "trained_betas are 3, so there are 3 timesteps, and not num_train_timesteps=1000" in warnings()[0]
    noisy = scheduler.add_noise(torch.zeros(1, 2), torch.ones(1, 2), scheduler.timesteps[:1])
    torch.testing.assert_close(noisy[0, 0], scheduler.sigmas[0])


@each_class
def test_the_variance_that_some_models_predict_as_well_is_left_out(cls: Any) -> None:
    """DeepFloyd's and unCLIP's networks have twice the channels; their pipelines leave them to the scheduler."""
    theirs = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False)
    scheduler = cls.from_config(theirs.config)
    scheduler.set_timesteps(5)
    x, output = torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4)
    stepped = scheduler.step(output, scheduler.timesteps[0], x).prev_sample
    scheduler.set_timesteps(5)
    assert torch.equal(scheduler.step(output[:, :3], scheduler.timesteps[0], x).prev_sample, stepped)
    with pytest.raises(ValueError, match="model_output must have the shape of sample"):
        cls().step(output, 999, x)


@each_class
def test_timesteps_beside_sigmas(cls: Any) -> None:
    """CogView4 and GLM-Image pass both: timesteps are what the network is told, sigmas where the step goes."""
    scheduler = cls(**FLOW, flow_shift=3.0)
    told = np.linspace(1000, 1, 7)[:6]
    scheduler.set_timesteps(timesteps=told, sigmas=told / 1000)
    shifted = 3 * (told / 1000) / (1 + 2 * told / 1000)
    np.testing.assert_allclose(scheduler.table.sigmas[:-1], shifted, rtol=1e-6)
    np.testing.assert_allclose(scheduler.timesteps[::2].numpy(), told, rtol=1e-6)
    assert np.all(np.diff(scheduler.timesteps.numpy()) <= 0)
    levels = np.append(scheduler.table.stage_sigmas, 0)
    np.testing.assert_allclose(
        np.interp(levels[1::2][:5], shifted[::-1], told[::-1]), scheduler.timesteps[1::2].numpy(), rtol=1e-5
    )
    x = torch.ones(2, 3)
    for t in scheduler.timesteps:
        x = scheduler.step(oracle.network(x, t), t, x).prev_sample
    assert x.isfinite().all()
    one, other = cls(**FLOW), cls(**FLOW)
    one.set_timesteps(3, sigmas=[1.0, 0.6, 0.3], timesteps=None)  # AnyFlow's call
    other.set_timesteps(sigmas=[1.0, 0.6, 0.3])
    assert torch.equal(one.timesteps, other.timesteps)
    assert one.num_inference_steps == 3
