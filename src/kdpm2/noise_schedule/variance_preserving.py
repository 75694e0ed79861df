r"""Variance-preserving diffusion: the data is scaled down as noise is added.

The data is multiplied by :math:`\sqrt{\bar\alpha_t}`, and noise of variance :math:`1-\bar\alpha_t` is added. Dividing
by :math:`\sqrt{\bar\alpha_t}` gives the sample that the solver holds, :math:`x = x_0 + \sigma n`, with

.. math:: \sigma_t = \sqrt{(1-\bar\alpha_t) / \bar\alpha_t}.

Between whole timesteps, :math:`\sigma` is linear in t, and t is linear in :math:`\log\sigma`; both are clamped to the
trained range.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020): https://arxiv.org/abs/2006.11239
    | Interpolation rules as in https://github.com/huggingface/diffusers
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check, prediction
from kdpm2.noise_schedule.family import (
    NoiseSchedule,
    Spaced,
    at_unit_variance,
    logarithm,
    quarter_log,
    sigma_of_quarter_log,
)
from kdpm2.prediction import Prediction
from kdpm2.timestep_spacing import spaced_timesteps

Floats = NDArray[np.float64]


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

    named: ClassVar[str] = "a model with betas"
    predictions: ClassVar[Mapping[str, Prediction]] = {
        "epsilon": prediction.epsilon,
        "sample": prediction.sample,
        "v_prediction": prediction.v_prediction,
    }
    stepped_unscaled: ClassVar[bool] = True

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

    @property
    def trained_timesteps(self) -> int:
        """T."""
        return len(self)

    @property
    def whole_timesteps(self) -> bool:
        """Unless it is conditioned on log(σ)/4."""
        return not self.continuous

    @property
    def timestep_range(self) -> tuple[float, float]:
        """0 and T-1; all there is of log(σ)/4."""
        return super().timestep_range if self.continuous else (0.0, len(self) - 1.0)

    def starts(self, count: int, spaced: Spaced) -> tuple[Floats, Floats]:
        """Spaced training timesteps, and their noise levels."""
        limit = _check.integer("num_train_timesteps", len(self) if spaced.limit is None else spaced.limit, 1, len(self))
        timesteps = spaced_timesteps(spaced.spacing, count, limit, spaced.offset, spaced.visited)
        sigmas = self.spaced_sigma(timesteps)
        return sigmas, self.timestep(sigmas) if self.continuous else timesteps

    def input_scale(self, sigma: ArrayLike) -> Floats:
        """1 / √(σ² + 1)."""
        return at_unit_variance(sigma, self.sigma_data)

    def spaced_sigma(self, timestep: ArrayLike) -> Floats:
        """Noise level at each training timestep; whole ones give the trained sigmas exactly."""
        return np.asarray(np.interp(_check.elements("timestep", timestep), np.arange(len(self)), self.sigmas))

    def sigma(self, timestep: ArrayLike) -> Floats:
        """Noise level at each timestep, the inverse of `timestep`; trained timesteps give trained sigmas exactly."""
        return sigma_of_quarter_log(timestep) if self.continuous else self.spaced_sigma(timestep)

    def timestep(self, sigma: ArrayLike) -> Floats:
        """Timestep of each positive noise level, fractional between trained ones; log(σ)/4 if `continuous`."""
        if self.continuous:
            return quarter_log(sigma)
        return np.asarray(np.interp(logarithm(sigma), self.log_sigmas, np.arange(len(self))))
