"""The same seed and kind give the same noise through every door."""

import pytest
import torch

import kdpm2
from kdpm2 import KDPM2AncestralDiscreteScheduler
from kdpm2.batching import BatchedSolver
from kdpm2.noise import NOISES, generator_of

SHAPE = (3, 50, 7)
# The second counts in more than 32 bits.
SEEDS = [1, 2**40 + 1, 2**64 - 1]


def zero(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x)


def by_scheduler(scheduler: KDPM2AncestralDiscreteScheduler, start: torch.Tensor) -> torch.Tensor:
    sample = start
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, timestep)
        sample = scheduler.step(zero(scaled, timestep), timestep, sample, return_dict=False)[0]
    return sample


def by_solver(solver: BatchedSolver, table: kdpm2.table.StageTable, start: torch.Tensor) -> torch.Tensor:
    ids = [solver.admit(table, each, seed) for each, seed in zip(start, SEEDS, strict=True)]
    samples: dict[int, torch.Tensor] = {}
    while len(solver):
        inputs = solver.next_inputs()
        samples |= dict(solver.advance(zero(inputs.x, inputs.timestep)))
    return torch.stack([samples[id] for id in ids])


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("steps", [1, 5])
def test_the_same_noise_through_every_door(kind: str, steps: int) -> None:
    # From 0, of a network that says 0, to a sigma above 0: all that is there at the end is noise.
    scheduler = KDPM2AncestralDiscreteScheduler(noise=kind, final_sigmas_type="sigma_min")
    scheduler.set_timesteps(steps)
    scheduler.seed(SEEDS)
    denoiser = kdpm2.Denoiser(zero, kdpm2.noise_schedule.discrete())
    start = torch.zeros(len(SEEDS), *SHAPE, dtype=torch.float64)
    made = by_scheduler(scheduler, start)
    assert made.std() > 0
    sampled = kdpm2.sample(denoiser, start, scheduler.table, seeds=SEEDS, noise=kind)
    solved = by_solver(BatchedSolver(SHAPE, dtype=torch.float64, noise=kind), scheduler.table, start)
    torch.testing.assert_close(sampled, made, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(solved, made, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", NOISES)
def test_all_bits_of_a_seed_count(kind: str) -> None:
    denoiser = kdpm2.Denoiser(zero, kdpm2.noise_schedule.discrete())
    start = torch.zeros(1, *SHAPE)
    seeds = [1, 2**32 + 1, 2**33 + 1, 2**63 + 1, 2**32]
    samples = [kdpm2.sample(denoiser, start, [2.0, 1.0], seeds=[seed], noise=kind) for seed in seeds]
    for i, sample in enumerate(samples):
        assert all((sample != other).all() for other in samples[:i])


def test_a_seed_of_many_bits_draws_normal_numbers() -> None:
    torchs = torch.Generator().manual_seed(7)
    assert torch.equal(torch.randn(9, generator=generator_of(7)), torch.randn(9, generator=torchs))
    drawn = torch.randn(200_000, generator=generator_of(2**63 + 5), dtype=torch.float64)
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01
    assert abs(float((drawn[1:] * drawn[:-1]).mean())) < 0.01
    assert torch.equal(drawn, torch.randn(200_000, generator=generator_of(2**63 + 5), dtype=torch.float64))
