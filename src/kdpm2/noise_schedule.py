r"""What a model was trained on: the map between noise level and timestep, in three families.

**Variance preserving.** The data is multiplied by :math:`\sqrt{\bar\alpha_t}` and noise of variance
:math:`1-\bar\alpha_t` is added, with :math:`\bar\alpha_t = \prod_{s \le t} (1-\beta_s)`. Dividing by
:math:`\sqrt{\bar\alpha_t}` gives the variance-exploding sample the solver holds, :math:`x = x_0 + \sigma n`, with

.. math:: \sigma_t = \sqrt{(1-\bar\alpha_t) / \bar\alpha_t}.

Between whole timesteps, :math:`\sigma` is linear in t, and t is linear in :math:`\log\sigma`; both are clamped to the
trained range. Models are trained with betas and :math:`\bar\alpha` held in float32. The schedule is rounded where
training rounds, so that sigmas are those of the trained model, and is float64 from there on.

**Rectified flow.** Data and noise are mixed, :math:`x = (1-\sigma)\,x_0 + \sigma n`, and :math:`t = \sigma T`.

**EDM.** :math:`x = x_0 + \sigma n`, and the network is conditioned on :math:`t = \tfrac14 \log\sigma`.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020): https://arxiv.org/abs/2006.11239
    | Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021): https://arxiv.org/abs/2102.09672
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), for zero terminal SNR:
      https://arxiv.org/abs/2305.08891
    | Flow Straight and Fast (Liu et al., 2022), for rectified flow: https://arxiv.org/abs/2209.03003
    | Scaling Rectified Flow Transformers (Esser et al., 2024), for its shift: https://arxiv.org/abs/2403.03206
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), for EDM:
      https://arxiv.org/abs/2206.00364
    | Interpolation rules as in https://github.com/huggingface/diffusers
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check

Floats = NDArray[np.float64]

_LARGEST_BETA = 0.999
# float16's smallest number: as near to no signal as keeps the last sigma finite, 4096; diffusers' value.
_ZERO_SNR_ALPHA_CUMPROD = np.float32(2**-24)


class NoiseSchedule(ABC):
    """How noise level and timestep belong together.

    Attributes:
        family: "vp", "flow", "edm" or "denoiser"; decides which prediction types there are, and their formulas.
        flow: Whether samples are mixed as x = (1-σ)·x0 + σ·n, rather than x0 + σ·n.
        sigma_data: Standard deviation of the data for which the network's input is scaled.
    """

    family: ClassVar[str]
    flow: bool = False
    sigma_data: float = 1.0

    @property
    @abstractmethod
    def sigma_min(self) -> float:
        """The smallest noise level of training."""

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """The largest noise level of training."""

    @abstractmethod
    def sigma(self, timestep: ArrayLike) -> Floats:
        """Noise level at each timestep."""

    @abstractmethod
    def timestep(self, sigma: ArrayLike) -> Floats:
        """What the network is conditioned on at each positive noise level."""

    @property
    def largest(self) -> float:
        """The largest noise level that a sample may have, trained or not."""
        return 1.0 if self.flow else _check.LARGEST

    def alpha(self, sigma: ArrayLike) -> Floats:
        """What the data is multiplied by at each noise level."""
        return np.ones_like(_check.elements("sigma", sigma))


@dataclass(frozen=True, eq=False)
class VariancePreserving(NoiseSchedule):
    r"""T trained timesteps of a variance-preserving diffusion.

    Args:
        betas: Shape (T,), float32: variance added by each training timestep.
        alphas_cumprod: Shape (T,), float32: :math:`\bar\alpha_t`, strictly between 1 and 0, and decreasing.
        continuous: Whether the network is conditioned on log(σ)/4, as EDM's are, rather than on the timestep.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the sigmas would be zero, infinite, or not increasing.
    """

    betas: NDArray[np.float32]
    alphas_cumprod: NDArray[np.float32]
    continuous: bool = False

    family: ClassVar[str] = "vp"

    def __post_init__(self) -> None:
        for name in ("betas", "alphas_cumprod"):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 1 or not len(array):
                raise TypeError(f"{name} must be a float32 array of shape (T,), got {_check.shown(array)}")
        if len(self.betas) != len(self.alphas_cumprod):
            raise ValueError(
                f"betas must be as many as alphas_cumprod, {len(self.alphas_cumprod)}, got {len(self.betas)}"
            )
        _check.flag("continuous", self.continuous)
        exact = self.alphas_cumprod.astype(np.float64)
        if not (exact[-1] > 0 and exact[0] < 1 and np.all(np.diff(exact) < 0)):
            raise ValueError(
                "betas must give alphas_cumprod that decrease strictly between 1 and 0 in float32; these run from "
                f"{exact[0]:.9g} to {exact[-1]:.9g} over {len(exact)} timesteps: check beta_start, beta_end, "
                "trained_betas and num_train_timesteps"
            )

    @cached_property
    def sigmas(self) -> Floats:
        """Shape (T,), increasing: the trained noise levels."""
        exact = self.alphas_cumprod.astype(np.float64)
        return np.sqrt((1 - exact) / exact)

    @cached_property
    def log_sigmas(self) -> Floats:
        """Shape (T,): their natural logarithms."""
        return np.log(self.sigmas)

    @property
    def sigma_min(self) -> float:
        """The noise level of timestep 0."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The noise level of timestep T-1."""
        return float(self.sigmas[-1])

    def __len__(self) -> int:
        return len(self.betas)

    def spaced_sigma(self, timestep: ArrayLike) -> Floats:
        """Noise level at each training timestep; whole ones give the trained sigmas exactly."""
        return np.asarray(np.interp(_check.elements("timestep", timestep), np.arange(len(self)), self.sigmas))

    def sigma(self, timestep: ArrayLike) -> Floats:
        """Noise level at each timestep, the inverse of `timestep`; trained timesteps give trained sigmas exactly."""
        return _sigma_of_log(timestep) if self.continuous else self.spaced_sigma(timestep)

    def timestep(self, sigma: ArrayLike) -> Floats:
        """Timestep of each positive noise level, fractional between trained ones; log(σ)/4 if `continuous`."""
        if self.continuous:
            return _quarter_log(sigma)
        return np.asarray(np.interp(_log(sigma), self.log_sigmas, np.arange(len(self))))


@dataclass(frozen=True)
class RectifiedFlow(NoiseSchedule):
    """A flow-matching model, as Stable Diffusion 3 and Flux are.

    Args:
        num_train_timesteps: T, at least 1; the network is conditioned on σ·T.
        shift: s of the trained noise levels s·u / (1 + (s-1)·u), u from 1/T to 1; 1 leaves them even.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    num_train_timesteps: int = 1000
    shift: float = 1.0

    family: ClassVar[str] = "flow"
    flow = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_train_timesteps", _check.count("num_train_timesteps", self.num_train_timesteps))
        object.__setattr__(self, "shift", _check.positive("flow_shift", self.shift))

    @property
    def sigma_min(self) -> float:
        """The noise level of timestep 1, shifted."""
        return float(shifted(np.array(1 / self.num_train_timesteps), self.shift))

    @property
    def sigma_max(self) -> float:
        """1: noise alone."""
        return 1.0

    def sigma(self, timestep: ArrayLike) -> Floats:
        """Timestep / T."""
        return _check.elements("timestep", timestep) / self.num_train_timesteps

    def timestep(self, sigma: ArrayLike) -> Floats:
        """σ·T."""
        return _check.elements("sigma", sigma) * self.num_train_timesteps

    def alpha(self, sigma: ArrayLike) -> Floats:
        """1 - σ."""
        return 1 - _check.elements("sigma", sigma)


@dataclass(frozen=True)
class EDM(NoiseSchedule):
    """A model of the EDM family, whose network sees every noise level at unit variance.

    Args:
        sigma_min: Smallest noise level, positive.
        sigma_max: Largest noise level, above `sigma_min`.
        sigma_data: Standard deviation of the data, positive.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5

    family: ClassVar[str] = "edm"

    def __post_init__(self) -> None:
        for name in ("sigma_min", "sigma_max", "sigma_data"):
            object.__setattr__(self, name, _check.positive(name, getattr(self, name)))
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max must be above sigma_min={self.sigma_min:g}, got {self.sigma_max:g}")

    def sigma(self, timestep: ArrayLike) -> Floats:
        """e^(4t)."""
        return _sigma_of_log(timestep)

    def timestep(self, sigma: ArrayLike) -> Floats:
        """log(σ)/4."""
        return _quarter_log(sigma)


@dataclass(frozen=True)
class SigmaConditioned(NoiseSchedule):
    """A network that is a denoiser already: it takes the sample as it is, and σ for its timestep.

    Args:
        flow: Whether its samples are mixed as (1-σ)·x0 + σ·n.

    Raises:
        TypeError: If `flow` is no bool.
    """

    flow: bool = False

    family: ClassVar[str] = "denoiser"

    def __post_init__(self) -> None:
        _check.flag("flow", self.flow)

    @property
    def sigma_min(self) -> float:
        """0: no training bounds it."""
        return 0.0

    @property
    def sigma_max(self) -> float:
        """1 for a flow, else infinity."""
        return 1.0 if self.flow else np.inf

    def sigma(self, timestep: ArrayLike) -> Floats:
        """The timestep itself."""
        return _check.elements("timestep", timestep)

    def timestep(self, sigma: ArrayLike) -> Floats:
        """σ itself."""
        return _check.elements("sigma", sigma)

    def alpha(self, sigma: ArrayLike) -> Floats:
        """1 - σ for a flow, else 1."""
        return 1 - _check.elements("sigma", sigma) if self.flow else super().alpha(sigma)


def shifted(sigmas: Floats, shift: float) -> Floats:
    """The noise levels of a flow moved towards noise, s·σ / (1 + (s-1)·σ); 0 and 1 stay where they are."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def _quarter_log(sigma: ArrayLike) -> Floats:
    return _log(sigma) / 4


def _log(sigma: ArrayLike) -> Floats:
    levels = _check.elements("sigma", sigma)
    if not (levels > 0).all():
        raise ValueError(f"sigma must be above 0, got {_check.shown(levels)}")
    return np.asarray(np.log(levels))


def _sigma_of_log(timestep: ArrayLike) -> Floats:
    return np.exp(4 * _check.elements("timestep", timestep))


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
        trained_betas: Shape (T,): the betas themselves. They say how many timesteps there are; the four arguments above
            then play no part.
        rescale_betas_zero_snr: Whether to stretch the schedule to end in pure noise (Algorithm 1 of Lin et al.).
        continuous: Whether the network is conditioned on log(σ)/4 rather than on the timestep.
        snr_shift_scale: s, above 0, by which the signal-to-noise ratio is divided before that, as CogVideoX's is:
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
    r"""The noise schedule of a model that holds its :math:`\bar\alpha_t`, as those of CompVis and k-diffusion do.

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
