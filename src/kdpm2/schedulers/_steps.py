"""The steps of a run: from a number of steps, or from a caller's own noise levels.

The functions raise TypeError for a value of the wrong type, ValueError for one that is out of range or contradicts
another.
"""

from typing import Any

from kdpm2 import _check, spacing
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.restart import restarted
from kdpm2.schedulers import _options
from kdpm2.spacing import Steps
from kdpm2.table import StageTable


def spaced(schedule: NoiseSchedule, options: Any, count: Any, limit: int | None, mu: float | None) -> Steps:
    """Steps at the noise levels that the options say."""
    if count is None:
        raise ValueError("num_inference_steps must be an integer at least 1 without sigmas or timesteps")
    if limit is None and schedule.trained_timesteps is not None:
        # There may be more betas than timesteps.
        limit = min(options.num_train_timesteps, schedule.trained_timesteps)
    shift, asked = _options.shift(options, mu), _options.spacing_options(options)
    return _travelled(
        schedule, options, spacing.steps(schedule, count, num_train_timesteps=limit, shift=shift, **asked)
    )


def own(
    schedule: NoiseSchedule, options: Any, count: Any, limit: Any, sigmas: Any, timesteps: Any, mu: float | None
) -> Steps | StageTable:
    """Steps at a caller's noise levels or timesteps. If `count` is not None, there must be so many."""
    if limit is not None:
        raise ValueError(
            f"num_train_timesteps must be None with sigmas or timesteps of one's own, got {_check.shown(limit)}"
        )
    shift, asked = _options.shift(options, mu), _options.spacing_options(options)
    if isinstance(sigmas, StageTable):
        if timesteps is not None:
            raise ValueError(f"timesteps must be None with a table, which has its own, got {_check.shown(timesteps)}")
        return sigmas
    taken = ("sigma_curve", "sigma_min", "sigma_max", "rho", "final_sigmas_type", "shift_terminal", "tuned_sigmas")
    steps = spacing.custom(schedule, sigmas, timesteps, shift=shift, **{name: asked[name] for name in taken})
    counts = len(steps.timesteps), len(sigmas if timesteps is None else timesteps)
    if count is not None and _check.integer("num_inference_steps", count, 1) not in counts:
        raise ValueError(
            f"num_inference_steps must be None or the number of steps given, {counts[0]}, got {_check.shown(count)}"
        )
    return _travelled(schedule, options, steps)


def _travelled(schedule: NoiseSchedule, options: Any, steps: Steps) -> Steps:
    """The steps as the run travels them: down alone, down with restarts, or up."""
    upwards = getattr(options, "invert", False)
    if upwards and options.restarts:
        raise ValueError(f"restarts must be None with invert=True, got {_check.shown(options.restarts)}")
    return spacing.inverted(schedule, steps) if upwards else restarted(schedule, steps, options.restarts)
