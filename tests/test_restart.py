"""Restarts through the schedulers and `sample`, and what they cannot be; the core has tests/test_raised.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler, restart, spacing
from tests.test_raised import BETAS, FLOW, TWICE, steps


def test_no_restart_is_the_run_itself() -> None:
    run = steps(BETAS, 7)
    assert restart.restarted(BETAS, run, None) is run
    assert restart.restarted(BETAS, run, []) is run


@pytest.mark.parametrize("scheduler_class", [KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler])
def test_schedulers_and_sample_make_the_same(scheduler_class: Any) -> None:
    scheduler = scheduler_class(beta_schedule="scaled_linear", restarts=[TWICE])
    scheduler.set_timesteps(6)
    assert len(scheduler.timesteps) == 2 * (6 + 8) - 1
    scheduler.seed([3, 4])
    x = sample = 14.6 * torch.randn(2, 3, dtype=torch.float64)

    def network(x: torch.Tensor, timestep: Any) -> torch.Tensor:
        return torch.tanh(x)

    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, timestep)
        sample = scheduler.step(network(scaled, timestep), timestep, sample, return_dict=False)[0]
    made = kdpm2.sample(kdpm2.Denoiser(network, BETAS), x, scheduler.table, seeds=[3, 4])
    torch.testing.assert_close(sample, made, rtol=1e-10, atol=1e-10)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a number": (lambda: KDPM2DiscreteScheduler(restarts=3), "restarts must be a list of intervals or None, got 3"),
    "one interval": (
        lambda: KDPM2DiscreteScheduler(restarts=[0.2, 0.7]),
        "each of restarts must be a mapping or a list",
    ),
    "a slip": (lambda: KDPM2DiscreteScheduler(restarts=[{"sigma_mni": 1}]), "each of restarts must have the keys"),
    "no end": (lambda: KDPM2DiscreteScheduler(restarts=[{"sigma_min": 1}]), "must have sigma_min and sigma_max"),
    "upside down": (
        lambda: KDPM2DiscreteScheduler(restarts=[[2, 1]]),
        "sigma_max of restarts must be above sigma_min=2",
    ),
    "never": (lambda: KDPM2DiscreteScheduler(restarts=[[1, 2, 3, 0]]), "times of restarts must be an integer from 1"),
    "above a flow": (
        lambda: restart.restarted(FLOW, steps(FLOW, 4), [[0.5, 2]]),
        "sigma_max of restarts must be at most 1 for a flow model",
    ),
    "below the level": (
        lambda: restart.restarted(BETAS, spacing.Steps(np.array([8.0, 2, 0]), np.array([2.0, 1])), [[0.1, 1]]),
        "sigma_max of restarts must be above the level where the run turns back",
    ),
    "a path": (
        lambda: KDPM2AncestralDiscreteScheduler(restarts=[TWICE], noise="brownian").set_timesteps(20),
        "noise must be another kind with restarts",
    ),
    "upwards": (
        lambda: KDPM2DiscreteScheduler(restarts=[TWICE], invert=True).set_timesteps(5),
        "restarts must be None with invert=True",
    ),
    "timesteps too": (
        lambda: KDPM2DiscreteScheduler(restarts=[TWICE]).set_timesteps(sigmas=[9.0, 0.2], timesteps=[900, 100]),
        "restarts must be None with timesteps of one's own",
    ),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wrong()
