"""What a stage pair costs, a first-order stage and its midpoint, and how far from the limit of the memory it is.

Every project makes whole runs, whose time is divided by their pairs; the last step of a run, to sigma 0, counts for
half of one. The schedulers are called as a pipeline calls them, `scale_model_input` and `step` for each stage. The
network returns a tensor that is there already. k-diffusion leaves it to its denoiser to scale the input: that is not in
its time.

Without its noise, a pair is timed with draws that are memory without numbers: every call of `torch.randn` and
`torch.randn_like` gives a new tensor, in whose memory a project may compute, and draws nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from math import prod
from typing import Any
from unittest import mock

import torch

import kdpm2
from benchmarks import machine, projects
from benchmarks.timing import Case, Run, Time, Work, nothing, repeated, side_by_side, summary
from kdpm2 import noise_schedule, spacing

SIZES = [(1, 4, 64, 64), (1, 4, 128, 128), (8, 4, 128, 128), (16, 16, 128, 128)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ELEMENTS = [10**exponent * digit for exponent in range(3, 8) for digit in (1, 3)] + [10**8]
ELEMENTS_PREFIX = "elements "

COPY = "copy_"
# What a pair must read and write, in tensors of the sample's size, if each stage reads every input once and writes
# every result once. First order: reads the sample and the network's output; writes the next sample and, for the
# network, the same scaled. Midpoint: reads the network's output, the anchor and the noise; writes the same two.
_STAGES = (2 + 2) + (3 + 2)
# A scheduler returns the clean sample as well: it is written at each stage, and the midpoint reads its sample for it.
MOVED = {"kdpm2": _STAGES + 1 + 2, "kdpm2.sample": _STAGES}

_MOST_STEPS = 50
_MOST_RUNS = 10  # where one is over before the caches are warm
_ELEMENTS_IN_A_RUN = 8_000_000
# A pair at this size and the next ones is measured a few times only.
_LARGE = 30_000_000
_FEW = 3
# The tensors that are there at once when a pair is measured: those of the run, and what diffusers makes on the way.
_TENSORS = 20


def cases(repeats: int, quick: bool) -> Iterator[Case]:
    """Every size and dtype with and without noise, the discrete class once, and a pair of more and more elements."""
    for dtype in DTYPES:
        for noise, how in ((False, "without"), (True, "with")):
            for shape in SIZES[:1] if quick else SIZES:
                name = f"pair {'x'.join(map(str, shape))} {dtype}, {how} its noise"
                made = partial(works, shape, DTYPES[dtype], noise=noise)
                yield Case(name, partial(measured, name, made, repeats, {} if noise else MOVED))
    name = f"pair {'x'.join(map(str, SIZES[0]))} float32, discrete"
    made = partial(works, SIZES[0], torch.float32, sampler="discrete")
    yield Case(name, partial(measured, name, made, repeats, {}))
    most = machine.memory() // (4 * _TENSORS)
    for elements in ELEMENTS[:4] if quick else [elements for elements in ELEMENTS if elements <= most]:
        name = f"{ELEMENTS_PREFIX}{elements}"
        made = partial(works, (1, elements), torch.float32, noise=False)
        yield Case(name, partial(measured, name, made, min(repeats, _FEW) if elements >= _LARGE else repeats))


def measured(
    name: str,
    made: Callable[[], dict[str, Work]],
    repeats: int,
    moved: Mapping[str, int] = MOVED,
    synchronize: Callable[[], None] = nothing,
) -> list[Time]:
    """The times of one pair, and of a copy in the same run, at whose speed `moved` tensors make a project's bound."""
    times = side_by_side(made(), repeats, synchronize)
    copied = summary(name, COPY, times.pop(COPY))
    # A copy reads one tensor and writes one.
    bounds = {project: tensors / 2 * copied.seconds for project, tensors in moved.items()}
    return [*(summary(name, project, each, bounds.get(project)) for project, each in times.items()), copied]


def works(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: str = "cpu",
    noise: bool = True,
    sampler: str = "ancestral",
) -> dict[str, Work]:
    """What each project does for a number of pairs, and a copy of one tensor to another.

    Args:
        shape: Of the sample, (B, ...).
        dtype: Of the sample.
        device: Where everything is.
        noise: Whether noise is drawn on the clock.
        sampler: "ancestral", or "discrete", which draws none.
    """
    steps = max(2, min(_MOST_STEPS, _ELEMENTS_IN_A_RUN // prod(shape)))
    runs = max(1, min(_MOST_RUNS, _ELEMENTS_IN_A_RUN // (steps * prod(shape))))
    pairs = steps - 0.5  # the last step, to sigma 0, has one stage
    sample, output = (torch.randn(shape, dtype=dtype, device=device) for _ in range(2))
    sigmas = spacing.steps(noise_schedule.discrete(), steps).sigmas
    denoiser = kdpm2.Denoiser(lambda x, timestep: output, noise_schedule.discrete())
    on_device = torch.tensor(sigmas, dtype=torch.float32, device=device)
    eta = float(sampler == "ancestral")
    draws_on_the_clock = noise or not eta
    k_diffusion = projects.k_diffusion("sampling")

    def of_scheduler(scheduler: Any) -> Run:
        scheduler.set_timesteps(steps, device=device)
        timesteps = scheduler.timesteps.unbind()

        def run() -> float:
            projects.begin_anew(scheduler)
            x = sample
            for timestep in timesteps:
                # Held until the next is made, as the variables of a pipeline hold it.
                model_input = scheduler.scale_model_input(x, timestep)  # noqa: F841
                x = scheduler.step(output, timestep, x, return_dict=False)[0]
            return pairs

        return run

    def of_function(call: Callable[[], torch.Tensor]) -> Run:
        def run() -> float:
            call()
            return pairs

        return run

    def prepared(made: Callable[..., Run], argument: Any) -> Work:
        @contextmanager
        def work() -> Iterator[Run]:
            run = made(argument)
            with nullcontext() if draws_on_the_clock else drawing_nothing(sample, runs * (steps - 1)), torch.no_grad():
                yield lambda: sum(run() for _ in range(runs))

        return work

    result = {project: prepared(of_scheduler, cls()) for project, cls in projects.classes(sampler).items()}
    if k_diffusion is not None:
        function = k_diffusion.sample_dpm_2_ancestral if eta else k_diffusion.sample_dpm_2
        call = partial(function, lambda x, sigma: output, sample, on_device, disable=True)
        result["k-diffusion"] = prepared(of_function, call)
    result["kdpm2.sample"] = prepared(of_function, partial(kdpm2.sample, denoiser, sample, sigmas, eta=eta))
    result[COPY] = repeated(partial(torch.empty_like(sample).copy_, sample), steps)
    return result


@contextmanager
def drawing_nothing(like: torch.Tensor, draws: int) -> Iterator[None]:
    """Let every draw of normal noise be a new tensor of that kind, with whatever is in its memory; in place, nothing.

    Raises:
        RuntimeError: If there are not so many draws, as noise was then drawn in some other way, or not at all.
    """
    made = 0

    def next_draw(*_: object, **__: object) -> torch.Tensor:
        nonlocal made
        made += 1
        return torch.empty_like(like)

    def in_place(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        nonlocal made
        made += 1
        return tensor

    with (
        mock.patch.object(torch, "randn", next_draw),
        mock.patch.object(torch, "randn_like", next_draw),
        mock.patch.object(torch.Tensor, "normal_", in_place),
    ):
        yield
    if made != draws:
        raise RuntimeError(f"there must be {draws} draws of noise in each run, got {made}: some are made in other ways")
