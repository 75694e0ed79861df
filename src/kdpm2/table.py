r"""The solver: DPM2 as a table, one row of numbers for each network evaluation.

A step goes from σ to σ' in two stages. The solver goes below σ', to *down*. Then it adds noise of standard deviation
*up*, which brings the sample up to σ'. Samples of a flow are also multiplied by *ratio*
(`kdpm2.noise_schedule.coordinates`). η says how much noise this is: η = 0 is the deterministic sampler, η = 1 the
ancestral one.

1. The first stage follows the slope :math:`d = (x-\hat x_0)/\sigma` from σ to the midpoint in log σ,
   :math:`\mathrm{mid} = \sqrt{\sigma\,\mathrm{down}}`.
2. The second stage takes the slope there. It goes back to the anchor, which is the sample at the start of the step, and
   follows this slope from there to *down*. It multiplies by *ratio* and adds the noise.

A step that goes down to 0 has one stage, which returns the clean sample. The last step of most runs is one.

Churn raises σ to :math:`\hat\sigma = \sigma(1+\gamma)` before a step, with :math:`\gamma = \min(s_{churn}/N, \sqrt2-1)`
for σ between :math:`s_{tmin}` and :math:`s_{tmax}`. Steps may also start above the level where the step before ends
(`kdpm2.restart`). The row before the step adds the noise for this. For the first step, the initial sample must include
it. All noise is multiplied by :math:`s_{noise}`. η and :math:`s_{noise}` may differ from step to step
(`kdpm2.by_step`).

Since :math:`\hat x_0 = p\,x + q\,m` (see `kdpm2.prediction`), every stage is linear in what it reads:

.. math:: \mathrm{output} = a\,x + b\,m + c\,\mathrm{anchor} + e\,\mathrm{noise}.

A run may begin on a midpoint. It then has no anchor, and goes from *mid* to *down* by Euler's method.

References:
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Algorithm 2:
      https://arxiv.org/abs/2206.00364
    | DPM-Solver (Lu et al., 2022): https://arxiv.org/abs/2206.00927
    | sample_dpm_2 and sample_dpm_2_ancestral in Katherine Crowson's https://github.com/crowsonkb/k-diffusion
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.by_step import ByStep, by_step
from kdpm2.noise_schedule import NoiseSchedule
from kdpm2.spacing import Steps

Floats = NDArray[np.float64]

_LARGEST_CHURN = np.sqrt(2) - 1
LARGEST_SCALE = 1000.0
"""Of `eta` and `s_noise`."""


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

    def of_denoised(self) -> "Row":
        """The same stage from a clean sample instead of the network's output."""
        model = self.model / self.denoised_model
        return self._replace(x=self.x - model * self.denoised_x, model=model, denoised_x=0.0, denoised_model=1.0)


class Churn(NamedTuple):
    """EDM's churn, with the names of the paper. With `s_churn` 0 there is none."""

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = np.inf


@dataclass(frozen=True, eq=False)
class StageTable:
    """A sampler for one schedule: N steps in S stages, two for each step that does not go down to 0.

    Attributes:
        sigmas: Shape (N+1,): where the steps start, and the end.
        up: Shape (N,): standard deviation of the noise that each step adds, before it is multiplied by `s_noise`.
        down: Shape (N,): noise level that each step goes down to before its noise is added.
        mid: Shape (N,): the midpoints, 0 where a step has none.
        step: Shape (S,), int: which step each stage belongs to.
        starts_step: Shape (S,), bool: whether the stage is its step's first.
        stage_sigmas: Shape (S,): the noise level each stage reads, churn included.
        stage_timesteps: Shape (S,): what the network is conditioned on.
        rows: Shape (S, 7): the coefficients, columns as in `Row`.
        entry_rows: Shape (S, 7): the same for a stage that begins a run and so has no anchor. For a stage that starts
            a step, the numbers are the same.
        initial_noise: Standard deviation of the noise that churn adds to a sample before the first stage.
        start: Standard deviation of the noise that a run starts from, including the noise of churn.
        stage_alphas: Shape (S,): what the data is multiplied by in the sample that each stage reads.
        trained_up_to: The model's largest noise level; 0 if it has none.
        initial_scale: What a sample is multiplied by where `initial_noise` is added; 1 but for flows.
        keeps_estimate: Whether the anchor of a stage is the clean sample that the stage before saw (`kdpm2.kept`),
            rather than the sample at the start of the step.
    """

    sigmas: Floats
    up: Floats
    down: Floats
    mid: Floats
    step: NDArray[np.intp]
    starts_step: NDArray[np.bool_]
    stage_sigmas: Floats
    stage_timesteps: Floats
    rows: Floats
    entry_rows: Floats
    initial_noise: float
    start: float
    stage_alphas: Floats
    trained_up_to: float = 0.0
    initial_scale: float = 1.0
    keeps_estimate: bool = False

    def __len__(self) -> int:
        """The number of stages."""
        return len(self.rows)

    @property
    def highest(self) -> float:
        """The largest noise level of this run and of the model. No run of the model begins above it."""
        return float(max(self.trained_up_to, self.sigmas.max()))

    @cached_property
    def ends_step(self) -> NDArray[np.bool_]:
        """Shape (S,), bool: whether the stage is its step's last."""
        return np.append(self.starts_step[1:], True)

    @cached_property
    def keeps_anchor(self) -> list[bool]:
        """Of each stage, whether the next one has an anchor, which is then to be kept."""
        anchors = self.rows[:, Row._fields.index("anchor")] != 0
        keeps: list[bool] = (~self.ends_step | (np.append(anchors[1:], False) & self.keeps_estimate)).tolist()
        return keeps

    @cached_property
    def reads_midpoint(self) -> NDArray[np.bool_]:
        """Shape (S,), bool: whether the stage reads a midpoint's sample, not that at the start of a step."""
        reads: NDArray[np.bool_] = ~self.starts_step | (self.rows[:, Row._fields.index("anchor")] != 0)
        return reads

    @cached_property
    def first_stage(self) -> NDArray[np.intp]:
        """Shape (N,), int: the stage that starts each step."""
        return np.flatnonzero(self.starts_step)

    @cached_property
    def adds_noise(self) -> NDArray[np.bool_]:
        """Shape (S,), bool: whether the stage adds noise."""
        adds: NDArray[np.bool_] = self.rows[:, Row._fields.index("noise")] != 0
        return adds

    def row(self, stage: int, anchored: bool = True) -> Row:
        """The coefficients of `stage` as Python floats; `anchored=False` if the run begins with it."""
        return (self.rows_anchored if anchored else self.rows_entered)[stage]

    @cached_property
    def rows_anchored(self) -> list[Row]:
        """The coefficients of every stage, as Python floats."""
        return [Row._make(row) for row in self.rows.tolist()]

    @cached_property
    def rows_entered(self) -> list[Row]:
        """The same for stages without an anchor, because they start a step or the run."""
        entered = np.where(self.reads_midpoint[:, None], self.entry_rows, self.rows)
        return [Row._make(row) for row in entered.tolist()]


def dpm2(
    schedule: NoiseSchedule,
    steps: Steps,
    prediction_type: str = "epsilon",
    eta: ByStep = 1.0,
    s_noise: ByStep = 1.0,
    churn: Churn | None = None,
) -> StageTable:
    """The table of DPM2.

    Args:
        schedule: What the model was trained on; gives midpoints and churned noise levels their timesteps.
        steps: Where the N steps start and end.
        prediction_type: What the network predicts; see `kdpm2.prediction`.
        eta: How much of the noise is fresh, from 0 to 1000: 0 is deterministic, 1 ancestral. Above 1, if two sigmas are
            far apart, all noise of the sample is fresh. Such a step has one stage. It may change on the way, as
            `kdpm2.by_step` says.
        s_noise: Scale of all noise, from 0 to 1000; likewise. That of a step counts for the noise that follows it.
        churn: EDM's churn; none if None.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or contradicts another.
    """
    arrived, following = steps.sigmas[:-1], steps.sigmas[1:]
    unchurned = steps.starts
    coordinates = schedule.coordinates
    sigma = coordinates.churned(unchurned, _gamma(unchurned, churn))
    fresh, scale = (by_step(*each, unchurned, LARGEST_SCALE) for each in (("eta", eta), ("s_noise", s_noise)))
    down, up, ratio = coordinates.split(sigma, following, fresh)
    mid = np.sqrt(sigma * down)
    carry, added = coordinates.raised(arrived, sigma)
    # What a step adds lasts until the next starts, where noise alone may raise the sample: one draw for both.
    carried = np.append(carry[1:], 1.0)
    noise = scale * np.hypot(up * carried, np.append(added[1:], 0.0))
    ratio = ratio * carried

    has_midpoint = down > 0
    # Of two stages a step, first and second in turn, those that there are.
    present = np.flatnonzero(_interleaved(np.ones_like(has_midpoint), has_midpoint))

    def per_stage(first: Floats, second: Floats) -> Floats:
        return _interleaved(first, second)[present]

    level = per_stage(sigma, mid)
    p, q = schedule.affine(prediction_type, level)
    zero, one = np.zeros_like(sigma), np.ones_like(sigma)
    # A single stage does all that its step does.
    starts_factor, drawn = np.where(has_midpoint, one, ratio), per_stage(np.where(has_midpoint, zero, noise), noise)
    rows = partial(_rows, level, schedule.input_scale(level), p, q, drawn)
    factor, target = per_stage(starts_factor, ratio), per_stage(mid, down)
    initial_scale, initial_noise = (float(carry[0]), float(scale[0] * added[0])) if len(sigma) else (1.0, 0.0)
    churned = sigma > unchurned
    timesteps = (
        np.where(churned, steps.timestep(schedule, sigma), steps.timesteps) if churned.any() else steps.timesteps
    )
    return StageTable(
        sigmas=steps.sigmas,
        up=up,
        down=down,
        mid=mid,
        step=present // 2,
        starts_step=present % 2 == 0,
        stage_sigmas=level,
        stage_timesteps=per_stage(timesteps, steps.timestep(schedule, np.where(has_midpoint, mid, sigma))),
        rows=rows(per_stage(sigma, sigma), target, factor, per_stage(zero, one)),
        entry_rows=rows(level, target, factor, np.zeros_like(level)),
        initial_scale=initial_scale,
        initial_noise=initial_noise,
        start=float(np.hypot(initial_scale * steps.sigmas[0], initial_noise)),
        stage_alphas=schedule.alpha(level),
        trained_up_to=schedule.sigma_max if np.isfinite(schedule.sigma_max) else 0.0,
    )


def _rows(
    level: Floats,
    scale: Floats,
    p: Floats,
    q: Floats,
    drawn: Floats,
    start: Floats,
    end: Floats,
    factor: Floats,
    anchor: Floats,
) -> Floats:
    """Stages that follow their slope for end - start, in units of their sigma, from x or from the anchor."""
    towards_clean = (start - end) / level
    kept = np.where(anchor > 0, -towards_clean, end / level)
    x = factor * (kept + towards_clean * p)
    return np.array([scale, x, factor * towards_clean * q, factor * anchor, drawn, p, q]).T


def of_stages(
    schedule: NoiseSchedule,
    steps: Steps,
    prediction_type: str,
    *,
    step: NDArray[np.intp],
    level: Floats,
    x: Floats,
    slope: Floats,
    anchor: Floats,
    noise: Floats | None = None,
) -> StageTable:
    r"""The table of another solver.

    Its stages make :math:`x_i\,x + s_i\,d + c_i\,\mathrm{anchor} + e_i\,\mathrm{noise}`. Here d is the slope
    :math:`(x - \hat x_0)/\sigma` that the network gives for the sample x of the stage. The anchor is the sample at the
    start of the step. A run that begins in the middle of a step goes to its end by Euler's method.

    Args:
        schedule: What the model was trained on.
        steps: Where the N steps start and end.
        prediction_type: As in `dpm2`.
        step: Shape (S,): which step each of the S stages belongs to, rising from 0 to N-1; one or two stages a step.
        level: Shape (S,): the noise level of the sample that each stage reads, above 0; that of a step's first stage is
            where the step starts.
        x: Shape (S,): what the sample is multiplied by.
        slope: Shape (S,): what the slope is multiplied by.
        anchor: Shape (S,): what the anchor is multiplied by; 0 in the first stage of a step.
        noise: Shape (S,): standard deviation of the noise that each stage adds, in the last stage of a step; none if
            None.

    Raises:
        ValueError: If models of the schedule's family have no such prediction type.
    """
    starts = np.diff(step, prepend=-1) > 0
    drawn = np.zeros_like(level) if noise is None else noise
    p, q = schedule.affine(prediction_type, level)
    scale, following = schedule.input_scale(level), steps.sigmas[1:]

    def rows(x: Floats, slope: Floats, anchor: Floats) -> Floats:
        return np.array([scale, x + slope * (1 - p) / level, -slope * q / level, anchor, drawn, p, q]).T

    up = np.zeros_like(following)
    np.maximum.at(up, step, drawn)
    return StageTable(
        sigmas=steps.sigmas,
        up=up,
        down=following,
        mid=np.zeros_like(following),
        step=step,
        starts_step=starts,
        stage_sigmas=level,
        stage_timesteps=np.where(starts, steps.timesteps[step], steps.timestep(schedule, level)),
        rows=rows(x, slope, anchor),
        entry_rows=rows(np.ones_like(level), following[step] - level, np.zeros_like(level)),
        initial_noise=0.0,
        start=float(steps.sigmas[0]),
        stage_alphas=schedule.alpha(level),
        trained_up_to=schedule.sigma_max if np.isfinite(schedule.sigma_max) else 0.0,
    )


def _interleaved(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    return np.stack([first, second], axis=1).reshape(-1)


def _gamma(sigma: Floats, churn: Churn | None) -> Floats:
    if churn is None:
        return np.zeros_like(sigma)
    if not isinstance(churn, Churn):
        raise TypeError(f"churn must be a kdpm2.table.Churn or None, got {_check.shown(churn)}")
    s_churn = _check.number("s_churn", churn.s_churn, 0, np.inf)
    s_tmin = _check.number("s_tmin", churn.s_tmin, 0, np.inf)
    s_tmax = _check.number("s_tmax", churn.s_tmax, 0, np.inf)
    if s_tmin > s_tmax:
        raise ValueError(f"s_tmin must be at most s_tmax={s_tmax:g}, got {s_tmin:g}")
    within = (sigma >= s_tmin) & (sigma <= s_tmax)
    return np.where(within, min(s_churn / max(len(sigma), 1), _LARGEST_CHURN), 0.0)
