"""Guidance in its forms, against the formulas of the papers, written in clean samples and noise."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

import kdpm2
from kdpm2 import Denoiser, noise_schedule, spacing
from kdpm2.batching import Request, serve
from kdpm2.generate import generate
from kdpm2.noise import generator_of, seeded
from kdpm2.table import StageTable, dpm2, of_stages
from tests import families
from tests.families import MODELS, start
from tests.generate.made import levels, pictures

SCALE = 0.7
HALVES: dict[str, Any] = {
    "cond": torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4),
    "uncond": torch.zeros(3, 4, dtype=torch.float64),
}
Clean = Callable[[torch.Tensor, float, torch.Tensor], torch.Tensor]


def network(x: torch.Tensor, timestep: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x + cond) + timestep[:, None] / 5000


def model(name: str) -> Denoiser:
    return families.denoiser(name, network)


def estimates(name: str, x: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The clean sample as CFG++ guides it, the noise as it is told without guidance, and alpha."""
    level = torch.tensor(sigma, dtype=torch.float64)
    without, with_it = (model(name)(x, level, cond=HALVES[half]) for half in ("uncond", "cond"))
    alpha = 1 - sigma if name == "flow" else 1.0
    return without + SCALE * (with_it - without), (x - alpha * without) / sigma, alpha


def noise_of_steps(count: int) -> list[torch.Tensor]:
    generator: Any = seeded(5)
    return [torch.randn(3, 4, dtype=torch.float64, generator=generator) for _ in range(count)]


def split(name: str, table: StageTable, step: int) -> tuple[float, float, float]:
    down, following = float(table.down[step]), float(table.sigmas[step + 1])
    return down, float(table.up[step]), (1 - following) / (1 - down) if name == "flow" else 1.0


@pytest.mark.parametrize("name", MODELS)
def test_steps_of_euler_are_those_of_the_paper(name: str) -> None:
    """Clean sample and noise of one step are the sample of the next: the paper's algorithm, in these coordinates."""
    x = start(name)
    for sigma, following in pairwise(MODELS[name][2]):
        clean, noise, _ = estimates(name, x, sigma)
        x = (1 - following if name == "flow" else 1.0) * clean + following * noise
    schedule, prediction, sigmas = MODELS[name]
    levels = np.array(sigmas[:-1])
    euler = of_stages(
        schedule,
        spacing.given(schedule, sigmas),
        prediction,
        step=np.arange(len(levels)),
        level=levels,
        x=np.ones_like(levels),
        slope=np.diff(sigmas),
        anchor=np.zeros_like(levels),
    )
    guided = kdpm2.guided(model(name), SCALE, plus_plus=True)
    made = kdpm2.sample(guided, start(name), euler, conditioning=HALVES)
    torch.testing.assert_close(made, x, rtol=1e-9, atol=1e-9)


def by_formulas(name: str, eta: float) -> torch.Tensor:
    """Two stages a step, from the clean sample and the noise that are told where the step starts."""
    schedule, prediction, sigmas = MODELS[name]
    table = dpm2(schedule, spacing.given(schedule, sigmas), prediction, eta)
    draws = iter(noise_of_steps(len(sigmas)))
    x = start(name)
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        clean, noise, alpha = estimates(name, x, sigma)
        if following == 0:
            return clean
        down, up, ratio = split(name, table, step)
        mid = (sigma * down) ** 0.5
        anchor = alpha * clean + sigma * noise
        at_mid = (1 - mid if name == "flow" else 1.0) * clean + mid * noise
        # The slope of the guided clean sample at the midpoint, which the whole step follows.
        slope = (at_mid - estimates(name, at_mid, mid)[0]) / mid
        x = ratio * (anchor + (down - sigma) * slope) + up * next(draws)
    raise AssertionError


def sampled(name: str, eta: float, **options: Any) -> torch.Tensor:
    guided = kdpm2.guided(model(name), SCALE, plus_plus=True)
    return kdpm2.sample(guided, start(name), MODELS[name][2], eta=eta, seeds=5, conditioning=HALVES, **options)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_two_stages_by_the_formulas(name: str, eta: float) -> None:
    torch.testing.assert_close(sampled(name, eta), by_formulas(name, eta), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_a_condition_that_changes_nothing(name: str) -> None:
    halves = {"cond": HALVES["cond"], "uncond": HALVES["cond"]}
    guided = kdpm2.guided(model(name), SCALE, plus_plus=True)
    made, plain = (
        kdpm2.sample(each, start(name), MODELS[name][2], seeds=5, conditioning=given)
        for each, given in ((guided, halves), (model(name), {"cond": HALVES["cond"]}))
    )
    torch.testing.assert_close(made, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["flow"])
def test_a_compiler_makes_the_same(name: str) -> None:
    torch.testing.assert_close(sampled(name, 1.0, mode="compile"), sampled(name, 1.0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_requests_that_share_calls_are_samples_made_alone(name: str) -> None:
    guided = kdpm2.guided(model(name), SCALE, plus_plus=True)
    sigmas = MODELS[name][2]
    asked = [(0.0, sigmas), (1.0, sigmas), (0.5, [sigmas[0], sigmas[2], 0.0])]
    requests, alone = [], []
    for i, (eta, falling) in enumerate(asked):
        given = {half: value[i] for half, value in HALVES.items()}
        x = start(name)[i]
        requests.append(Request(sigmas=falling, eta=eta, x=x, seed=i, conditioning=given))
        one = {half: value[None] for half, value in given.items()}
        alone.append(kdpm2.sample(guided, x[None], falling, eta=eta, seeds=[i], conditioning=one)[0])
    results = serve(guided, requests, shape=(4,), dtype=torch.float64, max_batch=2)
    made = {each.request.seed: each.sample for each in results}
    torch.testing.assert_close([made[i] for i in range(3)], alone, rtol=1e-9, atol=1e-9)


def test_a_callback_sees_the_guided_clean_sample_and_a_run_goes_on() -> None:
    seen: list[dict[str, Any]] = []
    whole = sampled("betas", 1.0, callback=lambda told: seen.append(told | {"state": told["state"]()}))
    for told in seen:
        clean, _, _ = estimates("betas", told["x"], float(told["sigma"]))
        torch.testing.assert_close(told["denoised"], clean, rtol=1e-9, atol=1e-9)
    assert torch.equal(sampled("betas", 1.0, resume=seen[2]["state"]), whole)


@pytest.mark.parametrize("plus_plus", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_outside_its_interval_guidance_is_1(name: str, plus_plus: bool) -> None:
    """Each level of the run is inside or outside; the lower end belongs to what is outside."""
    sigmas = MODELS[name][2]
    low, high = sigmas[3], sigmas[1]
    inside, outside = (kdpm2.guided(model(name), SCALE, plus_plus=each) for each in (plus_plus, False))
    limited = kdpm2.guided(model(name), SCALE, plus_plus=plus_plus, interval=(low, high))
    schedule = MODELS[name][0]
    x = start(name)
    for sigma in sigmas[:-1]:
        timestep = torch.full((3,), float(schedule.timestep(sigma)), dtype=torch.float64)
        said = limited.outputs(x, timestep, **HALVES)
        if low < sigma <= high:
            expected = inside.outputs(x, timestep, **HALVES)
            assert (said.unguided is None) == (expected.unguided is None)
        else:
            expected = outside.outputs(x, timestep, cond=HALVES["cond"], uncond=HALVES["cond"])
            assert said.unguided is None or torch.equal(said.unguided, said.followed)
        torch.testing.assert_close(said.followed, expected.followed)


@pytest.mark.parametrize("interval", [(0, 1e6), (0.0, float("inf"))])
def test_an_interval_of_all_levels_is_none(interval: tuple[float, float]) -> None:
    x, sigma = start("betas"), torch.tensor([1e-3, 1.0, 1e5], dtype=torch.float64)
    limited, plain = kdpm2.guided(model("betas"), 3.0, interval=interval), kdpm2.guided(model("betas"), 3.0)
    assert torch.equal(limited(x, sigma, **HALVES), plain(x, sigma, **HALVES))


def test_samples_of_one_call_are_guided_each_by_its_own_level() -> None:
    x, sigma = start("betas"), torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    limited = kdpm2.guided(model("betas"), 3.0, interval=(0.5, 5))(x, sigma, **HALVES)
    everywhere, nowhere = (kdpm2.guided(model("betas"), scale)(x, sigma, **HALVES) for scale in (3.0, 1.0))
    torch.testing.assert_close(limited, torch.stack([nowhere[0], everywhere[1], nowhere[2]]))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_rescaling_is_diffusers(share: float) -> None:
    x, timestep = torch.randn(3, 2, 5, 5), torch.tensor([1.0, 500.0, 999.0])
    halves = {"cond": torch.randn(3, 2, 5, 5), "uncond": torch.randn(3, 2, 5, 5)}

    def of_images(x: torch.Tensor, timestep: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x + cond) * 2

    trained = Denoiser(of_images, noise_schedule.discrete())
    plain, made = (kdpm2.guided(trained, 7.0, rescale=each).predict(x, timestep, **halves) for each in (0.0, share))
    with_it = of_images(x, timestep, halves["cond"])
    torch.testing.assert_close(made, rescale_noise_cfg(plain, with_it, share))


def test_a_loop_of_somebody_else_is_warned() -> None:
    plus_plus, plain = (kdpm2.guided(model("betas"), SCALE, plus_plus=each) for each in (True, False))
    sigma = torch.ones(3, dtype=torch.float64)
    with pytest.warns(UserWarning, match="plus_plus has no effect in a loop that calls the denoiser itself"):
        made = plus_plus(start("betas"), sigma, **HALVES)
    assert torch.equal(made, plain(start("betas"), sigma, **HALVES))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "share": ({"rescale": 1.5}, "rescale must be a number from 0 to 1, got 1.5"),
    "flag": ({"plus_plus": "yes"}, "plus_plus must be True or False, got 'yes'"),
    "falling": ({"interval": (5.0, 0.5)}, r"interval must be two noise levels, from 0 on and rising, got \(5.0, 0.5\)"),
    "one": ({"interval": [5.0]}, "interval must be two noise levels, from 0 on and rising, got "),
    "negative": ({"interval": (-1, 2)}, "interval must be two noise levels, from 0 on and rising, got "),
    "three": ({"interval": (1, 2, 3)}, "interval"),
    "words": ({"interval": "1,2"}, "interval must be"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        kdpm2.guided(model("betas"), 2.0, **options)


def test_a_pipelines_network() -> None:
    """Its own conditioning in the place of that of a call."""
    pipe, labels = kdpm2.zoo.digits(), [3, 5]
    bound = kdpm2.denoiser_of(pipe, labels=labels, guidance_scale=SCALE, guidance_plus_plus=True)

    def unet(x: torch.Tensor, timestep: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = pipe.unet(x, timestep, cond).sample
        return output

    by_hand = kdpm2.guided(Denoiser(unet, bound.schedule, bound.prediction_type), SCALE, plus_plus=True)
    halves = {"cond": torch.tensor(labels), "uncond": torch.tensor([10, 10])}
    x = torch.randn(2, 1, 8, 8) * 30
    sigmas = [30.0, 3.0, 0.5, 0.0]
    made = kdpm2.sample(bound, x, sigmas, seeds=1)
    torch.testing.assert_close(made, kdpm2.sample(by_hand, x, sigmas, seeds=1, conditioning=halves))


FORMS: list[dict[str, Any]] = [
    {"guidance_scale": 3.0},
    {"guidance_scale": SCALE, "guidance_plus_plus": True},
    {"guidance_scale": 1.0, "guidance_plus_plus": True, "guidance_interval": (0.5, 20)},
    {"guidance_scale": 6.0, "guidance_rescale": 0.7, "guidance_interval": (0.0, 5)},
]


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_the_built_in_pipeline_and_rows_of_a_table(options: dict[str, Any], tmp_path: Path) -> None:
    """The scheduler's loop, the loop without a scheduler, and rows that share calls, without fresh noise."""
    labels, seeds = [3, 8, 10], [5, 6, 7]
    pipe: Any = kdpm2.zoo.digits()
    pipe.scheduler = kdpm2.KDPM2DiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    by_scheduler = pipe(
        labels=labels, num_inference_steps=6, generator=[generator_of(s) for s in seeds], output_type="pt", **options
    ).images

    denoiser = kdpm2.denoiser_of(pipe, labels=labels, **options)
    noise = torch.cat([torch.randn(1, 1, 8, 8, generator=generator_of(seed)) for seed in seeds])
    made = kdpm2.sample(denoiser, noise * pipe.scheduler.init_noise_sigma, pipe.scheduler.table)
    torch.testing.assert_close((made / 2 + 0.5).clamp(0, 1), by_scheduler, rtol=0, atol=1e-4)

    said = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    rows: list[dict[str, Any]] = [
        {"id": i, "seed": seed, "label": label, "steps": 6, **(said if label != 8 else {"guidance_scale": 2.0})}
        for i, (seed, label) in enumerate(zip(seeds, labels, strict=True))
    ]
    generate(rows, tmp_path / "rows", engine="local", options={"sampler": "discrete"}, batch=2, format="png")
    drawn = {kept.number: levels(kept) for kept in pictures(tmp_path / "rows")}
    for i in (0, 2):
        assert np.abs(drawn[i] - by_scheduler[i, 0].numpy()).max() <= 0.5 / 255 + 1e-4
