r"""EDM: :math:`x = x_0 + \sigma n`, and the network is conditioned on :math:`t = \tfrac14 \log\sigma`.

Its network sees every noise level at unit variance, and its output is preconditioned.

References:
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022):
    https://arxiv.org/abs/2206.00364
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check, prediction
from kdpm2.noise_schedule.family import (
    NoiseSchedule,
    Spaced,
    at_unit_variance,
    quarter_log,
    refuse_limit,
    sigma_of_quarter_log,
)
from kdpm2.prediction import Prediction
from kdpm2.timestep_spacing import checked_name

Floats = NDArray[np.float64]


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

    named: ClassVar[str] = "an EDM model"
    predictions: ClassVar[Mapping[str, Prediction]] = {
        "epsilon": prediction.preconditioned,
        "v_prediction": prediction.v_prediction,
    }
    default_curve: ClassVar[str] = "karras"
    starts_with_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("sigma_min", "sigma_max", "sigma_data"):
            object.__setattr__(self, name, _check.positive(name, getattr(self, name)))
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max must be above sigma_min={self.sigma_min:g}, got {self.sigma_max:g}")

    def sigma(self, timestep: ArrayLike) -> Floats:
        """e^(4t)."""
        return sigma_of_quarter_log(timestep)

    def timestep(self, sigma: ArrayLike) -> Floats:
        """log(σ)/4."""
        return quarter_log(sigma)

    def starts(self, count: int, spaced: Spaced) -> tuple[Floats, Floats]:
        """The ends of its curve: it has no spacing of its own."""
        refuse_limit(self, spaced)
        checked_name(spaced.spacing)
        sigmas = np.array([self.sigma_max, self.sigma_min])
        return sigmas, self.timestep(sigmas)

    def input_scale(self, sigma: ArrayLike) -> Floats:
        """1 / √(σ² + sigma_data²)."""
        return at_unit_variance(sigma, self.sigma_data)
