"""eta and s_noise that change on the way."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import KDPM2AncestralDiscreteScheduler, noise_schedule, spacing, table
from kdpm2.asked_for import asked_for
from kdpm2.by_step import by_step, shown
from tests.closed_form import variance_after

BETAS = noise_schedule.discrete(beta_schedule="scaled_linear")
FLOW = noise_schedule.RectifiedFlow(shift=3.0)
SIGMAS = np.array([8.0, 4.0, 2.0, 1.0])

VALUES: dict[str, tuple[Any, list[float]]] = {
    "one a step": ([1, 0.5, 0, 0.25], [1, 0.5, 0, 0.25]),
    "a ramp": ([1, 0], [1, 2 / 3, 1 / 3, 0]),
    "fewer than steps": ((0, 1, 0), [0, 2 / 3, 2 / 3, 0]),
    "an array": (np.array([0.5]), [0.5] * 4),
    "a tensor": (torch.tensor([0.0, 1.0]), [0, 1 / 3, 2 / 3, 1]),
    "a share of the steps": ({"value": 1, "end": 0.5}, [1, 1, 0, 0]),
    "a middle": ({"value": 1, "outside": 0.2, "start": 0.25, "end": 0.75}, [0.2, 1, 1, 0.2]),
    "noise levels": ({"value": 1, "sigma_max": 4, "sigma_min": 2}, [0, 1, 1, 0]),
    "both": ({"value": 1, "sigma_max": 4, "end": 0.5}, [0, 1, 0, 0]),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
def test_what_each_step_has(value: Any, expected: list[float]) -> None:
    np.testing.assert_allclose(by_step("eta", value, SIGMAS, 1), expected, atol=1e-7)


@pytest.mark.parametrize(("schedule", "prediction"), [(BETAS, "epsilon"), (FLOW, "flow_prediction")])
@pytest.mark.parametrize("eta", [[1, 0], {"value": 1, "start": 0.3, "end": 0.6}, {"value": 0.8, "sigma_max": 0.7}])
def test_the_data_come_back_at_order_two(schedule: Any, prediction: str, eta: Any) -> None:
    """For Gaussian data the variance at the end is known; its error falls as the square of the number of steps."""
    errors = []
    for count in (40, 80, 160):
        steps = spacing.steps(schedule, count, sigma_curve="exponential", sigma_min=0.01)
        made = table.dpm2(schedule, steps, prediction, eta)
        errors.append(abs(variance_after(made, 0.25, schedule.flow) - 0.25))
    assert errors[0] / errors[1] > 3.2
    assert errors[1] / errors[2] > 3.2


def test_every_door_takes_it() -> None:
    eta, s_noise = [1, 0], {"value": 1.1, "end": 0.5}
    denoiser = kdpm2.Denoiser(lambda x, t: torch.tanh(x), BETAS)
    scheduler = KDPM2AncestralDiscreteScheduler(beta_schedule="scaled_linear", eta=eta, s_noise=s_noise)
    scheduler.set_timesteps(6)
    x, sigmas = 14 * torch.randn(2, 3), scheduler.table.sigmas
    made = kdpm2.sample(denoiser, x, scheduler.table, seeds=[1, 2])
    again = kdpm2.sample(denoiser, x, sigmas, eta=eta, s_noise=s_noise, seeds=[1, 2])
    torch.testing.assert_close(made, again, rtol=1e-5, atol=1e-6)
    requests = [kdpm2.batching.Request(sigmas=sigmas, eta=eta, s_noise=s_noise, x=x[i], seed=i + 1) for i in range(2)]
    served = list(kdpm2.batching.serve(denoiser, requests, 2, shape=(3,)))
    for result in served:
        torch.testing.assert_close(result.sample, again[requests.index(result.request)], rtol=1e-4, atol=1e-5)


def test_it_is_saved_and_loaded(tmp_path: Any) -> None:
    scheduler = KDPM2AncestralDiscreteScheduler(eta={"value": 1, "end": 0.5}, s_noise=[1, 1.05])
    scheduler.save_pretrained(tmp_path)
    loaded = KDPM2AncestralDiscreteScheduler.from_pretrained(tmp_path)
    for each in (scheduler, loaded):
        each.set_timesteps(7)
    np.testing.assert_array_equal(scheduler.table.rows, loaded.table.rows)
    assert "eta: value 1, end 0.5" in repr(scheduler)
    assert shown([1, 0.5, 0]) == "1 to 0"


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a word": (lambda: by_step("eta", "much", SIGMAS, 1), "eta must be a number from 0 to 1, got 'much'"),
    "none": (lambda: by_step("eta", [], SIGMAS, 1), "eta must hold at least one number"),
    "too much": (lambda: by_step("eta", [1, 2], SIGMAS, 1), "each of eta must be a number from 0 to 1, got 2"),
    "a slip": (lambda: by_step("eta", {"valeu": 1}, SIGMAS, 1), "eta must have the keys value, .*, got 'valeu'"),
    "no value": (lambda: by_step("eta", {"end": 1}, SIGMAS, 1), "eta must have a value, got only end"),
    "backwards": (
        lambda: by_step("eta", {"value": 1, "start": 1, "end": 0}, SIGMAS, 1),
        "eta must have start below end",
    ),
    "with a table": (
        lambda: asked_for(BETAS, table.dpm2(BETAS, spacing.steps(BETAS, 3)), "epsilon", [1, 0]),
        "eta and s_noise must be 1",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_what_it_cannot_be(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wrong()
