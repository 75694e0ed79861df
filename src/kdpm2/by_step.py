"""Options that may change on the way: a number, numbers along the run, or a number within a window of steps.

`eta` and `s_noise` are such options. Fresh noise early in a run brings variety, and none at the end leaves the details
as they are: `eta=[1, 0]`, or `eta={"value": 1, "end": 0.7}`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check

Floats = NDArray[np.float64]
ByStep: TypeAlias = float | Sequence[float] | Mapping[str, float]

_WINDOW = ("value", "outside", "start", "end", "sigma_max", "sigma_min")


def by_step(name: str, value: Any, sigmas: Floats, high: float) -> Floats:
    """The value of an option for each of N steps, shape (N,).

    Args:
        name: Of the option.
        value: A number for all steps. Or numbers that are spread evenly over the run: N of them are one a step, and
            other counts are interpolated linearly. Or a window, a mapping of `value` in it, `outside` of it (0),
            `start` (0) and `end` (1) as shares of the steps, `sigma_max` and `sigma_min`, between which a step starts.
        sigmas: Shape (N,): where the steps start.
        high: The largest value allowed. The smallest is 0.

    Raises:
        TypeError: If the value is none of these.
        ValueError: If a number is out of range.
    """
    count = len(sigmas)
    if isinstance(value, Mapping):
        return _window(name, value, sigmas, high)
    if getattr(value, "ndim", int(isinstance(value, (list, tuple)))):
        given = _check.numbers(name, value)
        for each in given.tolist():
            _check.number(f"each of {name}", each, 0, high)
        return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(given)), given) if count else given[:0]
    return np.full(count, _check.number(name, value, 0, high))


def is_zero(value: Any) -> bool:
    """Whether an option that `by_step` has checked is 0 for every step."""
    if isinstance(value, Mapping):
        return not value["value"] and not value.get("outside", 0)
    return not np.any(value)


def shown(value: Any) -> str:
    """An option that `by_step` has checked, in few words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {float(each):g}" for key, each in value.items())
    return " to ".join(f"{each:g}" for each in np.atleast_1d(value)[[0, -1]]) if np.ndim(value) else f"{value:g}"


def _window(name: str, window: Mapping[str, Any], sigmas: Floats, high: float) -> Floats:
    for key in window:
        if key not in _WINDOW:
            raise ValueError(f"{name} must have the keys {', '.join(_WINDOW)}, got {_check.shown(key)}")
    if "value" not in window:
        raise ValueError(f"{name} must have a value, got only {', '.join(window) or 'an empty window'}")
    inside = _check.number(f"value of {name}", window["value"], 0, high)
    outside = _check.number(f"outside of {name}", window.get("outside", 0.0), 0, high)
    start = _check.number(f"start of {name}", window.get("start", 0.0), 0, 1)
    end = _check.number(f"end of {name}", window.get("end", 1.0), 0, 1)
    top = _check.number(f"sigma_max of {name}", window.get("sigma_max", np.inf), 0, np.inf)
    bottom = _check.number(f"sigma_min of {name}", window.get("sigma_min", 0.0), 0, np.inf)
    if start > end or bottom > top:
        raise ValueError(
            f"{name} must have start below end and sigma_min below sigma_max, "
            f"got {start:g}, {end:g}, {bottom:g} and {top:g}"
        )
    share = np.arange(len(sigmas)) / max(len(sigmas), 1)
    within = (share >= start) & (share < end) & (sigmas >= bottom) & (sigmas <= top)
    return np.where(within, inside, outside)
