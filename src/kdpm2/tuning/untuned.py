"""The noise levels that need no tuning, which tuned ones have to beat."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import spacing
from kdpm2.curves import ALIGN_YOUR_STEPS, SIGMA_CURVES
from kdpm2.noise_schedule import NoiseSchedule

Floats = NDArray[np.float64]

_CURVES = ("karras", "exponential", "beta")
_SPACINGS = ("linspace", "trailing")
_NEAR = 0.02  # how far, as a share, the first level of a published table may be from the model's


class Untuned(NamedTuple):
    """Levels by a name.

    Attributes:
        name: What they are called.
        options: The options of a scheduler that ask for them.
        levels: Shape (N+1,): where the steps start, and 0.
    """

    name: str
    options: dict[str, Any]
    levels: Floats


def known(schedule: NoiseSchedule, steps: int, high: float, low: float) -> list[Untuned]:
    """The spacings, curves and tables that fit a model, each with and without the level before the last."""
    asked: list[tuple[str, dict[str, Any]]] = [(name, {"sigma_curve": name}) for name in _CURVES]
    asked += [
        (f"ays_{name}", {"sigma_curve": f"ays_{name}"})
        for name, knots in ALIGN_YOUR_STEPS.items()
        if abs(knots[0] / high - 1) < _NEAR
    ]
    if schedule.default_curve is None and np.isfinite(schedule.sigma_max) and schedule.sigma_min:
        asked += [(name, {"timestep_spacing": name}) for name in _SPACINGS]
    found = []
    for name, options in asked:
        for discard in (False, True):
            count = steps + discard
            curve = SIGMA_CURVES.get(name)
            if curve is not None and curve.has_ends:
                starts = curve.levels(high, low, count)
            else:
                starts = spacing.steps(schedule, count, **options).sigmas[:-1]
            levels = np.append(starts[:steps], 0.0)
            if len(levels) == steps + 1 and (np.diff(levels) < 0).all():
                chosen = options | ({"discard_next_to_last_sigma": True} if discard else {})
                found.append(Untuned(name + ", next to last left out" * discard, chosen, levels))
    return found
