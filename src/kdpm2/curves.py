r"""Curves from the largest sigma of a run to the smallest, N values each (u runs from 0 to 1).

================  ===========================================================================================
karras            :math:`(\sigma_{max}^{1/\rho} + u\,(\sigma_{min}^{1/\rho}-\sigma_{max}^{1/\rho}))^\rho`, ρ = 7
exponential       evenly spaced in log σ
polyexponential   :math:`\log\sigma = \log\sigma_{min} + (1-u)^\rho \log(\sigma_{max}/\sigma_{min})`, ρ = 1
beta              :math:`\sigma_{min} + (\sigma_{max}-\sigma_{min})\,F^{-1}(1-u)`, F the Beta(0.6, 0.6) distribution
lu                evenly spaced in :math:`\lambda = \log(\alpha/\sigma)`, half the log signal-to-noise ratio
kl_optimal        evenly spaced in the angle :math:`\arctan(\sigma/\alpha)`; the cosine schedule is the same
cosine            another name of kl_optimal
laplace           λ at even quantiles of the Laplace distribution of scale 0.5 around 0, cut off at the two ends
linear_quadratic  down to 0: N/2 steps of equal length to :math:`0.975\,\sigma_{max}`, then a parabola
bong_tangent      down to 0: two arctangents that meet at :math:`\sigma_{max}/2`; for flows
================  ===========================================================================================

Some noise levels are not a curve between two ends but a table, found by optimisation for one model. For other numbers
of steps a table is interpolated linearly in log σ. Align Your Steps has tables of eleven values, for three models.
`kdpm2.tune` makes a table for any model.

Every function checks its arguments: both ends must be positive, the first must not be the smaller one, and the count
must be a number of steps. A wrong type is a TypeError, a value out of range a ValueError.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), equation 5:
      https://arxiv.org/abs/2206.00364
    | exponential and polyexponential: Katherine Crowson's https://github.com/crowsonkb/k-diffusion
    | Beta Sampling is All You Need (Lee et al., 2024): https://arxiv.org/abs/2407.12173
    | DPM-Solver (Lu et al., 2022), section 3.4, for uniform λ: https://arxiv.org/abs/2206.00927
    | Align Your Steps (Sabour et al., 2024): https://arxiv.org/abs/2404.14507, whose section 3 has kl_optimal
    | Improved Noise Schedule for Diffusion Training (Hang et al., 2024), for cosine and laplace:
      https://arxiv.org/abs/2407.03297
    | linear_quadratic: https://github.com/genmoai/mochi, and https://github.com/comfyanonymous/ComfyUI
    | bong_tangent: https://github.com/ClownsharkBatwing/RES4LYF
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check

Floats = NDArray[np.float64]


_SHARE_OF_LINEAR = 0.025


def _checked(sigma_max: float, sigma_min: float, count: int) -> tuple[float, float, int]:
    high, low = _check.positive("sigma_max", sigma_max), _check.positive("sigma_min", sigma_min)
    if low > high:
        raise ValueError(f"sigma_min must be at most sigma_max={high:g}, got {low:g}")
    return high, low, _check.integer("count", count, 1, _check.MOST_STEPS + 1)


def _exponent(rho: float) -> float:
    return _check.number("rho", rho, 0.1, 100)


def karras(sigma_max: float, sigma_min: float, count: int, rho: float = 7.0) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, evenly spaced in the power 1/rho."""
    sigma_max, sigma_min, count = _checked(sigma_max, sigma_min, count)
    rho = _exponent(rho)
    u = np.linspace(0, 1, count)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return np.asarray(((1 - u) * top + u * bottom) ** rho)  # the end exactly, however far below the top


def exponential(sigma_max: float, sigma_min: float, count: int) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, evenly spaced in the logarithm."""
    sigma_max, sigma_min, count = _checked(sigma_max, sigma_min, count)
    return np.exp(np.linspace(np.log(sigma_max), np.log(sigma_min), count))


def polyexponential(sigma_max: float, sigma_min: float, count: int, rho: float = 1.0) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`. Their logarithms follow the power rho."""
    sigma_max, sigma_min, count = _checked(sigma_max, sigma_min, count)
    rho = _exponent(rho)
    return np.asarray(sigma_min * np.exp(np.linspace(1, 0, count) ** rho * np.log(sigma_max / sigma_min)))


def beta(sigma_max: float, sigma_min: float, count: int, alpha: float = 0.6, beta: float = 0.6) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, at even quantiles of the Beta(alpha, beta) distribution."""
    from scipy.special import betaincinv  # half the package's import time, and only this curve needs it

    sigma_max, sigma_min, count = _checked(sigma_max, sigma_min, count)
    alpha, beta = _check.number("alpha", alpha, 0.01, 100), _check.number("beta", beta, 0.01, 100)
    return np.asarray(sigma_min + (sigma_max - sigma_min) * betaincinv(alpha, beta, 1 - np.linspace(0, 1, count)))


def lu(sigma_max: float, sigma_min: float, count: int, flow: bool = False) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, evenly spaced in the log signal-to-noise ratio.

    In a flow the signal is 1-σ, so `sigma_max` must be below 1. In other models the signal is 1.
    """
    sigma_max, sigma_min, count = _checked(sigma_max, sigma_min, count)
    if _check.flag("flow", flow) and sigma_max >= 1:
        raise ValueError(
            "sigma_max must be below 1 for a flow model with use_lu_lambdas, since pure noise has no finite "
            f"signal-to-noise ratio, got {sigma_max:g}: try 0.999"
        )
    ends = np.array([sigma_max, sigma_min])
    start, stop = np.log(ends / (1 - ends)) if flow else np.log(ends)
    ratio = np.exp(np.linspace(start, stop, count))
    return ratio / (1 + ratio) if flow else ratio


def kl_optimal(sigma_max: float, sigma_min: float, count: int, flow: bool = False) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, evenly spaced in the angle of noise and signal.

    The signal is 1-σ in a flow, and 1 in other models. If data have unit variance, this schedule has the smallest
    Kullback-Leibler divergence. It is also the cosine schedule, cut off at the two ends.
    """
    sigma_max, sigma_min, count = _checked(sigma_max, sigma_min, count)
    ends = np.array([sigma_max, sigma_min])
    first, last = np.arctan2(ends, 1 - ends if _check.flag("flow", flow) else 1)
    angle = np.linspace(first, last, count)
    levels: Floats = np.sin(angle) / (np.sin(angle) + np.cos(angle)) if flow else np.tan(angle)
    levels[0], levels[-1] = sigma_max, sigma_min if count > 1 else sigma_max
    return levels


def laplace(
    sigma_max: float, sigma_min: float, count: int, flow: bool = False, mu: float = 0.0, scale: float = 0.5
) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, with the most around log(σ/signal) = `mu`.

    They are even quantiles of the Laplace distribution, cut off at the two ends. The signal is 1-σ in a flow, and 1 in
    other models.
    """
    sigma_max, sigma_min, count = _checked(sigma_max, sigma_min, count)
    mu, scale = _check.number("mu", mu, -100, 100), _check.number("scale", scale, 0.01, 100)
    ends = np.array([sigma_max, sigma_min])
    with np.errstate(divide="ignore"):  # pure noise of a flow has no finite ratio
        top, bottom = (np.log(ends / (1 - ends) if _check.flag("flow", flow) else ends) - mu) / scale
    # A share of the distribution above a point x is e^-x / 2; below 0, of that below it.
    tails = np.array([np.exp(-abs(top)) / 2, np.exp(-abs(bottom)) / 2])
    above, below = (1 - tails[0] if top < 0 else tails[0]), (1 - tails[1] if bottom < 0 else tails[1])
    share = np.linspace(above, below, count)
    with np.errstate(divide="ignore"):
        quantile = np.where(share < 0.5, -np.log(2 * share), np.log(2 * (1 - share)))
    ratio = np.exp(mu + scale * quantile)
    levels = 1 / (1 + 1 / ratio) if flow else ratio
    levels[0], levels[-1] = sigma_max, sigma_min if count > 1 else sigma_max
    return np.asarray(levels)


def linear_quadratic(sigma_max: float, count: int) -> Floats:
    """The sigmas at which `count` steps from `sigma_max` to 0 start: half are short and equal, the others grow."""
    high, count = _check.positive("sigma_max", sigma_max), _check.integer("count", count, 1, _check.MOST_STEPS + 1)
    linear = count // 2
    i = np.arange(count, dtype=np.float64)
    if not linear:
        return high * (1 - i)
    slope, curved = _SHARE_OF_LINEAR / linear, count - linear
    bend = (1 - _SHARE_OF_LINEAR - slope * curved) / curved**2
    return np.asarray(high * (1 - slope * i - bend * np.maximum(i - linear, 0) ** 2))


def bong_tangent(sigma_max: float, count: int) -> Floats:
    """The sigmas at which `count` steps from `sigma_max` to 0 start, along two arctangents."""
    high, count = _check.positive("sigma_max", sigma_max), _check.integer("count", count, 1, _check.MOST_STEPS + 1)
    if count == 1:
        return np.array([high])
    total = count + 2
    pivot = int(0.6 * total)
    slope = 8 / total

    def part(length: int, centre: int, start: float, end: float) -> Floats:
        bends = -np.arctan(slope * (np.arange(length) - centre))
        return np.asarray(end + (bends - bends[-1]) * (start - end) / (bends[0] - bends[-1]))

    return high * np.concatenate([part(pivot, pivot, 1, 0.5)[:-1], part(total - pivot, 0, 0.5, 0)])[:count]


def through(knots: NDArray[np.float64] | list[float], count: int) -> Floats:
    """The sigmas at which `count` steps start along a table of noise levels. The last level of the table is the end.

    Between the levels of the table they are interpolated linearly in log σ.
    """
    count = _check.integer("count", count, 1, _check.MOST_STEPS + 1)
    levels = np.log(knots)
    return np.exp(np.interp(np.linspace(0, 1, count + 1)[:-1], np.linspace(0, 1, len(levels)), levels))


ALIGN_YOUR_STEPS: dict[str, list[float]] = {
    "sd15": [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029],
    "sdxl": [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029],
    "svd": [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002],
}


def align_your_steps(model: str, count: int) -> Floats:
    """The sigmas at which `count` steps start, for "sd15", "sdxl" or "svd". For ten steps they are the paper's."""
    return through(ALIGN_YOUR_STEPS[_check.choice("model", model, ALIGN_YOUR_STEPS)], count)


class Curve(NamedTuple):
    """A named curve.

    Attributes:
        levels: The function that returns the sigmas. It takes (sigma_max, sigma_min, count, **options), without
            sigma_min if the curve goes to 0, or only (count,) if it has no ends.
        takes: Which options it has: "rho", the exponent; "flow", whether samples are those of a flow.
        flag: The option of diffusers' schedulers that asks for it, if there is one.
        has_ends: Whether it joins two sigmas. A table does not.
        to_zero: Whether it goes from its largest sigma to 0, where the run ends. It then has no smallest one.
        flows_only: Whether its levels fit flows alone.
        whole_timesteps: Whether diffusers conditions the network on whole timesteps with it.
    """

    levels: Callable[..., Floats]
    takes: tuple[str, ...] = ()
    flag: str | None = None
    has_ends: bool = True
    to_zero: bool = False
    flows_only: bool = False
    whole_timesteps: bool = False


def table(knots: NDArray[np.float64] | list[float]) -> Curve:
    """The curve of a table of noise levels, as `through` takes it."""
    return Curve(partial(through, knots), has_ends=False)


def checked_table(name: str, levels: Any, largest: float = _check.LARGEST) -> list[float]:
    """A table of noise levels: at least two, falling strictly.

    Raises:
        TypeError: If `levels` holds no numbers.
        ValueError: If they are too few, do not fall, or one is not from `_check.SMALLEST` to `largest`.
    """
    knots = _check.numbers(name, levels)
    allowed = f"noise levels from {_check.SMALLEST:g} to {largest:g} that fall strictly, at least two"
    if len(knots) < 2 or not (np.diff(knots) < 0).all() or not _check.SMALLEST <= knots[-1] <= knots[0] <= largest:
        raise ValueError(f"{name} must hold {allowed}, got {_check.shown(knots.tolist())}")
    return list(map(float, knots))


SIGMA_CURVES: dict[str, Curve] = {
    "karras": Curve(karras, ("rho",), "use_karras_sigmas", whole_timesteps=True),
    "exponential": Curve(exponential, flag="use_exponential_sigmas"),
    "beta": Curve(beta, flag="use_beta_sigmas"),
    "polyexponential": Curve(polyexponential, ("rho",), "use_polyexponential_sigmas"),
    "lu": Curve(lu, ("flow",), "use_lu_lambdas", whole_timesteps=True),
    "kl_optimal": Curve(kl_optimal, ("flow",)),
    "cosine": Curve(kl_optimal, ("flow",)),
    "laplace": Curve(laplace, ("flow",)),
    "linear_quadratic": Curve(linear_quadratic, to_zero=True),
    "bong_tangent": Curve(bong_tangent, to_zero=True, flows_only=True),
    **{f"ays_{model}": table(knots) for model, knots in ALIGN_YOUR_STEPS.items()},
}
FLAGS = {curve.flag: name for name, curve in SIGMA_CURVES.items() if curve.flag is not None}
"""diffusers' options, and the curves that they ask for."""
BY_VALUE = ("ays_sigmas", "sigma_curve", "tuned_sigmas")
"""The other options of a scheduler that ask for noise levels; they are None where they ask for none."""
