r"""What a model was trained on: the betas, and the map between noise level and timestep.

A variance-preserving diffusion multiplies the data by :math:`\sqrt{\bar\alpha_t}` and adds noise of variance
:math:`1-\bar\alpha_t`, with :math:`\bar\alpha_t = \prod_{s \le t} (1-\beta_s)`. Dividing by :math:`\sqrt{\bar\alpha_t}`
gives the variance-exploding sample the solver holds, whose noise level is

.. math:: \sigma_t = \sqrt{(1-\bar\alpha_t) / \bar\alpha_t}.

Between whole timesteps, :math:`\sigma` is linear in t, and t is linear in :math:`\log\sigma`; both are clamped to the
trained range.

Models are trained with betas and :math:`\bar\alpha` held in float32. The schedule is rounded where training rounds, so
that sigmas are those of the trained model, and is float64 from there on.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020): https://arxiv.org/abs/2006.11239
    | Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021): https://arxiv.org/abs/2102.09672
    | Interpolation rules as in https://github.com/huggingface/diffusers
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check

_MAX_COSINE_BETA = 0.999


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    r"""A discrete variance-preserving noise schedule.

    Args:
        betas: Shape (T,), float32: variance added by each training timestep, strictly between 0 and 1.

    Attributes:
        alphas_cumprod: Shape (T,), float32: :math:`\bar\alpha_t`.
        sigmas: Shape (T,), float64, increasing: :math:`\sigma_t`.
        log_sigmas: Shape (T,), float64: their natural logarithms.

    Raises:
        ValueError: If the betas give sigmas that are zero, infinite, or not increasing.
    """

    betas: NDArray[np.float32]
    alphas_cumprod: NDArray[np.float32]
    sigmas: NDArray[np.float64]
    log_sigmas: NDArray[np.float64]

    def __init__(self, betas: NDArray[np.float32]) -> None:
        # A float32 running product accumulates in float64 in torch on a CPU, and is rounded once an entry.
        alphas_cumprod = np.cumprod(np.float32(1) - betas, dtype=np.float64).astype(np.float32)
        exact = alphas_cumprod.astype(np.float64)
        if not (exact[-1] > 0 and exact[0] < 1 and np.all(np.diff(exact) < 0)):
            raise ValueError(
                "betas must give alphas_cumprod that decrease strictly between 1 and 0 in float32; these run from "
                f"{exact[0]:.9g} to {exact[-1]:.9g} over {len(exact)} timesteps: check beta_start, beta_end, "
                "trained_betas and num_train_timesteps"
            )
        sigmas = np.sqrt((1 - exact) / exact)
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "alphas_cumprod", alphas_cumprod)
        object.__setattr__(self, "sigmas", sigmas)
        object.__setattr__(self, "log_sigmas", np.log(sigmas))

    def __len__(self) -> int:
        return len(self.betas)

    def sigma(self, timestep: ArrayLike) -> NDArray[np.float64]:
        """Noise level at each timestep; whole timesteps give the trained sigmas exactly."""
        return np.asarray(np.interp(np.asarray(timestep), np.arange(len(self)), self.sigmas))

    def timestep(self, sigma: ArrayLike) -> NDArray[np.float64]:
        """Timestep of each positive noise level, fractional between trained ones."""
        return np.asarray(np.interp(np.log(sigma), self.log_sigmas, np.arange(len(self))))


def _linspace(start: float, end: float, count: int) -> NDArray[np.float32]:
    """Evenly spaced float32 values as torch.linspace has them: counted from the nearer end, one rounding each."""
    first, last = np.float32(start), np.float32(end)
    step = (last - first) / np.float32(max(count - 1, 1))
    i = np.arange(count)
    from_first = np.float64(first) + np.float64(step) * i
    from_last = np.float64(last) - np.float64(step) * (count - 1 - i)
    return np.where((i < count // 2) | (count == 1), from_first, from_last).astype(np.float32)


def _linear(beta_start: float, beta_end: float, count: int) -> NDArray[np.float32]:
    return _linspace(beta_start, beta_end, count)


def _scaled_linear(beta_start: float, beta_end: float, count: int) -> NDArray[np.float32]:
    """Linear in the square root, the schedule of latent diffusion (https://arxiv.org/abs/2112.10752)."""
    roots = _linspace(beta_start**0.5, beta_end**0.5, count)
    return roots * roots


def _squared_cosine(beta_start: float, beta_end: float, count: int) -> NDArray[np.float32]:
    """The squared cosine of Nichol & Dhariwal, its betas capped; `beta_start` and `beta_end` play no part."""
    t = np.arange(count + 1) / count
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], _MAX_COSINE_BETA)
    return np.asarray(betas, dtype=np.float32)


BETA_SCHEDULES: dict[str, Callable[[float, float, int], NDArray[np.float32]]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _squared_cosine,
}


def discrete(
    num_train_timesteps: int = 1000,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
    beta_schedule: str = "linear",
    trained_betas: NDArray[Any] | Sequence[float] | None = None,
) -> NoiseSchedule:
    """The noise schedule of a discrete-time model, from the same arguments as a diffusers scheduler.

    Args:
        num_train_timesteps: How many timesteps the model was trained with, at least 1.
        beta_start: First beta, in (0, 1).
        beta_end: Last beta, in (0, 1).
        beta_schedule: "linear", "scaled_linear" (linear in the root) or "squaredcos_cap_v2" (which ignores the ends).
        trained_betas: Shape (T,) with T at least `num_train_timesteps`: the betas themselves. The other
            three then play no part.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or no usable schedule follows from it.
    """
    count = _check.integer("num_train_timesteps", num_train_timesteps, 1)
    if trained_betas is not None:
        source, betas = "trained_betas", _as_betas(trained_betas, count)
    else:
        formula = BETA_SCHEDULES[_check.choice("beta_schedule", beta_schedule, BETA_SCHEDULES)]
        start = _check.number("beta_start", beta_start, 0, 1)
        end = _check.number("beta_end", beta_end, 0, 1)
        source, betas = f"beta_start={start:g}, beta_end={end:g}", formula(start, end, count)
    if not np.all((betas > 0) & (betas < 1)):
        wrong = betas[~((betas > 0) & (betas < 1))][0]
        raise ValueError(f"{source}: every beta must lie between 0 and 1, both excluded, got {wrong:g}")
    return NoiseSchedule(betas)


def _as_betas(trained_betas: NDArray[Any] | Sequence[float], at_least: int) -> NDArray[np.float32]:
    try:
        betas = np.array(trained_betas, dtype=np.float32)
    except (TypeError, ValueError):
        raise TypeError(
            f"trained_betas must be a flat list or array of numbers, got {_check.shown(trained_betas)}"
        ) from None
    if betas.ndim != 1 or len(betas) < at_least:
        raise ValueError(
            f"trained_betas must hold at least num_train_timesteps={at_least} numbers in one dimension, "
            f"got an array of shape {betas.shape}"
        )
    return betas
