r"""Which noise levels a run visits.

There are four ways. The model's family spaces the starts of the steps (`kdpm2.timestep_spacing`). Or a curve of
`kdpm2.curves` joins the first and the last of these sigmas; EDM models have only this. Or a table that was tuned for
the model is interpolated (`kdpm2.tune`). Or the caller gives the sigmas.
A run ends at 0 or at a last sigma. The next-to-last sigma can be left out, which helps DPM2 a with few steps.

References:
    | The sigma left out: https://github.com/AUTOMATIC1111/stable-diffusion-webui/pull/5797
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.curves import SIGMA_CURVES, Curve, checked_table, table
from kdpm2.noise_schedule import NoiseSchedule, Spaced, checked
from kdpm2.timestep_spacing import TIMESTEP_SPACINGS as TIMESTEP_SPACINGS

Floats = NDArray[np.float64]

FINAL_SIGMAS = ("zero", "sigma_min")
CURVE_NAMES = tuple(SIGMA_CURVES)


class Steps(NamedTuple):
    """Where N steps start and end: `sigmas` (N+1,), whose last is the end, and `timesteps` (N,) of the starts."""

    sigmas: Floats
    timesteps: Floats

    @property
    def starts(self) -> Floats:
        """Shape (N,): the noise levels at which the steps start."""
        return self.sigmas[:-1]

    def timestep(self, schedule: NoiseSchedule, sigma: Floats) -> Floats:
        """The model's timesteps at noise levels between the starts."""
        return schedule.timestep(sigma)


class ToldSteps(Steps):
    """Steps whose timesteps are the caller's own, and not the model's for their sigmas."""

    def timestep(self, schedule: NoiseSchedule, sigma: Floats) -> Floats:
        """The model's timesteps, shifted as the caller shifted those of the neighbouring starts."""
        starts = self.sigmas[: len(self.timesteps)]
        moved = self.timesteps - schedule.timestep(starts)
        return schedule.timestep(sigma) + np.interp(sigma, starts[::-1], moved[::-1])


class RaisedSteps(Steps):
    """Steps some of which start above `sigmas`, where the step before ended: fresh noise takes the samples up there."""

    _starts: Floats

    @classmethod
    def of(cls, sigmas: Floats, timesteps: Floats, starts: Floats) -> "RaisedSteps":
        """Steps from `starts` (N,) to `sigmas[1:]`."""
        made = cls(sigmas, timesteps)
        made._starts = starts
        return made

    @property
    def starts(self) -> Floats:
        """Shape (N,): the noise levels at which the steps start."""
        return self._starts


class _Curved(NamedTuple):
    """The curve that joins a run's sigmas, or none: its name, its ends where they are not the run's, its exponent."""

    name: str | None
    curve: Curve | None
    sigma_min: float | None
    sigma_max: float | None
    rho: float | None


def steps(
    schedule: NoiseSchedule,
    num_inference_steps: int,
    timestep_spacing: str = "linspace",
    steps_offset: int = 0,
    sigma_curve: str | None = None,
    num_train_timesteps: int | None = None,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float | None = None,
    final_sigmas_type: str = "zero",
    discard_next_to_last_sigma: bool = False,
    shift: float | None = None,
    shift_terminal: float | None = None,
    tuned_sigmas: Sequence[float] | NDArray[Any] | None = None,
) -> Steps:
    """The noise levels and timesteps at which the steps of a run start.

    Args:
        schedule: What the model was trained on.
        num_inference_steps: N, at least 1. For "leading" at most the number of trained timesteps. Without a curve, also
            for "trailing" and "simple".
        timestep_spacing: "linspace", "leading", "trailing", "simple" or "sgm_uniform". An EDM model needs none.
        steps_offset: Added to every "leading" timestep, as far as the trained range allows; at least 0.
        sigma_curve: One of `CURVE_NAMES`. The curve goes from the first spaced sigma to the last. None keeps the spaced
            sigmas; for an EDM model it means "karras".
        num_train_timesteps: Use only the first so many trained timesteps. None for all.
        sigma_min: The curve's last sigma, positive. None for the last one of the spacing.
        sigma_max: The curve's first sigma, above `sigma_min`. None for the first one of the spacing.
        rho: The curve's exponent, for "karras" (7 if None) and "polyexponential" (1 if None); positive.
        final_sigmas_type: "zero", or "sigma_min" for a run that ends at `sigma_min` (None for the schedule's smallest
            sigma). If the spacing itself visits that sigma, one more step is spaced.
        discard_next_to_last_sigma: Space N+1 steps, and leave the last of them out.
        shift: Shift of a flow's sigmas towards noise. None for the shift of its training.
        shift_terminal: Stretch a flow's shifted sigmas so that the last one is this, between 0 and 1.
        tuned_sigmas: A table of noise levels instead of a curve, as `kdpm2.curves.through` takes it: K+1 levels, where
            K steps start and the end. It is interpolated to N steps. Nothing shifts it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or contradicts another.
    """
    _check_shift(schedule, shift, shift_terminal)
    wanted = _check.count("num_inference_steps", num_inference_steps)
    _check.choice("final_sigmas_type", final_sigmas_type, FINAL_SIGMAS)
    curved = _curved(schedule, sigma_curve, tuned_sigmas, sigma_min, sigma_max, rho, schedule.default_curve)
    spaced = Spaced(
        timestep_spacing, steps_offset, num_train_timesteps, shift, shift_terminal, visited=curved.name is None
    )
    count = wanted + _check.flag("discard_next_to_last_sigma", discard_next_to_last_sigma)
    final = 0.0
    if final_sigmas_type == "sigma_min":
        final = schedule.sigma_min if sigma_min is None else _check.positive("sigma_min", sigma_min)
    sigmas, timesteps = _starts(schedule, count, spaced, curved)
    if sigma_min is None:  # a flow's even sigmas may go lower, being shifted once more
        final = min(final, sigmas[-1])
    if _is_at(sigmas[-1:], final):  # the end is spaced too, and no step starts there
        sigmas, timesteps = (values[:-1] for values in _starts(schedule, count + 1, spaced, curved))
    return _ending(sigmas[:wanted], timesteps[:wanted], final)


def _starts(schedule: NoiseSchedule, count: int, spaced: Spaced, curved: _Curved) -> tuple[Floats, Floats]:
    """Sigmas and timesteps, `count` each."""
    sigmas, timesteps = schedule.starts(count, spaced)
    if curved.name is None:
        return sigmas, timesteps
    sigmas = _joined(schedule, sigmas, count, curved)
    timesteps = schedule.timestep(sigmas)
    assert curved.curve is not None
    if curved.curve.whole_timesteps and schedule.whole_timesteps:
        timesteps = timesteps.round()
    return sigmas, timesteps


def _check_shift(schedule: Any, shift: object, shift_terminal: object) -> None:
    """The schedule is one, and no flow's options are given for a model that is none."""
    if not checked(schedule).coordinates.shifts and not shift is shift_terminal is None:
        raise ValueError(
            "shift and shift_terminal must be None for a model that is no flow, "
            f"got {_check.shown(shift)} and {_check.shown(shift_terminal)}"
        )


def _curved(
    schedule: NoiseSchedule,
    name: str | None,
    tuned: Any,
    sigma_min: float | None,
    sigma_max: float | None,
    rho: float | None,
    default: str | None = None,
) -> _Curved:
    if tuned is not None:
        if name is not None:
            raise ValueError(f"sigma_curve must be None with tuned_sigmas, got {_check.shown(name)}")
        knots = checked_table("tuned_sigmas", tuned, schedule.largest)
        return _Curved("tuned", table(knots), sigma_min, sigma_max, rho)
    name = default if name is None else name
    if name is not None:
        _check.choice("sigma_curve", name, SIGMA_CURVES)
        return _Curved(name, SIGMA_CURVES[name], sigma_min, sigma_max, rho)
    if not rho is sigma_max is sigma_min is None:
        raise ValueError(
            "sigma_min, sigma_max and rho must be None without a curve of sigmas (use_karras_sigmas, ...), whose "
            f"ends and exponent they are, got {', '.join(map(_check.shown, (sigma_min, sigma_max, rho)))}"
        )
    return _Curved(None, None, sigma_min, sigma_max, rho)


def _is_at(sigmas: Floats, final: float) -> NDArray[np.bool_]:
    """Whether each sigma is `final` but for rounding, or below it; nothing is at 0."""
    return sigmas <= final * (1 + 1e-9)


def custom(
    schedule: NoiseSchedule,
    sigmas: Sequence[float] | NDArray[Any] | None = None,
    timesteps: Sequence[float] | NDArray[Any] | None = None,
    *,
    sigma_curve: str | None = None,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float | None = None,
    final_sigmas_type: str = "zero",
    shift: float | None = None,
    shift_terminal: float | None = None,
    tuned_sigmas: Sequence[float] | NDArray[Any] | None = None,
) -> Steps:
    """Steps that start where the caller says.

    Args:
        schedule: What the model was trained on.
        sigmas: Positive, strictly decreasing, with or without the final 0. The sigmas of a flow are then shifted, and a
            curve joins their ends if one is chosen. Pipelines that pass sigmas expect this.
        timesteps: Without `sigmas`: where the steps start, strictly decreasing, used unchanged. With `sigmas`: the
            timestep that the network is told for each of them.
        sigma_curve: For the sigmas of a flow, as in `steps`.
        sigma_min: As in `steps`, for such a curve.
        sigma_max: Likewise.
        rho: Likewise.
        final_sigmas_type: "zero", or "sigma_min" for a run that ends at the last sigma given.
        shift: As in `steps`.
        shift_terminal: As in `steps`.
        tuned_sigmas: As in `steps`, for a flow: as many levels of it as `sigmas` has.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If neither `sigmas` nor `timesteps` is given, or their values cannot be used.
    """
    _check_shift(schedule, shift, shift_terminal)
    _check.choice("final_sigmas_type", final_sigmas_type, FINAL_SIGMAS)
    joins = sigma_curve is not None or tuned_sigmas is not None
    if joins:
        curved = _curved(schedule, sigma_curve, tuned_sigmas, sigma_min, sigma_max, rho)
    if sigmas is timesteps is None:
        raise ValueError("sigmas or timesteps must be given, got neither")
    if sigmas is None:
        given = _decreasing("timesteps", timesteps, *schedule.timestep_range)
        levels, ends_at_zero = _without_zero("timesteps", schedule.sigma(given.astype(np.float32)))
        conditioned_on = given[: len(levels)]
    else:
        levels, ends_at_zero = _without_zero("sigmas", _decreasing("sigmas", sigmas, 0.0, schedule.largest))
        levels = schedule.warped(levels, shift, shift_terminal)
        if joins and schedule.coordinates.shifts:
            levels = _joined(schedule, levels, len(levels), curved)
        told = timesteps is not None
        conditioned_on = _told(timesteps, len(levels), ends_at_zero) if told else schedule.timestep(levels)
    final = levels[-1] if final_sigmas_type == "sigma_min" and not ends_at_zero else 0.0
    steps = _ending(levels, conditioned_on, final)
    return steps if sigmas is None or timesteps is None else ToldSteps(*steps)


def _without_zero(name: str, levels: Floats) -> tuple[Floats, bool]:
    """Noise levels without a final 0, and whether there was one."""
    ends_at_zero = bool(levels[-1] == 0)
    levels = levels[:-1] if ends_at_zero else levels
    if not len(levels):
        raise ValueError(f"{name} must hold at least one noise level above 0, got none")
    if levels[-1] < _check.SMALLEST:
        raise ValueError(f"{name} must give noise levels of at least {_check.SMALLEST:g}, or 0, got {levels[-1]:g}")
    return levels, ends_at_zero


def _told(timesteps: Any, count: int, ends_at_zero: bool) -> Floats:
    """What the network is told at `count` starts whose sigmas are given too."""
    told = _check.numbers("timesteps", timesteps)
    if len(told) not in (count, count + int(ends_at_zero)):
        raise ValueError(f"timesteps must be as many as sigmas, {count} above 0, got {len(told)}")
    if not np.isfinite(told).all():
        raise ValueError(f"timesteps must all be finite numbers, got {_check.shown(told.tolist())}")
    return told[:count]


def given(schedule: NoiseSchedule, sigmas: Sequence[float] | NDArray[Any], may_rise: bool = False) -> Steps:
    """Steps between the sigmas that a caller gives, used unchanged: no shift, and no curve.

    Args:
        schedule: What the model was trained on.
        sigmas: Shape (N+1,): where the steps start, and the end, which may be 0. One sigma alone makes no step.
        may_rise: Whether sigmas may rise. Samplers without fresh noise allow it.

    Raises:
        TypeError: If `sigmas` holds no numbers.
        ValueError: If one is out of range, or they rise and may not.
    """
    levels = _check.numbers("sigmas", sigmas)
    started = levels if levels[-1] else levels[:-1]
    if not np.all((started >= _check.SMALLEST) & (started <= schedule.largest)):
        raise ValueError(
            f"sigmas must be finite numbers above 0, from {_check.SMALLEST:g} and at most {schedule.largest:g}, "
            f"the last of which may be 0, got {_check.shown(levels.tolist())}"
        )
    if not may_rise and np.any(np.diff(levels) > 0):
        raise ValueError(f"sigmas must not rise unless eta is 0, got {_check.shown(levels.tolist())}")
    return Steps(levels, schedule.timestep(levels[:-1]))


def inverted(schedule: NoiseSchedule, steps: Steps) -> Steps:
    """The steps of a run, upwards: from its last level above 0 to its first, as a picture is taken back to noise."""
    if isinstance(steps, ToldSteps):
        raise ValueError("timesteps must be None with sigmas of one's own in a run that is inverted, got some")
    levels = steps.sigmas if steps.sigmas[-1] else steps.sigmas[:-1]
    starts = levels[:0:-1]
    return Steps(levels[::-1], schedule.timestep(starts) if steps.sigmas[-1] else steps.timesteps[:0:-1])


def _joined(schedule: NoiseSchedule, spaced: Floats, count: int, curved: _Curved) -> Floats:
    """The sigmas of a curve from the first of the spaced ones to the last, unless it has ends of its own."""
    name, curve, sigma_min, sigma_max, rho = curved
    assert curve is not None
    if rho is not None and "rho" not in curve.takes:
        raise ValueError(f"rho must be None for {name} sigmas, got {_check.shown(rho)}")
    if not curve.has_ends:
        if not sigma_min is sigma_max is None:
            raise ValueError(
                f"sigma_min and sigma_max must be None for {name} sigmas, which are a table, "
                f"got {_check.shown(sigma_min)} and {_check.shown(sigma_max)}"
            )
        levels = curve.levels(count)
        if levels[0] > schedule.largest:
            raise ValueError(
                f"{name} sigmas must be at most {schedule.largest:g} for {schedule.named}, got {levels[0]:g}"
            )
        return levels
    if curve.flows_only and not schedule.flow:
        raise ValueError(f"sigma_curve must be another than {name!r}, which is for flows, for {schedule.named}")
    if curve.to_zero and sigma_min is not None:
        raise ValueError(f"sigma_min must be None for {name} sigmas, which go to 0, got {_check.shown(sigma_min)}")
    top = spaced[0] if sigma_max is None else _check.positive("sigma_max", sigma_max)
    bottom = spaced[-1] if sigma_min is None else _check.positive("sigma_min", sigma_min)
    if bottom > top or (bottom == top and not sigma_min is sigma_max is None):
        raise ValueError(f"sigma_min must be below sigma_max={top:g}, got {bottom:g}")
    if top > schedule.largest:
        raise ValueError(f"sigma_max must be at most {schedule.largest:g} for {schedule.named}, got {top:g}")
    options = {"rho": rho, "flow": schedule.flow}
    ends = (top,) if curve.to_zero else (top, bottom)
    return curve.levels(*ends, count, **{each: options[each] for each in curve.takes if options[each] is not None})


def _ending(sigmas: Floats, timesteps: Floats, final: float) -> Steps:
    """Steps whose last ends at `final`, without those that would start at or below it."""
    kept = ~_is_at(sigmas, final)
    if not kept.any():
        raise ValueError(f"sigma_min must be below the first sigma {sigmas[0]:g} that the run visits, got {final:g}")
    levels = np.append(sigmas[kept], final)
    if not np.all(np.diff(levels) < 0):
        raise ValueError(
            "num_inference_steps and the options of the sigmas (flow_shift, mu, sigma_min, sigma_max, ...) must give "
            "sigmas that fall strictly to the last, "
            f"got {_check.shown(levels.tolist())}"
        )
    return Steps(levels, timesteps[kept])


def _decreasing(name: str, values: Any, low: float, high: float) -> Floats:
    """`values` as a flat array of numbers from `low` to `high` that fall strictly."""
    array = _check.numbers(name, values)
    allowed = np.isfinite(array) & (array >= low) & (array <= high)
    if not allowed.all():
        raise ValueError(f"{name} must all be finite numbers from {low:g} to {high:g}, got {array[~allowed][0]:g}")
    if np.any(np.diff(array) >= 0):
        i = int(np.argmax(np.diff(array) >= 0))
        raise ValueError(f"{name} must fall strictly, got {array[i]:g} before {array[i + 1]:g}")
    return array
