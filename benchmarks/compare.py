"""What the scheduler costs, beside diffusers: medians of runs that alternate between the two in one process.

A stage is `scale_model_input` and `step`, as a pipeline calls them. Its cost without noise is that of a run in which
`torch.randn` hands out the same tensor each time, to both.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

import diffusers
import torch

import kdpm2

REPEATS = 11
SIZES = [(1, 4, 64, 64), (1, 4, 128, 128), (8, 4, 128, 128), (16, 16, 128, 128)]
CLASSES = [
    (diffusers.KDPM2AncestralDiscreteScheduler, kdpm2.KDPM2AncestralDiscreteScheduler),
    (diffusers.KDPM2DiscreteScheduler, kdpm2.KDPM2DiscreteScheduler),
]


def side_by_side(reference: Callable[[], int], ours: Callable[[], int]) -> tuple[float, float]:
    """Median seconds for one unit of work of each; a function returns how many units it did."""
    times: tuple[list[float], list[float]] = ([], [])
    gc.disable()
    for repeat in range(REPEATS + 1):
        for run, measured in zip((reference, ours), times, strict=True):
            start = perf_counter()
            units = run()
            elapsed = (perf_counter() - start) / units
            if repeat:  # the first round warms up
                measured.append(elapsed)
    gc.enable()
    return median(times[0]), median(times[1])


def report(name: str, reference: Callable[[], int], ours: Callable[[], int]) -> None:
    """Print one line: both medians and their ratio."""
    slow, fast = side_by_side(reference, ours)
    print(f"{name:<58} {slow * 1e6:>12,.1f} {fast * 1e6:>12,.1f} {slow / fast:>8.1f}x", flush=True)


def repeated(work: Callable[[], Any], times: int) -> Callable[[], int]:
    """A function that does the work so often that a clock can tell, and says how often."""

    def run() -> int:
        for _ in range(times):
            work()
        return times

    return run


def _constant(value: torch.Tensor) -> Callable[..., torch.Tensor]:
    return lambda *args, **kwargs: value


@contextmanager
def noise_for_free(noise: torch.Tensor) -> Iterator[None]:
    """Let every draw of normal noise be this tensor."""
    with mock.patch.object(torch, "randn", new=_constant(noise)):
        yield


def loop(scheduler: Any, shape: tuple[int, ...], steps: int = 50) -> Callable[[], int]:
    """A function that makes every stage of a run, with a constant for the network's output."""
    sample, model_output = torch.randn(shape), torch.randn(shape)
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.unbind()

    def run() -> int:
        scheduler._step_index = scheduler.sample = None  # diffusers' class does not start over by itself
        for timestep in timesteps:
            scheduler.scale_model_input(sample, timestep)
            scheduler.step(model_output, timestep, sample, return_dict=False)
        return len(timesteps)

    return run


def main() -> None:
    """Print every comparison."""
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, diffusers {diffusers.__version__}, {torch.get_num_threads()} threads, CPU, float32"
    )
    print(f"{'microseconds, median of ' + str(REPEATS):<58} {'diffusers':>12} {'kdpm2':>12} {'ratio':>9}")
    for theirs, ours in CLASSES:
        report(f"construct {ours.__name__}", repeated(theirs, 1), repeated(ours, 100))
    for theirs, ours in CLASSES:
        for label, config in {"": {}, ", Karras": {"use_karras_sigmas": True}}.items():
            slow, fast = theirs(**config), ours(**config)
            report(
                f"set_timesteps(50) {ours.__name__}{label}",
                repeated(lambda s=slow: s.set_timesteps(50), 2),  # type: ignore[misc]
                repeated(lambda s=fast: s.set_timesteps(50), 200),  # type: ignore[misc]
            )
    for shape in SIZES:
        size = "x".join(map(str, shape))
        for theirs, ours in CLASSES:
            for noise in ("", ", without its noise") if "Ancestral" in ours.__name__ else ("",):
                name = f"stage {ours.__name__.replace('DiscreteScheduler', '')} {size}{noise}"
                with noise_for_free(torch.randn(shape)) if noise else nullcontext():
                    report(name, loop(theirs(), shape), loop(ours(), shape))


if __name__ == "__main__":
    main()
