"""Networks that are denoisers already: they take the sample as it is, and σ for its timestep."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check, prediction
from kdpm2.noise_schedule.coordinates import ADDED, MIXED, Coordinates
from kdpm2.noise_schedule.family import NoiseSchedule
from kdpm2.prediction import Prediction

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SigmaConditioned(NoiseSchedule):
    """A network that is a denoiser already: it takes the sample as it is, and σ for its timestep.

    Args:
        flow: Whether its samples are mixed as (1-σ)·x0 + σ·n.

    Raises:
        TypeError: If `flow` is no bool.
    """

    flow: bool = False

    named: ClassVar[str] = "a denoiser"
    predictions: ClassVar[Mapping[str, Prediction]] = {"sample": prediction.sample}

    def __post_init__(self) -> None:
        _check.flag("flow", self.flow)

    @property
    def coordinates(self) -> Coordinates:
        """As `flow` says."""
        return MIXED if self.flow else ADDED

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
