"""Every input that diffusers 0.42 gets wrong: what it does, asserted, and what kdpm2 does instead."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import kdpm2
from tests import oracle

Ours = kdpm2.KDPM2AncestralDiscreteScheduler
Theirs = diffusers.KDPM2AncestralDiscreteScheduler


def run(scheduler: Any, x: Any, seed: int = 1, begin: int = 0) -> Any:
    """The last sample of a run."""
    generator = torch.Generator().manual_seed(seed)
    for timestep in scheduler.timesteps[begin:]:
        output: Any = oracle.network(torch.as_tensor(scheduler.scale_model_input(x, timestep)), timestep)
        output = output.numpy() if isinstance(x, np.ndarray) else output
        x = scheduler.step(output, timestep, x, generator=generator).prev_sample
    return x


def exact(scheduler: Any, x: torch.Tensor, prediction_type: str = "epsilon", begin: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noises = (torch.randn(x.shape, generator=generator, dtype=x.dtype).numpy() for _ in range(100))
    *_, last = oracle.stages(
        x.numpy(), scheduler._table.sigmas, scheduler.timesteps.numpy(), prediction_type, 1.0, noises, begin
    )
    return torch.from_numpy(np.asarray(last, dtype=np.float64))


def start(scheduler: Any, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    noise = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    sigma: torch.Tensor = scheduler.init_noise_sigma
    return noise * sigma


def test_cosine_betas_give_finite_and_right_samples() -> None:
    theirs, ours = Theirs(beta_schedule="squaredcos_cap_v2"), Ours(beta_schedule="squaredcos_cap_v2")
    theirs.set_timesteps(10)
    ours.set_timesteps(10)
    x = start(ours, 2, 3)
    assert run(theirs, x).isnan().all()
    torch.testing.assert_close(run(ours, x), exact(ours, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("curve", ["", "karras", "exponential", "beta"])
@pytest.mark.parametrize("steps", [2, 5, 20, 60])
def test_cosine_betas_with_every_curve(curve: str, steps: int) -> None:
    ours = Ours(beta_schedule="squaredcos_cap_v2", **({f"use_{curve}_sigmas": True} if curve else {}))
    ours.set_timesteps(steps)
    x = start(ours, 5)
    torch.testing.assert_close(run(ours, x), exact(ours, x), rtol=1e-9, atol=1e-9)


def test_trailing_makes_as_many_steps_as_asked() -> None:
    theirs, ours = Theirs(timestep_spacing="trailing"), Ours(timestep_spacing="trailing")
    for steps in (61, 103, 121):
        theirs.set_timesteps(steps)
        assert len(theirs.timesteps) == 2 * steps + 1
    for steps in (*range(1, 130), *range(130, 1001, 10)):
        ours.set_timesteps(steps)
        assert len(ours.timesteps) == 2 * steps - 1
        assert ours.timesteps[-1] >= 0


def test_one_linspace_step_starts_at_the_top() -> None:
    theirs, ours = Theirs(), Ours()
    theirs.set_timesteps(1)
    ours.set_timesteps(1)
    assert theirs.timesteps.tolist() == [0]
    assert ours.timesteps.tolist() == [999]
    assert ours.init_noise_sigma > 20


def test_leading_with_more_steps_than_timesteps_is_refused() -> None:
    theirs, ours = Theirs(timestep_spacing="leading"), Ours(timestep_spacing="leading")
    theirs.set_timesteps(1001)
    assert not theirs.timesteps[::2].any()
    with pytest.raises(ValueError, match=r"num_inference_steps must be at most num_train_timesteps=1000.*got 1001"):
        ours.set_timesteps(1001)


def test_leading_offset_stays_within_the_trained_timesteps() -> None:
    config: dict[str, Any] = {"timestep_spacing": "leading", "steps_offset": 1}
    assert Theirs(**config).timesteps[0] == 1000
    assert Ours(**config).timesteps[0] == 999


def test_sample_prediction() -> None:
    theirs, ours = Theirs(prediction_type="sample"), Ours(prediction_type="sample")
    theirs.set_timesteps(6)
    ours.set_timesteps(6)
    x = start(ours, 4)
    with pytest.raises(NotImplementedError):
        run(theirs, x)
    torch.testing.assert_close(run(ours, x), exact(ours, x, "sample"), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_in_arrays_out(dtype: Any) -> None:
    theirs, ours = Theirs(), Ours()
    theirs.set_timesteps(5)
    ours.set_timesteps(5)
    x = start(ours, 2, 3).numpy().astype(dtype)
    with pytest.raises(TypeError):
        theirs.step(x, theirs.timesteps[0], x)
    from_array = run(ours, x)
    assert type(from_array) is np.ndarray
    assert from_array.dtype == dtype
    np.testing.assert_array_equal(from_array, run(ours, torch.from_numpy(x)).numpy())
    clean = np.ones_like(x)
    noisy = ours.add_noise(clean, x, ours.timesteps[2:3])
    assert type(noisy) is np.ndarray
    np.testing.assert_allclose(noisy, clean + x * float(ours.sigmas[2]), rtol=1e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    theirs, ours = Theirs(prediction_type="v_prediction"), Ours(prediction_type="v_prediction")
    theirs.set_timesteps(8)
    ours.set_timesteps(8)
    x, output = (torch.randn(1000).to(dtype) for _ in range(2))
    anchor = None
    for stage, timestep in enumerate(ours.timesteps):
        our_sample, our_denoised = ours.step(output, timestep, x, torch.Generator().manual_seed(3), return_dict=False)
        their_sample, _ = theirs.step(output, timestep, x, torch.Generator().manual_seed(3), return_dict=False)
        noise = torch.randn(1000, dtype=dtype, generator=torch.Generator().manual_seed(3)).double()
        row = ours._table.row(stage)
        exact_sample = row.x * x.double() + row.model * output.double() + row.noise * noise
        exact_sample += row.anchor * (x if anchor is None else anchor).double()
        exact_denoised = row.denoised_x * x.double() + row.denoised_model * output.double()
        assert our_sample.dtype == our_denoised.dtype == dtype
        # Rounding to float32 on the way decides a tie in a thousand.
        assert (our_sample == exact_sample.to(dtype)).double().mean() > 0.99
        assert (our_denoised == exact_denoised.to(dtype)).double().mean() > 0.99
        assert (their_sample == exact_sample.to(dtype)).double().mean() < 0.95
        anchor = x


@pytest.mark.parametrize("begin", [1, 3, 7])
def test_a_run_that_begins_on_a_midpoint_is_euler_to_the_next_sigma(begin: int) -> None:
    theirs, ours = Theirs(), Ours()
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(6)
        scheduler.set_begin_index(begin)
    x = start(ours, 4)
    assert not torch.allclose(run(theirs, x, begin=begin), run(ours, x, begin=begin), rtol=1e-3, equal_nan=False)
    torch.testing.assert_close(run(ours, x, begin=begin), exact(ours, x, begin=begin), rtol=1e-9, atol=1e-9)


def test_equal_timesteps_do_not_decide_where_a_run_begins() -> None:
    theirs, ours = Theirs(use_karras_sigmas=True), Ours(use_karras_sigmas=True)
    theirs.set_timesteps(2000)
    ours.set_timesteps(2000)
    assert ours.timesteps[0] == ours.timesteps[2]
    x = torch.randn(3)
    theirs.scale_model_input(x, theirs.timesteps[0])
    assert theirs.step_index == 2
    for begin in (0, 2, 5):
        ours.set_timesteps(2000)
        ours.scale_model_input(x, ours.timesteps[begin])
        assert ours.step_index == begin
    ours.set_timesteps(2000)
    ours.scale_model_input(x, float(ours.timesteps[0]))
    assert ours.step_index == 0


def test_a_second_loop_starts_over() -> None:
    theirs, ours = Theirs(), Ours()
    theirs.set_timesteps(11)
    ours.set_timesteps(11)
    x = start(ours, 4)
    run(theirs, x)
    with pytest.raises(IndexError):
        run(theirs, x)
    assert torch.equal(run(ours, x), run(ours, x))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_no_tensor_is_kept_after_the_last_step(steps: int) -> None:
    ours = Ours()
    ours.set_timesteps(steps)
    kept = []
    x = start(ours, 4)
    for timestep in ours.timesteps:
        output = oracle.network(ours.scale_model_input(x, timestep), timestep)
        kept += [weakref.ref(x), weakref.ref(output)]
        x = ours.step(output, timestep, x).prev_sample
    del output, x
    gc.collect()
    assert not any(reference() is not None for reference in kept)
    assert ours.step_index is None


MISUSE: dict[str, tuple[Any, str]] = {
    "prediction type": (lambda: Ours(prediction_type="foo"), r"prediction_type must be one of 'epsilon'.*got 'foo'"),
    "beta schedule": (lambda: Ours(beta_schedule="foo"), r"beta_schedule must be one of 'linear'.*got 'foo'"),
    "spacing": (lambda: Ours(timestep_spacing="foo"), r"timestep_spacing must be one of 'linspace'.*got 'foo'"),
    "two curves": (
        lambda: Ours(use_karras_sigmas=True, use_beta_sigmas=True),
        r"only one of use_karras_sigmas, .* may be set, got use_karras_sigmas, use_beta_sigmas",
    ),
    "no steps": (lambda: Ours().set_timesteps(0), r"num_inference_steps must be an integer at least 1, got 0"),
    "NaN beta": (lambda: Ours(beta_start=float("nan")), r"beta_start must be a number from 0 to 1, got nan"),
    "NaN trained beta": (
        lambda: Ours(num_train_timesteps=2, trained_betas=[0.1, float("nan")]),
        r"trained_betas: every beta must lie between 0 and 1.*got nan",
    ),
    "negative beta": (lambda: Ours(beta_end=-0.1), r"beta_end must be a number from 0 to 1, got -0.1"),
    "negative trained beta": (
        lambda: Ours(num_train_timesteps=2, trained_betas=[0.1, -0.1]),
        r"trained_betas: every beta must lie between 0 and 1.*got -0.1",
    ),
    "unknown timestep": (
        lambda: Ours().step(torch.zeros(2), 1000.5, torch.zeros(2)),
        r"timestep must be one of the 1999 in scheduler.timesteps, from 999 to 0, got 1000.5",
    ),
    "broadcast output": (
        lambda: Ours().step(torch.zeros(1, 3), 999, torch.zeros(2, 3)),
        r"model_output must have the shape of sample, \(2, 3\), got \(1, 3\)",
    ),
    "broadcast sample": (
        lambda: Ours().step(torch.zeros(2, 3), 999, torch.zeros(3)),
        r"model_output must have the shape of sample, \(3,\), got \(2, 3\)",
    ),
    "generators": (
        lambda: step_with_noise(generator=[torch.Generator()] * 3),
        r"generator must be one generator or a list of one a sample, got 3 generators or seeds for a sample of",
    ),
    "begin index": (
        lambda: Ours().set_begin_index(1999),
        r"begin_index must be an integer from 0 to 1998, got 1999",
    ),
}


def step_with_noise(**kwargs: Any) -> None:
    scheduler = Ours()
    scheduler.set_begin_index(1)
    scheduler.step(torch.zeros(2, 3), 0, torch.zeros(2, 3), **kwargs)


@pytest.mark.parametrize(("misuse", "message"), MISUSE.values(), ids=MISUSE.keys())
def test_misuse_is_refused_with_a_message(misuse: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        misuse()


def test_misuse_changes_nothing() -> None:
    undisturbed, disturbed = Ours(), Ours()
    for scheduler in (undisturbed, disturbed):
        scheduler.set_timesteps(4)
    x = start(undisturbed, 2, 3)
    expected = run(undisturbed, x)

    def disturb() -> None:
        attempts: list[Callable[[], Any]] = [
            lambda: disturbed.set_timesteps(0),
            lambda: disturbed.set_timesteps(5, num_train_timesteps=2000),
            lambda: disturbed.set_timesteps(5, device="no such device"),
            lambda: disturbed.set_begin_index(-1),
            lambda: disturbed.step(torch.zeros(3), 999, x),
            lambda: disturbed.step(x, 999, x[:1]),
            lambda: disturbed.step(x, 999, x.long()),
            lambda: disturbed.step(x, 999, None),
            lambda: disturbed.scale_model_input([1.0], 999),
        ]
        for attempt in attempts:
            with pytest.raises((TypeError, ValueError)):
                attempt()

    generator = torch.Generator().manual_seed(1)
    for timestep in disturbed.timesteps:
        disturb()
        output = oracle.network(disturbed.scale_model_input(x, timestep), timestep)
        disturb()
        x = disturbed.step(output, timestep, x, generator=generator).prev_sample
    assert torch.equal(x, expected)


@pytest.mark.parametrize("curve", ["", "karras", "exponential", "beta"])
def test_timesteps_are_float32(curve: str) -> None:
    config: dict[str, Any] = {f"use_{curve}_sigmas": True} if curve else {}
    theirs, ours = Theirs(**config), Ours(**config)
    theirs.set_timesteps(20)
    ours.set_timesteps(20)
    assert ours.timesteps.dtype == torch.float32
    assert theirs.timesteps.dtype == (torch.float64 if curve else torch.float32)


def test_a_midpoint_on_a_trained_timestep_is_exactly_that() -> None:
    theirs, ours = Theirs(num_train_timesteps=999), Ours(num_train_timesteps=999)
    theirs.set_timesteps(3)
    ours.set_timesteps(3)
    assert theirs.timesteps[1] != 499
    assert ours.timesteps.tolist() == [998, 499, 499, 0, 0]


def test_sigmas_down_where_the_next_sigma_is_far_below() -> None:
    config: dict[str, Any] = {"beta_schedule": "scaled_linear"}
    theirs, ours = Theirs(**config), Ours(**config)
    theirs.set_timesteps(2)
    ours.set_timesteps(2)
    sigma, following = ours._table.sigmas[:2]
    np.testing.assert_allclose(float(ours.sigmas_down[0]), following**2 / sigma, rtol=1e-7)
    assert abs(float(theirs.sigmas_down[0]) / (following**2 / sigma) - 1) > 5e-3
    assert theirs.timesteps[1] > 5e-3
    assert ours.timesteps[1] == 0
