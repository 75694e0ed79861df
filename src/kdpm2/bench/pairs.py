"""What a stage pair costs, a first-order stage and its midpoint, and how far from the limit of the memory it is.

The schedulers are called as a pipeline calls them, `scale_model_input` and `step` for each stage; k-diffusion's
function and `kdpm2.sample` make whole runs, whose time is divided by their steps, each of which is a pair. The network
returns a tensor that is there already. k-diffusion leaves it to its denoiser to scale the input: that is not in its
time.

Without its noise, a pair is timed with draws that were made before: every call of `torch.randn` and `torch.randn_like`
is handed the next of them, a new tensor each time, in whose memory a project may compute.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from math import prod
from typing import Any
from unittest import mock

import torch

import kdpm2
from kdpm2 import noise_schedule, spacing
from kdpm2.bench import machine, projects
from kdpm2.bench.timing import Case, Run, Time, Work, nothing, repeated, side_by_side, summary

SIZES = [(1, 4, 64, 64), (1, 4, 128, 128), (8, 4, 128, 128), (16, 16, 128, 128)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ELEMENTS = [10**exponent * digit for exponent in range(3, 8) for digit in (1, 3)] + [10**8]
ELEMENTS_PREFIX = "elements "

COPY = "copy_"
# What a pair must read and write, in tensors of the sample's size, if each stage reads every input once and writes
# every result once. First order: reads the sample and the network's output; writes the next sample and, for the
# network, the same scaled. Midpoint: reads the network's output, the anchor and the noise; writes the same two.
_LOOP = (2 + 2) + (3 + 2)
# The scheduler returns what is denoised too, at each stage, for which the midpoint has to read its sample.
_DROP_IN = _LOOP + 1 + 2
MOVED = {"kdpm2": _DROP_IN, "kdpm2.sample": _LOOP}

_MOST_PAIRS = 49
_ELEMENTS_IN_A_RUN = 8_000_000
# A pair at this size and the next ones is measured a few times only.
_LARGE = 30_000_000
_FEW = 3
# The tensors that are there at once when a pair is measured: those of the run, and what diffusers makes on the way.
_TENSORS = 20


def cases(repeats: int, quick: bool) -> Iterator[Case]:
    """Every size and dtype with and without noise, the discrete class once, and a pair of more and more elements."""
    for shape in SIZES[:1] if quick else SIZES:
        for dtype in DTYPES:
            name = f"pair {'x'.join(map(str, shape))} {dtype}"
            made = partial(works, shape, DTYPES[dtype])
            yield Case(f"{name}, with its noise", partial(measured, f"{name}, with its noise", made, repeats, {}))
            made = partial(made, noise=False)
            yield Case(f"{name}, without its noise", partial(measured, f"{name}, without its noise", made, repeats))
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
    pairs = max(1, min(_MOST_PAIRS, _ELEMENTS_IN_A_RUN // prod(shape)))
    sample, output = (torch.randn(shape, dtype=dtype, device=device) for _ in range(2))
    # One step more than is made: the last step, to sigma 0, is no pair.
    sigmas = spacing.steps(noise_schedule.discrete(), pairs + 1).sigmas[:-1]
    denoiser = kdpm2.Denoiser(lambda x, timestep: output, noise_schedule.discrete())
    on_device = torch.tensor(sigmas, dtype=torch.float32, device=device)
    eta = float(sampler == "ancestral")
    draws_on_the_clock = noise or not eta
    k_diffusion = projects.k_diffusion("sampling")

    def of_scheduler(scheduler: Any) -> Run:
        scheduler.set_timesteps(pairs + 1, device=device)
        timesteps = scheduler.timesteps[:-1].unbind()

        def run() -> int:
            x = sample
            for timestep in timesteps:
                scheduler.scale_model_input(x, timestep)
                x = scheduler.step(output, timestep, x, return_dict=False)[0]
            return pairs

        return run

    def of_function(call: Callable[[], torch.Tensor]) -> Run:
        def run() -> int:
            call()
            return pairs

        return run

    def prepared(made: Callable[..., Run], argument: Any) -> Work:
        @contextmanager
        def work() -> Iterator[Run]:
            run = made(argument)
            draws = [] if draws_on_the_clock else [torch.randn_like(sample) for _ in range(pairs)]
            with nullcontext() if draws_on_the_clock else handed_out(draws), torch.no_grad():
                yield run

        return work

    result = {project: prepared(of_scheduler, cls()) for project, cls in projects.classes(sampler).items()}
    if k_diffusion is not None:
        function = k_diffusion.sample_dpm_2_ancestral if eta else k_diffusion.sample_dpm_2
        call = partial(function, lambda x, sigma: output, sample, on_device, disable=True)
        result["k-diffusion"] = prepared(of_function, call)
    result["kdpm2.sample"] = prepared(of_function, partial(kdpm2.sample, denoiser, sample, sigmas, eta=eta))
    result[COPY] = repeated(partial(torch.empty_like(sample).copy_, sample), pairs)
    return result


@contextmanager
def handed_out(draws: list[torch.Tensor]) -> Iterator[None]:
    """Let every draw of normal noise be the next of these tensors, none of which is kept.

    Raises:
        RuntimeError: If one is left, as noise was then drawn in some other way.
    """

    def next_draw(*_: object, **__: object) -> torch.Tensor:
        return draws.pop()

    with mock.patch.object(torch, "randn", next_draw), mock.patch.object(torch, "randn_like", next_draw):
        yield
    if draws:
        raise RuntimeError(f"draws must all be used up, got {len(draws)} left: noise was drawn in some other way")
