r"""Which noise levels a run visits.

A model of discrete timesteps has its timesteps spaced first (T trained ones, N steps, i = 0 .. N-1 from the top), and
their sigmas read off. A flow has its sigmas spaced, and then shifted towards noise:

===========  =====================================================================  ===================================
spacing      timestep                                                               sigma of a flow, before its shift
===========  =====================================================================  ===================================
linspace     :math:`(N-1-i)\,(T-1)/(N-1)`; one step starts at :math:`T-1`           evenly from 1 to the smallest
leading      :math:`(N-1-i)\lfloor T/N \rfloor + \text{offset}`, with N at most T   none
trailing     :math:`\mathrm{round}(T - i\,T/N) - 1`, with N at most T               :math:`1 - i/N`
simple       :math:`T - 1 - \lfloor i\,T/N \rfloor`, with N at most T               :math:`1-\lfloor i\,T/N\rfloor/T`
sgm_uniform  :math:`(1 - i/N)\,(T-1)`                                               the first N of N+1 linspace ones
===========  =====================================================================  ===================================

These sigmas are visited as they are, or their first and last are joined by a curve of `kdpm2.curves`, which is all an
EDM model has. A run ends at 0, or at a last sigma. The step before the last may be left out: DPM2 a fares better
without at few steps.

The network is conditioned on float32 timesteps, so a spaced timestep is rounded to float32 before its sigma is read.

References:
    | linspace, leading, trailing: Table 2 of Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al.,
      2023), https://arxiv.org/abs/2305.08891
    | simple, sgm_uniform: https://github.com/comfyanonymous/ComfyUI
    | The shift of flows: Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024),
      equation 23, https://arxiv.org/abs/2403.03206; its end: https://github.com/Lightricks/LTX-Video
    | The sigma left out: https://github.com/AUTOMATIC1111/stable-diffusion-webui/pull/5797
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.curves import ALIGN_YOUR_STEPS, SIGMA_CURVES, align_your_steps
from kdpm2.noise_schedule import EDM, NoiseSchedule, RectifiedFlow, VariancePreserving, shifted

Floats = NDArray[np.float64]

FINAL_SIGMAS = ("zero", "sigma_min")
# A denoiser without a schedule of its own has no levels to space.
_TRAINED = (VariancePreserving, RectifiedFlow, EDM)
CURVE_NAMES = (*SIGMA_CURVES, *(f"ays_{model}" for model in ALIGN_YOUR_STEPS))
# diffusers conditions the network on whole timesteps with these curves.
_ROUNDED = ("karras", "lu")
_TAKE_RHO = ("karras", "polyexponential")


class Steps(NamedTuple):
    """Where N steps start and end: `sigmas` (N+1,), the last of them 0 or the end, and the N starts' `timesteps`."""

    sigmas: Floats
    timesteps: Floats

    def timestep(self, schedule: NoiseSchedule, sigma: Floats) -> Floats:
        """What the network is told at noise levels between the starts: the model's timestep."""
        return schedule.timestep(sigma)


class ToldSteps(Steps):
    """Steps whose timesteps are the caller's own, and not the model's for their sigmas."""

    def timestep(self, schedule: NoiseSchedule, sigma: Floats) -> Floats:
        """The model's timestep, moved by as much as the caller moved those of the starts around it."""
        starts = self.sigmas[: len(self.timesteps)]
        moved = self.timesteps - schedule.timestep(starts)
        return schedule.timestep(sigma) + np.interp(sigma, starts[::-1], moved[::-1])


def _linspace(count: int, trained: int, offset: int) -> Floats:
    if count == 1:
        return np.array([trained - 1.0])
    return np.linspace(0, trained - 1, count, dtype=np.float32)[::-1].astype(np.float64)


def _leading(count: int, trained: int, offset: int) -> Floats:
    ratio = trained // count
    # The offset may not push the first timestep past the last trained one, as it would with as many steps as timesteps.
    offset = min(offset, trained - 1 - (count - 1) * ratio)
    return np.arange(count - 1, -1, -1, dtype=np.float64) * ratio + offset


def _trailing(count: int, trained: int, offset: int) -> Floats:
    # The exact count matters: rounding of trained / count makes a half-open range one entry too long now and then.
    return np.arange(trained, 0, -trained / count)[:count].round() - 1


def _simple(count: int, trained: int, offset: int) -> Floats:
    return np.asarray(trained - 1.0 - np.arange(count) * trained // count, dtype=np.float64)


def _sgm_uniform(count: int, trained: int, offset: int) -> Floats:
    return _linspace(count + 1, trained, offset)[:-1]


TIMESTEP_SPACINGS: dict[str, Callable[[int, int, int], Floats]] = {
    "linspace": _linspace,
    "leading": _leading,
    "trailing": _trailing,
    "simple": _simple,
    "sgm_uniform": _sgm_uniform,
}
_AT_MOST_TRAINED = ("trailing", "simple")

# The sigmas of a flow before the shift, from (count, trained, smallest).
_FLOW_SPACINGS: dict[str, Callable[[int, int, float], Floats]] = {
    "linspace": lambda count, trained, smallest: np.linspace(1, smallest, count),
    "trailing": lambda count, trained, smallest: 1 - np.arange(count) / count,
    "simple": lambda count, trained, smallest: 1 - np.arange(count) * trained // count / trained,
    "sgm_uniform": lambda count, trained, smallest: np.linspace(1, smallest, count + 1)[:-1],
}


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
) -> Steps:
    """The noise levels and timesteps at which the steps of a run start.

    Args:
        schedule: What the model was trained on.
        num_inference_steps: N, at least 1; at most the trained timesteps for "leading" and, without a curve, for
            "trailing" and "simple".
        timestep_spacing: "linspace", "leading", "trailing", "simple" or "sgm_uniform". An EDM model needs none.
        steps_offset: Added to every "leading" timestep, as far as the trained range allows; at least 0.
        sigma_curve: One of `CURVE_NAMES`, from the first spaced sigma to the last; None keeps them
            all. An EDM model's is "karras" if None.
        num_train_timesteps: T, if the run is to use only the first T trained timesteps.
        sigma_min: The curve's last sigma, if it is not to be that of the spacing; positive.
        sigma_max: Its first; above `sigma_min`.
        rho: The curve's exponent, for "karras" (7 if None) and "polyexponential" (1 if None); positive.
        final_sigmas_type: "zero", or "sigma_min" for a run that ends at `sigma_min`, or at the schedule's smallest
            sigma. A spacing that visits that sigma itself then spaces one more.
        discard_next_to_last_sigma: Space N+1 steps, and leave the last of them out.
        shift: Of a flow's sigmas towards noise; the trained shift if None.
        shift_terminal: Stretch a flow's shifted sigmas so that the last is this, in (0, 1).

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or contradicts another.
    """
    _check_family(_TRAINED, schedule, shift, shift_terminal)
    wanted = _check.count("num_inference_steps", num_inference_steps)
    _check.choice("final_sigmas_type", final_sigmas_type, FINAL_SIGMAS)
    if sigma_curve is not None:
        _check.choice("sigma_curve", sigma_curve, CURVE_NAMES)
    elif isinstance(schedule, EDM):
        sigma_curve = "karras"
    count = wanted + _check.flag("discard_next_to_last_sigma", discard_next_to_last_sigma)
    final = 0.0
    if final_sigmas_type == "sigma_min":
        final = schedule.sigma_min if sigma_min is None else _check.positive("sigma_min", sigma_min)

    def starts(count: int) -> tuple[Floats, Floats]:
        """Sigmas and timesteps, `count` each."""
        if isinstance(schedule, VariancePreserving):
            offset = (timestep_spacing, steps_offset, num_train_timesteps)
            timesteps = _spaced(len(schedule), count, *offset, bounded=sigma_curve is None)
            sigmas = schedule.spaced_sigma(timesteps)
            if schedule.continuous:
                timesteps = schedule.timestep(sigmas)
        else:
            if num_train_timesteps is not None:
                raise ValueError(
                    f"num_train_timesteps must be None for this model, got {_check.shown(num_train_timesteps)}"
                )
            _check.integer("steps_offset", steps_offset, 0, _check.MOST_STEPS)
            sigmas = _spaced_levels(schedule, count, timestep_spacing, sigma_curve is None, shift, shift_terminal)
            timesteps = schedule.timestep(sigmas)
        if sigma_curve is not None:
            sigmas = _curve(schedule, sigma_curve, sigmas, count, sigma_min, sigma_max, rho)
            timesteps = schedule.timestep(sigmas)
            if sigma_curve in _ROUNDED and isinstance(schedule, VariancePreserving) and not schedule.continuous:
                timesteps = timesteps.round()
        elif not rho is sigma_max is sigma_min is None:
            raise ValueError(
                "sigma_min, sigma_max and rho must be None without a curve of sigmas (use_karras_sigmas, ...), whose "
                f"ends and exponent they are, got {', '.join(map(_check.shown, (sigma_min, sigma_max, rho)))}"
            )
        return sigmas, timesteps

    sigmas, timesteps = starts(count)
    if sigma_min is None:  # a flow's even sigmas may go lower, being shifted once more
        final = min(final, sigmas[-1])
    if _is_at(sigmas[-1:], final):  # the end is spaced too, and no step starts there
        sigmas, timesteps = (values[:-1] for values in starts(count + 1))
    return _ending(sigmas[:wanted], timesteps[:wanted], final)


def _check_family(
    families: tuple[type[NoiseSchedule], ...], schedule: Any, shift: object, shift_terminal: object
) -> None:
    """The schedule is one of these, and no flow's options are given for a model that is none."""
    if not isinstance(schedule, families):
        known = " or ".join(family.__name__ for family in families)
        raise TypeError(f"schedule must be a {known} of kdpm2.noise_schedule, got {_check.shown(schedule)}")
    if not schedule.flow and not shift is shift_terminal is None:
        raise ValueError(
            "shift and shift_terminal must be None for a model that is no flow, "
            f"got {_check.shown(shift)} and {_check.shown(shift_terminal)}"
        )


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
) -> Steps:
    """Steps that start where the caller says.

    Args:
        schedule: What the model was trained on.
        sigmas: Positive, strictly decreasing, with or without the final 0. Those of a flow are then shifted, and their
            ends given to the curve if there is one, as pipelines expect that pass them.
        timesteps: Instead of sigmas: what the network is conditioned on, strictly decreasing. Taken as they are. With
            sigmas, as many as they are: what the network is told where each step starts.
        sigma_curve: For the sigmas of a flow, as in `steps`.
        sigma_min: As in `steps`, for such a curve.
        sigma_max: Likewise.
        rho: Likewise.
        final_sigmas_type: "zero", or "sigma_min" for a run that ends at the last sigma given.
        shift: As in `steps`.
        shift_terminal: As in `steps`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If neither `sigmas` nor `timesteps` is given, or their values cannot be used.
    """
    _check_family((NoiseSchedule,), schedule, shift, shift_terminal)
    _check.choice("final_sigmas_type", final_sigmas_type, FINAL_SIGMAS)
    if sigma_curve is not None:
        _check.choice("sigma_curve", sigma_curve, CURVE_NAMES)
    if sigmas is timesteps is None:
        raise ValueError("sigmas or timesteps must be given, got neither")
    told = None if sigmas is None or timesteps is None else _check.numbers("timesteps", timesteps)
    if sigmas is not None:
        name, levels = "sigmas", _decreasing("sigmas", sigmas, 0.0, schedule.largest)
    else:
        name, low, high = "timesteps", *_timestep_range(schedule)
        given = _decreasing("timesteps", timesteps, low, high)
        levels = schedule.sigma(given.astype(np.float32))
    ends_at_zero = levels[-1] == 0
    levels = levels[:-1] if ends_at_zero else levels
    if not len(levels):
        raise ValueError(f"{name} must hold at least one noise level above 0, got none")
    if levels[-1] < _check.SMALLEST:
        raise ValueError(f"{name} must give noise levels of at least {_check.SMALLEST:g}, or 0, got {levels[-1]:g}")
    if schedule.flow and sigmas is not None:
        levels = _warped(schedule, levels, shift, shift_terminal)
        if sigma_curve is not None:
            levels = _curve(schedule, sigma_curve, levels, len(levels), sigma_min, sigma_max, rho)
    if told is not None:
        if len(told) not in (len(levels), len(levels) + int(ends_at_zero)):
            raise ValueError(f"timesteps must be as many as sigmas, {len(levels)} above 0, got {len(told)}")
        if not np.isfinite(told).all():
            raise ValueError(f"timesteps must all be finite numbers, got {_check.shown(told.tolist())}")
        conditioned_on = told[: len(levels)]
    else:
        conditioned_on = schedule.timestep(levels) if sigmas is not None else given[: len(levels)]
    final = levels[-1] if final_sigmas_type == "sigma_min" and not ends_at_zero else 0.0
    steps = _ending(levels, conditioned_on, final)
    return steps if told is None else ToldSteps(*steps)


def given(schedule: NoiseSchedule, sigmas: Sequence[float] | NDArray[Any], may_rise: bool = False) -> Steps:
    """Steps between the sigmas that a caller gives, taken as they are: not shifted, and on no curve.

    Args:
        schedule: What the model was trained on.
        sigmas: Shape (N+1,): where the steps start, and the end, which may be 0. One sigma is no step.
        may_rise: Whether they may rise, as they may where nothing is random.

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


def _spaced(
    trained: int, count: int, timestep_spacing: str, steps_offset: int, limit: int | None, bounded: bool
) -> Floats:
    """The timesteps of a variance-preserving model; `bounded` if they are visited as they are."""
    trained = _check.integer("num_train_timesteps", trained if limit is None else limit, 1, trained)
    spacing = TIMESTEP_SPACINGS[_check.choice("timestep_spacing", timestep_spacing, TIMESTEP_SPACINGS)]
    if count > trained and (timestep_spacing == "leading" or (bounded and timestep_spacing in _AT_MOST_TRAINED)):
        raise ValueError(
            f"num_inference_steps must be at most num_train_timesteps={trained} with "
            f"timestep_spacing={timestep_spacing!r}, got {count}"
        )
    return spacing(count, trained, _check.integer("steps_offset", steps_offset, 0, trained))


def _spaced_levels(
    schedule: NoiseSchedule,
    count: int,
    timestep_spacing: str,
    bounded: bool,
    shift: float | None,
    shift_terminal: float | None,
) -> Floats:
    """The sigmas of a flow; for an EDM model, which has no spacing, the ends of its curve."""
    if not isinstance(schedule, RectifiedFlow):
        _check.choice("timestep_spacing", timestep_spacing, TIMESTEP_SPACINGS)
        return np.array([schedule.sigma_max, schedule.sigma_min])
    trained = schedule.num_train_timesteps
    spacing = _FLOW_SPACINGS[_check.choice("timestep_spacing", timestep_spacing, _FLOW_SPACINGS)]
    if bounded and timestep_spacing == "simple" and count > trained:
        raise ValueError(
            f"num_inference_steps must be at most num_train_timesteps={trained} with "
            f"timestep_spacing='simple', got {count}"
        )
    return _warped(schedule, spacing(count, trained, schedule.sigma_min), shift, shift_terminal)


def _warped(schedule: NoiseSchedule, sigmas: Floats, shift: float | None, shift_terminal: float | None) -> Floats:
    """A flow's sigmas, shifted, and stretched to their end."""
    trained_shift = schedule.shift if isinstance(schedule, RectifiedFlow) else 1.0
    sigmas = shifted(sigmas, trained_shift if shift is None else _check.positive("shift", shift))
    if shift_terminal is None:
        return sigmas
    terminal = _check.number("shift_terminal", shift_terminal, 0, 1)
    if not 0 < terminal < sigmas[0]:
        raise ValueError(f"shift_terminal must be above 0 and below the first sigma {sigmas[0]:g}, got {terminal:g}")
    if len(sigmas) == 1:
        return sigmas  # the first sigma, and so nothing to stretch
    return np.asarray(1 - (1 - sigmas) * (1 - terminal) / (1 - sigmas[-1]))


def _curve(
    schedule: NoiseSchedule,
    name: str,
    spaced: Floats,
    count: int,
    sigma_min: float | None,
    sigma_max: float | None,
    rho: float | None,
) -> Floats:
    if name.startswith("ays_"):
        if not (sigma_min is sigma_max is rho is None) or schedule.flow:
            raise ValueError(
                "ays_sigmas must be None for a flow model, and with sigma_min, sigma_max or rho, "
                f"got {name.removeprefix('ays_')!r}"
            )
        return align_your_steps(name.removeprefix("ays_"), count)
    top = spaced[0] if sigma_max is None else _check.positive("sigma_max", sigma_max)
    bottom = spaced[-1] if sigma_min is None else _check.positive("sigma_min", sigma_min)
    if bottom > top or (bottom == top and not sigma_min is sigma_max is None):
        raise ValueError(f"sigma_min must be below sigma_max={top:g}, got {bottom:g}")
    if schedule.flow and not top <= 1:
        raise ValueError(f"sigma_max must be at most 1 for a flow model, got {top:g}")
    options: dict[str, Any] = {}
    if rho is not None:
        if name not in _TAKE_RHO:
            raise ValueError(f"rho must be None for {name} sigmas, got {_check.shown(rho)}")
        options["rho"] = rho
    if name == "lu":
        options["flow"] = schedule.flow
    return SIGMA_CURVES[name](top, bottom, count, **options)


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


def _timestep_range(schedule: NoiseSchedule) -> tuple[float, float]:
    if isinstance(schedule, VariancePreserving) and not schedule.continuous:
        return 0.0, len(schedule) - 1.0
    if schedule.flow:
        return 0.0, float(schedule.timestep(1.0))
    return float(schedule.timestep(_check.SMALLEST)), float(schedule.timestep(_check.LARGEST))


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
