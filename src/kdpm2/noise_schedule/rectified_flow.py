r"""Rectified flow: data and noise are mixed, :math:`x = (1-\sigma)\,x_0 + \sigma n`, and :math:`t = \sigma T`.

References:
    | Flow Straight and Fast (Liu et al., 2022): https://arxiv.org/abs/2209.03003
    | Scaling Rectified Flow Transformers (Esser et al., 2024), for the shift: https://arxiv.org/abs/2403.03206
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check, prediction
from kdpm2.noise_schedule.coordinates import MIXED, Coordinates, shifted
from kdpm2.noise_schedule.family import NoiseSchedule, Spaced, refuse_limit
from kdpm2.prediction import Prediction
from kdpm2.timestep_spacing import spaced_levels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RectifiedFlow(NoiseSchedule):
    """A flow-matching model, such as Stable Diffusion 3 and Flux.

    Args:
        num_train_timesteps: T, at least 1; the network is conditioned on σ·T.
        shift: s of the trained noise levels s·u / (1 + (s-1)·u), u from 1/T to 1; 1 leaves them even.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    num_train_timesteps: int = 1000
    shift: float = 1.0

    named: ClassVar[str] = "a flow model"
    # A straight path's velocity n - x0 leads from x to x0 as the noise does where the data is not scaled.
    predictions: ClassVar[Mapping[str, Prediction]] = {
        "flow_prediction": prediction.epsilon,
        "sample": prediction.sample,
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_train_timesteps", _check.count("num_train_timesteps", self.num_train_timesteps))
        object.__setattr__(self, "shift", _check.positive("flow_shift", self.shift))

    @property
    def coordinates(self) -> Coordinates:
        """Data and noise mixed."""
        return MIXED

    @property
    def sigma_min(self) -> float:
        """The noise level of timestep 1, shifted."""
        return float(shifted(np.array(1 / self.num_train_timesteps), self.shift))

    @property
    def sigma_max(self) -> float:
        """1: noise alone."""
        return 1.0

    @property
    def timestep_range(self) -> tuple[float, float]:
        """0 and T."""
        return 0.0, float(self.num_train_timesteps)

    def sigma(self, timestep: ArrayLike) -> Floats:
        """Timestep / T."""
        return _check.elements("timestep", timestep) / self.num_train_timesteps

    def timestep(self, sigma: ArrayLike) -> Floats:
        """σ·T."""
        return _check.elements("sigma", sigma) * self.num_train_timesteps

    def starts(self, count: int, spaced: Spaced) -> tuple[Floats, Floats]:
        """Spaced noise levels, shifted and stretched."""
        refuse_limit(self, spaced)
        even = spaced_levels(spaced.spacing, count, self.num_train_timesteps, self.sigma_min, spaced.visited)
        sigmas = self.warped(even, spaced.shift, spaced.shift_terminal)
        return sigmas, self.timestep(sigmas)
