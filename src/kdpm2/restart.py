r"""Restart: back up to a higher noise level by fresh noise alone, down again, and all of that several times.

A run comes down to :math:`\sigma_{min}`. Noise raises its samples to :math:`\sigma_{max}`. Some steps along Karras'
curve (ρ = 7) bring them down to :math:`\sigma_{min}` again. This is done K times, and then the run goes on. The noise
makes errors of earlier steps small, and each way down can be deterministic.

The noise of a step up belongs to the row before it, as that of churn does (`kdpm2.table`). So a run with restarts is a
table as any other.

References:
    | Restart Sampling for Improving Generative Processes (Xu et al., 2023): https://arxiv.org/abs/2306.14878
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdpm2 import _check, curves
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.spacing import RaisedSteps, Steps, ToldSteps

_MOST = 1000


class Restart(NamedTuple):
    """One interval in which a run restarts.

    Attributes:
        sigma_min: Where the run turns back up, above 0. The level of the run that is nearest in log σ counts, but never
            the final 0.
        sigma_max: Where noise raises the samples to, above that level.
        steps: Steps of each way down, at least 1.
        times: K, how often, at least 1.
    """

    sigma_min: float
    sigma_max: float
    steps: int = 3
    times: int = 1


def checked(name: str, restarts: Any) -> list[Restart]:
    """Restarts as values: of mappings with the names of `Restart`, of sequences in its order, or none of None.

    Raises:
        TypeError: If `restarts` is something else.
        ValueError: If a number is out of range.
    """
    if restarts is None:
        return []
    if isinstance(restarts, (str, bytes, Mapping)) or not isinstance(restarts, Sequence):
        raise TypeError(f"{name} must be a list of intervals or None, got {_check.shown(restarts)}")
    return [_checked(name, each) for each in restarts]


def _checked(name: str, given: Any) -> Restart:
    known = Restart._fields
    if isinstance(given, Mapping):
        for key in given:
            if key not in known:
                raise ValueError(f"each of {name} must have the keys {', '.join(known)}, got {_check.shown(key)}")
        said = dict(given)
    elif isinstance(given, Sequence) and not isinstance(given, (str, bytes)) and len(given) <= len(known):
        said = dict(zip(known, given, strict=False))
    else:
        raise TypeError(f"each of {name} must be a mapping or a list of {', '.join(known)}, got {_check.shown(given)}")
    if not {"sigma_min", "sigma_max"} <= said.keys():
        raise ValueError(f"each of {name} must have sigma_min and sigma_max, got {_check.shown(given)}")
    made = Restart(**said)
    low = _check.positive(f"sigma_min of {name}", made.sigma_min)
    high = _check.positive(f"sigma_max of {name}", made.sigma_max)
    if high <= low:
        raise ValueError(f"sigma_max of {name} must be above sigma_min={low:g}, got {high:g}")
    steps = _check.integer(f"steps of {name}", made.steps, 1, _MOST)
    return Restart(low, high, steps, _check.integer(f"times of {name}", made.times, 1, _MOST))


def restarted(schedule: NoiseSchedule, steps: Steps, restarts: Any) -> Steps:
    """The steps of a run with restarts.

    Args:
        schedule: What the model was trained on.
        steps: The run without them, whose sigmas fall.
        restarts: Intervals, as `checked` takes them.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of range, or the steps have timesteps of the caller's own.
    """
    wanted = checked("restarts", restarts)
    if not wanted:
        return steps
    if isinstance(steps, ToldSteps):
        raise ValueError("restarts must be None with timesteps of one's own for given sigmas, got some")
    levels, ends = steps.sigmas, steps.sigmas[1:]
    ways_down: dict[int, list[np.ndarray[Any, np.dtype[np.float64]]]] = {}
    for each in wanted:
        if each.sigma_max > schedule.largest:
            raise ValueError(
                f"sigma_max of restarts must be at most {schedule.largest:g} for {schedule.named}, "
                f"got {each.sigma_max:g}"
            )
        with np.errstate(divide="ignore"):
            place = int(np.argmin(np.abs(np.log(ends / each.sigma_min))))
        if not len(ends) or not 0 < ends[place] < each.sigma_max:
            raise ValueError(
                "sigma_max of restarts must be above the level where the run turns back, the nearest to sigma_min, "
                f"got {each.sigma_max:g}"
            )
        down = curves.karras(each.sigma_max, float(ends[place]), each.steps + 1)
        down[-1] = ends[place]  # which the power of a power may miss by a unit in the last place
        ways_down.setdefault(place, []).extend([down] * each.times)
    sigmas, raised, timesteps = [levels[:1]], [], []
    for step, end in enumerate(ends):
        raised.append(levels[step : step + 1])
        timesteps.append(steps.timesteps[step : step + 1])
        sigmas.append(np.array([end]))
        for down in ways_down.get(step, []):
            raised.append(down[:-1])
            timesteps.append(schedule.timestep(down[:-1]))
            sigmas.append(down[1:])
    return RaisedSteps.of(*map(np.concatenate, (sigmas, timesteps, raised)))
