"""Schedulers at different stages as one: each sample is its own scheduler's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kdpm2 import KDPM2AncestralDiscreteScheduler as Ancestral
from kdpm2 import KDPM2DiscreteScheduler as Discrete
from kdpm2.schedulers import BatchedSchedulers

SHAPE = (3, 5)


def made(steps: int, begin: int | None = None, cls: Any = Ancestral, **options: Any) -> Any:
    scheduler = cls(**options)
    scheduler.set_timesteps(steps)
    if begin is not None:
        scheduler.set_begin_index(begin)
    return scheduler


MAKERS: list[Callable[[], Any]] = [
    lambda: made(4),
    lambda: made(7, prediction_type="v_prediction", use_karras_sigmas=True),
    lambda: made(5, cls=Discrete),
    lambda: made(6, cls=Discrete, s_churn=1.0, s_tmin=0.1),
    lambda: made(6, begin=3),  # a midpoint, where there is no anchor
    lambda: made(6, begin=4, cls=Discrete, prediction_type="sample"),
    lambda: made(3, prediction_type="flow_prediction", flow_shift=3.0),
    lambda: made(5, sigma_data=0.5, eta=0.4),
    lambda: made(5, noise="brownian"),
]


def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) + 0.1 * torch.cos(timestep.to(x.dtype)).reshape(-1, 1, 1)


def alone(scheduler: Any, x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    x = x[None]
    for timestep in scheduler.timesteps[scheduler.begin_index or 0 :]:
        output = network(scheduler.scale_model_input(x, timestep), timestep.reshape(1))
        x = scheduler.step(output, timestep, x, generator=generator).prev_sample
    return x[0]


def together(schedulers: list[Any], x: torch.Tensor, generators: Any) -> torch.Tensor:
    batch = BatchedSchedulers(schedulers)
    calls = 0
    while not batch.done:
        output = network(batch.scale_model_input(x), batch.timesteps)
        output[batch.finished] = torch.nan  # whatever it is for those that are done
        x = batch.step(output, x, generators)
        calls += 1
    assert calls == max(len(each.timesteps) - (each.begin_index or 0) for each in schedulers)
    return x


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(len(MAKERS))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_each_sample_is_that_of_its_scheduler(dtype: torch.dtype) -> None:
    x = torch.randn(len(MAKERS), *SHAPE, dtype=dtype)
    schedulers = [maker() for maker in MAKERS]
    samples = together(schedulers, x, generators())
    assert samples.dtype == dtype
    assert all(scheduler.step_index is None for scheduler in schedulers)
    for each, scheduler, start, generator in zip(samples, schedulers, x, generators(), strict=True):
        tolerance = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]
        torch.testing.assert_close(each, alone(scheduler, start, generator), rtol=tolerance, atol=tolerance)


def test_seeds_are_the_schedulers_own() -> None:
    x = torch.randn(len(MAKERS), *SHAPE, dtype=torch.float64)
    schedulers = [maker() for maker in MAKERS]
    for seed, scheduler in enumerate(schedulers):
        scheduler.seed(seed)
    samples = together(schedulers, x, None)
    for each, scheduler, start in zip(samples, schedulers, x, strict=True):
        torch.testing.assert_close(each, alone(scheduler, start, None), rtol=1e-5, atol=1e-5)


def test_timesteps_are_those_of_each() -> None:
    schedulers = [made(3), made(5, begin=2)]
    batch, x = BatchedSchedulers(schedulers), torch.randn(2, *SHAPE)
    for stage in range(7):
        told = [
            float(each.timesteps[i]) if i < len(each.timesteps) else 0.0
            for each, i in zip(schedulers, (stage, stage + 2), strict=True)
        ]
        assert batch.timesteps.tolist() == told
        assert batch.finished == [stage >= 5, False]
        x = batch.step(torch.zeros_like(x), x)
    assert batch.done


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda batch, x: BatchedSchedulers([]), ValueError, "schedulers must hold one at least, got none"),
        (lambda batch, x: BatchedSchedulers([1]), TypeError, r"schedulers must be a list of kdpm2's .* got \[1\]"),  # type: ignore[list-item]
        (lambda batch, x: batch.scale_model_input(x[:1]), ValueError, r"one for each of 2 schedulers, got shape \(1,"),
        (lambda batch, x: batch.scale_model_input(1.0), TypeError, "samples must be a tensor"),
        (lambda batch, x: batch.step(x, x.double()), ValueError, "samples must keep the shape, dtype and device"),
        (lambda batch, x: batch.step(x[:, :1], x), ValueError, "model_output must have the shape of samples"),
        (lambda batch, x: batch.step(x, x, 1), TypeError, "generator must be a torch.Generator or a list"),
        (lambda batch, x: batch.step(x, x, [torch.Generator()] * 3), ValueError, "generator must be one .* got 3"),
    ],
)
def test_what_is_refused_changes_nothing(call: Any, error: type[Exception], message: str) -> None:
    schedulers = [made(3, cls=Discrete), made(4, cls=Discrete)]
    batch, x = BatchedSchedulers(schedulers), torch.randn(2, *SHAPE)
    x = batch.step(x, x)
    before = batch.timesteps
    with pytest.raises(error, match=message):
        call(batch, x)
    assert torch.equal(batch.timesteps, before)
    expected = BatchedSchedulers(schedulers)
    assert not torch.equal(expected.timesteps, before)


def test_a_run_that_is_done_goes_no_further() -> None:
    batch, x = BatchedSchedulers([made(1)]), torch.randn(1, *SHAPE)
    x = batch.step(x, x)
    with pytest.raises(ValueError, match="samples must be those of a run that goes on"):
        batch.step(x, x)
