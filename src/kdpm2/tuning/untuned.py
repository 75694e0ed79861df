"""The noise levels that need no tuning, which tuned ones have to beat."""

from itertools import product
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
        options: The options of a scheduler that ask for them; none for a function, which has no scheduler.
        levels: Shape (N+1,): where the steps start, and 0.
    """

    name: str
    options: dict[str, Any]
    levels: Floats


def known(schedule: NoiseSchedule, steps: int, high: float, low: float) -> list[Untuned]:
    """The spacings, curves and tables that fit a model, each with and without the level before the last."""
    spaced = np.isfinite(schedule.sigma_max) and schedule.sigma_min > 0
    tables = [f"ays_{name}" for name, knots in ALIGN_YOUR_STEPS.items() if abs(knots[0] / high - 1) < _NEAR]
    names = (*_CURVES, *tables) if spaced else _CURVES
    # The ends of a curve are those of a spacing, which is therefore named.
    asked: dict[str, dict[str, Any]] = {name: {"sigma_curve": name, "timestep_spacing": _SPACINGS[0]} for name in names}
    if spaced and schedule.default_curve is None:
        asked |= {name: {"timestep_spacing": name} for name in _SPACINGS}
    found = []
    for (name, options), discard in product(asked.items(), (False, True)):
        if spaced:
            chosen = options | {"discard_next_to_last_sigma": discard}
            levels = spacing.steps(schedule, steps, **chosen).sigmas
        else:
            chosen, levels = {}, np.append(SIGMA_CURVES[name].levels(high, low, steps + discard)[:steps], 0.0)
        if len(levels) == steps + 1:
            found.append(Untuned(name + ", next to last left out" * discard, chosen, levels))
    return found
