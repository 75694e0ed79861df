"""Betas, sigmas and timesteps are those of torch and diffusers, where theirs are right."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import AysSchedules

from kdpm2 import curves, noise_schedule, spacing
from tests.versions import takes

SCHEDULE = noise_schedule.discrete()
EDM = noise_schedule.EDM()
FLOW = diffusers.FlowMatchEulerDiscreteScheduler
FLOW_CURVES = [None, *(curve for curve in ("karras", "exponential", "beta") if takes(FLOW, f"use_{curve}_sigmas"))]
FLOW_ENDS: list[dict[str, Any]] = [{}, *([{"shift_terminal": 0.1}] if takes(FLOW, "shift_terminal") else [])]


@pytest.mark.parametrize(("start", "end", "count"), [(0.00085, 0.012, 1000), (1e-4, 0.02, 1000), (0.01, 0.3, 50)])
def test_betas_are_those_of_torch_in_float32(start: float, end: float, count: int) -> None:
    linear = torch.linspace(start, end, count, dtype=torch.float32)
    scaled = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    for name, betas in {"linear": linear, "scaled_linear": scaled}.items():
        schedule = noise_schedule.discrete(count, start, end, name)
        np.testing.assert_allclose(schedule.betas, betas.numpy(), rtol=1e-6)
        np.testing.assert_allclose(schedule.alphas_cumprod, torch.cumprod(1 - betas, 0).numpy(), rtol=1e-6)


def test_trained_betas_may_be_a_tensor() -> None:
    betas = [0.1, 0.2, 0.3]
    schedule = noise_schedule.discrete(3, trained_betas=torch.tensor(betas))  # type: ignore[arg-type]  # it is no list
    np.testing.assert_array_equal(schedule.betas, np.array(betas, dtype=np.float32))


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_zero_terminal_snr_is_that_of_diffusers(name: str) -> None:
    schedule = noise_schedule.discrete(beta_schedule=name, rescale_betas_zero_snr=True)
    reference = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule=name, rescale_betas_zero_snr=True
    )
    np.testing.assert_allclose(schedule.alphas_cumprod, reference.alphas_cumprod.numpy(), rtol=2e-3, atol=1e-7)
    assert schedule.sigma_max == pytest.approx(4096, rel=1e-6)
    # The first sigma stays where it was, the last but one carries next to no signal.
    assert schedule.sigma_min == pytest.approx(noise_schedule.discrete(beta_schedule=name).sigma_min, rel=1e-3)
    assert np.all(np.diff(schedule.sigmas) > 0)


@pytest.mark.parametrize("curve", FLOW_CURVES)
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("end", FLOW_ENDS, ids=str)
def test_flow_sigmas_are_those_of_diffusers(curve: str | None, shift: float, end: dict[str, Any]) -> None:
    reference = FLOW(shift=shift, **end, **({f"use_{curve}_sigmas": True} if curve else {}))
    schedule = noise_schedule.RectifiedFlow(shift=shift)
    for count in (1, 2, 7, 28):
        if count == 1 and (end or curve):
            continue  # divided by 0 in diffusers, or joined to nothing
        reference.set_timesteps(count)
        ours = spacing.steps(schedule, count, sigma_curve=curve, **end)
        np.testing.assert_allclose(ours.sigmas, reference.sigmas.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ours.timesteps, reference.timesteps.numpy(), rtol=1e-5)
        given = np.linspace(1, 1 / count, count)
        reference.set_timesteps(sigmas=given)
        custom = spacing.custom(schedule, given, sigma_curve=curve, **end)
        np.testing.assert_allclose(custom.sigmas, reference.sigmas.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("curve", ["karras", "exponential"])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_edm_sigmas_are_those_of_diffusers(curve: str, final: str) -> None:
    reference = diffusers.EDMDPMSolverMultistepScheduler(sigma_schedule=curve)
    reference.set_timesteps(9 if final == "zero" else 10)
    sigmas, t = spacing.steps(EDM, 9, sigma_curve=curve, final_sigmas_type=final)
    expected = reference.sigmas.numpy() if final == "zero" else reference.sigmas.numpy()[:-1]
    np.testing.assert_allclose(sigmas, expected, rtol=1e-5)
    np.testing.assert_allclose(t, reference.timesteps.numpy()[: len(t)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", curves.ALIGN_YOUR_STEPS)
def test_align_your_steps_in_ten_steps_are_the_tables(model: str) -> None:
    tables = {"sd15": "StableDiffusionSigmas", "sdxl": "StableDiffusionXLSigmas", "svd": "StableDiffusionVideoSigmas"}
    published = AysSchedules[tables[model]]
    np.testing.assert_allclose(spacing.steps(SCHEDULE, 10, sigma_curve=f"ays_{model}").sigmas, published)
    np.testing.assert_array_equal(spacing.custom(SCHEDULE, published).sigmas, published)
    twenty = spacing.steps(SCHEDULE, 20, sigma_curve=f"ays_{model}").sigmas
    np.testing.assert_allclose(twenty[::2], published)
    np.testing.assert_allclose(twenty[1:-2:2], np.sqrt(np.array(published[:-2]) * published[1:-1]))


def test_uniform_lambda_sigmas_are_those_of_diffusers() -> None:
    sigmas = spacing.steps(SCHEDULE, 6, sigma_curve="lu").sigmas[:-1]
    reference = diffusers.DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, use_lu_lambdas=True)
    reference.set_timesteps(6)
    np.testing.assert_allclose(sigmas, reference.sigmas.numpy()[:-1], rtol=1e-4)
