"""Where a run begins, how it goes on, and what it remembers."""

from typing import Any

import numpy as np
import pytest
import torch

import kdpm2

CLASSES = [kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler]


@pytest.fixture(params=CLASSES)
def scheduler(request: pytest.FixtureRequest) -> Any:
    made = request.param()
    made.set_timesteps(5)
    return made


def stage(scheduler: Any, timestep: Any, sample: torch.Tensor | None = None) -> Any:
    x = torch.ones(2, 3) if sample is None else sample
    return scheduler.step(torch.zeros_like(x), timestep, x)


def test_stages_count_up_and_end(scheduler: Any) -> None:
    assert scheduler.step_index is None
    assert scheduler.state_in_first_order
    for i, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(torch.ones(2, 3), timestep)
        assert scheduler.step_index == i
        assert scheduler.state_in_first_order == (i % 2 == 0)
        stage(scheduler, timestep)
    assert scheduler.step_index is None


def test_begin_index_goes_before_the_timestep(scheduler: Any) -> None:
    scheduler.set_begin_index(4)
    assert scheduler.begin_index == 4
    stage(scheduler, scheduler.timesteps[0])
    assert scheduler.step_index == 5
    scheduler.set_timesteps(5)
    assert scheduler.begin_index is None
    assert scheduler.step_index is None


@pytest.mark.parametrize("begin", range(9))
def test_a_view_of_the_timesteps_is_found_by_its_place(scheduler: Any, begin: int) -> None:
    scheduler.timesteps.zero_()  # no value tells them apart
    views = [
        scheduler.timesteps[begin],
        list(scheduler.timesteps)[begin],
        scheduler.timesteps[begin:][:1],
        scheduler.timesteps[begin].expand(2),
    ]
    for view in views:
        scheduler.scale_model_input(torch.ones(2, 3), view)
        assert scheduler.step_index == begin
        scheduler._step_index = None


@pytest.mark.parametrize("begin", [0, 2, 4, 6, 8])
def test_a_value_is_found_where_a_step_starts(scheduler: Any, begin: int) -> None:
    value = float(scheduler.timesteps[begin])
    foreign = torch.tensor([value, value], dtype=torch.float64)
    for timestep in (value, int(value), np.float32(value), torch.tensor(value), foreign):
        if float(int(value)) == value or not isinstance(timestep, int):
            scheduler.scale_model_input(torch.ones(2, 3), timestep)
            assert scheduler.step_index == begin
            scheduler._step_index = None


def test_a_midpoint_is_found_by_value_where_no_step_starts() -> None:
    scheduler = kdpm2.KDPM2DiscreteScheduler()
    scheduler.set_timesteps(5)
    assert scheduler.index_for_timestep(float(scheduler.timesteps[3])) == 3
    assert scheduler.index_for_timestep(7.0, torch.tensor([9.0, 7.0, 7.0, 1.0, 1.0])) == 2


@pytest.mark.parametrize(
    ("timestep", "error", "message"),
    [
        (998, ValueError, "timestep must be one of the 9 in scheduler.timesteps, from 999 to 0, got 998"),
        (float("nan"), ValueError, "timestep must be one of the 9"),
        (torch.tensor([999.0, 0.0]), ValueError, "timestep must be the same for every sample"),
        (None, TypeError, "timestep must be a number or a tensor of numbers, got None"),
        ("999", TypeError, "timestep must be a number or a tensor of numbers, got '999'"),
    ],
)
def test_a_run_cannot_begin_elsewhere(scheduler: Any, timestep: Any, error: type, message: str) -> None:
    for call in (lambda: stage(scheduler, timestep), lambda: scheduler.scale_model_input(torch.ones(2), timestep)):
        with pytest.raises(error, match=message):
            call()
        assert scheduler.step_index is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:1], r"\(2, 3\) on cpu, got \(1, 3\) on cpu"),
        (lambda x: x.to("meta"), r"\(2, 3\) on cpu, got \(2, 3\) on meta"),
    ],
)
def test_a_step_is_finished_with_the_shape_and_device_it_started_with(
    scheduler: Any, change: Any, message: str
) -> None:
    stage(scheduler, scheduler.timesteps[0])
    with pytest.raises(ValueError, match="sample must keep the shape and device that it had.*" + message):
        stage(scheduler, scheduler.timesteps[1], change(torch.ones(2, 3)))
    assert scheduler.step_index == 1
    stage(scheduler, scheduler.timesteps[1])


@pytest.mark.parametrize(
    ("sample", "output", "message"),
    [
        (torch.ones(2).long(), torch.ones(2), "sample must be floating point, got torch.int64"),
        (torch.ones(2), torch.ones(2) * 1j, "model_output must be floating point, got torch.complex64"),
        ([1.0, 2.0], torch.ones(2), r"sample must be a tensor, or all samples NumPy arrays, got \[1.0, 2.0\]"),
        (torch.ones(2), np.ones(2), "model_output must be a tensor, or all samples NumPy arrays"),
        (np.ones(2, dtype=int), np.ones(2), "sample must be floating point, got an array of .*int64"),
    ],
)
def test_samples_of_wrong_types_are_refused(scheduler: Any, sample: Any, output: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        scheduler.step(output, scheduler.timesteps[0], sample)


@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3), (1, 2, 3, 4, 5, 6)])
def test_any_number_of_dimensions(scheduler: Any, shape: tuple[int, ...]) -> None:
    for make in (torch.ones, np.ones):
        x = make(shape)
        for timestep in scheduler.timesteps:
            x = scheduler.step(scheduler.scale_model_input(x, timestep) * 0, timestep, x).prev_sample
        assert type(x) is type(make(shape))
        assert x.shape == shape


@pytest.mark.parametrize(
    "array",
    [
        np.ones((3, 4))[:, ::-1],
        np.ones((3, 4)).astype(">f8"),
        np.broadcast_to(np.ones(4), (3, 4)),
        np.asfortranarray(np.ones((3, 4))),
    ],
    ids=["reversed", "big-endian", "read-only", "columns first"],
)
def test_arrays_of_every_layout(scheduler: Any, array: Any) -> None:
    after = scheduler.step(array, scheduler.timesteps[0], array).prev_sample
    scheduler.set_timesteps(5)
    expected = scheduler.step(torch.ones(3, 4), scheduler.timesteps[0], torch.ones(3, 4)).prev_sample
    np.testing.assert_allclose(after, expected.numpy(), rtol=1e-6)


def test_noise_is_added_at_the_level_of_each_timestep(scheduler: Any) -> None:
    clean, noise = torch.zeros(3, 2), torch.ones(3, 2)
    noisy = scheduler.add_noise(clean, noise, scheduler.timesteps[[0, 4, 8]])
    torch.testing.assert_close(noisy[:, 0], scheduler.sigmas[[0, 4, 8]])
    one = scheduler.add_noise(clean, noise, scheduler.timesteps[2:3])
    torch.testing.assert_close(one, scheduler.sigmas[2].expand(3, 2))


def test_noise_for_training() -> None:
    scheduler = CLASSES[0](timestep_spacing="leading", steps_offset=1)
    timesteps = torch.randint(0, 1000, (50,))
    noisy = scheduler.add_noise(torch.zeros(50, 4), torch.ones(50, 4), timesteps)
    expected = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()[timesteps]
    torch.testing.assert_close(noisy[:, 0], expected)


def test_noise_within_a_run_is_that_of_the_stage(scheduler: Any) -> None:
    clean, noise = torch.zeros(3, 2), torch.ones(3, 2)
    scheduler.set_begin_index(2)
    torch.testing.assert_close(scheduler.add_noise(clean, noise, torch.tensor([0.0]))[0, 0], scheduler.sigmas[2])
    for timestep in scheduler.timesteps[2:4]:
        stage(scheduler, timestep)
    torch.testing.assert_close(scheduler.add_noise(clean, noise, torch.tensor([0.0]))[0, 0], scheduler.sigmas[4])


@pytest.mark.parametrize(
    ("noise", "timesteps", "message"),
    [
        (
            torch.ones(2, 3),
            [999, 999],
            "timesteps must hold one timestep, or one a sample for samples of shape .*got 2",
        ),
        (torch.ones(4), [999], r"noise must have a shape that broadcasts with original_samples, \(3, 2\), got \(4,\)"),
        (torch.ones(3, 2), [1234], "timestep must be one of the 9"),
        (torch.ones(3, 2, device="meta"), [999], "noise must be on the device of original_samples, cpu, got meta"),
    ],
)
def test_noise_that_does_not_fit_is_refused(scheduler: Any, noise: torch.Tensor, timesteps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scheduler.add_noise(torch.zeros(3, 2), noise.mT if noise.shape == (2, 3) else noise, torch.tensor(timesteps))


@pytest.mark.parametrize("device", ["abacus", "cuda:99", ["cpu"]])
def test_a_device_that_is_not_there_is_refused(scheduler: Any, device: Any) -> None:
    with pytest.raises(ValueError, match="device must be one that torch can use here, got"):
        scheduler.set_timesteps(3, device=device)
    assert len(scheduler.timesteps) == 9


def test_nan_is_kept(scheduler: Any) -> None:
    x = torch.ones(2, 3)
    x[0, 0] = torch.nan
    for timestep in scheduler.timesteps:
        x = scheduler.step(0.1 * scheduler.scale_model_input(x, timestep), timestep, x).prev_sample
    assert x.isnan().nonzero().tolist() == [[0, 0]]


def test_two_runs_take_turns_without_seeing_each_other() -> None:
    schedulers = [CLASSES[0](), CLASSES[0]()]
    alone = []
    for together in (False, True):
        samples = [torch.ones(3), 2 * torch.ones(3)]
        generators = [torch.Generator().manual_seed(i) for i in range(2)]
        for scheduler in schedulers:
            scheduler.set_timesteps(4)
        order = (
            [(i, t) for t in range(7) for i in range(2)] if together else [(i, t) for i in range(2) for t in range(7)]
        )
        for i, t in order:
            timestep = schedulers[i].timesteps[t]
            samples[i] = schedulers[i].step(0.1 * samples[i], timestep, samples[i], generators[i]).prev_sample
        if not together:
            alone = samples
    assert all(torch.equal(a, b) for a, b in zip(alone, samples, strict=True))


def test_a_timestep_in_part_of_the_schedule_is_found_by_value(scheduler: Any) -> None:
    timesteps = scheduler.timesteps
    assert scheduler.index_for_timestep(timesteps[4], timesteps[::2]) == 2
    with pytest.raises(ValueError, match="timestep must be one of the 5 in"):
        scheduler.index_for_timestep(timesteps[0], timesteps[4:])


def test_a_run_that_will_begin_on_a_midpoint_says_so(scheduler: Any) -> None:
    scheduler.set_begin_index(1)
    assert not scheduler.state_in_first_order


@pytest.mark.parametrize("cls", CLASSES)
def test_noise_broadcasts_with_the_samples(cls: Any) -> None:
    scheduler = cls()
    noise = torch.randn(3, 2)
    noisy = scheduler.add_noise(torch.ones(1, 2), noise, torch.tensor([500]))
    expected = torch.cat([scheduler.add_noise(torch.ones(1, 2), row[None], torch.tensor([500])) for row in noise])
    assert torch.equal(noisy, expected)
    assert scheduler.add_noise(torch.tensor(1.0), torch.tensor(0.5), torch.tensor([500])).shape == ()


@pytest.mark.parametrize("cls", CLASSES)
def test_what_diffusers_rightly_accepts(cls: Any) -> None:
    betas = [0.01, 0.02, 0.03]
    made = cls(num_train_timesteps=3, trained_betas=betas, beta_schedule="of my own", beta_start=7.0)
    torch.testing.assert_close(made.betas, torch.tensor(betas))
    curved = cls(num_train_timesteps=20, timestep_spacing="trailing", use_karras_sigmas=True)
    curved.set_timesteps(30)
    assert len(curved.timesteps) == 59
    with pytest.raises(ValueError, match="num_inference_steps must be at most num_train_timesteps=20"):
        cls(num_train_timesteps=20, timestep_spacing="trailing").set_timesteps(30)


def test_a_dtype_is_no_device(scheduler: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="device"):
        scheduler.set_timesteps(5, device=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_sample_without_dimensions_keeps_its_dtype(dtype: torch.dtype) -> None:
    scheduler = kdpm2.KDPM2DiscreteScheduler()
    scheduler.set_timesteps(3)
    x = torch.tensor(1.0, dtype=dtype)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        assert scaled.dtype == dtype
        x = scheduler.step(scaled, t, x).prev_sample
        assert x.dtype == dtype
