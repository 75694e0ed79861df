"""What a scheduler was set to is admitted beside other requests, and drawn as its own loop draws it."""

from typing import Any

import pytest
import torch

from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from kdpm2.batching import BatchedSolver
from tests import oracle

SHAPE = (3, 5)
CASES: list[tuple[Any, int, dict[str, Any]]] = [
    (Ancestral, 4, {}),
    (Ancestral, 7, {"prediction_type": "v_prediction", "use_karras_sigmas": True, "eta": 0.4}),
    (Discrete, 5, {"timestep_spacing": "trailing"}),
    (Discrete, 6, {"s_churn": 1.0, "s_tmin": 0.1}),
    (Ancestral, 3, {"prediction_type": "flow_prediction", "flow_shift": 3.0}),
    (Ancestral, 5, {"sigma_data": 0.5}),
    (Ancestral, 5, {"sample_space": "variance_preserving"}),
    (Discrete, 5, {"sample_space": "variance_preserving", "prediction_type": "sample"}),
]


def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return oracle.network(x, timestep.reshape(-1, 1, 1))


def made(cls: Any, steps: int, options: dict[str, Any]) -> Any:
    scheduler = cls(**options)
    scheduler.set_timesteps(steps)
    return scheduler


def alone(scheduler: Any, seed: int) -> torch.Tensor:
    scheduler.seed([seed])
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, *SHAPE, generator=generator) * scheduler.table.start
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    sample: torch.Tensor = x[0]
    return sample


@pytest.mark.parametrize("capacity", [None, len(CASES)])
def test_each_is_drawn_as_its_own_loop_draws_it(capacity: int | None) -> None:
    solver = BatchedSolver(SHAPE, capacity=capacity)
    schedulers = [made(*case) for case in CASES]
    ids = [solver.admit(scheduler.table, seed=seed) for seed, scheduler in enumerate(schedulers)]
    samples: dict[int, torch.Tensor] = {}
    while len(solver):
        _, x, _, timestep = solver.next_inputs()
        samples.update(solver.advance(network(x, timestep)))
    for seed, (id, scheduler) in enumerate(zip(ids, schedulers, strict=True)):
        torch.testing.assert_close(samples[id], alone(scheduler, seed), rtol=1e-4, atol=1e-5)
