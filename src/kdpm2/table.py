r"""The solver: DPM2 as a table, one row of numbers for each network evaluation.

A step goes from σ to σ' in two stages. With stochasticity η it splits σ' into a deterministic and a random part,

.. math::
    \mathrm{up} = \eta\,\sigma'\sqrt{1-(\sigma'/\sigma)^2},\qquad
    \mathrm{down} = \sqrt{\sigma'^2-\mathrm{up}^2},\qquad
    \mathrm{mid} = \sqrt{\sigma\,\mathrm{down}},

follows :math:`d = (x-\hat x_0)/\sigma` from σ to the midpoint (in log σ), takes the slope there, and with it goes
from the anchor, the sample at the start of the step, to *down*; noise of standard deviation *up* makes that σ' again.
η = 0 is the deterministic KDPM2, η = 1 the ancestral one. The last step ends at 0 and has one stage.

Since :math:`\hat x_0 = p\,x + q\,m` (see `kdpm2.prediction`), the slope is linear too,
:math:`d = \frac{1-p}{\sigma}\,x - \frac{q}{\sigma}\,m`, and so is every stage:

.. math:: \mathrm{output} = a\,x + b\,m + c\,\mathrm{anchor} + e\,\mathrm{noise}.

A run may begin on a midpoint. It then has no anchor, and goes from *mid* to *down* by Euler's method.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Algorithm 2:
      https://arxiv.org/abs/2206.00364
    | DPM-Solver (Lu et al., 2022): https://arxiv.org/abs/2206.00927
    | sample_dpm_2_ancestral in Katherine Crowson's https://github.com/crowsonkb/k-diffusion
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.prediction import affine, input_scale
from kdpm2.spacing import Steps

Floats = NDArray[np.float64]


class Row(NamedTuple):
    """The coefficients of one stage."""

    scale: float
    """The network's input is scale · x."""
    x: float
    model: float
    anchor: float
    noise: float
    """The stage's output is x · x + model · m + anchor · anchor + noise · noise."""
    denoised_x: float
    denoised_model: float
    """The clean sample is denoised_x · x + denoised_model · m."""


@dataclass(frozen=True, eq=False)
class StageTable:
    """A sampler for one schedule: N steps in S = 2N-1 stages. Even stages start a step, odd ones are midpoints.

    Attributes:
        sigmas: Shape (N+1,): where the steps start, and the final 0.
        up: Shape (N,): noise added by each step, 0 for the last.
        down: Shape (N,): noise level each step goes down to before that.
        mid: Shape (N-1,): the midpoints.
        stage_sigmas: Shape (S,): the noise level each stage reads.
        stage_timesteps: Shape (S,): what the network is conditioned on.
        rows: Shape (S, 7): the coefficients, columns as in `Row`.
        entry_rows: Shape (S, 7): the same for a stage that begins a run, and so has no anchor.
    """

    sigmas: Floats
    up: Floats
    down: Floats
    mid: Floats
    stage_sigmas: Floats
    stage_timesteps: Floats
    rows: Floats
    entry_rows: Floats

    def __len__(self) -> int:
        """The number of stages."""
        return len(self.rows)

    def row(self, stage: int, anchored: bool = True) -> Row:
        """The coefficients of `stage` as Python floats; `anchored=False` if the run begins with it."""
        return Row(*(self._rows if anchored else self._entry_rows)[stage])

    @cached_property
    def _rows(self) -> list[list[float]]:
        rows: list[list[float]] = self.rows.tolist()
        return rows

    @cached_property
    def _entry_rows(self) -> list[list[float]]:
        rows: list[list[float]] = self.entry_rows.tolist()
        return rows


def dpm2(schedule: NoiseSchedule, steps: Steps, prediction_type: str = "epsilon", eta: float = 1.0) -> StageTable:
    """The table of DPM2.

    Args:
        schedule: What the model was trained on; gives the midpoints their timesteps.
        steps: Where the N steps start.
        prediction_type: "epsilon", "sample" or "v_prediction".
        eta: Stochasticity, from 0 (deterministic) to 1 (ancestral).

    Raises:
        ValueError: If `prediction_type` is unknown or `eta` out of range.
    """
    eta = _check.number("eta", eta, 0, 1)
    sigmas = np.append(steps.sigmas, 0.0)
    sigma, following = sigmas[:-1], sigmas[1:]
    ratio = following / sigma
    # Both products vanish only with their factors: no cancellation however far apart the two sigmas are.
    up = eta * following * np.sqrt((1 - ratio) * (1 + ratio))
    down = following * np.sqrt((1 - eta) * (1 + eta) + (eta * ratio) ** 2)
    mid = np.sqrt(sigma[:-1] * down[:-1])

    stage_sigmas = _interleave(sigma, mid)
    p, q = affine(prediction_type, stage_sigmas)
    slope_x, slope_model = (1 - p) / stage_sigmas, -q / stage_sigmas
    begins_step = _interleave(np.ones_like(sigma), np.zeros_like(mid))
    stage_up = _interleave(np.zeros_like(sigma), up[:-1])

    def rows(change: Floats, keeps_x: Floats) -> Floats:
        anchor = 1 - keeps_x
        columns = (
            input_scale(stage_sigmas),
            keeps_x + change * slope_x,
            change * slope_model,
            anchor,
            stage_up,
            p,
            q,
        )
        return np.stack(columns, axis=1)

    first_change = np.append(mid, 0.0) - sigma
    return StageTable(
        sigmas=sigmas,
        up=up,
        down=down,
        mid=mid,
        stage_sigmas=stage_sigmas,
        stage_timesteps=_interleave(steps.timesteps, schedule.timestep(mid)),
        rows=rows(_interleave(first_change, down[:-1] - sigma[:-1]), begins_step),
        entry_rows=rows(_interleave(first_change, down[:-1] - mid), np.ones_like(begins_step)),
    )


def _interleave(starts: Floats, midpoints: Floats) -> Floats:
    stages = np.empty(len(starts) + len(midpoints))
    stages[::2], stages[1::2] = starts, midpoints
    return stages
