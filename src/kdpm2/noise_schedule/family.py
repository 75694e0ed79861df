"""The base class of model families. Everything that differs between families is a method or attribute of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check
from kdpm2.noise_schedule.coordinates import ADDED, Coordinates
from kdpm2.prediction import Affine, Prediction

Floats = NDArray[np.float64]


class Spaced(NamedTuple):
    """How to space the starts of a run's steps among the trained noise levels.

    Attributes:
        spacing: One of `kdpm2.timestep_spacing.TIMESTEP_SPACINGS`.
        offset: Added to "leading" timesteps.
        limit: How many of the trained timesteps may be used; None for all.
        shift: Shift of a flow's sigmas. None for the shift of its training.
        shift_terminal: The last sigma of a flow after the stretch.
        visited: True if the run visits these levels. False if only their ends are used, for a curve.
    """

    spacing: str
    offset: int
    limit: int | None
    shift: float | None
    shift_terminal: float | None
    visited: bool


class NoiseSchedule(ABC):
    """A family of models: how noise level and timestep belong together, and what a network predicts.

    A schedule does not change after it is made, so values read from it may be cached. Frozen dataclasses ensure this.

    Attributes:
        named: What a model of the family is called in a message.
        predictions: For each prediction type, its affine map from `kdpm2.prediction`.
        sigma_data: Standard deviation of the data for which the network's input is scaled.
        default_curve: The curve of `kdpm2.curves` that is used if none is chosen.
        starts_with_data: Whether `init_noise_sigma` includes the standard deviation of the data.
        stepped_unscaled: Whether loops exist for such models that hold samples as the network reads them and never
            scale. Loops for DDPM are of this kind.
    """

    named: ClassVar[str]
    predictions: ClassVar[Mapping[str, Prediction]]
    sigma_data: float = 1.0
    default_curve: ClassVar[str | None] = None
    starts_with_data: ClassVar[bool] = False
    stepped_unscaled: ClassVar[bool] = False

    @property
    def coordinates(self) -> Coordinates:
        """How samples hold their data and their noise."""
        return ADDED

    @property
    def flow(self) -> bool:
        """Whether samples are mixed as x = (1-σ)·x0 + σ·n, rather than x0 + σ·n."""
        return self.coordinates.shifts

    @property
    def trained_timesteps(self) -> int | None:
        """How many timesteps the model was trained with; None if its levels are not discrete."""
        return None

    @property
    def shift(self) -> float | None:
        """How far a flow's trained noise levels are shifted towards noise; None for other models."""
        return None

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
        """The network's timestep at each positive noise level."""

    @property
    def largest(self) -> float:
        """The largest noise level that a sample may have, trained or not."""
        return self.coordinates.largest

    @property
    def timestep_range(self) -> tuple[float, float]:
        """The smallest and the largest timestep that a caller may give."""
        return float(self.timestep(_check.SMALLEST)), float(self.timestep(self.largest))

    @property
    def whole_timesteps(self) -> bool:
        """Whether the network was trained on whole timesteps alone."""
        return False

    def starts(self, count: int, spaced: Spaced) -> tuple[Floats, Floats]:
        """Sigmas and timesteps where `count` steps start.

        Raises:
            TypeError: If the family has no noise levels of its own.
            ValueError: If it has no such spacing, or too few timesteps.
        """
        raise TypeError(f"schedule must have noise levels to space, and {self.named} has none: pass sigmas")

    def warped(self, sigmas: Floats, shift: float | None, shift_terminal: float | None) -> Floats:
        """Noise levels, shifted by `shift` or else by the model's own shift, and stretched to their end."""
        trained = 1.0 if self.shift is None else self.shift
        return self.coordinates.warped(sigmas, trained if shift is None else shift, shift_terminal)

    def alpha(self, sigma: ArrayLike) -> Floats:
        """What the data is multiplied by at each noise level."""
        return self.coordinates.alpha(_check.elements("sigma", sigma))

    def input_scale(self, sigma: ArrayLike) -> Floats:
        """What a sample is multiplied by before the network reads it."""
        return np.ones_like(_check.elements("sigma", sigma))

    def affine(self, prediction_type: str, sigma: ArrayLike) -> Affine:
        """The pair (p, q) of `kdpm2.prediction` at each noise level.

        Raises:
            TypeError: If `sigma` holds no numbers.
            ValueError: If models of the family have no such prediction type.
        """
        levels = _check.elements("sigma", sigma)
        return self.predictions[self.checked_prediction(prediction_type)](levels, self.sigma_data)

    def checked_prediction(self, prediction_type: str) -> str:
        """`prediction_type` if models of the family have it; ValueError otherwise."""
        if not isinstance(prediction_type, str) or prediction_type not in self.predictions:
            raise ValueError(
                f"prediction_type must be one of {', '.join(map(repr, self.predictions))} for {self.named}, "
                f"got {_check.shown(prediction_type)}"
            )
        return prediction_type


def checked(schedule: Any) -> NoiseSchedule:
    """`schedule` if it is one; TypeError otherwise."""
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(f"schedule must be one of kdpm2.noise_schedule, got {_check.shown(schedule)}")
    return schedule


def at_unit_variance(sigma: ArrayLike, sigma_data: float) -> Floats:
    """The scale of a network's input that has variance 1 at every noise level."""
    return np.asarray(1 / np.sqrt(_check.elements("sigma", sigma) ** 2 + sigma_data**2))


def quarter_log(sigma: ArrayLike) -> Floats:
    """log(σ)/4, which EDM's networks are conditioned on."""
    return logarithm(sigma) / 4


def sigma_of_quarter_log(timestep: ArrayLike) -> Floats:
    """e^(4t), its inverse."""
    return np.exp(4 * _check.elements("timestep", timestep))


def logarithm(sigma: ArrayLike) -> Floats:
    """The natural logarithm of σ; ValueError for a noise level that is not positive."""
    levels = _check.elements("sigma", sigma)
    if not (levels > 0).all():
        raise ValueError(f"sigma must be above 0, got {_check.shown(levels)}")
    return np.asarray(np.log(levels))


def refuse_limit(schedule: NoiseSchedule, spaced: Spaced) -> None:
    """TypeError or ValueError for options of trained timesteps, where a model has none to choose from."""
    if spaced.limit is not None:
        raise ValueError(f"num_train_timesteps must be None for {schedule.named}, got {_check.shown(spaced.limit)}")
    _check.integer("steps_offset", spaced.offset, 0, _check.MOST_STEPS)
