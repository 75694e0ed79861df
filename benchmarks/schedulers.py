"""What it costs to make a scheduler, and to set its timesteps."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks import projects
from benchmarks.timing import Case, Time, repeated, side_by_side, summary

CURVES: dict[str, dict[str, bool]] = {
    "plain": {},
    "Karras": {"use_karras_sigmas": True},
    "beta": {"use_beta_sigmas": True},
}


def cases(repeats: int, quick: bool) -> Iterator[Case]:
    """Both classes constructed; timesteps set for each curve and number of steps."""
    for sampler in projects.CLASS_NAMES:
        name = f"construct {sampler}"
        yield Case(name, partial(_measured, name, sampler, {}, _construct, repeats))
    for steps in (10,) if quick else (10, 50, 1000):
        for sampler in projects.CLASS_NAMES:
            for curve, config in CURVES.items():
                name = f"set_timesteps({steps}) {sampler}, {curve} sigmas"
                yield Case(name, partial(_measured, name, sampler, config, partial(_set_timesteps, steps), repeats))


def _construct(cls: Any, config: dict[str, bool]) -> Callable[[], object]:
    return partial(cls, **config)


def _set_timesteps(steps: int, cls: Any, config: dict[str, bool]) -> Callable[[], object]:
    return partial(cls(**config).set_timesteps, steps)


def _measured(
    name: str,
    sampler: str,
    config: dict[str, bool],
    made: Callable[[Any, dict[str, bool]], Callable[[], object]],
    repeats: int,
) -> list[Time]:
    # So often that both take some milliseconds.
    often = {"diffusers": 1, "kdpm2": 20}
    works = {project: repeated(made(cls, config), often[project]) for project, cls in projects.classes(sampler).items()}
    return [summary(name, project, times) for project, times in side_by_side(works, repeats).items()]
