"""From a picture to its noise, and back."""

from typing import Any

import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import KDPM2DiscreteScheduler, noise_schedule, spacing
from kdpm2.inversion import invert

LEVELS = {False: (0.01, 30.0), True: (0.01, 0.995)}


@pytest.mark.parametrize("flow", [False, True])
def test_gaussian_data_go_to_their_noise_at_order_two(flow: bool) -> None:
    """The equation keeps the place of a sample in its distribution: x times the ratio of the standard deviations."""
    denoiser = kdpm2.zoo.gaussian(0.5, flow=flow)
    low, high = LEVELS[flow]
    x = torch.tensor([[1.0], [-0.3]], dtype=torch.float64)
    stds = [np.hypot(0.5 * (1 - level if flow else 1), level) for level in (low, high)]
    errors = []
    for count in (20, 40, 80):
        sigmas = np.append(np.geomspace(high, low, count), 0)
        made = invert(denoiser, x, sigmas)
        errors.append(float((made - x * stds[1] / stds[0]).abs().max()))
    assert errors[0] / errors[1] > 3
    assert errors[1] / errors[2] > 3


def test_digits_come_back_at_order_two() -> None:
    denoiser = kdpm2.denoiser_of(kdpm2.zoo.digits(), labels=[3, 1])
    start = denoiser.schedule.sigma_max * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    x = kdpm2.sample(denoiser, start, spacing.steps(denoiser.schedule, 20, sigma_curve="karras").sigmas, eta=0)
    errors = []
    for count in (10, 20, 40):
        sigmas = spacing.steps(denoiser.schedule, count, sigma_curve="karras").sigmas
        back = kdpm2.sample(denoiser, invert(denoiser, x, sigmas), sigmas[:-1], eta=0)
        errors.append(float((back - x).square().mean().sqrt()))
    assert errors[0] / errors[1] > 3
    assert errors[1] / errors[2] > 3
    assert errors[2] < 1e-3


def by_scheduler(scheduler: Any, network: Any, sample: torch.Tensor) -> torch.Tensor:
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, timestep)
        sample = scheduler.step(network(scaled, timestep), timestep, sample, return_dict=False)[0]
    return sample


@pytest.mark.parametrize("options", [{}, {"prediction_type": "flow_prediction", "flow_shift": 3.0}])
def test_the_scheduler_goes_the_same_way(options: dict[str, Any]) -> None:
    def network(x: torch.Tensor, timestep: Any) -> torch.Tensor:
        return torch.tanh(x) / 2

    upwards, downwards = (KDPM2DiscreteScheduler(invert=up, **options) for up in (True, False))
    x = torch.randn(2, 3, dtype=torch.float64)
    for scheduler in (upwards, downwards):
        scheduler.set_timesteps(9)
    assert (upwards.table.sigmas == downwards.table.sigmas[-2::-1]).all()
    assert (upwards.timesteps.diff() > 0).all()
    flow = bool(options)
    schedule: Any = noise_schedule.RectifiedFlow(shift=3.0) if flow else noise_schedule.discrete()
    denoiser = kdpm2.Denoiser(network, schedule, "flow_prediction" if flow else "epsilon")
    made = invert(denoiser, x, downwards.table.sigmas)
    torch.testing.assert_close(by_scheduler(upwards, network, x), made, rtol=1e-6, atol=1e-6)


def test_a_part_of_the_way_up_as_image_to_image_goes() -> None:
    """A pipeline that steps the first timesteps alone takes a picture to a level between."""
    scheduler = KDPM2DiscreteScheduler(invert=True)
    scheduler.set_timesteps(8)
    x, levels = torch.randn(2, 3, dtype=torch.float64), scheduler.table.sigmas
    sample = x
    for timestep in scheduler.timesteps[:6]:
        scaled = scheduler.scale_model_input(sample, timestep)
        sample = scheduler.step(torch.tanh(scaled), timestep, sample, return_dict=False)[0]
    denoiser = kdpm2.Denoiser(lambda x, t: torch.tanh(x), noise_schedule.discrete())
    expected = invert(denoiser, x, levels[3::-1])
    torch.testing.assert_close(sample, expected, rtol=1e-6, atol=1e-6)
