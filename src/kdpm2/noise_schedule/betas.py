r"""The noise schedules of discrete-time models: how much noise each of T training timesteps adds.

A timestep adds noise of variance :math:`\beta_t`. After it, :math:`\bar\alpha_t = \prod_{s \le t} (1-\beta_s)` of the
data's variance is left. Models are trained with both in float32. This module rounds where training rounds, so the
sigmas are those of the trained model.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020): https://arxiv.org/abs/2006.11239
    | Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), for the cosine:
      https://arxiv.org/abs/2102.09672
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), for zero terminal SNR:
      https://arxiv.org/abs/2305.08891
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check
from kdpm2.noise_schedule.variance_preserving import VariancePreserving

Floats = NDArray[np.float64]

_LARGEST_BETA = 0.999
# float16's smallest number: as near to no signal as keeps the last sigma finite, 4096; diffusers' value.
_ZERO_SNR_ALPHA_CUMPROD = np.float32(2**-24)


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
    return _of_alpha_bar(np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2)


def _of_alpha_bar(alpha_bar: Floats) -> NDArray[np.float32]:
    """The betas whose signal at T+1 evenly spaced times is `alpha_bar`, capped."""
    betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], _LARGEST_BETA)
    return np.asarray(betas, dtype=np.float32)


def _exponential(beta_start: float, beta_end: float, count: int) -> NDArray[np.float32]:
    """Signal that falls as e^(-12 t), the schedule of Shap-E; `beta_start` and `beta_end` play no part."""
    return _of_alpha_bar(np.exp(-12 * np.arange(count + 1) / count))


def _laplace(beta_start: float, beta_end: float, count: int) -> NDArray[np.float32]:
    """A Laplace distribution of the log signal-to-noise ratio, as diffusers has it; the ends play no part."""
    t = np.arange(count + 1) / count
    ratio = np.exp(-0.5 * np.copysign(1, 0.5 - t) * np.log(1 - 2 * np.abs(0.5 - t) + 1e-6))
    return _of_alpha_bar(np.sqrt(ratio / (1 + ratio)))


def _sigmoid(beta_start: float, beta_end: float, count: int) -> NDArray[np.float32]:
    """From the first beta to the last along a sigmoid, the schedule of GeoDiff (https://arxiv.org/abs/2203.02923)."""
    curve = 1 / (1 + np.exp(-_linspace(-6, 6, count).astype(np.float64)))
    return np.asarray(curve * (beta_end - beta_start) + beta_start, dtype=np.float32)


BETA_SCHEDULES: dict[str, Callable[[float, float, int], NDArray[np.float32]]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _squared_cosine,
    "sigmoid": _sigmoid,
    "exp": _exponential,
    "laplace": _laplace,
}


def discrete(
    num_train_timesteps: int = 1000,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
    beta_schedule: str = "linear",
    trained_betas: NDArray[Any] | Sequence[float] | None = None,
    rescale_betas_zero_snr: bool = False,
    continuous: bool = False,
    snr_shift_scale: float = 1.0,
) -> VariancePreserving:
    r"""The noise schedule of a discrete-time model, from the same arguments as a diffusers scheduler.

    Args:
        num_train_timesteps: How many timesteps the model was trained with, at least 1.
        beta_start: First beta, in (0, 1).
        beta_end: Last beta, in (0, 1).
        beta_schedule: One of `BETA_SCHEDULES`: "linear", "scaled_linear" (linear in the root), "sigmoid", or, without
            regard to the ends, "squaredcos_cap_v2", "exp" and "laplace".
        trained_betas: Shape (T,): the betas themselves. There are then T timesteps, and the four arguments above are
            not used.
        rescale_betas_zero_snr: Whether to stretch the schedule to end in pure noise (Algorithm 1 of Lin et al.).
        continuous: Whether the network is conditioned on log(σ)/4 rather than on the timestep.
        snr_shift_scale: s, above 0. The signal-to-noise ratio is divided by it before the stretch, as in CogVideoX:
            :math:`\bar\alpha / (s + (1-s)\,\bar\alpha)` (https://arxiv.org/abs/2408.06072).

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or no usable schedule follows from it.
    """
    count = _check.count("num_train_timesteps", num_train_timesteps)
    if trained_betas is not None:
        source, betas = "trained_betas", _flat_float32("trained_betas", trained_betas)
    else:
        formula = BETA_SCHEDULES[_check.choice("beta_schedule", beta_schedule, BETA_SCHEDULES)]
        start = _check.number("beta_start", beta_start, 0, 1)
        end = _check.number("beta_end", beta_end, 0, 1)
        source, betas = f"beta_start={start:g}, beta_end={end:g}", formula(start, end, count)
    if not np.all((betas > 0) & (betas < 1)):
        wrong = betas[~((betas > 0) & (betas < 1))][0]
        raise ValueError(f"{source}: every beta must lie between 0 and 1, both excluded, got {wrong:g}")
    shift = _check.positive("snr_shift_scale", snr_shift_scale)
    if shift != 1:
        betas = _betas_of(_shifted_snr(_running_product(1 - betas), shift))
    if _check.flag("rescale_betas_zero_snr", rescale_betas_zero_snr):
        if len(betas) < 2:
            raise ValueError(f"rescale_betas_zero_snr must be False for {len(betas)} timestep, got True")
        betas = _rescaled_to_zero_snr(betas)
    alphas_cumprod = _running_product(1 - betas)
    if rescale_betas_zero_snr:
        before = alphas_cumprod[-2]
        # A schedule that had next to no signal left, like the cosine's, may be below diffusers' value before its end.
        alphas_cumprod[-1] = _ZERO_SNR_ALPHA_CUMPROD if before > _ZERO_SNR_ALPHA_CUMPROD else before / 2
    return VariancePreserving(betas, alphas_cumprod, _check.flag("continuous", continuous))


def from_alphas_cumprod(alphas_cumprod: ArrayLike, continuous: bool = False) -> VariancePreserving:
    r"""The noise schedule of a model from its :math:`\bar\alpha_t`, which models of CompVis and k-diffusion hold.

    Args:
        alphas_cumprod: Shape (T,), decreasing strictly between 1 and 0.
        continuous: Whether the network is conditioned on log(σ)/4 rather than on the timestep.

    Raises:
        TypeError: If it does not hold numbers.
        ValueError: If it does not decrease strictly between 1 and 0.
    """
    products = _flat_float32("alphas_cumprod", alphas_cumprod)
    with np.errstate(all="ignore"):  # what is wrong with the products is said where they are looked at
        betas = _betas_of(products)
    return VariancePreserving(betas, products, _check.flag("continuous", continuous))


def _running_product(alphas: NDArray[np.float32]) -> NDArray[np.float32]:
    """As torch has it on a CPU: a float32 product that accumulates in float64, and is rounded once an entry."""
    return np.cumprod(alphas, dtype=np.float64).astype(np.float32)


def _rescaled_to_zero_snr(betas: NDArray[np.float32]) -> NDArray[np.float32]:
    """The betas whose √ᾱ runs from where it did to 0, shifted and scaled, in float32 as models train with them."""
    roots = np.sqrt(_running_product(1 - betas))
    roots = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    return _betas_of(roots * roots)


def _shifted_snr(products: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    exact = products.astype(np.float64)
    return np.asarray(exact / (scale + (1 - scale) * exact), dtype=np.float32)


def _betas_of(products: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 - np.concatenate([products[:1], products[1:] / products[:-1]]), dtype=np.float32)


def _flat_float32(name: str, values: Any) -> NDArray[np.float32]:
    array = _check.numbers(name, values, _check.MOST_STEPS)
    with np.errstate(over="ignore"):  # infinity is for the caller to refuse
        return array.astype(np.float32)
