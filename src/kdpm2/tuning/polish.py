r"""A bounded search around given levels, for a measured error.

What is varied is smooth, and the same for any number of steps: the last level, and the lengths of the steps in log σ.
These are multiplied by :math:`e^{p(t)}` for a polynomial p of degree three over the run. Along one of these directions
at a time the error is measured at three places, and then where their parabola is lowest. A change counts if the mean
error falls by more than two standard errors, sample by sample: else it may be luck.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_DIRECTIONS = 4
_FIRST_STEP = 0.5
_SMALLEST_STEP = 0.06
_ERRORS_OF_THE_MEAN = 2.0


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
    levels: Floats,
    errors: Floats,
    measure: Callable[[Floats], Floats],
    affordable: Callable[[], bool],
    bounds: tuple[float, float],
) -> Iterator[Floats]:
    """Better and better levels, as they are found.

    Args:
        levels: Where the search begins, shape (N+1,).
        errors: What `measure` gives for them.
        measure: The error of each sample for levels, shape (B,).
        affordable: Whether it may be called once more.
        bounds: Of the last start.
    """
    size = _FIRST_STEP
    directions = range(min(len(levels) - 2, _MOST_DIRECTIONS))
    while size > _SMALLEST_STEP:
        for direction in directions:
            tried = {0.0: (levels, errors)}
            for place in _places(tried, size):
                if not affordable():
                    break
                changed = moved(levels, direction, place, bounds)
                tried[place] = (changed, measure(changed))
            best = min(tried.values(), key=lambda each: float(each[1].mean()))
            if _is_better(best[1], errors):
                levels, errors = best
                yield levels
            if not affordable():
                return
        size /= 2


def _is_better(errors: Floats, than: Floats) -> bool:
    gain = than - errors
    return bool(gain.mean() > _ERRORS_OF_THE_MEAN * gain.std(ddof=1) / np.sqrt(len(gain)))


def _places(tried: dict[float, tuple[Floats, Floats]], size: float) -> Iterator[float]:
    """Where to look along a direction, with what has been tried so far."""

    def means() -> list[float]:
        return [float(errors.mean()) for _, errors in tried.values()]

    yield size
    yield 2 * size if means()[-1] < means()[0] else -size
    a, b, _ = np.polyfit(list(tried), means(), 2)
    lowest = float(-b / (2 * a)) if a > 0 else 0.0
    if -2 * size < lowest < 3 * size and min(abs(lowest - place) for place in tried) > size / 8:
        yield lowest
