"""A run seen from outside, stage by stage, in whatever pipeline it is: by the scheduler's own `step`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """What there is after a call of the network.

    Attributes:
        stage: Which call of the run it was, from 0.
        stages: How many calls the run makes.
        starts_step: Whether a step began there.
        sigma: The noise level at which the network was called.
        denoised: The network's estimate of the clean samples, like the samples (B, ...).
    """

    stage: int
    stages: int
    starts_step: bool
    sigma: float
    denoised: Any


Watch = Callable[[Seen], object]


@contextmanager
def watched(scheduler: Any, watch: Watch | None) -> Iterator[None]:
    """Have `watch` called after each stage of one run of a scheduler of ours. What it raises ends the run."""
    if watch is None:
        yield
        return
    step, stage = scheduler.step, 0

    @wraps(step)  # pipelines look at what a step takes
    def told(*args: Any, **kwargs: Any) -> Any:
        nonlocal stage
        result = step(*args, **kwargs)
        table = scheduler.table
        denoised = result[1] if isinstance(result, tuple) else result.pred_original_sample
        watch(Seen(stage, len(table), bool(table.starts_step[stage]), float(table.stage_sigmas[stage]), denoised))
        stage += 1
        return result

    scheduler.step = told
    try:
        yield
    finally:
        del scheduler.step
