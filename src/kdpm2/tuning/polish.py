r"""A bounded search around given levels, for a measured error.

What is varied is smooth, and the same for any number of steps: the last level, and the lengths of the steps in log σ,
multiplied by :math:`e^{p(t)}` for a polynomial p of degree three over the run. Along one of these directions at a time
the error is measured at three places, and then where their parabola is lowest.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_DIRECTIONS = 4
_FIRST_STEP = 0.5
_SMALLEST_STEP = 0.06


def moved(levels: Floats, direction: int, by: float, bounds: tuple[float, float]) -> Floats:
    """Levels changed in one direction: 0 moves the last start in log σ, k reshapes the steps by the power k of t.

    Args:
        levels: Shape (N+1,): where steps start, and 0. The first stays.
        direction: From 0 to N-2.
        by: How far.
        bounds: Of the last start.
    """
    logs = np.log(levels[:-1])
    lengths = -np.diff(logs)
    whole = lengths.sum()
    if direction:
        t = np.linspace(-1, 1, len(lengths))
        lengths = lengths * np.exp(by * t**direction)
    else:
        low, high = logs[0] - np.log(bounds)
        whole = min(max(whole - by, high, whole / 2), low)
    starts = logs[0] - np.append(0.0, np.cumsum(lengths * (whole / lengths.sum())))
    return np.append(np.exp(starts), 0.0)


def polished(
    levels: Floats, error: float, measure: Callable[[Floats], float], affordable: Callable[[], bool], bounds: tuple[float, float]
) -> Floats:
    """The best levels found.

    Args:
        levels: Where the search begins, shape (N+1,).
        error: What `measure` gives for them.
        measure: The error of levels.
        affordable: Whether it may be called once more.
        bounds: Of the last start.
    """
    size = _FIRST_STEP
    directions = range(min(len(levels) - 2, _MOST_DIRECTIONS))
    while size > _SMALLEST_STEP:
        for direction in directions:
            tried = {0.0: error}
            for place in _places(tried, size):
                if not affordable():
                    break
                tried[place] = measure(moved(levels, direction, place, bounds))
            best = min(tried, key=lambda place: tried[place])
            levels, error = (moved(levels, direction, best, bounds) if best else levels), tried[best]
            if not affordable():
                return levels
        size /= 2
    return levels


def _places(tried: dict[float, float], size: float) -> Iterator[float]:
    """Where to look along a direction, with what has been tried so far."""
    yield size
    rises = size not in tried or tried[size] >= tried[0.0]
    yield -size if rises else 2 * size
    if len(tried) == 3:
        a, b, _ = np.polyfit(list(tried), list(tried.values()), 2)
        lowest = -b / (2 * a) if a > 0 else 0.0
        span = 2 * size
        if a > 0 and -span < lowest < 1.5 * span and min(abs(lowest - place) for place in tried) > size / 8:
            yield float(lowest)
