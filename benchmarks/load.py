"""What a server is asked for: requests that come at random times, each with a number of steps, a label and a seed.

They come as a Poisson process, as those of many people do who know nothing of one another: the times between two of
them are exponentially distributed, whatever has come before.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check

STEPS = (10, 20, 28, 50)
"""How many steps requests have, each as often as the others: what people leave as they find it. 20 is the default of
ComfyUI and of AUTOMATIC1111's web UI, 28 that of diffusers' pipelines for Stable Diffusion 3 and Flux, 50 that of those
for Stable Diffusion and SDXL; 10 stands for previews."""

_LABELS = 10
_LARGEST_RATE = 1e9


class Request(NamedTuple):
    """One picture that somebody waits for.

    Attributes:
        arrival: When it comes, in seconds from the start.
        steps: How many steps it is to have.
        label: Which digit it is to be.
        seed: Of all of its noise.
    """

    arrival: float
    steps: int
    label: int
    seed: int


def arrivals(count: int, rate: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Shape (count,): the times of a Poisson process of `rate` events a second, in seconds from the start.

    Raises:
        TypeError: If `count` or `rate` has the wrong type.
        ValueError: If `count` is not at least 1, or `rate` not positive.
    """
    rate = _check.number("rate", rate, 1 / _LARGEST_RATE, _LARGEST_RATE)
    return generator.exponential(1 / rate, _check.count("count", count)).cumsum()


def requests(count: int, rate: float, seed: int = 0) -> list[Request]:
    """So many requests, as they come; of one seed the same, sooner or later, whatever the rate."""
    generator = np.random.default_rng(seed)
    times = arrivals(count, rate, generator).tolist()
    steps = generator.choice(STEPS, count).tolist()
    return [Request(time, each, i % _LABELS, i) for i, (time, each) in enumerate(zip(times, steps, strict=True))]
