"""Every kind of pipeline that diffusers would run with its own KDPM2 draws the same pictures with kdpm2's.

Each row of the table in `rows.py` is a real pipeline with small random networks, run once with diffusers' scheduler and
once with ours. Every sample that is stepped on the way is compared as well as the pictures, since the last noise level
of a run hardly shows in them. So that saturated or constant pictures hide nothing, each run shows as well that its
pictures vary and depend on the seed. Stable Diffusion's text-to-image, image-to-image and inpainting, and DDPM, are in
`test_same_pictures.py`.
"""

import ast
import copy
import functools
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import kdpm2

from .conftest import Comparison, Pictures
from .networks import xl_unet
from .rows import (
    ANCESTRAL,
    COVERED_ELSEWHERE,
    FAILURES_OF_DIFFUSERS,
    HERE,
    KARRAS,
    NOT_COVERED,
    SCHEDULERS,
    SIZE,
    STEPS,
    TABLE,
    TOLERANCE,
    XL_ABSENT,
    XL_PROMPTS,
    Failure,
    Row,
)


def built(row: Row, components: Mapping[str, Any]) -> Any:
    """The pipeline, with None for what its constructor asks for and a run does without."""
    # Its own autoencoder, since the upscaling pipeline writes into the configuration of the one it is given.
    own = {"vae": copy.deepcopy(components["vae"]), "scheduler": theirs(ANCESTRAL, row)}
    own["prior_tokenizer"] = own["clip_tokenizer"] = components["tokenizer"]
    given = {**components, **own, **row.modules()}
    build = getattr(diffusers, row.pipeline)
    parameters = inspect.signature(build.__init__).parameters.values()
    wanted = {
        each.name: given.get(each.name)
        for each in parameters
        if each.name in given or (each.default is each.empty and each.name not in ("self", "kwargs"))
    }
    pipeline = build(**wanted)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def theirs(scheduler: str, row: Row) -> Any:
    return getattr(diffusers, scheduler)(**row.config)


def exchanged(scheduler: Any) -> Any:
    return getattr(kdpm2, type(scheduler).__name__).from_config(scheduler.config)


def seeded(seeds: tuple[int, ...]) -> torch.Generator | list[torch.Generator]:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return generators if len(seeds) > 1 else generators[0]


def drawn(pipeline: Any, scheduler: Any, row: Row, shift: int = 0, **options: Any) -> Pictures:
    pipeline.scheduler = scheduler
    given = {"num_inference_steps": STEPS, **row.arguments, **options}
    if "output_type" in inspect.signature(pipeline.__call__).parameters:
        given = {"output_type": "np", **given}
    torch.manual_seed(row.seeds[0] + shift)  # for pipelines that give their generator to no step
    output = pipeline(**given, generator=seeded(tuple(seed + shift for seed in row.seeds)))[0]
    return np.asarray(output, dtype=np.float32)


def stages_seen(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, torch.Tensor]]:
    """The timesteps and samples that `step` is given from now on, by this scheduler and its copies."""
    seen, step = list[tuple[float, torch.Tensor]](), type(scheduler).step

    # Pipelines look at the signature.
    @functools.wraps(step)
    def watched(self: Any, model_output: Any, timestep: Any, sample: Any, *args: Any, **options: Any) -> Any:
        seen.append((float(timestep), sample.detach().clone()))
        return step(self, model_output, timestep, sample, *args, **options)

    monkeypatch.setattr(type(scheduler), "step", watched)
    return seen


def check_varied(pictures: Pictures, others: Pictures) -> None:
    """That a comparison of the pictures would have shown a difference."""
    assert np.isfinite(pictures).all()
    assert pictures.std() > 0.03
    assert np.mean((pictures == 0) | (pictures == 1)) < 0.5
    assert np.abs(pictures - others).max() > 0.05


# What is one way with the ancestral class and another with the discrete one is seen in a third of the pipelines.
BOTH = [
    pytest.param(title, name, marks=[pytest.mark.slow] if name != ANCESTRAL and place % 3 else [])
    for place, (title, row) in enumerate(HERE.items())
    for name in row.schedulers
]


@pytest.mark.parametrize(("title", "name"), BOTH)
def test_the_pictures_are_those_of_diffusers(
    components: dict[str, Any], title: str, name: str, difference: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = TABLE[title]
    pipeline, scheduler = built(row, components), theirs(name, row)
    ours = exchanged(scheduler)
    with monkeypatch.context() as patch:
        their_stages, stages = (stages_seen(each, patch) for each in (scheduler, ours))
        expected = drawn(pipeline, scheduler, row)
        pictures = drawn(pipeline, ours, row)
    for (their_timestep, their_sample), (timestep, sample) in zip(their_stages, stages, strict=True):
        assert timestep == pytest.approx(their_timestep, abs=1e-3)
        assert sample.ndim == row.dimensions
        level = their_sample.std()
        torch.testing.assert_close(sample / level, their_sample / level, rtol=0, atol=TOLERANCE)
    assert len(pictures) == row.pictures
    assert difference(f"{title}, {name}", pictures, expected, pipeline) <= TOLERANCE
    if name == ANCESTRAL:
        check_varied(pictures, drawn(pipeline, pipeline.scheduler, row, shift=7))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_base_hands_its_latents_on_to_a_refiner(
    components: dict[str, Any], name: str, difference: Comparison
) -> None:
    options = {"num_inference_steps": 5, "output_type": "np"}
    base, refiner = (
        built(Row(pipeline, modules, {}), components)
        for pipeline, modules in (
            ("StableDiffusionXLPipeline", lambda: {**XL_ABSENT, "unet": xl_unet()}),
            (
                "StableDiffusionXLImg2ImgPipeline",
                lambda: {**XL_ABSENT, "unet": xl_unet(ids=5), "requires_aesthetics_score": True},
            ),
        )
    )

    def refined(scheduler: Any, seed: int = 0) -> Pictures:
        base.scheduler = scheduler
        refiner.scheduler = type(scheduler).from_config(scheduler.config)
        generator = torch.Generator().manual_seed(seed)
        prompts = {**XL_PROMPTS, "generator": generator}
        latents = base(**prompts, **{**options, "output_type": "latent"}, **SIZE, denoising_end=0.6).images
        pictures: Pictures = refiner(**prompts, **options, image=latents, denoising_start=0.6).images
        return pictures

    reference = getattr(diffusers, name)(**KARRAS)
    expected, pictures = refined(reference), refined(exchanged(reference))
    assert difference(f"base and refiner, {name}", pictures, expected, base, refiner) <= TOLERANCE
    check_varied(pictures, refined(exchanged(reference), seed=1))


@pytest.mark.parametrize(("title", "name"), zip(["xl", "controlnet, image"], SCHEDULERS, strict=True))
def test_a_callback_sees_and_changes_every_stage(
    components: dict[str, Any], title: str, name: str, difference: Comparison
) -> None:
    row, seen = TABLE[title], list[tuple[int, float, torch.Tensor]]()
    pipeline, scheduler = built(row, components), theirs(name, row)

    def callback(_: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, float(timestep), tensors["latents"].clone()))
        return {"latents": tensors["latents"] * 0.5 + 1}

    expected = drawn(pipeline, scheduler, row, callback_on_step_end=callback)
    theirs_seen = seen.copy()
    seen.clear()
    pictures = drawn(pipeline, exchanged(scheduler), row, callback_on_step_end=callback)
    assert [step for step, _, _ in seen] == [step for step, _, _ in theirs_seen]
    for (_, timestep, latents), (_, their_timestep, their_latents) in zip(seen, theirs_seen, strict=True):
        assert timestep == pytest.approx(their_timestep, abs=1e-3)
        torch.testing.assert_close(latents, their_latents, rtol=1e-4, atol=1e-4)
    assert difference(f"{title}, callback, {name}", pictures, expected, pipeline) <= TOLERANCE
    check_varied(pictures, drawn(pipeline, pipeline.scheduler, row))


class BrokenOffError(Exception):
    pass


@pytest.mark.parametrize(
    ("title", "name", "last"),  # a stage that ends on a midpoint, and one that ends a step; each two of the three meet
    [(title, SCHEDULERS[(i + last) % 2], last) for i, title in enumerate(["xl", "xl, image"]) for last in (0, 1)],
)
def test_a_run_broken_off_leaves_no_trace(
    components: dict[str, Any], title: str, name: str, last: int, difference: Comparison
) -> None:
    def break_off(_: Any, stage: int, *__: Any) -> dict[str, Any]:
        if stage == last:
            raise BrokenOffError
        return {}

    def interrupt(pipeline: Any, stage: int, *__: Any) -> dict[str, Any]:
        pipeline._interrupt = stage == last
        return {}

    row = TABLE[title]
    pipeline, scheduler = built(row, components), theirs(name, row)
    ours, fresh = exchanged(scheduler), drawn(pipeline, exchanged(scheduler), row)
    with pytest.raises(BrokenOffError):
        drawn(pipeline, ours, row, callback_on_step_end=break_off)
    np.testing.assert_array_equal(drawn(pipeline, ours, row), fresh)

    expected, pictures = (drawn(pipeline, each, row, callback_on_step_end=interrupt) for each in (scheduler, ours))
    assert difference(f"{title}, interrupted after stage {last}, {name}", pictures, expected, pipeline) <= TOLERANCE
    assert np.abs(pictures - fresh).max() > 50 * TOLERANCE
    np.testing.assert_array_equal(drawn(pipeline, ours, row), fresh)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_pipelines_take_turns_with_one_scheduler(components: dict[str, Any], name: str, difference: Comparison) -> None:
    rows = TABLE["xl"], TABLE["xl, image"]
    reference = theirs(name, rows[0])
    pipeline = built(rows[0], components)
    pipeline.scheduler = shared = exchanged(reference)
    both = pipeline, diffusers.AutoPipelineForImage2Image.from_pipe(pipeline)
    both[1].set_progress_bar_config(disable=True)
    assert both[1].scheduler is shared
    expected = [drawn(each, reference, row) for each, row in zip(both, rows, strict=True)]
    for turn in (0, 1, 0):
        pictures = drawn(both[turn], shared, rows[turn])
        assert difference(f"one scheduler for two, {name}", pictures, expected[turn], both[turn]) <= TOLERANCE
    check_varied(*expected)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_run_within_a_run_needs_a_scheduler_of_its_own(components: dict[str, Any], name: str) -> None:
    row = TABLE["xl"]
    outer, inner, scheduler = built(row, components), built(row, components), theirs(name, row)
    alone = drawn(outer, exchanged(scheduler), row)
    own, within = exchanged(scheduler), list[Pictures]()

    def draw_another(_: Any, stage: int, *__: Any) -> dict[str, Any]:
        within.append(drawn(inner, own, row))
        return {}

    np.testing.assert_array_equal(drawn(outer, exchanged(scheduler), row, callback_on_step_end=draw_another), alone)
    assert len(within) == 2 * STEPS - 1
    for pictures in within:
        np.testing.assert_array_equal(pictures, alone)


def test_a_saved_pipeline_draws_the_same(components: dict[str, Any], tmp_path: Path, difference: Comparison) -> None:
    row = TABLE["xl"]
    pipeline, scheduler = built(row, components), theirs(ANCESTRAL, row)
    expected = drawn(pipeline, scheduler, row)
    pipeline.scheduler = exchanged(scheduler)
    pipeline.save_pretrained(tmp_path)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded.scheduler) is kdpm2.KDPM2AncestralDiscreteScheduler
    pictures = drawn(loaded, loaded.scheduler, row)
    assert difference(f"xl, saved, {ANCESTRAL}", pictures, expected, pipeline) <= TOLERANCE


def installed(*failures: Failure) -> pytest.MarkDecorator:
    here = [failure for failure in failures if hasattr(diffusers, failure.row.pipeline)]
    return pytest.mark.parametrize("failure", here, ids=[failure.row.pipeline for failure in here])


@pytest.mark.parametrize("name", SCHEDULERS)
@installed(*FAILURES_OF_DIFFUSERS)
def test_what_is_not_compared_fails_with_diffusers(components: dict[str, Any], failure: Failure, name: str) -> None:
    pipeline = built(failure.row, components)
    with pytest.raises(failure.error, match=failure.message):
        drawn(pipeline, theirs(name, failure.row), failure.row)


ADMITTING = r"KarrasDiffusionSchedulers|SchedulerMixin|KDPM2"


def admitted() -> set[str]:
    """The pipelines of the installed diffusers whose constructor says that it takes the reference's class, or any.

    By the classes, and by the source too, for those that need packages which are not installed.
    """
    names = {
        name
        for name in dir(diffusers)
        if "KDiffusion" not in name  # cannot be imported where k-diffusion is without what it needs
        and inspect.isclass(build := getattr(diffusers, name))
        and issubclass(build, diffusers.DiffusionPipeline)
        and any(
            "scheduler" in parameter.name and admits(parameter.annotation)
            for parameter in inspect.signature(build.__init__).parameters.values()
        )
    }
    for path in Path(diffusers.__file__).parent.glob("pipelines/**/*.py"):
        text = path.read_text(encoding="utf-8")
        for build in ast.walk(ast.parse(text)) if re.search(ADMITTING, text) else ():
            if isinstance(build, ast.ClassDef) and "Pipeline" in build.name and not build.name.startswith("Flax"):
                names |= {
                    build.name
                    for parameter in parameters(build)
                    if "scheduler" in parameter.arg and admits(parameter.annotation)
                }
    return names


def parameters(build: ast.ClassDef) -> list[ast.arg]:
    functions = [each for each in build.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    return [parameter for each in functions for parameter in [*each.args.args, *each.args.kwonlyargs]]


def admits(annotation: Any) -> bool:
    if annotation in (None, inspect.Parameter.empty):
        return True
    text = ast.unparse(annotation) if isinstance(annotation, ast.AST) else str(annotation)
    return re.search(ADMITTING, text) is not None


@pytest.mark.slow  # it reads all of diffusers' source, and can only fail where that is another version
def test_every_pipeline_that_admits_the_reference_is_covered_or_has_a_reason() -> None:
    covered = {row.pipeline for row in TABLE.values()} | COVERED_ELSEWHERE
    names = admitted()
    print(f"\n{len(names)} admitted: {len(names & covered)} covered, {len(names - covered)} not covered")
    assert len(names) > 50
    assert sorted(names - covered - set(NOT_COVERED)) == []
    assert sorted(covered & set(NOT_COVERED)) == []


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(
    "title",
    [
        "text, guidance rescaled",
        "sound",
        # CPUs are slow to convolve in bfloat16.
        *(pytest.param(title, marks=pytest.mark.slow) for title in ("xl", "controlnet, image", "motion, pag")),
    ],
)
def test_bfloat16_rounds_no_worse_than_with_diffusers(
    components: dict[str, Any], title: str, name: str, difference: Comparison
) -> None:
    row = TABLE[title]
    pipeline, scheduler = built(row, components), theirs(name, row)
    exact = drawn(pipeline, scheduler, row)
    for part, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            setattr(pipeline, part, copy.deepcopy(module).to(torch.bfloat16))
    given = {
        part: value.to(torch.bfloat16) if isinstance(value, torch.Tensor) else value
        for part, value in row.arguments.items()
    }
    half = row._replace(arguments=given)
    expected, pictures = drawn(pipeline, scheduler, half), drawn(pipeline, exchanged(scheduler), half)
    largest = difference(f"{title}, {name}", pictures, expected, pipeline, dtype="bfloat16")
    errors, their_errors = (np.abs(rounded - exact) for rounded in (pictures, expected))
    assert errors.max() <= 2 * their_errors.max()
    assert np.sqrt(np.mean(errors**2)) <= 1.25 * np.sqrt(np.mean(their_errors**2))
    # As close to one another as either is to the exact pictures, which are far closer to those of no other seed.
    assert largest <= 2 * their_errors.max() < 0.5 * np.ptp(exact)
    check_varied(pictures, drawn(pipeline, pipeline.scheduler, half, shift=7))
