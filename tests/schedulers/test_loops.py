"""Loops written otherwise than diffusers' own: right, or warned of once, or refused; never wrong without a word."""

import copy
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import kdpm2
from tests import oracle

CLASSES = [kdpm2.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2DiscreteScheduler]
ANCESTRAL, DISCRETE = CLASSES
LATENT: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PIXELS: dict[str, Any] = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
POLICY: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100}
each_class = pytest.mark.parametrize("cls", CLASSES)
DATA = 0.5
"""Standard deviation of the data of the exact network."""


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if "kdpm2" in record.name]


def made(cls: Any, steps: int = 6, **options: Any) -> Any:
    scheduler = cls(**options)
    scheduler.set_timesteps(steps)
    return scheduler


def network(x: torch.Tensor, t: Any) -> torch.Tensor:
    return x * 0.1 * (1 + float(torch.as_tensor(t).flatten()[0]) / 2000)


def extra(scheduler: Any, seed: int = 1) -> dict[str, Any]:
    return {"generator": torch.Generator().manual_seed(seed)} if "Ancestral" in type(scheduler).__name__ else {}


# --- Which stage a timestep means


def of_views(scheduler: Any) -> Any:
    return scheduler.timesteps


def of_clones(scheduler: Any) -> Any:
    return scheduler.timesteps.clone()


def of_own_tensors(scheduler: Any) -> Any:
    return [torch.tensor(t) for t in scheduler.timesteps.tolist()]


def of_numbers(scheduler: Any) -> Any:
    return scheduler.timesteps.tolist()


def of_arrays(scheduler: Any) -> Any:
    return list(scheduler.timesteps.numpy().copy())


def of_batches(scheduler: Any) -> Any:
    return [t.repeat(2) for t in scheduler.timesteps]


SOURCES = [of_views, of_clones, of_own_tensors, of_numbers, of_arrays, of_batches]


def tiles(scheduler: Any, timesteps: Any) -> None:
    x = torch.randn(2, 4, 8, 16) * scheduler.init_noise_sigma
    for t in timesteps:
        for part in (x[..., :10], x[..., 6:]):
            scheduler.step(network(scheduler.scale_model_input(part, t), t), t, part)


def chunks(scheduler: Any, timesteps: Any) -> None:
    x = torch.randn(4, 3) * scheduler.init_noise_sigma
    for t in timesteps:
        x = torch.cat([scheduler.step(network(part, t), t, part).prev_sample for part in x.chunk(2)])


def reversed_loop(scheduler: Any, timesteps: Any) -> None:
    x = torch.randn(2, 4, 8)
    for t in reversed(list(timesteps)):
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample


def every_other(scheduler: Any, timesteps: Any) -> None:
    x = torch.randn(2, 4, 8) * scheduler.init_noise_sigma
    for t in timesteps[::2]:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample


def repeated(scheduler: Any, timesteps: Any) -> None:
    x = torch.randn(2, 4, 8) * scheduler.init_noise_sigma
    for t in timesteps:
        for _ in range(2):
            x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample


@each_class
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("loop", [tiles, chunks, reversed_loop, every_other, repeated])
def test_a_stage_out_of_order_is_refused_however_its_timestep_came(cls: Any, source: Any, loop: Any) -> None:
    scheduler = made(cls, **LATENT)
    with pytest.raises(ValueError, match=r"timestep must be (that of stage|one of)"):
        loop(scheduler, source(scheduler))


@each_class
@pytest.mark.parametrize("source", SOURCES)
def test_a_loop_in_order_is_run_however_its_timesteps_came(cls: Any, source: Any) -> None:
    def run(scheduler: Any, timesteps: Any) -> Any:
        x = torch.ones(2, 3) * scheduler.init_noise_sigma
        options = extra(scheduler)
        for t in timesteps:
            x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
        return x

    scheduler, other = made(cls, 30, use_karras_sigmas=True, **LATENT), made(cls, 30, use_karras_sigmas=True, **LATENT)
    assert torch.equal(run(scheduler, source(scheduler)), run(other, other.timesteps))


@each_class
@pytest.mark.parametrize("steps", [5, 50, 1000])
@pytest.mark.parametrize(
    "rounded", [int, round, lambda t: torch.tensor(t).long(), lambda t: torch.tensor(t).bfloat16()]
)
def test_a_timestep_that_was_rounded_on_its_way_is_its_stage(cls: Any, steps: int, rounded: Any) -> None:
    scheduler = made(cls, steps)
    x = torch.ones(2, 3)
    scheduler.set_begin_index(0)
    for t in scheduler.timesteps[:30].tolist():
        x = scheduler.step(x, rounded(t), x).prev_sample
    assert scheduler.step_index in (None, 30)


@each_class
@pytest.mark.parametrize("wrong", [lambda t: t / 1000, lambda t: float(t) - 1.5, lambda t: np.float64("nan")])
def test_a_timestep_of_no_stage_is_refused_in_mid_run(cls: Any, wrong: Any) -> None:
    scheduler, x = made(cls), torch.ones(2)
    scheduler.step(x, scheduler.timesteps[0], x)
    with pytest.raises(ValueError, match="timestep must be that of stage 1"):
        scheduler.step(x, wrong(scheduler.timesteps[1]), x)


def test_on_another_device_only_views_are_told_apart_in_mid_run() -> None:
    scheduler = DISCRETE()
    scheduler.set_timesteps(4, device="meta")  # like a GPU's memory, not to be read
    scheduler.set_begin_index(0)
    timesteps, x = scheduler.timesteps, torch.ones(2, device="meta")
    for i, t in enumerate(timesteps):
        scheduler.scale_model_input(x, t.clone() if i % 2 else t)
        scheduler.step(x, t.clone() if i % 3 else t, x)
    assert scheduler.step_index is None


@pytest.mark.parametrize("pairs", [40])
@pytest.mark.parametrize("each_sets", [True, False], ids=["each sets the timesteps", "one sets the timesteps"])
@each_class
def test_two_threads_on_one_scheduler_never_mix_unnoticed(cls: Any, each_sets: bool, pairs: int) -> None:
    steps = 5
    expected = {}
    scheduler = made(cls, steps, **LATENT)

    def draw(seed: int, pause: Any) -> Any:
        if each_sets:
            scheduler.set_timesteps(steps)
        timesteps = scheduler.timesteps
        x = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed)) * scheduler.init_noise_sigma
        options = extra(scheduler, seed)
        for t in timesteps:
            pause()
            x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
        return x

    for seed in (1, 2):
        expected[seed] = draw(seed, lambda: None)
    rng = np.random.default_rng(0)
    for _ in range(pairs):
        scheduler.set_timesteps(steps)
        turns = threading.Semaphore(2)
        naps = iter(rng.random(1000) * 3e-4)

        def pause(naps: Iterator[float] = naps) -> None:
            threading.Event().wait(next(naps))

        got: dict[int, Any] = {}

        def work(seed: int, got: dict[int, Any] = got, pause: Any = pause, turns: Any = turns) -> None:
            with turns:
                try:
                    got[seed] = draw(seed, pause)
                except ValueError as error:
                    got[seed] = error

        threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed, sample in got.items():
            assert isinstance(sample, ValueError) or torch.equal(sample, expected[seed])


@each_class
def test_of_two_schedules_in_one_thread_the_later_one_goes_on(cls: Any) -> None:
    scheduler, alone = cls(), cls()
    runs = []
    for each in (scheduler, alone):
        each.set_timesteps(5)
        runs.append(each.timesteps)

    def stage(scheduler: Any, t: torch.Tensor, x: torch.Tensor, options: Any) -> Any:
        return scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample

    first, options = torch.ones(2, 3), extra(scheduler)
    for t in runs[0][:3]:
        first = stage(scheduler, t, first, options)
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="took the place of in mid-run: give each pipeline or thread a scheduler"):
        stage(scheduler, runs[0][3], first, options)
    x = y = torch.ones(2, 3)
    options, other = extra(scheduler), extra(alone)
    for i, (t, u) in enumerate(zip(scheduler.timesteps, runs[1], strict=True)):
        x, y = stage(scheduler, t, x, options), stage(alone, u, y, other)
        if i == 2:
            with pytest.raises(ValueError, match="took the place of in mid-run"):
                stage(scheduler, runs[0][3], first, options)
    assert torch.equal(x, y)


@each_class
def test_timesteps_read_once_serve_every_schedule_with_the_same(cls: Any) -> None:
    scheduler = made(cls, 4)
    timesteps, samples = scheduler.timesteps, []
    for _ in range(3):
        scheduler.set_timesteps(4)
        x, options = torch.ones(2, 3), extra(scheduler)
        for t in timesteps:
            x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
        samples.append(x)
    assert torch.equal(samples[0], samples[1])
    assert torch.equal(samples[0], samples[2])


@pytest.mark.parametrize(("steps", "start"), [(10, 0), (30, 15), (60, 20), (100, 50), (400, 100)])
def test_inpainting_adds_noise_of_the_level_at_which_the_run_stands(steps: int, start: int) -> None:
    scheduler = made(ANCESTRAL, steps, use_karras_sigmas=True, steps_offset=1, **LATENT)
    image, noise = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    x = image + scheduler.sigmas[2 * start] * noise
    for i, t in enumerate(scheduler.timesteps[2 * start :]):
        noisy = scheduler.add_noise(image, noise, t.repeat(2))
        # At eta = 1 a midpoint has the level of the next step, which is what the layout of `sigmas` holds.
        torch.testing.assert_close(noisy, image + scheduler.sigmas[2 * start + i] * noise, rtol=1e-4, atol=1e-4)
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample


# --- How the samples are held


@each_class
def test_stepping_the_scaled_sample_runs_as_diffusers_does_and_is_warned_of_once(cls: Any, warnings: Any) -> None:
    theirs = getattr(diffusers, cls.__name__)(**LATENT)
    samples = []
    for scheduler in (made(cls, **LATENT), theirs):
        scheduler.set_timesteps(6)
        x, options = torch.linspace(-1, 1, 24).reshape(2, 12) * scheduler.init_noise_sigma, extra(scheduler)
        for t in scheduler.timesteps:
            x = scheduler.scale_model_input(x, t)
            x = scheduler.step(network(x, t), t, x, **options).prev_sample
        samples.append(x)
    torch.testing.assert_close(samples[0], samples[1], rtol=1e-4, atol=1e-5)
    assert len(warnings()) == 1
    assert "step was given the sample that scale_model_input returned" in warnings()[0]


@each_class
def test_scaling_twice_runs_as_diffusers_does_and_is_warned_of_once(cls: Any, warnings: Any) -> None:
    theirs = getattr(diffusers, cls.__name__)(**LATENT)
    samples = []
    for scheduler in (made(cls, **LATENT), theirs):
        scheduler.set_timesteps(6)
        x, options = torch.linspace(-1, 1, 24).reshape(2, 12) * scheduler.init_noise_sigma, extra(scheduler)
        for t in scheduler.timesteps:
            read = scheduler.scale_model_input(scheduler.scale_model_input(x, t), t)
            x = scheduler.step(network(read, t), t, x, **options).prev_sample
        samples.append(x)
    torch.testing.assert_close(samples[0], samples[1], rtol=1e-4, atol=1e-5)
    assert len(warnings()) == 1
    assert "scaled twice" in warnings()[0]


def test_a_flow_is_not_warned_of_what_makes_no_difference(warnings: Any) -> None:
    scheduler = made(ANCESTRAL, prediction_type="flow_prediction")
    x = torch.randn(2, 12)
    for t in scheduler.timesteps:
        x = scheduler.step(x, t, x).prev_sample
    assert warnings() == []


def exact(config: dict[str, Any]) -> Callable[[torch.Tensor, Any], torch.Tensor]:
    """The noise that a perfect network finds in data N(0, DATA²), from x = √ᾱ·x0 + √(1-ᾱ)·n."""
    theirs = diffusers.DDIMScheduler(**config)
    products = theirs.alphas_cumprod.double().numpy()

    def predict(x: torch.Tensor, t: Any) -> torch.Tensor:
        product = float(np.interp(float(t), np.arange(len(products)), products))
        predicted: torch.Tensor = x * (1 - product) ** 0.5 / (product * DATA**2 + 1 - product)
        return predicted

    return predict


def never_scaled(scheduler: Any, predict: Any, count: int = 50_000) -> Any:
    """The loop of DDPMPipeline, of diffusion_policy and of LeRobot."""
    x = torch.randn(count, 1, generator=torch.Generator().manual_seed(0))
    options = extra(scheduler)
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, t), t, x, **options).prev_sample
    return x


def scaled(scheduler: Any, predict: Any, count: int = 50_000) -> Any:
    """The loop of Stable Diffusion's pipelines."""
    x = torch.randn(count, 1, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    options = extra(scheduler)
    for t in scheduler.timesteps:
        x = scheduler.step(predict(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
    return x


PRESERVING: dict[str, Any] = {"sample_space": "variance_preserving"}


@pytest.mark.parametrize(("cls", "std"), [(DISCRETE, 0.5105), (ANCESTRAL, 0.529)])
def test_a_loop_that_never_scales_draws_the_data(cls: Any, std: float) -> None:
    predict = exact(PIXELS)
    right = scaled(made(cls, 32, **PIXELS), predict).std()
    assert float(right) == pytest.approx(std, rel=0.01)
    told = made(cls, 32, **PIXELS, **PRESERVING)
    assert float(never_scaled(told, predict).std()) == pytest.approx(float(right), rel=1e-3)
    assert told.init_noise_sigma == 1
    # What is not said is seen from the sample that the run begins with.
    assert torch.equal(never_scaled(made(cls, 32, **PIXELS), predict), never_scaled(told, predict))


@each_class
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_karras_sigmas": True},
        {"prediction_type": "v_prediction"},
        {"prediction_type": "sample"},
        {"final_sigmas_type": "sigma_min"},
        {"timestep_spacing": "leading", "steps_offset": 1},
        {"s_noise": 1.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("begin", [0, 3, 4])
def test_coordinates_change_nothing_else(cls: Any, options: dict[str, Any], begin: int) -> None:
    options = {**LATENT, **options}
    plain, held = made(cls, 8, **options), made(cls, 8, **options, **PRESERVING)
    levels = torch.tensor(np.append(plain.table.stage_sigmas, plain.table.sigmas[-1]))
    x = torch.randn(2, 6, dtype=torch.float64) * 5
    y = x / (1 + levels[begin] ** 2).sqrt()
    generators = extra(plain), extra(held)
    for i in range(begin, len(plain.timesteps)):
        t, u = plain.timesteps[i], held.timesteps[i]
        read, same = plain.scale_model_input(x, t), held.scale_model_input(y, u)
        torch.testing.assert_close(same, read, rtol=1e-9, atol=1e-12)
        assert torch.equal(same, y)
        output = oracle.network(read, t)
        stepped, other = plain.step(output, t, x, **generators[0]), held.step(output, u, y, **generators[1])
        x, y = stepped.prev_sample, other.prev_sample
        torch.testing.assert_close(y, x / (1 + levels[i + 1] ** 2).sqrt(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(other.pred_original_sample, stepped.pred_original_sample, rtol=1e-9, atol=1e-9)


def test_churn_in_the_other_coordinates() -> None:
    predict = exact(PIXELS)
    churn = {"s_churn": 8.0, "s_noise": 1.003}
    held = never_scaled(made(DISCRETE, 32, **PIXELS, **churn, **PRESERVING), predict)
    assert float(held.std()) == pytest.approx(
        float(scaled(made(DISCRETE, 32, **PIXELS, **churn), predict).std()), rel=0.02
    )


@each_class
def test_noise_is_added_in_the_coordinates_of_the_samples(cls: Any) -> None:
    scheduler = cls(**PIXELS, **PRESERVING)
    clean, noise, timesteps = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 10, 500, 999])
    product = scheduler.alphas_cumprod[timesteps][:, None]
    expected = product.sqrt() * clean + (1 - product).sqrt() * noise
    torch.testing.assert_close(scheduler.add_noise(clean, noise, timesteps), expected)
    theirs = diffusers.DDPMScheduler(**PIXELS).add_noise(clean, noise, timesteps)
    torch.testing.assert_close(scheduler.add_noise(clean, noise, timesteps), theirs)


@each_class
def test_a_loop_that_never_scales_is_warned_of_once(cls: Any, warnings: Any) -> None:
    for sample in (torch.randn(4, 16), torch.randn(4, 16) * 200):  # small, and as large as its noise level
        scheduler = made(cls, **PIXELS)
        for _ in range(2):
            x = sample
            for t in scheduler.timesteps:
                x = scheduler.step(x * 0.1, t, x).prev_sample
    assert len(warnings()) == 2
    assert all("step was called without scale_model_input" in each for each in warnings())
    assert "are taken for ones divided by" in warnings()[0]
    assert "will be wrong" in warnings()[1]


def test_what_is_said_of_the_samples_is_not_guessed() -> None:
    scheduler = made(DISCRETE, **PIXELS, sample_space="variance_exploding")
    x = torch.randn(4, 16)
    for t in scheduler.timesteps:
        x = scheduler.step(x * 0.1, t, x).prev_sample
    assert scheduler.init_noise_sigma > 100


@pytest.mark.parametrize("options", [{"prediction_type": "flow_prediction"}, {"sigma_data": 0.5}], ids=str)
def test_only_models_with_betas_have_the_other_coordinates(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sample_space must be None for a model that is not variance preserving"):
        ANCESTRAL(**options, **PRESERVING)
    with pytest.raises(ValueError, match="sample_space must be one of 'variance_exploding', 'variance_preserving'"):
        ANCESTRAL(sample_space="vp")


@each_class
def test_a_policy_is_drawn_as_its_projects_draw_it(cls: Any) -> None:
    """diffusion_policy and LeRobot: noise of standard deviation 1, 16 actions, no scaling, a clipped clean sample."""
    predict = exact(POLICY)
    scheduler = cls.from_config(diffusers.DDPMScheduler(**POLICY).config, clip_sample=True, **PRESERVING)
    scheduler.set_timesteps(16)
    actions = torch.randn(2000, 16, 2, generator=torch.Generator().manual_seed(0))
    options = extra(scheduler)
    for t in scheduler.timesteps:
        actions = scheduler.step(predict(actions, t), t, actions, **options).prev_sample
    assert actions.abs().max() <= 1
    assert float(actions.std()) == pytest.approx(DATA, rel=0.1)


# --- What changes between two steps


@each_class
def test_a_batch_and_its_dtype_may_change_between_two_steps(cls: Any) -> None:
    scheduler = made(cls, 4)
    x = torch.randn(3, 5, dtype=torch.float64) * 10
    for i, t in enumerate(scheduler.timesteps):
        if i == 2:
            x = x[:1].float()  # a callback that drops pictures
        if i == 4:
            x = x.repeat(4, 1)
        shape, dtype = x.shape, x.dtype
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
        assert (x.shape, x.dtype) == (shape, dtype)
    assert x.shape == (4, 5)


def test_a_path_of_noise_follows_the_batch() -> None:
    scheduler = made(ANCESTRAL, 4, noise="brownian")
    scheduler.seed(3)
    x = torch.randn(3, 5)
    for i, t in enumerate(scheduler.timesteps):
        x = x[:1] if i == 2 else x
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    assert x.shape == (1, 5)
    assert x.isfinite().all()


@each_class
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_sample_overwritten_in_mid_step_is_noticed(cls: Any, mode: Any) -> None:
    def run(scheduler: Any, write: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Any:
        x, options = torch.ones(2, 3) * scheduler.init_noise_sigma, extra(scheduler)
        for t in scheduler.timesteps:
            x = write(x, scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options)[0])
        return x

    with mode():
        right = run(made(cls), lambda x, y: y)
        if mode is torch.no_grad:
            with pytest.raises(ValueError, match="sample was changed in place since it began this step"):
                run(made(cls), lambda x, y: x.copy_(y))
        else:  # torch counts no changes: a copy is kept
            assert torch.equal(run(made(cls), lambda x, y: x.copy_(y)), right)
        # Of one frame of a video, torch counts the changes of all: a copy is kept.
        frames = torch.ones(2, 3, 2) * made(cls).init_noise_sigma
        scheduler = made(cls)
        options = extra(scheduler)
        for t in scheduler.timesteps:
            x = frames[..., 0]
            frames[..., 0] = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options)[0]
        assert torch.equal(frames[..., 0], right)


@each_class
def test_the_memory_of_an_array_may_be_written_into(cls: Any) -> None:
    results = []
    for in_place in (False, True):
        scheduler = made(cls, 5)
        scheduler.seed(1)
        memory = np.full((2, 3), 14.0, dtype=np.float32)
        x = torch.from_numpy(memory)
        for t in scheduler.timesteps:
            stepped = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
            if in_place:
                memory[:] = stepped.numpy()
            else:
                x = stepped
        results.append(x.clone())
    assert torch.equal(results[0], results[1])


@each_class
def test_arrays_may_be_written_into(cls: Any) -> None:
    results = []
    for in_place in (False, True):
        scheduler = made(cls, 5)
        scheduler.seed(1)
        x = np.ones((2, 3)) * float(scheduler.init_noise_sigma)
        for t in scheduler.timesteps:
            stepped: Any = scheduler.step(0.1 * scheduler.scale_model_input(x, t), t, x).prev_sample
            if in_place:
                x[:] = stepped
            else:
                x = stepped
        results.append(x)
    np.testing.assert_array_equal(results[0], results[1])


# --- Options that change the clean sample


def test_a_clipped_clean_sample_is_that_of_the_formula() -> None:
    scheduler = made(DISCRETE, 5, clip_sample=True, clip_sample_range=0.5)
    x = torch.randn(4, 6, dtype=torch.float64) * 10
    sigma, middle = (float(scheduler.table.stage_sigmas[i]) for i in (0, 1))
    output = torch.randn(4, 6, dtype=torch.float64)
    stepped = scheduler.step(output, scheduler.timesteps[0], x)
    clean = (x - sigma * output).clamp(-0.5, 0.5)
    torch.testing.assert_close(stepped.pred_original_sample, clean)
    torch.testing.assert_close(stepped.prev_sample, x + (middle - sigma) * (x - clean) / sigma)
    second = scheduler.step(output, scheduler.timesteps[1], stepped.prev_sample)
    clean = (stepped.prev_sample - middle * output).clamp(-0.5, 0.5)
    slope = (stepped.prev_sample - clean) / middle
    torch.testing.assert_close(second.prev_sample, x + (scheduler.table.sigmas[1] - sigma) * slope)


@pytest.mark.parametrize("options", [{}, {"sample_max_value": 2.0}, {"dynamic_thresholding_ratio": 0.7}], ids=str)
def test_a_thresholded_clean_sample_is_that_of_diffusers(options: dict[str, Any]) -> None:
    theirs = diffusers.DDPMScheduler(thresholding=True, **options)
    scheduler = made(ANCESTRAL, 5, thresholding=True, **options)
    x, output = torch.randn(3, 2, 4, 4) * 14, torch.randn(3, 2, 4, 4)
    clean = scheduler.step(output, scheduler.timesteps[0], x).pred_original_sample
    expected = theirs._threshold_sample(x - scheduler.sigmas[0] * output)
    torch.testing.assert_close(clean, expected)
    half = made(ANCESTRAL, 5, thresholding=True, **options)
    clean = half.step(output.bfloat16(), half.timesteps[0], x.bfloat16()).pred_original_sample
    assert clean.dtype == torch.bfloat16


@each_class
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("space", [None, "variance_preserving"])
def test_limits_that_are_never_reached_change_nothing(cls: Any, prediction_type: str, space: str | None) -> None:
    options = {"prediction_type": prediction_type, "sample_space": space}
    results = []
    for limits in ({}, {"clip_sample": True, "clip_sample_range": 1e6}):
        scheduler = made(cls, 5, **options, **limits)
        x, own = torch.ones(2, 3, dtype=torch.float64) * scheduler.init_noise_sigma, extra(scheduler)
        for t in scheduler.timesteps:
            x = scheduler.step(oracle.network(scheduler.scale_model_input(x, t), t), t, x, **own).prev_sample
        results.append(x)
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


# --- States that programs save and put back


@each_class
@pytest.mark.parametrize("save", [copy.deepcopy, copy.copy])
def test_a_state_put_back_is_the_one_that_was_saved(cls: Any, save: Any) -> None:
    """As Panorama's pipelines do it, which step one scheduler for many views of a picture."""
    scheduler = made(cls, 4)
    views = [torch.ones(2, 3) * float(scheduler.init_noise_sigma) * (1 + i) for i in range(3)]
    expected = []
    for view in views:
        x, options = view, extra(scheduler)
        for t in scheduler.timesteps:
            x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **options).prev_sample
        expected.append(x)
    states = [save(scheduler.__dict__)] * len(views)
    generators = [extra(scheduler) for _ in views]
    for t, i in itertools.product(scheduler.timesteps, range(3)):
        scheduler.__dict__.update(states[i])
        x = views[i]
        views[i] = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, **generators[i]).prev_sample
        states[i] = save(scheduler.__dict__)
    for view, right in zip(views, expected, strict=True):
        assert torch.equal(view, right)


@each_class
def test_a_loop_that_never_scales_is_recognised_whatever_its_seed(cls: Any) -> None:
    scheduler, predict = cls(**PIXELS), exact(PIXELS)
    for seed in range(100):
        scheduler.set_timesteps(3)
        x = torch.randn(1, 16, 2, generator=torch.Generator().manual_seed(seed))
        for t in scheduler.timesteps:
            x = scheduler.step(predict(x, t), t, x).prev_sample
        assert x.abs().max() < 100  # one that is not recognised ends at 1e5


@each_class
@pytest.mark.parametrize("source", [of_clones, of_numbers])
def test_a_loop_of_copies_that_is_cut_off_in_mid_step_is_refused(cls: Any, source: Any) -> None:
    scheduler = made(cls, 8, **LATENT)
    x = torch.randn(2, 4) * scheduler.init_noise_sigma
    for i, t in enumerate(source(scheduler)):
        if i == 5:
            scheduler.set_timesteps(8)
            with pytest.raises(ValueError, match="took the place of in mid-run"):
                scheduler.scale_model_input(x, t)
            break
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample


def test_a_path_of_noise_follows_a_batch_and_its_generators() -> None:
    scheduler = made(ANCESTRAL, 4, noise="brownian")
    x, generators = torch.randn(3, 5), [torch.Generator().manual_seed(i) for i in range(3)]
    for i, t in enumerate(scheduler.timesteps):
        if i == 2:
            x, generators = x[:2], generators[:2]
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(scaled, t), t, x, generator=generators).prev_sample
    assert x.shape == (2, 5)
