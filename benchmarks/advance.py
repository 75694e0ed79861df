"""What a stage of 64 samples costs that stand at 64 different stages.

`kdpm2.batching` takes them all one stage further in one call. Beside it, diffusers takes 64 schedulers, one for each
sample, and as many calls; kdpm2's scheduler, and `kdpm2.update` below it, take a batch whose samples are all at one
stage. Every sample has a generator of its own where noise is drawn; where it is not, a batch has one draw. An *advance*
is `advance` or `step` alone; in a *stage* the network's input is made as well, by `next_inputs` or `scale_model_input`.
The network returns a tensor that is there already.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from typing import Any, TypeAlias
from unittest import mock

import torch

from benchmarks import loops, projects
from benchmarks.pairs import drawing_nothing
from benchmarks.timing import Case, Run, Stopwatch, Time, Work, side_by_side, summary
from kdpm2 import noise_schedule, spacing, update
from kdpm2.batching import BatchedSolver
from kdpm2.noise import gaussian_like
from kdpm2.table import StageTable, dpm2

SAMPLES = 64
SAMPLE = (4, 32, 32)
ADVANCE, STAGE = "batching advance", "batching stage"
SOLVER = "kdpm2.batching"

# So many that 64 samples can be at 64 stages, and go on for as many rounds as are timed.
_STEPS = 100
_ROUNDS = 40

Calling: TypeAlias = Callable[[Callable[[], Any]], Any]
"""Calls what makes the network's input, on the clock or not."""


def cases(repeats: int) -> Iterator[Case]:
    """An advance and a stage, each without and with its noise."""
    for prefix in (ADVANCE, STAGE):
        for noise, how in ((False, "without"), (True, "with")):
            name = f"{prefix} of {SAMPLES} samples, {how} its noise"
            yield Case(name, partial(measured, name, repeats, noise, prefix == STAGE))


def measured(name: str, repeats: int, noise: bool, inputs: bool) -> list[Time]:
    """The times of one stage of all samples; see `works`."""
    clock = Stopwatch()
    calling = _on_the_clock if inputs else clock.uncounted
    times = side_by_side(works(noise, calling), repeats, clock=clock)
    return [summary(name, project, each) for project, each in times.items()]


def works(noise: bool, calling: Calling) -> dict[str, Work]:
    """What each project does for some stages of all samples.

    Args:
        noise: Whether noise is drawn on the clock; else a draw is memory with whatever is in it.
        calling: Calls what makes the network's input.
    """
    # Every other stage adds noise: what a draw is like, and how many there are.
    of_each, of_all = (torch.empty(1, *SAMPLE), SAMPLES * _ROUNDS // 2), (_batch(), _ROUNDS // 2)
    result: dict[str, Work] = {}
    classes = projects.classes("ancestral")
    if classes:
        result["diffusers"] = _prepared(partial(_schedulers, classes["diffusers"], calling), noise, *of_each)
        result["kdpm2"] = _prepared(partial(_scheduler, classes["kdpm2"], calling, noise), noise, *of_all)
    result["kdpm2.update"] = _prepared(partial(_rows, calling, noise), noise, *of_all)
    for name in loops.modes(torch.device("cpu")):
        mode = name.removeprefix("kdpm2.sample")
        made = partial(_solver, calling, mode.strip() or "eager")
        # Its samples are at both kinds of stages in every round.
        result[SOLVER + mode] = _drawing_at_once(_prepared(made, noise, of_all[0], _ROUNDS), noise)
    return result


def _drawing_at_once(work: Work, noise: bool) -> Work:
    """A solver's work; without its noise, one draw for all samples, as for a batch at one stage, instead of each's."""

    def draw(solver: Any, size: int) -> torch.Tensor:
        return torch.randn_like(solver._sample[:size])

    @contextmanager
    def prepared() -> Iterator[Run]:
        with work() as run, nullcontext() if noise else mock.patch.object(BatchedSolver, "_drawn", draw):
            yield run

    return prepared


def _on_the_clock(call: Callable[[], Any]) -> None:
    call()


def _prepared(made: Callable[[], Run], noise: bool, like: torch.Tensor, draws: int) -> Work:
    @contextmanager
    def work() -> Iterator[Run]:
        with torch.no_grad():
            run = made()
            with nullcontext() if noise else drawing_nothing(like, draws):
                yield run

    return work


def _batch() -> torch.Tensor:
    return torch.randn(SAMPLES, *SAMPLE)


def _generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]


def _table() -> StageTable:
    schedule = noise_schedule.discrete()
    return dpm2(schedule, spacing.steps(schedule, _STEPS))


def _schedulers(cls: Any, calling: Calling) -> Run:
    """A scheduler for each sample, which are 0, 1, 2, ... stages into their runs."""
    outputs, samples, generators = _batch().split(1), list(_batch().split(1)), _generators()
    fresh = cls()
    fresh.set_timesteps(_STEPS)
    timesteps = fresh.timesteps.unbind()
    schedulers = [deepcopy(fresh) for _ in samples]
    for i, scheduler in enumerate(schedulers):
        for timestep in timesteps[:i]:
            samples[i] = scheduler.step(outputs[i], timestep, samples[i])[0]

    def scale(done: int) -> None:
        for i, scheduler in enumerate(schedulers):
            scheduler.scale_model_input(samples[i], timesteps[i + done])

    def run() -> int:
        for done in range(_ROUNDS):
            calling(partial(scale, done))
            for i, scheduler in enumerate(schedulers):
                samples[i] = scheduler.step(
                    outputs[i], timesteps[i + done], samples[i], generator=generators[i], return_dict=False
                )[0]
        return _ROUNDS

    return run


def _scheduler(cls: Any, calling: Calling, noise: bool) -> Run:
    """One scheduler for all samples, at one stage."""
    output, sample, generators = _batch(), _batch(), _generators() if noise else None
    scheduler = cls()
    scheduler.set_timesteps(_STEPS)
    timesteps = scheduler.timesteps.unbind()[:_ROUNDS]

    def run() -> int:
        x = sample
        for timestep in timesteps:
            calling(partial(scheduler.scale_model_input, x, timestep))
            x = scheduler.step(output, timestep, x, generator=generators, return_dict=False)[0]
        return _ROUNDS

    return run


def _rows(calling: Calling, noise: bool) -> Run:
    """The rows of one table for all samples, at one stage."""
    output, sample, generators = _batch(), _batch(), _generators() if noise else None
    table = _table()
    scales, ends = update.input_scales(table, sample.dtype), table.ends_step.tolist()

    def run() -> int:
        x, anchor = sample, None
        for stage in range(_ROUNDS):
            row = table.row(stage)
            calling(partial(x.mul, scales[stage]))
            drawn = gaussian_like(x, generators) if row.noise else None
            after = update.advance(row, x, output, anchor, drawn, drawn)
            x, anchor = after, None if ends[stage] else x
        return _ROUNDS

    return run


def _solver(calling: Calling, mode: str) -> Run:
    """One solver for all samples, which are 0, 1, 2, ... stages into their runs."""
    solver = BatchedSolver(SAMPLE, capacity=SAMPLES, mode=mode)
    table, output = _table(), _batch()
    for seed in range(SAMPLES):
        solver.admit(table, seed=seed)
        solver.next_inputs()
        if seed < SAMPLES - 1:
            solver.advance(output)

    def run() -> int:
        for _ in range(_ROUNDS):
            calling(solver.next_inputs)
            solver.advance(output)
        return _ROUNDS

    return run
