"""The table: what programs do with a scheduler, where diffusers does it, and a check that the right thing comes of it.

Each row is one kind of access to a scheduler: a call with certain arguments, an attribute that is read or written, a
test of its class. They were found by a walk over the syntax trees of diffusers 0.42.1: its `pipelines`,
`modular_pipelines`, `hooks`, `guiders`, `experimental` and `training_utils.py`, and its `examples` and `scripts`. The
walk noted every access on an expression whose name ends in `scheduler`: 476 forms of it in 617 files. Forms that
differ in nothing that a scheduler could notice share a row. `files` counts the files that hold one of the row's forms.

A check uses a scheduler in a small loop, as the row's programs do. What comes out is compared with diffusers' own KDPM2
class in the same loop where that class can do it and is right, else with a formula.
"""

import copy
import functools
import inspect
import json
import math
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import diffusers
import numpy as np
import pytest
import torch
from diffusers import training_utils
from diffusers.configuration_utils import FrozenDict

from tests import oracle

Scheduler = Any
Class = Any
Check = Callable[[Class], None]
Use = Callable[[Scheduler], Any]

STEPS = 5
STAGES = 2 * STEPS - 1
CLOSE = 1e-5
FLOW = {"prediction_type": "flow_prediction"}
LEADING: dict[str, Any] = {"beta_schedule": "scaled_linear", "timestep_spacing": "leading", "steps_offset": 1}


class Row(NamedTuple):
    """One kind of access.

    where: A file that does it, from the folder of diffusers or from its repository.
    files: How many files do; 0 for what kdpm2 promises beyond, of which `where` does the like.
    check: What has to come of it.
    """

    where: str
    files: int
    check: Check


class Refused(NamedTuple):
    """One kind of access that no KDPM2 scheduler can answer, diffusers' own included.

    reason: Why not.
    attempt: The access.
    error: What it raises.
    """

    where: str
    files: int
    reason: str
    attempt: Use
    error: type[Exception]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape or (2, 4, 6, 6), generator=torch.Generator().manual_seed(seed))


IMAGE, NOISE, OTHER = drawn(seed=1), drawn(seed=2), drawn(seed=3)


def reference(cls: Class) -> Class:
    return getattr(diffusers, cls.__name__)


@functools.cache
def _made_once(cls: Class, config: tuple[tuple[str, Any], ...]) -> Scheduler:
    return reference(cls)(**dict(config))


def theirs_like(cls: Class, **config: Any) -> Scheduler:
    """A new scheduler of diffusers' class: a copy, since to make one takes half a second."""
    return copy.deepcopy(_made_once(cls, tuple(config.items())))


def flow(cls: Class, **options: Any) -> Scheduler:
    """Our scheduler for a flow, without noise, so that a run can be computed by hand."""
    eta = {"eta": 0.0} if "Ancestral" in cls.__name__ else {}
    return cls(**FLOW, **eta, **options)


def noise_options(scheduler: Scheduler, seed: int = 5) -> dict[str, Any]:
    """What pipelines give to every `step` that takes it."""
    takes_it = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": torch.Generator().manual_seed(seed)} if takes_it else {}


def stage(scheduler: Scheduler, t: Any, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    output = oracle.network(scheduler.scale_model_input(x, t), torch.as_tensor(t))
    stepped: torch.Tensor = scheduler.step(output, t, x, **options, return_dict=False)[0]
    return stepped


def start(scheduler: Scheduler, seed: int = 0) -> torch.Tensor:
    x: torch.Tensor = drawn(seed=seed) * scheduler.init_noise_sigma
    return x


def loop(scheduler: Scheduler, x: torch.Tensor | None = None, timesteps: Any = None, seed: int = 5) -> torch.Tensor:
    """The loop of almost every pipeline."""
    x = start(scheduler) if x is None else x
    options = noise_options(scheduler, seed)
    for t in scheduler.timesteps if timesteps is None else timesteps:
        x = stage(scheduler, t, x, options)
    return x


def check_close(actual: Any, expected: Any, tolerance: float = CLOSE) -> None:
    actual, expected = torch.as_tensor(actual).double(), torch.as_tensor(expected).double()
    assert actual.shape == expected.shape
    assert torch.isfinite(expected).all()
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-3)


def check_same(actual: Any, expected: Any, tolerance: float = CLOSE) -> None:
    """Tensors to the tolerance, and everything else equal."""
    if isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected)
        for each, other in zip(actual, expected, strict=True):
            check_same(each, other, tolerance)
    elif isinstance(expected, (torch.Tensor, np.ndarray)):
        check_close(actual, expected, tolerance)
    else:
        assert actual == expected


def like_diffusers(use: Use, tolerance: float = CLOSE, **config: Any) -> Check:
    """A check that our scheduler does what diffusers' own does."""

    def check(cls: Class) -> None:
        expected = use(theirs_like(cls, **config))
        check_same(use(cls(**config)), expected, tolerance)

    return check


def like_a_plain_run(use: Use, **config: Any) -> Check:
    """A check that comes to the picture of diffusers' own class in the usual loop."""

    def check(cls: Class) -> None:
        theirs = theirs_like(cls, **config)
        theirs.set_timesteps(STEPS)
        check_close(use(cls(**config)), loop(theirs))

    return check


def by_hand(sigmas: torch.Tensor, timesteps: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The midpoint method for a flow without noise; `sigmas` are those of the stages, then the end."""
    began = x
    for i, t in enumerate(timesteps):
        velocity = oracle.network(x, t)
        if i % 2:
            x = began + (sigmas[i + 1] - sigmas[i - 1]) * velocity
        else:
            began, x = x, x + (sigmas[i + 1] - sigmas[i]) * velocity
    return x


def check_flow_run(scheduler: Scheduler) -> None:
    """The levels of a flow's stages go down to 0, its run is the midpoint method on them."""
    sigmas = scheduler.sigmas
    assert len(sigmas) == len(scheduler.timesteps) + 1
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0
    x = start(scheduler)
    check_close(loop(scheduler, x), by_hand(sigmas, scheduler.timesteps, x))


def shifted(sigmas: Any, mu: float) -> torch.Tensor:
    each = torch.as_tensor(sigmas, dtype=torch.float64)
    return math.exp(mu) / (math.exp(mu) + 1 / each - 1)


# --- Setting the schedule ---------------------------------------------------------------------------------------------


def schedule(set_timesteps: Use) -> Check:
    def use(scheduler: Scheduler) -> Any:
        set_timesteps(scheduler)
        return len(scheduler.timesteps), scheduler.num_inference_steps, loop(scheduler)

    return like_diffusers(use)


def evenly_spaced(scheduler: Scheduler) -> list[float]:
    """The timesteps that diffusers would take by itself."""
    timesteps: list[float] = np.linspace(scheduler.config.num_train_timesteps - 1, 0, STEPS).tolist()
    return timesteps


def with_timesteps(scheduler: Scheduler) -> torch.Tensor:
    assert "timesteps" in inspect.signature(scheduler.set_timesteps).parameters
    wanted = evenly_spaced(scheduler)
    scheduler.set_timesteps(timesteps=wanted, device="cpu")
    assert len(scheduler.timesteps) == STAGES
    assert scheduler.order == 1  # such programs take the stages for the steps
    check_close(scheduler.timesteps[::2], wanted)
    return loop(scheduler)


def with_sigmas(kind: Callable[[torch.Tensor], Any]) -> Use:
    def use(scheduler: Scheduler) -> torch.Tensor:
        assert "sigmas" in inspect.signature(scheduler.set_timesteps).parameters
        trained = ((1 - scheduler.alphas_cumprod.double()) / scheduler.alphas_cumprod.double()) ** 0.5
        sigmas = np.interp(evenly_spaced(scheduler), np.arange(len(trained)), trained.numpy())
        scheduler.set_timesteps(sigmas=kind(torch.from_numpy(sigmas)), device="cpu")
        assert len(scheduler.timesteps) == STAGES
        assert scheduler.order == 1
        return loop(scheduler)

    return use


def check_timesteps_and_sigmas(cls: Class) -> None:
    """CogView4: the timesteps are for the network as they are, the sigmas are shifted."""
    scheduler = flow(cls, use_dynamic_shifting=True)
    timesteps = np.linspace(1000, 1, STEPS).astype(np.int64).astype(np.float32)
    scheduler.set_timesteps(timesteps=timesteps, sigmas=timesteps / 1000, device="cpu", mu=0.9)
    assert len(scheduler.timesteps) == STAGES
    assert scheduler.order == 1
    check_close(scheduler.timesteps[::2], timesteps)
    assert (scheduler.timesteps.diff() < 0).all()
    check_close(scheduler.sigmas[:-1:2], shifted(timesteps / 1000, 0.9))
    check_flow_run(scheduler)


def check_timesteps_and_sigmas_apart(cls: Class) -> None:
    """GLM-Image: the user's timesteps need not belong to the user's sigmas."""
    scheduler = flow(cls)
    scheduler.set_timesteps(timesteps=[900.0, 700.0, 100.0], sigmas=[1.0, 0.6, 0.3], device="cpu")
    check_close(scheduler.timesteps[::2], [900.0, 700.0, 100.0])
    check_close(scheduler.sigmas[:-1:2], [1.0, 0.6, 0.3])
    assert 700 < scheduler.timesteps[1] < 900
    assert 100 < scheduler.timesteps[3] < 700
    check_flow_run(scheduler)


def check_timesteps_of_a_flow(cls: Class) -> None:
    scheduler = flow(cls)
    scheduler.set_timesteps(timesteps=[1000.0, 600.0, 300.0], device="cpu")
    check_close(scheduler.sigmas[:-1:2], [1.0, 0.6, 0.3])
    check_flow_run(scheduler)


def check_sigmas_of_a_flow(cls: Class) -> None:
    scheduler = flow(cls, flow_shift=3.0)
    given = np.linspace(1.0, 1 / STEPS, STEPS)
    scheduler.set_timesteps(sigmas=given, device="cpu")
    check_close(scheduler.sigmas[:-1:2], 3 * given / (1 + 2 * given))
    check_flow_run(scheduler)


def check_end_among_the_sigmas(cls: Class) -> None:
    """LTX's distilled sigmas hold the end, 0."""
    scheduler, other = flow(cls), flow(cls)
    scheduler.set_timesteps(sigmas=[1.0, 0.7, 0.2, 0.0], device="cpu")
    other.set_timesteps(sigmas=torch.tensor([1.0, 0.7, 0.2]), device="cpu")
    check_close(scheduler.sigmas, other.sigmas)
    check_flow_run(scheduler)


def check_no_lists(cls: Class) -> None:
    """AnyFlow passes both lists, and both are mostly None."""
    scheduler, other = flow(cls), flow(cls)
    scheduler.set_timesteps(STEPS, device="cpu", sigmas=None, timesteps=None)
    other.set_timesteps(STEPS)
    check_close(scheduler.sigmas, other.sigmas)
    assert scheduler.order == 2
    check_flow_run(scheduler)


def check_count_beside_sigmas(cls: Class) -> None:
    scheduler = flow(cls)
    scheduler.set_timesteps(3, device="cpu", sigmas=[0.999, 0.6, 0.3])
    check_close(scheduler.sigmas[:-1:2], [0.999, 0.6, 0.3])
    check_flow_run(scheduler)


def check_mu_and_sigmas(cls: Class) -> None:
    scheduler = flow(cls, use_dynamic_shifting=True)
    sigmas = np.linspace(1.0, 1 / STEPS, STEPS)
    scheduler.set_timesteps(sigmas=sigmas, device="cpu", mu=0.8)
    check_close(scheduler.sigmas[:-1:2], shifted(sigmas, 0.8))
    check_close(scheduler.timesteps, 1000 * scheduler.sigmas[:-1])
    check_flow_run(scheduler)


def check_mu(cls: Class) -> None:
    scheduler, plain = flow(cls, use_dynamic_shifting=True), flow(cls)
    scheduler.set_timesteps(STEPS, device="cpu", mu=0.8)
    plain.set_timesteps(STEPS)
    check_close(scheduler.sigmas[:-1:2], shifted(plain.sigmas[:-1:2], 0.8), 1e-3)
    check_flow_run(scheduler)


def check_mu_for_others(cls: Class) -> None:
    """HiDream passes it to any scheduler; one that does not shift does without."""
    scheduler, plain = flow(cls, flow_shift=2.0), flow(cls, flow_shift=2.0)
    scheduler.set_timesteps(STEPS, device="cpu", mu=0.8)
    plain.set_timesteps(STEPS)
    check_close(scheduler.sigmas, plain.sigmas)


def check_optional_arguments(cls: Class) -> None:
    """What pipelines look up in signatures before they pass it."""
    scheduler = cls()
    assert {"timesteps", "sigmas"} <= inspect.signature(scheduler.set_timesteps).parameters.keys()
    assert "offset" not in inspect.signature(scheduler.set_timesteps).parameters
    # Pipelines pass an eta of 0 to every step that takes one, and it changes nothing: another one is warned of.
    assert inspect.signature(scheduler.step).parameters["eta"].default == 0
    assert "generator" in inspect.signature(scheduler.step).parameters


# --- Reading the schedule ---------------------------------------------------------------------------------------------


def reading(read: Use, **config: Any) -> Check:
    """A check of something that is read once the schedule is set."""

    def use(scheduler: Scheduler) -> Any:
        scheduler.set_timesteps(STEPS)
        return read(scheduler)

    return like_diffusers(use, **config)


def updates_of_the_bar(scheduler: Scheduler, steps: int) -> int:
    timesteps, order = scheduler.timesteps, scheduler.order
    warmup = max(len(timesteps) - steps * order, 0)
    return sum(i == len(timesteps) - 1 or (i + 1 > warmup and (i + 1) % order == 0) for i in range(len(timesteps)))


def check_bar(cls: Class) -> None:
    """A bar goes up once a step, or once a stage where the program takes the stages for the steps."""
    scheduler = cls()
    scheduler.set_timesteps(STEPS)
    assert getattr(scheduler, "order", 1) == 2
    assert updates_of_the_bar(scheduler, STEPS) == STEPS
    scheduler.set_timesteps(timesteps=evenly_spaced(scheduler))
    assert updates_of_the_bar(scheduler, len(scheduler.timesteps)) == STAGES


def reversed_timesteps(scheduler: Scheduler) -> Any:
    timesteps = scheduler.timesteps
    return timesteps.flip(0), torch.flip(timesteps, (0,)), torch.stack(list(reversed(timesteps))), timesteps[:-2]


def all_levels(scheduler: Scheduler) -> Any:
    return [scheduler.sigmas[i] for i, _ in enumerate(scheduler.timesteps)], scheduler.sigmas.to("cpu")


def check_levels_of_a_flow(cls: Class) -> None:
    """`sigmas[i]` is the level of the i-th stage, and `sigmas[i + 1]` that of the sample after it."""
    scheduler = flow(cls, flow_shift=3.0)
    scheduler.set_timesteps(STEPS)
    check_close(scheduler.timesteps, scheduler.sigmas[:-1] * scheduler.config.num_train_timesteps)
    x, clean = start(scheduler), IMAGE
    for i, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i]
        assert t > scheduler.sigmas[i + 1] * 1000
        # LTX-2 corrects what the network predicts of the clean sample, and makes a velocity of it again.
        denoised = x - (x - clean) / sigma * sigma
        check_close(denoised, clean)
        x = scheduler.step((x - denoised) / sigma, t, x, return_dict=False)[0]
    check_close(x, clean)


def check_slices_of_a_flow(cls: Class) -> None:
    """RF inversion cuts timesteps and sigmas at the same place, and makes Euler steps of its own on them."""
    scheduler = flow(cls)
    scheduler.set_timesteps(STEPS)
    first = 2 * scheduler.order
    timesteps, sigmas = scheduler.timesteps[first:], scheduler.sigmas[first:]
    assert len(sigmas) == len(timesteps) + 1
    check_close(timesteps, 1000 * sigmas[:-1])


def check_starting_level_of_a_flow(cls: Class) -> None:
    scheduler = flow(cls)
    scheduler.set_timesteps(STEPS)
    assert hasattr(scheduler, "init_noise_sigma")
    assert torch.equal(NOISE * scheduler.init_noise_sigma, NOISE)


# --- Where a run begins and ends --------------------------------------------------------------------------------------


def check_begin_index_of_a_flow(cls: Class) -> None:
    """Flux and most others say so before every run."""
    scheduler = flow(cls)
    scheduler.set_timesteps(STEPS)
    scheduler.set_begin_index(0)
    assert scheduler.begin_index == 0
    check_flow_run(scheduler)


def image_to_image(told: bool, add_noise_to: str = "timesteps") -> Use:
    """A run from a noisy image on, with the index it begins at or without."""

    def use(scheduler: Scheduler) -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        first = 2 * scheduler.order
        timesteps = scheduler.timesteps[first:]
        if told and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        x = scheduler.add_noise(IMAGE, NOISE, timesteps[:1].repeat(len(IMAGE)))
        return loop(scheduler, x, timesteps)

    return use


def handed_over(scheduler: Scheduler) -> torch.Tensor:
    """SDXL's base and refiner: the one stops at a timestep and the other begins there, not within a step."""
    cutoff = 700
    base, refiner = copy.deepcopy(scheduler), scheduler
    for each in (base, refiner):
        each.set_timesteps(STEPS)
    count = len(list(filter(lambda t: t >= cutoff, base.timesteps)))
    x = loop(base, timesteps=base.timesteps[:count])
    left = int((refiner.timesteps < cutoff).sum().item())
    if refiner.order == 2 and left % 2 == 0:
        left += 1
    first = len(refiner.timesteps) - left
    refiner.set_begin_index(first)
    return loop(refiner, x, refiner.timesteps[first:])


def left_early(scheduler: Scheduler) -> torch.Tensor:
    """LTX's windows: the last stage is not made, and the next window sets its schedule anew."""
    for window in range(2):
        scheduler.set_timesteps(num_inference_steps=STEPS, device="cpu")
        x = loop(scheduler, start(scheduler, window), scheduler.timesteps[:-1])
    return x


def begun_late(scheduler: Scheduler) -> torch.Tensor:
    """LTX's threshold: stages at high levels are passed over, without a word to the scheduler."""
    scheduler.set_timesteps(STEPS)
    x, options = drawn(seed=1), noise_options(scheduler)
    for i, t in enumerate(scheduler.timesteps):
        if i >= 4:
            x = stage(scheduler, t, x, options)
    return x


def noised_again(scheduler: Scheduler) -> torch.Tensor:
    """FreeInit: what a run has made is noised to the highest level, and a run begins again."""
    x = start(scheduler)
    for _ in range(2):
        scheduler.set_timesteps(STEPS, device="cpu")
        x = loop(scheduler, x)
        last = torch.full((len(x),), scheduler.config.num_train_timesteps - 1).long()
        x = scheduler.add_noise(original_samples=x, noise=NOISE, timesteps=last)
    return x


def put_at_a_stage(scheduler: Scheduler) -> Any:
    """DemoFusion says before every step which stage is next, though the scheduler knows."""
    scheduler.set_timesteps(STEPS)
    x, options = start(scheduler), noise_options(scheduler)
    for t in scheduler.timesteps:
        output = oracle.network(scheduler.scale_model_input(x, t), t)
        scheduler._init_step_index(t)
        x = scheduler.step(output, t, x, **options, return_dict=False)[0]
    return x


def check_index_of_the_stage(cls: Class) -> None:
    scheduler = cls()
    scheduler.set_timesteps(STEPS)
    assert scheduler.step_index is None
    scheduler._init_step_index(scheduler.timesteps[4])
    assert scheduler.step_index == 4
    scheduler.set_timesteps(STEPS)
    x = start(scheduler)
    for i, t in enumerate(scheduler.timesteps[:-1]):
        x = stage(scheduler, t, x, {})
        assert scheduler.step_index == i + 1


def check_step_made_again(cls: Class) -> None:
    """Cosmos steps twice at a timestep, the second time with the index put back."""
    scheduler, theirs = cls(), theirs_like(cls)
    for each in (scheduler, theirs):
        each.set_timesteps(STEPS)
    x, t = start(scheduler), scheduler.timesteps[0]
    scheduler.step(oracle.network(x, t), t, x, return_dict=False)
    with pytest.raises(ValueError, match="timestep"):  # not put back
        scheduler.step(oracle.network(x, t), t.clone(), x)
    scheduler._step_index -= 1
    assert scheduler.step_index == 0
    check_close(loop(scheduler, x), loop(theirs, x))


def check_index_dropped(cls: Class) -> None:
    """With no index, a run begins anew."""
    scheduler, theirs = cls(), theirs_like(cls)
    for each in (scheduler, theirs):
        each.set_timesteps(STEPS)
    loop(scheduler, timesteps=scheduler.timesteps[:3])
    scheduler._step_index = None
    assert scheduler.step_index is None
    check_close(loop(scheduler), loop(theirs))


# --- Stepping ---------------------------------------------------------------------------------------------------------


def stepping(step: Callable[[Scheduler, torch.Tensor, Any, torch.Tensor, dict[str, Any]], Any], **config: Any) -> Check:
    """A check of a run that calls `step` in this way."""

    def use(scheduler: Scheduler) -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        x, options = start(scheduler), noise_options(scheduler)
        for t in scheduler.timesteps:
            output = oracle.network(scheduler.scale_model_input(x, t), t)
            x = step(scheduler, output, t, x, options)
        return x

    return like_diffusers(use, **config)


def check_generator_for_both(cls: Class) -> None:
    """A generator makes a run repeatable, and plays no part where there is no noise."""
    scheduler, theirs = cls(), theirs_like(cls)
    for each in (scheduler, theirs):
        each.set_timesteps(STEPS)
    x, made = start(scheduler), torch.Generator().manual_seed(5)
    for t in scheduler.timesteps:
        output = oracle.network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, generator=made).prev_sample
    check_close(x, loop(theirs))


def check_generator_for_each(cls: Class) -> None:
    """With a list of generators each sample is the one it would be alone."""
    scheduler = cls()

    def run(x: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for t in scheduler.timesteps:
            output = oracle.network(scheduler.scale_model_input(x, t), t)
            x = scheduler.step(output, t, x, generator=generators, return_dict=False)[0]
        return x

    x = start(scheduler)
    check_close(run(x, [1, 2]), torch.cat([run(x[:1], [1]), run(x[1:], [2])]))


def guided(scheduler: Scheduler) -> torch.Tensor:
    """Two copies are scaled for the network, and one is stepped."""
    scheduler.set_timesteps(STEPS)
    x, options = start(scheduler), noise_options(scheduler)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(torch.cat([x] * 2), t)
        without, given = oracle.network(scaled, t.expand(len(scaled)).reshape(-1, 1, 1, 1)).chunk(2)
        x = scheduler.step(without + 2 * (0.9 * given - without), t, x, **options, return_dict=False)[0]
    return x


def in_tiles(scheduler: Scheduler) -> torch.Tensor:
    """Parts of the sample are scaled one by one, and the whole is stepped."""
    scheduler.set_timesteps(STEPS)
    x, options = start(scheduler), noise_options(scheduler)
    for t in scheduler.timesteps:
        tiles = [oracle.network(scheduler.scale_model_input(tile, t), t) for tile in x.split(2, dim=-1)]
        x = scheduler.step(torch.cat(tiles, dim=-1), t, x, **options, return_dict=False)[0]
    return x


def never_scaled(scheduler: Scheduler) -> torch.Tensor:
    """DDPM's and the flows' pipelines do not ask for it."""
    scheduler.set_timesteps(STEPS)
    x, options = start(scheduler), noise_options(scheduler)
    for t in scheduler.timesteps:
        x = scheduler.step(oracle.network(x, t), t, x, **options)["prev_sample"]
    return x


def with_numbers(scheduler: Scheduler) -> torch.Tensor:
    scheduler.set_timesteps(STEPS)
    return loop(scheduler, timesteps=scheduler.timesteps[:1].tolist() + scheduler.timesteps[1:].tolist())


def with_copies(scheduler: Scheduler) -> torch.Tensor:
    """Timesteps out of a matrix of the program's own."""
    scheduler.set_timesteps(STEPS)
    matrix = torch.stack([scheduler.timesteps, scheduler.timesteps], dim=1)
    return loop(scheduler, timesteps=[row[1] for row in matrix])


def written_into(scheduler: Scheduler) -> torch.Tensor:
    """A part of what `step` returned is set to what it should be, in place."""
    scheduler.set_timesteps(STEPS)
    x, options = start(scheduler), noise_options(scheduler)
    for t in scheduler.timesteps:
        x = stage(scheduler, t, x, options)
        x[..., :2] = IMAGE[..., :2]
    return x


def set_before_the_step(scheduler: Scheduler) -> torch.Tensor:
    """AnyFlow sets frames of the very tensor that it goes on to step."""
    scheduler.set_timesteps(STEPS)
    x, options = start(scheduler), noise_options(scheduler)
    for t in scheduler.timesteps:
        read = x
        read[..., :2] = IMAGE[..., :2]
        x = scheduler.step(oracle.network(read, t), t, x, **options, return_dict=False)[0]
    return x


def frame_by_frame(scheduler: Scheduler) -> torch.Tensor:
    """SkyReels: each frame has a scheduler of its own, and what it returns is written over what it was given."""
    own = [copy.deepcopy(scheduler) for _ in range(2)]
    for each in own:
        each.set_timesteps(STEPS, device="cpu")
    x = start(own[0])
    options = [noise_options(each) for each in own]
    for matrix in torch.stack([own[0].timesteps] * 2, dim=1):
        output = oracle.network(x, matrix[0])
        for i, each in enumerate(own):
            x[:, i] = each.step(output[:, i], matrix[i], x[:, i], **options[i], return_dict=False)[0]
    return x


def check_frame_by_frame(cls: Class) -> None:
    """Right, or refused with what to do instead, where diffusers' class makes a wrong picture without a word."""

    def plain(scheduler: Scheduler, i: int) -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        x, options = start(scheduler)[:, i], noise_options(scheduler)
        for t in scheduler.timesteps:
            x = scheduler.step(oracle.network(x, t), t, x, **options, return_dict=False)[0]
        return x

    try:
        actual = frame_by_frame(cls())
    except ValueError as error:
        assert "in place" in str(error)  # noqa: PT017
        return
    for i in range(2):
        check_close(actual[:, i], plain(theirs_like(cls), i))


def batch_grown(scheduler: Scheduler) -> torch.Tensor:
    """Text2Video-Zero: one frame to begin with, more of them from a later step on."""
    scheduler.set_timesteps(STEPS)
    x, options = start(scheduler)[:1], noise_options(scheduler)
    for i, t in enumerate(scheduler.timesteps):
        if i == 4:
            x = torch.cat([x, x + 0.1])
        x = stage(scheduler, t, x, options)
    return x


def check_frames_taken(cls: Class) -> None:
    """ChronoEdit goes on with the first frame and the last."""

    def use(scheduler: Scheduler) -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        x, options = start(scheduler), noise_options(scheduler)
        for i, t in enumerate(scheduler.timesteps):
            x = stage(scheduler, t, x[:, [0, -1]] if i == 2 else x, options)
        return x

    like_diffusers(use)(cls)


def check_half_precision(cls: Class) -> None:
    """CogVideoX: the sample is in half precision, what the network predicts is not."""

    def use(scheduler: Scheduler) -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        x, options = start(scheduler).bfloat16(), noise_options(scheduler)
        for t in scheduler.timesteps:
            output = oracle.network(scheduler.scale_model_input(x, t), t).float()
            x = scheduler.step(output, t, x, **options, return_dict=False)[0].to(torch.bfloat16)
        return x

    like_diffusers(use, tolerance=0.1)(cls)


def check_gradients(cls: Class) -> None:
    """DPS: what the network sees of the clean sample is derived by the noisy one."""

    def use(scheduler: Scheduler) -> Any:
        scheduler.set_timesteps(STEPS)
        x, gradients, options = start(scheduler), [], noise_options(scheduler)
        for t in scheduler.timesteps:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                stepped = scheduler.step(oracle.network(scheduler.scale_model_input(x, t), t), t, x, **options)
                off = (stepped.pred_original_sample - IMAGE).square().sum()
                gradients.append(torch.autograd.grad(off, x)[0])
            x = stepped.prev_sample.detach() - 1e-3 * gradients[-1]
        return x, gradients

    like_diffusers(use)(cls)


def check_pair(cls: Class) -> None:
    """A pair is a plain tuple of two tensors."""
    scheduler = cls()
    scheduler.set_timesteps(STEPS)
    x, t = start(scheduler), scheduler.timesteps[0]
    pair = scheduler.step(oracle.network(x, t), t, x, return_dict=False)
    assert type(pair) is tuple
    stepped, clean = pair
    check_close(clean, x - scheduler.sigmas[0] * oracle.network(x, t))
    check_close(torch.stack(pair), torch.stack([stepped, clean]))


def check_both_of_a_run(cls: Class) -> None:
    def use(scheduler: Scheduler) -> Any:
        scheduler.set_timesteps(STEPS)
        x, seen, options = start(scheduler), [], noise_options(scheduler)
        for t in scheduler.timesteps:
            output = oracle.network(scheduler.scale_model_input(x, t), t)
            x, clean = scheduler.step(output, t, x, **options, return_dict=False)
            seen.append(clean)
        return x, seen

    like_diffusers(use)(cls)


# --- Adding noise -----------------------------------------------------------------------------------------------------


def inpainting(told: bool) -> Use:
    """After every stage the kept part is noised to the level of the next."""

    def use(scheduler: Scheduler) -> Any:
        scheduler.set_timesteps(STEPS)
        if told:
            scheduler.set_begin_index(0)
        kept, options, x = [], noise_options(scheduler), start(scheduler)
        for i, t in enumerate(scheduler.timesteps):
            x = stage(scheduler, t, x, options)
            if i + 1 < len(scheduler.timesteps):
                kept.append(scheduler.add_noise(IMAGE, NOISE, torch.tensor([scheduler.timesteps[i + 1]])))
                x = torch.cat([kept[-1][..., :3], x[..., 3:]], dim=-1)
        return x, kept

    return use


def check_noise_at_one_timestep(cls: Class) -> None:
    """MagicMix gives a timestep without dimensions, which diffusers' class cannot take."""
    scheduler = cls()
    scheduler.set_timesteps(STEPS)
    for i in (0, 2, 4):
        noisy = scheduler.add_noise(IMAGE, NOISE, timesteps=scheduler.timesteps[i])
        check_close(noisy, IMAGE + NOISE * (scheduler.sigmas[0] if i == 0 else scheduler.sigmas[i - 1]))


def noise_for_training(scheduler: Scheduler) -> Any:
    timesteps = torch.tensor([3, 700])
    assert len(scheduler) == scheduler.config.num_train_timesteps
    as_kept = timesteps.to(scheduler.timesteps.dtype).clamp(0, scheduler.config.num_train_timesteps - 1)
    return (
        scheduler.add_noise(IMAGE, NOISE, timesteps),
        scheduler.add_noise(IMAGE, noise=NOISE, timesteps=as_kept),
    )


def check_noise_of_training(cls: Class) -> None:
    """For one that is trained with, the level is that of the trained timestep."""
    like_diffusers(noise_for_training)(cls)
    scheduler = cls()
    kept = scheduler.alphas_cumprod[[3, 700]].reshape(-1, 1, 1, 1)
    check_close(noise_for_training(scheduler)[0], IMAGE + NOISE * ((1 - kept) / kept).sqrt(), 1e-4)


def check_scale_noise(cls: Class) -> None:
    scheduler = flow(cls)
    scheduler.set_timesteps(STEPS)
    t = scheduler.timesteps[2:3]
    sigma = scheduler.sigmas[2]
    expected = (1 - sigma) * IMAGE + sigma * NOISE
    check_close(scheduler.scale_noise(IMAGE, t, NOISE), expected)
    check_close(scheduler.scale_noise(IMAGE, t.repeat(len(IMAGE)), NOISE), expected)
    assert hasattr(scheduler, "add_noise")
    check_close(scheduler.add_noise(IMAGE, NOISE, t), expected)
    scheduler.set_begin_index(2)
    check_close(scheduler.scale_noise(IMAGE, t, NOISE), expected)


def check_levels_for_training(cls: Class) -> None:
    """Training scripts look the level of a timestep up: where it stands in `timesteps`, and `sigmas` there."""
    scheduler, theirs = cls(), theirs_like(cls)
    indices = torch.tensor([0, 4, 900])
    check_close(scheduler.timesteps[indices], theirs.timesteps[indices])
    for t in scheduler.timesteps[indices]:
        place = (scheduler.timesteps == t).nonzero()[0].item()
        check_close(scheduler.sigmas[place], theirs.sigmas[(theirs.timesteps - t).abs().argmin()], 1e-3)


# --- What was learned -------------------------------------------------------------------------------------------------


def trained(read: Use) -> Check:
    return like_diffusers(read, **LEADING)


def shares_kept(scheduler: Scheduler) -> Any:
    timesteps = torch.tensor([3, 700])
    kept = scheduler.alphas_cumprod
    check_close(kept, torch.cumprod(1 - scheduler.betas, dim=0))
    return (
        kept[999],
        kept[timesteps],
        kept.to("cpu")[timesteps, None, None, None],
        torch.sqrt(kept),
        kept.numpy(),
        torch.prod(scheduler.alphas[torch.tensor(10) : torch.tensor(400)]),
        training_utils.compute_snr(scheduler, timesteps),
    )


class Predicted(NamedTuple):
    sample: torch.Tensor


def dream(scheduler: Scheduler) -> Any:
    def network(x: torch.Tensor, timesteps: torch.Tensor, _: Any) -> Predicted:
        return Predicted(oracle.network(x, timesteps.reshape(-1, 1, 1, 1)))

    return training_utils.compute_dream_and_update_latents(
        network, scheduler, torch.tensor([3, 700]), NOISE, IMAGE + NOISE, NOISE, None
    )


def other_shares(scheduler: Scheduler) -> torch.Tensor:
    """Diffusion DPO writes other shares; a schedule that is set afterwards goes by them."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod**1.1
    scheduler.set_timesteps(STEPS)
    return loop(scheduler)


def check_own_shares(cls: Class) -> None:
    """Training scripts put them on another device."""
    scheduler, theirs = cls(), theirs_like(cls)
    scheduler.set_timesteps(STEPS)
    theirs.set_timesteps(STEPS)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to("cpu", copy=True)
    scheduler.betas = scheduler.betas.clone()
    check_close(loop(scheduler), loop(theirs))


def check_no_betas(cls: Class) -> None:
    """Stable Cascade asks whether there are any; a flow has none."""
    assert hasattr(cls(), "betas")
    scheduler = flow(cls)
    assert not hasattr(scheduler, "betas")
    assert not hasattr(scheduler, "alphas_cumprod")


# --- Writing ----------------------------------------------------------------------------------------------------------


def timesteps_in(dtype: torch.dtype) -> Use:
    def use(scheduler: Scheduler) -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        scheduler.timesteps = scheduler.timesteps.to(dtype)
        return loop(scheduler)

    return use


def later_timesteps(scheduler: Scheduler) -> torch.Tensor:
    scheduler.set_timesteps(STEPS)
    scheduler.timesteps = scheduler.timesteps[4:]
    return loop(scheduler, drawn(seed=1))


def check_later_timesteps(cls: Class) -> None:
    """The same as to loop over the slice."""
    theirs = theirs_like(cls)
    theirs.set_timesteps(STEPS)
    check_close(later_timesteps(cls()), loop(theirs, drawn(seed=1), theirs.timesteps[4:]))


def check_own_sigmas(cls: Class) -> None:
    scheduler, theirs = cls(), theirs_like(cls)
    for each in (scheduler, theirs):
        each.set_timesteps(STEPS)
        each.sigmas = each.sigmas.to("cpu", copy=True)
    check_close(loop(scheduler), loop(theirs))


def check_end_written(cls: Class) -> None:
    """Cosmos Predict2 writes the last sigma over the end: the last stage then changes nothing, or is refused."""
    scheduler = flow(cls)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0.1, STEPS, dtype=torch.float64), device="cpu")
    before = scheduler.sigmas.clone()
    x = start(scheduler)
    try:
        scheduler.sigmas[-1] = scheduler.sigmas[-2]
        actual = loop(scheduler, x)
    except ValueError as error:
        assert "sigmas" in str(error)  # noqa: PT017
        return
    before[-1] = before[-2]
    check_close(actual, by_hand(before, scheduler.timesteps, x))


def check_end_written_again(cls: Class) -> None:
    """For others the last two sigmas are both the end, and nothing changes."""
    scheduler, theirs = cls(), theirs_like(cls)
    for each in (scheduler, theirs):
        each.set_timesteps(STEPS)
        each.sigmas[-1] = each.sigmas[-2]
    check_close(loop(scheduler), loop(theirs))


def check_attribute_of_the_programs_own(cls: Class) -> None:
    scheduler, theirs = cls(), theirs_like(cls)
    for each in (scheduler, theirs):
        each.set_timesteps(STEPS)
    scheduler.latents, scheduler.eta = IMAGE, 0.5
    actual = loop(scheduler)
    assert scheduler.latents is IMAGE
    assert scheduler.eta == 0.5
    check_close(actual, loop(theirs))


def check_sigma_min_written(cls: Class) -> None:
    """Only FlowMatchEuler reads this attribute; the schedule of ours goes by the configuration."""
    scheduler, other = flow(cls), flow(cls)
    scheduler.sigma_min = 0.0
    assert scheduler.sigma_min == 0
    for each in (scheduler, other):
        each.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS), mu=0.5)
    check_close(scheduler.sigmas, other.sigmas)


def check_step_replaced(cls: Class) -> None:
    scheduler = cls()
    scheduler.step = lambda output, t, x: Predicted(x - output)
    check_close(scheduler.step(NOISE, 1, IMAGE).sample, IMAGE - NOISE)


# --- The configuration ------------------------------------------------------------------------------------------------


def check_config_read(cls: Class) -> None:
    scheduler, theirs = cls(**LEADING), theirs_like(cls, **LEADING)
    for name in ("num_train_timesteps", "steps_offset", "prediction_type", "timestep_spacing", "beta_start"):
        assert getattr(scheduler.config, name) == getattr(theirs.config, name) == scheduler.config[name]
        assert name in scheduler.config
    assert dict(scheduler.config).keys() >= dict(theirs.config).keys()


def check_config_of_a_flow(cls: Class) -> None:
    """What pipelines compute `mu` from is what the pipeline's own scheduler came with."""
    own = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.6, max_shift=1.3, base_image_seq_len=128, max_image_seq_len=2048
    )
    scheduler = cls.from_config(own.config)
    for name in ("use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len"):
        assert scheduler.config.get(name, "another") == own.config[name] == scheduler.config[name]
        assert getattr(scheduler.config, name) == own.config[name]
    # Flux keeps its sigmas to itself where this is set.
    assert not (hasattr(scheduler.config, "use_flow_sigmas") and scheduler.config.use_flow_sigmas)


def check_options_of_others(cls: Class) -> None:
    """DeepFloyd IF's network predicts a variance too, unless the configuration says what to do with it."""
    assert "variance_type" not in cls().config
    assert getattr(cls().config, "clip_sample", False) is False
    config = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=True).config
    scheduler, theirs = cls.from_config(config), reference(cls).from_config(config)
    assert scheduler.config.variance_type == theirs.config.variance_type == "learned_range"
    again, theirs = (each.from_config(each.config, variance_type="fixed_small") for each in (scheduler, theirs))
    assert type(again) is cls
    assert again.config.variance_type == theirs.config.variance_type


def spacing_written(scheduler: Scheduler) -> torch.Tensor:
    scheduler.config.timestep_spacing = "leading"
    scheduler.set_timesteps(STEPS)
    return loop(scheduler)


def dictionary_written(scheduler: Scheduler) -> Any:
    """Stable Diffusion's pipelines correct an old configuration."""
    corrected = dict(scheduler.config)
    corrected["steps_offset"], corrected["clip_sample"] = 1, False
    scheduler._internal_dict = FrozenDict(corrected)
    scheduler.set_timesteps(STEPS)
    return scheduler.config.steps_offset, scheduler.config.clip_sample, loop(scheduler)


def prediction_registered(scheduler: Scheduler) -> torch.Tensor:
    """Training scripts are told what to predict."""
    scheduler.register_to_config(prediction_type="v_prediction")
    scheduler.set_timesteps(STEPS)
    return loop(scheduler)


def no_clipping_registered(scheduler: Scheduler) -> Any:
    scheduler.register_to_config(clip_sample=False)
    scheduler.config.clip_sample = False
    scheduler.set_timesteps(STEPS)
    return loop(scheduler)


def check_edm_registered(cls: Class) -> None:
    """Cosmos Predict2 says what it was trained on."""
    scheduler = cls()
    scheduler.register_to_config(sigma_max=80.0, sigma_min=0.002, sigma_data=1.0, final_sigmas_type="sigma_min")
    assert scheduler.config.sigma_max == 80
    assert scheduler.config.sigma_data == 1
    assert scheduler.config.get("final_sigmas_type", "zero") == "sigma_min"
    scheduler.set_timesteps(STEPS)
    check_close(scheduler.sigmas.max(), 80.0)
    check_close(scheduler.sigmas.min(), 0.002, 1e-3)


def check_config_for_others(cls: Class) -> None:
    """Pipelines and converters make another solver of a configuration."""
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"):
        other = getattr(diffusers, name)
        from_ours, from_theirs = (
            other.from_config(each.config) for each in (cls(**LEADING), theirs_like(cls, **LEADING))
        )
        assert from_ours.config.beta_schedule == "scaled_linear"
        check_close(from_ours.alphas_cumprod, from_theirs.alphas_cumprod)
        again = cls.from_config(from_ours.config)
        check_close(again.alphas_cumprod, from_theirs.alphas_cumprod)


def check_saved(cls: Class) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scheduler = cls(**LEADING)
        scheduler.save_pretrained(folder)
        loaded = cls.from_pretrained(folder)
    for each in (scheduler, loaded):
        each.set_timesteps(STEPS)
    check_close(loop(loaded), loop(scheduler))


def check_options_as_attributes(cls: Class) -> None:
    """Old scripts read options off the scheduler itself, which diffusers allows with a warning."""
    for each in (cls(**LEADING), theirs_like(cls, **LEADING)):
        with pytest.warns(FutureWarning, match="steps_offset"):
            assert hasattr(each, "steps_offset")
        with pytest.warns(FutureWarning, match="num_train_timesteps"):
            assert each.num_train_timesteps == 1000


# --- Classes, copies and wrappers -------------------------------------------------------------------------------------


def check_kind(cls: Class) -> None:
    """Pipelines ask whether it is one of a few, and for ours the answer is what it is for diffusers' KDPM2."""
    scheduler = cls()
    assert isinstance(scheduler, diffusers.SchedulerMixin)
    assert isinstance(scheduler, diffusers.ConfigMixin)
    asked = (
        "CogVideoXDPMScheduler DDIMInverseScheduler DDIMScheduler DDPMWuerstchenScheduler DPMSolverMultistepScheduler "
        "EulerAncestralDiscreteScheduler FlowMatchEulerDiscreteScheduler LCMScheduler LMSDiscreteScheduler "
        "PNDMScheduler UniPCMultistepScheduler"
    )
    for name in asked.split():
        other = getattr(diffusers, name)
        assert not isinstance(scheduler, other)
        assert type(scheduler) is not other


def check_shown(cls: Class) -> None:
    scheduler = cls(**LEADING)
    assert scheduler.__class__.__name__ == reference(cls).__name__
    assert reference(cls).__name__ in f"{scheduler.__class__}"
    for shown in (f"{scheduler}", repr(scheduler), str(scheduler)):
        assert shown.startswith(cls.__name__)
        assert "spacing leading" in shown
    assert json.loads(scheduler.to_json_string())["steps_offset"] == 1


def check_registered(cls: Class) -> None:
    class Pipeline(diffusers.DiffusionPipeline):
        def __init__(self, scheduler: Scheduler) -> None:
            super().__init__()
            self.register_modules(scheduler=scheduler)

    pipeline = Pipeline(cls())
    assert pipeline.scheduler is pipeline.components["scheduler"]
    assert pipeline.config.scheduler == ("kdpm2", cls.__name__)
    assert reference(cls).__name__ in {each.__name__ for each in pipeline.scheduler.compatibles}
    pipeline.scheduler = other = cls.from_config(pipeline.scheduler.config)
    assert pipeline.scheduler is other


def beside_a_copy(scheduler: Scheduler) -> Any:
    """Cosmos 3 and LTX-2: two samples go side by side, one with a copy, both with the timesteps of the original."""
    scheduler.set_timesteps(STEPS)
    sound = copy.deepcopy(scheduler)
    x, y = start(scheduler), start(scheduler, 1)[:1]
    options, others = noise_options(scheduler), noise_options(sound, 6)
    for t in scheduler.timesteps:
        x, y = stage(scheduler, t, x, options), stage(sound, t, y, others)
    return x, y


def copied_on_the_way(scheduler: Scheduler) -> Any:
    """Text2Video-Zero: the original goes on a while, then the copy from where it was made."""
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps
    x = loop(scheduler, timesteps=timesteps[:4])
    other = copy.deepcopy(scheduler)
    return loop(scheduler, x, timesteps[4:6]), loop(other, torch.cat([x, OTHER]), timesteps[4:])


def copied_within_a_step(scheduler: Scheduler) -> Any:
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps
    x = loop(scheduler, timesteps=timesteps[:3])
    other = copy.deepcopy(scheduler)
    return loop(scheduler, x, timesteps[3:]), loop(other, x, timesteps[3:])


def states_exchanged(scheduler: Scheduler) -> Any:
    """MultiDiffusion: every view has a state of its own, which is put into the one scheduler before its step."""
    scheduler.set_timesteps(STEPS)
    views = [start(scheduler), start(scheduler, 1)]
    states = [copy.deepcopy(scheduler.__dict__)] * 2
    options = [noise_options(scheduler), noise_options(scheduler, 6)]
    for t in scheduler.timesteps:
        for i in range(2):
            scheduler.__dict__.update(states[i])
            views[i] = stage(scheduler, t, views[i], options[i])
            states[i] = copy.deepcopy(scheduler.__dict__)
    return views


class Wrapper:
    """A scheduler behind another object: what the wrapper lacks is read from the scheduler and written to it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.__dict__["wrapped"] = scheduler

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["wrapped"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["wrapped"], name, value)


def wrapped(scheduler: Scheduler) -> torch.Tensor:
    local = copy.deepcopy(scheduler)
    local.set_timesteps(num_inference_steps=STEPS, device="cpu")
    other = Wrapper(copy.copy(local))
    assert not hasattr(other, "clone_for_request")
    other.timesteps = other.timesteps.to("cpu")
    return loop(other)


def check_steps_with_noise(cls: Class) -> None:
    """LTX asks for noise where there is any; a flow whose network is right comes to the clean sample all the same."""
    scheduler = cls(**FLOW)
    scheduler.set_timesteps(STEPS)
    x = start(scheduler)
    for t in scheduler.timesteps:
        x = scheduler.step((x - IMAGE) * 1000 / t, t, x, generator=torch.Generator().manual_seed(0)).prev_sample
    check_close(x, IMAGE)


def check_stable_timesteps(cls: Class) -> None:
    """A program may hold on to the timesteps of a schedule while another is set."""
    scheduler = cls()
    scheduler.set_timesteps(STEPS)
    held = scheduler.timesteps
    before = held.clone()
    scheduler.set_timesteps(2 * STEPS)
    check_close(held, before)


# --- The table --------------------------------------------------------------------------------------------------------


def stepped_with(**given: Any) -> Use:
    def attempt(scheduler: Scheduler) -> Any:
        scheduler.set_timesteps(STEPS)
        return scheduler.step(NOISE, scheduler.timesteps[0], IMAGE, **given)

    return attempt


ROWS: dict[str, Row] = {
    # Setting the schedule
    "set_timesteps(n)": Row(
        "pipelines/consistency_models/pipeline_consistency_models.py",
        44,
        schedule(lambda scheduler: scheduler.set_timesteps(STEPS)),
    ),
    "set_timesteps(n, device=)": Row(
        "pipelines/allegro/pipeline_allegro.py",
        345,
        schedule(lambda scheduler: scheduler.set_timesteps(STEPS, device="cpu")),
    ),
    "set_timesteps(n, device)": Row(
        "examples/community/edict_pipeline.py",
        2,
        schedule(lambda scheduler: scheduler.set_timesteps(STEPS, torch.device("cpu"))),
    ),
    "set_timesteps(num_inference_steps=)": Row(
        "pipelines/ltx/pipeline_ltx_i2v_long_multi_prompt.py",
        1,
        schedule(lambda scheduler: scheduler.set_timesteps(num_inference_steps=STEPS, device="cpu")),
    ),
    "set_timesteps(timesteps=)": Row("pipelines/allegro/pipeline_allegro.py", 204, like_a_plain_run(with_timesteps)),
    "set_timesteps(timesteps=), of a flow": Row("pipelines/flux/pipeline_flux.py", 204, check_timesteps_of_a_flow),
    "set_timesteps(sigmas=), a list": Row(
        "pipelines/allegro/pipeline_allegro.py", 195, like_a_plain_run(with_sigmas(lambda sigmas: sigmas.tolist()))
    ),
    "set_timesteps(sigmas=), a tensor": Row(
        "pipelines/cosmos/pipeline_cosmos2_text2image.py", 3, like_a_plain_run(with_sigmas(lambda sigmas: sigmas))
    ),
    "set_timesteps(sigmas=), of a flow": Row("pipelines/ace_step/pipeline_ace_step.py", 195, check_sigmas_of_a_flow),
    "set_timesteps(sigmas=), with the end": Row("pipelines/ltx2/pipeline_ltx2_dfr.py", 2, check_end_among_the_sigmas),
    "set_timesteps(timesteps=, sigmas=, mu=)": Row(
        "pipelines/cogview4/pipeline_cogview4.py", 3, check_timesteps_and_sigmas
    ),
    "set_timesteps(timesteps=, sigmas=), apart": Row(
        "pipelines/glm_image/pipeline_glm_image.py", 5, check_timesteps_and_sigmas_apart
    ),
    "set_timesteps(n, sigmas=None, timesteps=None)": Row("pipelines/anyflow/pipeline_anyflow.py", 2, check_no_lists),
    "set_timesteps(n, sigmas=)": Row("pipelines/cosmos/pipeline_cosmos3_omni.py", 4, check_count_beside_sigmas),
    "set_timesteps(sigmas=, mu=)": Row("pipelines/flux/pipeline_flux.py", 186, check_mu_and_sigmas),
    "set_timesteps(n, mu=)": Row("pipelines/stable_diffusion_3/pipeline_stable_diffusion_3.py", 197, check_mu),
    "mu where nothing is shifted by it": Row(
        "pipelines/hidream_image/pipeline_hidream_image.py", 1, check_mu_for_others
    ),
    "signature of set_timesteps and step": Row("pipelines/allegro/pipeline_allegro.py", 303, check_optional_arguments),
    # Reading the schedule
    "for t in timesteps": Row(
        "pipelines/allegro/pipeline_allegro.py", 355, schedule(lambda scheduler: scheduler.set_timesteps(STEPS))
    ),
    "timesteps[0], timesteps[i], timesteps[-1]": Row(
        "pipelines/stable_cascade/pipeline_stable_cascade.py",
        14,
        reading(lambda scheduler: [scheduler.timesteps[0], scheduler.timesteps[3], scheduler.timesteps[-1]]),
    ),
    "reversed(timesteps), flip, timesteps[:-k]": Row(
        "pipelines/deprecated/audio_diffusion/pipeline_audio_diffusion.py", 10, reading(reversed_timesteps)
    ),
    "len(timesteps), timesteps.dtype, timesteps.numpy()": Row(
        "pipelines/deprecated/stable_diffusion_variants/pipeline_onnx_stable_diffusion_inpaint_legacy.py",
        21,
        reading(lambda scheduler: [len(scheduler.timesteps), scheduler.timesteps.dtype, scheduler.timesteps.numpy()]),
    ),
    "num_inference_steps": Row(
        "pipelines/deprecated/audio_diffusion/pipeline_audio_diffusion.py",
        9,
        reading(lambda scheduler: 1000 // scheduler.num_inference_steps),
    ),
    "order, and what a progress bar makes of it": Row("pipelines/audioldm2/pipeline_audioldm2.py", 343, check_bar),
    "init_noise_sigma": Row(
        "pipelines/allegro/pipeline_allegro.py", 174, reading(lambda scheduler: NOISE * scheduler.init_noise_sigma)
    ),
    "init_noise_sigma, leading": Row(
        "pipelines/stable_diffusion/pipeline_stable_diffusion.py",
        174,
        reading(lambda scheduler: NOISE * scheduler.init_noise_sigma, **LEADING),
    ),
    "hasattr init_noise_sigma, of a flow": Row(
        "pipelines/easyanimate/pipeline_easyanimate.py", 3, check_starting_level_of_a_flow
    ),
    "sigmas[i]": Row("pipelines/cogview4/pipeline_cogview4.py", 38, reading(all_levels)),
    "sigmas[i] and sigmas[i + 1], of a flow": Row("pipelines/anyflow/pipeline_anyflow.py", 27, check_levels_of_a_flow),
    "timesteps[k:] and sigmas[k:], of a flow": Row(
        "examples/community/pipeline_flux_rf_inversion.py", 1, check_slices_of_a_flow
    ),
    "timesteps held while others are set": Row("pipelines/anyflow/pipeline_anyflow.py", 321, check_stable_timesteps),
    # Where a run begins and ends
    "set_begin_index(0), of a flow": Row("pipelines/aura_flow/pipeline_aura_flow.py", 99, check_begin_index_of_a_flow),
    "timesteps[k * order:] and set_begin_index": Row(
        "pipelines/chroma/pipeline_chroma_img2img.py", 99, like_diffusers(image_to_image(told=True))
    ),
    "timesteps[k * order:] alone": Row(
        "modular_pipelines/anima/before_denoise.py", 81, like_diffusers(image_to_image(told=False))
    ),
    "(timesteps < cutoff).sum(), order == 2": Row(
        "pipelines/controlnet/pipeline_controlnet_inpaint_sd_xl.py", 30, like_diffusers(handed_over)
    ),
    "timesteps[:-1], windows": Row(
        "pipelines/ltx/pipeline_ltx_i2v_long_multi_prompt.py", 3, like_diffusers(left_early)
    ),
    "first stages passed over": Row(
        "pipelines/ltx/pipeline_ltx_i2v_long_multi_prompt.py", 1, like_diffusers(begun_late)
    ),
    "a run, noise, and a run again": Row("pipelines/free_init_utils.py", 1, like_diffusers(noised_again)),
    "_init_step_index(t) before every step": Row(
        "examples/community/pipeline_demofusion_sdxl.py", 3, like_a_plain_run(put_at_a_stage)
    ),
    "step_index": Row("pipelines/ledits_pp/pipeline_leditspp_stable_diffusion.py", 2, check_index_of_the_stage),
    "_step_index -= 1": Row("pipelines/cosmos/pipeline_cosmos_text2world.py", 4, check_step_made_again),
    "_step_index = None": Row("pipelines/cosmos/pipeline_cosmos_video2world.py", 0, check_index_dropped),
    # Stepping
    "step(output, t, x)[0]": Row(
        "examples/community/pipeline_fabric.py",
        87,
        stepping(lambda scheduler, output, t, x, options: scheduler.step(output, t, x, **options)[0]),
    ),
    "step(output, t, x).prev_sample": Row(
        "pipelines/animatediff/pipeline_animatediff.py",
        87,
        stepping(lambda scheduler, output, t, x, options: scheduler.step(output, t, x, **options).prev_sample),
    ),
    'step(output, t, x)["prev_sample"], never scaled': Row(
        "experimental/rl/value_guided_sampling.py", 87, like_diffusers(never_scaled)
    ),
    "step(output, t, x, return_dict=False)[0]": Row(
        "pipelines/allegro/pipeline_allegro.py",
        264,
        stepping(
            lambda scheduler, output, t, x, options: scheduler.step(output, t, x, **options, return_dict=False)[0]
        ),
    ),
    "step(output, t, x, return_dict=False), both": Row(
        "pipelines/cosmos/pipeline_cosmos_text2world.py", 264, check_both_of_a_run
    ),
    "step(return_dict=False), a plain tuple": Row("pipelines/cosmos/pipeline_cosmos_text2world.py", 264, check_pair),
    "step(model_output=, timestep=, sample=)": Row(
        "pipelines/diffusion_gemma/pipeline_diffusion_gemma.py",
        10,
        stepping(
            lambda scheduler, output, t, x, options: (
                scheduler.step(model_output=output, timestep=t, sample=x, **options).prev_sample
            )
        ),
    ),
    "step(output, timestep=, sample=)": Row(
        "pipelines/stable_diffusion/pipeline_stable_unclip.py",
        10,
        stepping(
            lambda scheduler, output, t, x, options: scheduler.step(
                output, timestep=t, sample=x, **options, return_dict=False
            )[0]
        ),
    ),
    "step(output, t, x, generator=)": Row(
        "pipelines/consistency_models/pipeline_consistency_models.py", 28, check_generator_for_both
    ),
    "step(generator=[...])": Row("pipelines/helios/pipeline_helios.py", 28, check_generator_for_each),
    "step(generator=), of a flow": Row("pipelines/ltx2/pipeline_ltx2_dfr.py", 7, check_steps_with_noise),
    "scale_model_input(two copies, t)": Row("pipelines/allegro/pipeline_allegro.py", 194, like_diffusers(guided)),
    "scale_model_input(tile, t)": Row("examples/community/mixture_tiling.py", 3, like_diffusers(in_tiles)),
    "a timestep that is a number": Row("pipelines/cogvideo/pipeline_cogvideox.py", 1, like_diffusers(with_numbers)),
    "a timestep that is a copy": Row(
        "pipelines/skyreels_v2/pipeline_skyreels_v2_diffusion_forcing.py", 3, like_diffusers(with_copies)
    ),
    "what step returned is written into": Row(
        "pipelines/deprecated/audio_diffusion/pipeline_audio_diffusion.py", 1, like_diffusers(written_into)
    ),
    "what will be stepped is written into": Row(
        "pipelines/anyflow/pipeline_anyflow.py", 2, like_diffusers(set_before_the_step)
    ),
    "what was stepped is written over": Row(
        "pipelines/skyreels_v2/pipeline_skyreels_v2_diffusion_forcing.py", 3, check_frame_by_frame
    ),
    "a batch that grows": Row(
        "pipelines/deprecated/text_to_video_synthesis/pipeline_text_to_video_zero_sdxl.py",
        2,
        like_diffusers(batch_grown),
    ),
    "frames that are left out": Row("pipelines/chronoedit/pipeline_chronoedit.py", 1, check_frames_taken),
    "an output in float32 for a sample in bfloat16": Row(
        "pipelines/cogvideo/pipeline_cogvideox.py", 5, check_half_precision
    ),
    "gradients of pred_original_sample": Row("examples/community/dps_pipeline.py", 1, check_gradients),
    # Adding noise
    "add_noise(x, noise, timesteps), in training": Row(
        "pipelines/animatediff/pipeline_animatediff_video2video.py", 158, check_noise_of_training
    ),
    "add_noise at the next timestep": Row(
        "pipelines/easyanimate/pipeline_easyanimate_inpaint.py", 153, like_diffusers(inpainting(told=False))
    ),
    "add_noise at the next timestep, begin index": Row(
        "pipelines/controlnet/pipeline_controlnet_inpaint_sd_xl.py", 153, like_diffusers(inpainting(told=True))
    ),
    "add_noise(timesteps=one without dimensions)": Row(
        "examples/community/magic_mix.py", 3, check_noise_at_one_timestep
    ),
    "scale_noise(x, t, noise)": Row("pipelines/chroma/pipeline_chroma_img2img.py", 33, check_scale_noise),
    "sigmas looked up by timesteps == t": Row(
        "examples/advanced_diffusion_training/train_dreambooth_lora_sdxl_advanced.py", 21, check_levels_for_training
    ),
    # What was learned
    "alphas_cumprod[t], alphas, betas, compute_snr": Row(
        "pipelines/deprecated/text_to_video_synthesis/pipeline_text_to_video_zero.py", 56, trained(shares_kept)
    ),
    "compute_dream_and_update_latents": Row("training_utils.py", 2, trained(dream)),
    "hasattr betas": Row("pipelines/stable_cascade/pipeline_stable_cascade.py", 3, check_no_betas),
    "len(scheduler)": Row("examples/community/sde_drag.py", 1, like_diffusers(len)),
    "alphas_cumprod = others": Row(
        "examples/research_projects/diffusion_dpo/train_diffusion_dpo_sdxl.py", 1, like_diffusers(other_shares)
    ),
    "alphas_cumprod = its own": Row("examples/research_projects/lpl/train_sdxl_lpl.py", 0, check_own_shares),
    # Writing
    "timesteps = timesteps.to(float32)": Row(
        "pipelines/deprecated/dance_diffusion/pipeline_dance_diffusion.py",
        1,
        like_diffusers(timesteps_in(torch.float32)),
    ),
    "timesteps = timesteps.to(float16)": Row(
        "pipelines/deprecated/dance_diffusion/pipeline_dance_diffusion.py",
        1,
        like_diffusers(timesteps_in(torch.float16)),
    ),
    "timesteps = timesteps[k:]": Row(
        "pipelines/deprecated/dance_diffusion/pipeline_dance_diffusion.py", 0, check_later_timesteps
    ),
    "sigmas = its own": Row("pipelines/ltx/pipeline_ltx_i2v_long_multi_prompt.py", 0, check_own_sigmas),
    "sigmas[-1] = sigmas[-2], of a flow": Row("pipelines/cosmos/pipeline_cosmos2_text2image.py", 2, check_end_written),
    "sigmas[-1] = sigmas[-2]": Row("pipelines/cosmos/pipeline_cosmos2_video2world.py", 2, check_end_written_again),
    "latents = x, eta = 0.5": Row("examples/community/hd_painter.py", 3, check_attribute_of_the_programs_own),
    "sigma_min = 0.0": Row("examples/community/pipeline_z_image_differential_img2img.py", 1, check_sigma_min_written),
    "step = another function": Row("examples/community/bit_diffusion.py", 1, check_step_replaced),
    # The configuration
    "config.x, config[x], dict(config)": Row(
        "pipelines/animatediff/pipeline_animatediff_sdxl.py", 189, check_config_read
    ),
    "config.get(x, default), of a flow": Row("pipelines/chroma/pipeline_chroma.py", 101, check_config_of_a_flow),
    "config.variance_type, x in config": Row("pipelines/deepfloyd_if/pipeline_if.py", 31, check_options_of_others),
    "config.timestep_spacing = x": Row(
        "pipelines/ledits_pp/pipeline_leditspp_stable_diffusion.py", 2, like_diffusers(spacing_written)
    ),
    "_internal_dict = FrozenDict(...)": Row(
        "pipelines/stable_diffusion/pipeline_stable_diffusion.py",
        41,
        like_diffusers(dictionary_written, timestep_spacing="leading"),
    ),
    "register_to_config(prediction_type=)": Row(
        "examples/research_projects/lpl/train_sdxl_lpl.py", 11, like_diffusers(prediction_registered)
    ),
    "register_to_config(clip_sample=), config.clip_sample = x": Row(
        "pipelines/stable_cascade/pipeline_stable_cascade.py", 8, like_diffusers(no_clipping_registered)
    ),
    "register_to_config(sigma_max=, sigma_data=, ...)": Row(
        "pipelines/cosmos/pipeline_cosmos2_text2image.py", 6, check_edm_registered
    ),
    "Other.from_config(config)": Row(
        "pipelines/ledits_pp/pipeline_leditspp_stable_diffusion.py", 42, check_config_for_others
    ),
    "save_pretrained": Row("scripts/convert_stable_audio_3_to_diffusers.py", 1, check_saved),
    "options as attributes": Row(
        "examples/community/stable_diffusion_tensorrt_img2img.py", 6, check_options_as_attributes
    ),
    # Classes, copies and wrappers
    "isinstance, type": Row("pipelines/bria/pipeline_bria.py", 33, check_kind),
    "__class__, str, f-strings": Row("pipelines/allegro/pipeline_allegro.py", 195, check_shown),
    "register_modules(scheduler=)": Row("pipelines/ace_step/pipeline_ace_step.py", 398, check_registered),
    "deepcopy(scheduler), side by side": Row(
        "pipelines/cosmos/pipeline_cosmos3_omni.py", 40, like_diffusers(beside_a_copy)
    ),
    "deepcopy(scheduler) between steps": Row(
        "pipelines/deprecated/text_to_video_synthesis/pipeline_text_to_video_zero.py",
        40,
        like_diffusers(copied_on_the_way),
    ),
    "deepcopy(scheduler) within a step": Row(
        "pipelines/deprecated/text_to_video_synthesis/pipeline_text_to_video_zero_sdxl.py",
        40,
        like_diffusers(copied_within_a_step),
    ),
    "deepcopy(scheduler.__dict__), __dict__.update": Row(
        "pipelines/deprecated/stable_diffusion_panorama/pipeline_stable_diffusion_panorama.py",
        2,
        like_diffusers(states_exchanged),
    ),
    "copy(scheduler) behind a wrapper": Row("examples/server-async/utils/scheduler.py", 2, like_diffusers(wrapped)),
}

REFUSED: dict[str, Refused] = {
    "step(pred_original_sample=)": Refused(
        "pipelines/cosmos/pipeline_cosmos_text2world.py",
        2,
        "an argument of EDMEuler: the clean sample in place of the output",
        stepped_with(pred_original_sample=IMAGE),
        TypeError,
    ),
    "step(per_token_timesteps=)": Refused(
        "pipelines/ltx/pipeline_ltx_condition.py",
        2,
        "an argument of FlowMatchEuler: a level of its own for each token",
        stepped_with(per_token_timesteps=torch.ones(2)),
        TypeError,
    ),
    "step(prev_timestep=)": Refused(
        "pipelines/deprecated/unclip/pipeline_unclip.py",
        8,
        "an argument of unCLIP's scheduler",
        stepped_with(prev_timestep=1),
        TypeError,
    ),
    "step(variance_noise=)": Refused(
        "pipelines/ledits_pp/pipeline_leditspp_stable_diffusion_xl.py",
        4,
        "an argument of DDIM and DPMSolver++: the noise of the step",
        stepped_with(variance_noise=NOISE),
        TypeError,
    ),
    "step(eta=, use_clipped_model_output=)": Refused(
        "pipelines/ddim/pipeline_ddim.py",
        3,
        "arguments of DDIM",
        stepped_with(eta=0.0, use_clipped_model_output=True),
        TypeError,
    ),
    "step(dmd_sigmas=, dmd_timesteps=, ...)": Refused(
        "modular_pipelines/helios/denoise.py",
        1,
        "arguments of Helios' scheduler",
        stepped_with(dmd_sigmas=NOISE, dmd_timesteps=NOISE),
        TypeError,
    ),
    "step(five or six positional)": Refused(
        "pipelines/deprecated/repaint/pipeline_repaint.py",
        8,
        "RePaint's and CogVideoX's schedulers have other arguments",
        lambda scheduler: scheduler.step(NOISE, 999, IMAGE, NOISE, NOISE, NOISE),
        TypeError,
    ),
    "set_timesteps(start_time=)": Refused(
        "pipelines/rfd4_proteina/pipeline_rfd4_proteina.py",
        2,
        "an argument of Proteina's scheduler",
        lambda scheduler: scheduler.set_timesteps(STEPS, start_time=0.5),
        TypeError,
    ),
    "set_timesteps(original_inference_steps=)": Refused(
        "examples/community/latent_consistency_interpolate.py",
        1,
        "an argument of LCM's scheduler",
        lambda scheduler: scheduler.set_timesteps(STEPS, None, original_inference_steps=50),
        TypeError,
    ),
    "set_timesteps(block_length=)": Refused(
        "pipelines/llada2/pipeline_llada2.py",
        1,
        "an argument of schedulers for text",
        lambda scheduler: scheduler.set_timesteps(STEPS, block_length=8),
        TypeError,
    ),
    "set_timesteps(is_amplify_first_chunk=)": Refused(
        "pipelines/helios/pipeline_helios_pyramid.py",
        2,
        "an argument of Helios' scheduler",
        lambda scheduler: scheduler.set_timesteps(STEPS, None, is_amplify_first_chunk=True),
        TypeError,
    ),
    "get_velocity": Refused(
        "examples/text_to_image/train_text_to_image.py",
        52,
        "DDPM's target of training",
        lambda scheduler: scheduler.get_velocity,
        AttributeError,
    ),
    "_get_variance": Refused(
        "experimental/rl/value_guided_sampling.py",
        5,
        "DDPM's and DDIM's variance of a step",
        lambda scheduler: scheduler._get_variance,
        AttributeError,
    ),
    "final_alpha_cumprod": Refused(
        "pipelines/deprecated/audio_diffusion/pipeline_audio_diffusion.py",
        7,
        "DDIM's share after the last step",
        lambda scheduler: scheduler.final_alpha_cumprod,
        AttributeError,
    ),
    "model_outputs": Refused(
        "pipelines/chronoedit/pipeline_chronoedit.py",
        3,
        "what multistep solvers remember",
        lambda scheduler: scheduler.model_outputs,
        AttributeError,
    ),
    "lower_order_nums": Refused(
        "pipelines/ledits_pp/pipeline_leditspp_stable_diffusion.py",
        2,
        "what multistep solvers count",
        lambda scheduler: scheduler.lower_order_nums,
        AttributeError,
    ),
    "last_sample": Refused(
        "pipelines/chronoedit/pipeline_chronoedit.py",
        1,
        "what UniPC remembers",
        lambda scheduler: scheduler.last_sample,
        AttributeError,
    ),
    "_sigma_to_alpha_sigma_t": Refused(
        "pipelines/ledits_pp/pipeline_leditspp_stable_diffusion.py",
        2,
        "DPMSolver++'s way to write a level",
        lambda scheduler: scheduler._sigma_to_alpha_sigma_t,
        AttributeError,
    ),
    "convert_model_output": Refused(
        "pipelines/ledits_pp/pipeline_leditspp_stable_diffusion.py",
        2,
        "a part of DPMSolver++",
        lambda scheduler: scheduler.convert_model_output,
        AttributeError,
    ),
    "dpm_solver_first_order_update": Refused(
        "pipelines/ledits_pp/pipeline_leditspp_stable_diffusion.py",
        2,
        "a part of DPMSolver++",
        lambda scheduler: scheduler.dpm_solver_first_order_update,
        AttributeError,
    ),
    "sigma_t": Refused(
        "examples/community/pipeline_fabric.py",
        1,
        "DPMSolver++'s levels of the trained timesteps",
        lambda scheduler: scheduler.sigma_t,
        AttributeError,
    ),
    "precondition_inputs": Refused(
        "examples/advanced_diffusion_training/train_dreambooth_lora_sdxl_advanced.py",
        3,
        "a part of EDMEuler",
        lambda scheduler: scheduler.precondition_inputs,
        AttributeError,
    ),
    "precondition_outputs": Refused(
        "examples/advanced_diffusion_training/train_dreambooth_lora_sdxl_advanced.py",
        3,
        "a part of EDMEuler",
        lambda scheduler: scheduler.precondition_outputs,
        AttributeError,
    ),
    "_get_conditioning_c_in": Refused(
        "pipelines/cosmos/pipeline_cosmos_video2world.py",
        1,
        "a part of EDMEuler",
        lambda scheduler: scheduler._get_conditioning_c_in,
        AttributeError,
    ),
    "batch_step_no_noise": Refused(
        "pipelines/deprecated/stable_diffusion_variants/pipeline_stable_diffusion_paradigms.py",
        1,
        "steps side by side, of DDIM and others",
        lambda scheduler: scheduler.batch_step_no_noise,
        AttributeError,
    ),
    "_is_ode_scheduler": Refused(
        "pipelines/deprecated/stable_diffusion_variants/pipeline_stable_diffusion_paradigms.py",
        1,
        "the mark of schedulers for steps side by side",
        lambda scheduler: scheduler._is_ode_scheduler,
        AttributeError,
    ),
    "undo_step": Refused(
        "pipelines/deprecated/repaint/pipeline_repaint.py",
        2,
        "RePaint's step back",
        lambda scheduler: scheduler.undo_step,
        AttributeError,
    ),
    "step_correct": Refused(
        "pipelines/deprecated/score_sde_ve/pipeline_score_sde_ve.py",
        3,
        "the corrector of score models' and of discrete schedulers",
        lambda scheduler: scheduler.step_correct,
        AttributeError,
    ),
    "step_pred": Refused(
        "pipelines/deprecated/score_sde_ve/pipeline_score_sde_ve.py",
        1,
        "the predictor of score models",
        lambda scheduler: scheduler.step_pred,
        AttributeError,
    ),
    "set_sigmas": Refused(
        "pipelines/deprecated/score_sde_ve/pipeline_score_sde_ve.py",
        1,
        "the levels of score models",
        lambda scheduler: scheduler.set_sigmas,
        AttributeError,
    ),
    "add_noise_to_input": Refused(
        "pipelines/deprecated/stochastic_karras_ve/pipeline_stochastic_karras_ve.py",
        1,
        "Karras VE's noise before a step",
        lambda scheduler: scheduler.add_noise_to_input,
        AttributeError,
    ),
    "schedule": Refused(
        "pipelines/deprecated/stochastic_karras_ve/pipeline_stochastic_karras_ve.py",
        1,
        "Karras VE's levels",
        lambda scheduler: scheduler.schedule,
        AttributeError,
    ),
    "ori_start_sigmas": Refused(
        "pipelines/helios/pipeline_helios_pyramid.py",
        2,
        "Helios' levels of the resolutions",
        lambda scheduler: scheduler.ori_start_sigmas,
        AttributeError,
    ),
    "scales": Refused(
        "examples/community/matryoshka.py",
        1,
        "Matryoshka's resolutions",
        lambda scheduler: scheduler.scales,
        AttributeError,
    ),
    "create_state": Refused(
        "examples/dreambooth/train_dreambooth_flax.py",
        4,
        "the state of Flax schedulers",
        lambda scheduler: scheduler.create_state,
        AttributeError,
    ),
    "clone_for_request": Refused(
        "examples/server-async/utils/requestscopedpipeline.py",
        2,
        "a wrapper's, looked for before it is called",
        lambda scheduler: scheduler.clone_for_request,
        AttributeError,
    ),
    "check_eos_finished": Refused(
        "pipelines/llada2/pipeline_llada2.py",
        1,
        "a part of schedulers for text",
        lambda scheduler: scheduler.check_eos_finished,
        AttributeError,
    ),
    "check_block_should_continue": Refused(
        "pipelines/llada2/pipeline_llada2.py",
        1,
        "a part of schedulers for text",
        lambda scheduler: scheduler.check_block_should_continue,
        AttributeError,
    ),
}
