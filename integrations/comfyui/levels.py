"""Noise levels for a ComfyUI model, by kdpm2's spacings and curves.

A model's `model_sampling` has a table of its noise levels, `sigmas`: those of its trained timesteps, or for a model
that has no such timesteps a thousand or more between its ends. A spacing takes N of them. Between two of the table it
goes evenly in log σ; for a flow evenly in σ. A curve joins the first and the last, or its own ends.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import comfy.model_sampling
import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import curves, spacing
from kdpm2.noise_schedule import SigmaConditioned, Spaced
from kdpm2.timestep_spacing import spaced_timesteps

SPACINGS = tuple(spacing.TIMESTEP_SPACINGS)
AS_SPACED, TUNED = "as spaced", "tuned"
CURVES = (AS_SPACED, *spacing.CURVE_NAMES, TUNED)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedLevels(SigmaConditioned):
    """The noise levels that a model was trained on.

    Args:
        flow: Whether its samples are mixed as (1-σ)·x0 + σ·n.
        levels: Shape (T,), increasing, above 0.
    """

    levels: NDArray[np.float64]

    named: ClassVar[str] = "this model"

    @classmethod
    def of(cls, model_sampling: Any) -> "TrainedLevels":
        """Those of a ComfyUI model."""
        flow = isinstance(model_sampling, comfy.model_sampling.CONST)
        return cls(flow=flow, levels=model_sampling.sigmas.detach().cpu().double().numpy())

    @property
    def sigma_min(self) -> float:
        """The first of the levels."""
        return float(self.levels[0])

    @property
    def sigma_max(self) -> float:
        """The last of them."""
        return float(self.levels[-1])

    def starts(self, count: int, spaced: Spaced) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Spaced levels of the table."""
        trained = len(self.levels)
        places = spaced_timesteps(spaced.spacing, count, trained, spaced.offset, spaced.visited)
        if self.flow:
            sigmas = np.interp(places, np.arange(trained), self.levels)
        else:
            sigmas = np.exp(np.interp(places, np.arange(trained), np.log(self.levels)))
        return sigmas, sigmas


def sigmas_of(
    model_sampling: Any,
    steps: int,
    denoise: float = 1.0,
    timestep_spacing: str = "linspace",
    sigma_curve: str = AS_SPACED,
    discard_next_to_last_sigma: bool = False,
    tuned_sigmas: str = "",
    **options: Any,
) -> torch.Tensor:
    """The noise levels of a run, a float32 tensor on the CPU of shape (steps+1,) that ends in 0.

    Args:
        model_sampling: Of the model.
        steps: At least 1.
        denoise: From 0 to 1: the run is the last steps of one of steps / denoise steps. At 0 there are none.
        timestep_spacing: One of `SPACINGS`.
        sigma_curve: One of `CURVES`; "tuned" is that of `tuned_sigmas`.
        discard_next_to_last_sigma: Whether one more step is spaced, and the last of them left out.
        tuned_sigmas: N+1 noise levels as text, from the largest down: where each of N steps starts, and a level near 0
            that stands for the end. For other numbers of steps they are interpolated in log σ, as Align Your Steps are.
        **options: `steps_offset`, `sigma_min`, `sigma_max`, `rho`, as `kdpm2.spacing.steps` takes them.

    Raises:
        ValueError: If an argument is out of range, or contradicts another.
    """
    if denoise <= 0:
        return torch.zeros(0)
    count = steps if denoise >= 1 else int(steps / denoise)
    schedule = TrainedLevels.of(model_sampling)
    if (sigma_curve == TUNED) != bool(tuned_sigmas.strip()):
        raise ValueError(f"tuned_sigmas must be given with the curve {TUNED!r}, and with no other")
    if sigma_curve == TUNED:
        levels = _tuned(tuned_sigmas, count, schedule.largest, discard_next_to_last_sigma)
    else:
        curve = None if sigma_curve == AS_SPACED else sigma_curve
        options["discard_next_to_last_sigma"] = discard_next_to_last_sigma
        levels = spacing.steps(schedule, count, timestep_spacing, sigma_curve=curve, **options).sigmas
    return torch.from_numpy(levels[-(steps + 1) :]).float()


def _tuned(text: str, count: int, largest: float, discard: bool) -> NDArray[np.float64]:
    """The levels of a text for so many steps, and 0."""
    try:
        knots = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"tuned_sigmas must be numbers with commas or spaces between them, got {text!r}") from None
    knots = curves.checked_table("tuned_sigmas", knots, largest)
    return np.append(curves.through(knots, count + discard)[:count], 0.0)
