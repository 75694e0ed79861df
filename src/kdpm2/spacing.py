r"""Which noise levels a run visits.

Timesteps are spaced first (Table 2 of Lin et al.; T trained timesteps, N steps, i = 0 .. N-1 counted from the top):

=========  =======================================================================
linspace   :math:`t_i = (N-1-i)\,(T-1)/(N-1)`; one step starts at :math:`T-1`
leading    :math:`t_i = (N-1-i)\lfloor T/N \rfloor + \text{offset}`, with N at most T
trailing   :math:`t_i = \mathrm{round}(T - i\,T/N) - 1`, with N at most T
=========  =======================================================================

Their sigmas are visited as they are, or the first and last of them are joined by another curve
(u running from 0 to 1 in N values):

===========  ============================================================================================
karras       :math:`(\sigma_{max}^{1/\rho} + u\,(\sigma_{min}^{1/\rho}-\sigma_{max}^{1/\rho}))^\rho`, ρ = 7
exponential  evenly spaced in log σ
beta         :math:`\sigma_{min} + (\sigma_{max}-\sigma_{min})\,F^{-1}(1-u)`, F the Beta(0.6, 0.6) distribution
===========  ============================================================================================

The network is conditioned on float32 timesteps, so a timestep is rounded to float32 before its sigma is read off.

References:
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023): https://arxiv.org/abs/2305.08891
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), equation 5:
      https://arxiv.org/abs/2206.00364
    | Beta Sampling is All You Need (Lee et al., 2024): https://arxiv.org/abs/2407.12173
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.noise_schedule import NoiseSchedule

Floats = NDArray[np.float64]


class Steps(NamedTuple):
    """Where each of N steps starts: `sigmas` (N,), positive and decreasing, and their `timesteps` (N,)."""

    sigmas: Floats
    timesteps: Floats


def _linspace(count: int, trained: int, offset: int) -> Floats:
    if count == 1:
        return np.array([trained - 1.0])
    return np.linspace(0, trained - 1, count, dtype=np.float32)[::-1].astype(np.float64)


def _leading(count: int, trained: int, offset: int) -> Floats:
    ratio = trained // count
    # The offset may not push the first timestep past the last trained one, as it would with as many steps as timesteps.
    offset = min(offset, trained - 1 - (count - 1) * ratio)
    return np.arange(count - 1, -1, -1, dtype=np.float64) * ratio + offset


def _trailing(count: int, trained: int, offset: int) -> Floats:
    # The exact count matters: rounding of trained / count makes a half-open range one entry too long now and then.
    return np.arange(trained, 0, -trained / count)[:count].round() - 1


TIMESTEP_SPACINGS: dict[str, Callable[[int, int, int], Floats]] = {
    "linspace": _linspace,
    "leading": _leading,
    "trailing": _trailing,
}


def karras(sigma_max: float, sigma_min: float, count: int, rho: float = 7.0) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, evenly spaced in the power 1/rho."""
    u = np.linspace(0, 1, count)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return np.asarray((top + u * (bottom - top)) ** rho)


def exponential(sigma_max: float, sigma_min: float, count: int) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, evenly spaced in the logarithm."""
    return np.exp(np.linspace(np.log(sigma_max), np.log(sigma_min), count))


def beta(sigma_max: float, sigma_min: float, count: int, alpha: float = 0.6, beta: float = 0.6) -> Floats:
    """`count` sigmas from `sigma_max` down to `sigma_min`, at even quantiles of the Beta(alpha, beta) distribution."""
    from scipy.special import betaincinv  # half the package's import time, and only this curve needs it

    return np.asarray(sigma_min + (sigma_max - sigma_min) * betaincinv(alpha, beta, 1 - np.linspace(0, 1, count)))


SIGMA_CURVES: dict[str, Callable[[float, float, int], Floats]] = {
    "karras": karras,
    "exponential": exponential,
    "beta": beta,
}


def steps(
    schedule: NoiseSchedule,
    num_inference_steps: int,
    timestep_spacing: str = "linspace",
    steps_offset: int = 0,
    sigma_curve: str | None = None,
    num_train_timesteps: int | None = None,
) -> Steps:
    """The noise levels and timesteps at which the steps of a run start.

    Args:
        schedule: What the model was trained on.
        num_inference_steps: N, at least 1; at most the trained timesteps for "leading", and for
            "trailing" without a curve.
        timestep_spacing: "linspace", "leading" or "trailing".
        steps_offset: Added to every "leading" timestep, as far as the trained range allows; at least 0.
        sigma_curve: "karras", "exponential" or "beta" between the first and the last spaced sigma; None keeps all.
        num_train_timesteps: T, if the run is to use only the first T trained timesteps.

    Returns:
        N sigmas and timesteps. Timesteps of Karras sigmas are rounded to whole numbers, as diffusers does.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """
    count = _check.integer("num_inference_steps", num_inference_steps, 1)
    trained = len(schedule) if num_train_timesteps is None else num_train_timesteps
    trained = _check.integer("num_train_timesteps", trained, 1, len(schedule))
    _check.choice("timestep_spacing", timestep_spacing, TIMESTEP_SPACINGS)
    if count > trained and (timestep_spacing == "leading" or (timestep_spacing == "trailing" and sigma_curve is None)):
        raise ValueError(
            f"num_inference_steps must be at most num_train_timesteps={trained} with "
            f"timestep_spacing={timestep_spacing!r}, got {count}"
        )
    offset = _check.integer("steps_offset", steps_offset, 0, trained)
    timesteps = TIMESTEP_SPACINGS[timestep_spacing](count, trained, offset)
    sigmas = schedule.sigma(timesteps)
    if sigma_curve is not None:
        curve = SIGMA_CURVES[_check.choice("sigma_curve", sigma_curve, SIGMA_CURVES)]
        sigmas = curve(sigmas[0], sigmas[-1], count)
        timesteps = schedule.timestep(sigmas)
        timesteps = timesteps.round() if sigma_curve == "karras" else timesteps
    return Steps(sigmas, timesteps)
