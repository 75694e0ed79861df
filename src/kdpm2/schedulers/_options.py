"""What a configuration says about the model, about the sigmas to visit, and about the shift of a flow.

Every function takes the options of a scheduler as attributes, and raises TypeError for a value of the wrong type,
ValueError for one that is out of range or contradicts another.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np

from kdpm2 import _check, curves, noise_schedule, restart, spacing
from kdpm2.noise_schedule import EDM, NoiseSchedule, RectifiedFlow

TIME_SHIFT_TYPES = ("exponential", "linear")
TIMESTEP_TYPES = ("discrete", "continuous")
SAMPLE_SPACES = ("variance_exploding", "variance_preserving")

OF_THE_MODEL = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
    "snr_shift_scale",
    "timestep_type",
    "use_flow_sigmas",
    "flow_shift",
    "use_dynamic_shifting",
    "time_shift_type",
    "shift_terminal",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "sigma_data",
)
"""The options that say what the model was trained on; the others say how it is sampled."""

_LONGEST_SEQUENCE = 10**9


def is_flow(options: Any) -> bool:
    """Whether the model is a flow: the options say so, or it predicts what only a flow does."""
    predicted = options.prediction_type
    flow = isinstance(predicted, str) and predicted == "flow_prediction"
    return _check.flag("use_flow_sigmas", options.use_flow_sigmas) or flow


def trained(options: Any) -> NoiseSchedule:
    """What the model was trained on: flow or EDM if the options say so, else betas."""
    _check.choice("timestep_type", options.timestep_type, TIMESTEP_TYPES)
    _check.choice("time_shift_type", options.time_shift_type, TIME_SHIFT_TYPES)
    _check.choice("final_sigmas_type", options.final_sigmas_type, spacing.FINAL_SIGMAS)
    flow = is_flow(options)
    dynamic = _check.flag("use_dynamic_shifting", options.use_dynamic_shifting)
    if flow and options.sigma_data is not None:
        raise ValueError(f"sigma_data must be None for a flow model, got {_check.shown(options.sigma_data)}")
    if options.trained_betas is not None and (flow or options.sigma_data is not None):
        raise ValueError(
            "trained_betas must be None for a flow or an EDM model, which has no betas, "
            f"got {_check.shown(options.trained_betas)}"
        )
    if flow or options.sigma_data is not None or options.trained_betas is not None:
        _check_unused_betas(options)
    _check_for_pipelines(options)
    if flow:
        shift = _check.positive("flow_shift", options.flow_shift)
        return RectifiedFlow(options.num_train_timesteps, 1.0 if dynamic else shift)
    if dynamic or options.shift_terminal is not None or not _is_one(options.flow_shift):
        raise ValueError(
            "flow_shift, use_dynamic_shifting and shift_terminal must be 1, False and None for a model that is no "
            f"flow, got {_check.shown(options.flow_shift)}, {dynamic} and {_check.shown(options.shift_terminal)}; "
            "prediction_type='flow_prediction' makes it one"
        )
    if options.sigma_data is not None:
        _check.count("num_train_timesteps", options.num_train_timesteps)
        low = EDM.sigma_min if options.sigma_min is None else options.sigma_min
        high = EDM.sigma_max if options.sigma_max is None else options.sigma_max
        return EDM(low, high, options.sigma_data)
    return noise_schedule.discrete(
        options.num_train_timesteps,
        options.beta_start,
        options.beta_end,
        options.beta_schedule,
        options.trained_betas,
        options.rescale_betas_zero_snr,
        # diffusers has continuous timesteps for v alone.
        continuous=options.timestep_type == "continuous" and options.prediction_type == "v_prediction",
        snr_shift_scale=options.snr_shift_scale,
    )


def key_of_the_model(options: Any) -> tuple[Any, ...]:
    """What `trained` depends on. For options with equal keys it returns the same."""

    def by_value(value: Any) -> Any:
        return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

    names = (*OF_THE_MODEL, "sigma_min", "sigma_max", "final_sigmas_type")
    return tuple(by_value(getattr(options, name)) for name in names)


def _check_unused_betas(options: Any) -> None:
    """Check the types of options that have no effect for this model. Any number is accepted."""
    _check.finite("beta_start", options.beta_start)
    _check.finite("beta_end", options.beta_end)
    if not isinstance(options.beta_schedule, str):
        _check.choice("beta_schedule", options.beta_schedule, noise_schedule.BETA_SCHEDULES)
    _check.flag("rescale_betas_zero_snr", options.rescale_betas_zero_snr)


def _check_for_pipelines(options: Any) -> None:
    """Check the options from which pipelines compute `mu`. In some models' configurations they are None."""
    for name in ("base_shift", "max_shift"):
        if getattr(options, name) is not None:
            _check.finite(name, getattr(options, name))
    for name in ("base_image_seq_len", "max_image_seq_len"):
        if getattr(options, name) is not None:
            _check.integer(name, getattr(options, name), 1, _LONGEST_SEQUENCE)
    if options.base_image_seq_len is not None and options.base_image_seq_len == options.max_image_seq_len:
        raise ValueError(
            f"max_image_seq_len must differ from base_image_seq_len, got {options.max_image_seq_len} for both"
        )


def _is_one(value: object) -> bool:
    return isinstance(value, Real) and value == 1


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of NumPy, torch and other kinds, as a JSON file can hold them."""
    changed: dict[str, Any] = {}
    for name, value in config.items():
        is_array = isinstance(value, np.ndarray) and value.ndim > 0  # which diffusers can write
        if hasattr(value, "tolist") and not is_array:
            changed[name] = value.tolist()
        elif isinstance(value, (Fraction, Decimal)):
            changed[name] = float(value)
    return changed


def spacing_options(options: Any) -> dict[str, Any]:
    """The keyword arguments of `kdpm2.spacing.steps`, except the number of steps and the shift of the run."""
    _check.flag("discard_next_to_last_sigma", options.discard_next_to_last_sigma)
    _check.flag("invert", getattr(options, "invert", False))
    _check.flag("keep_estimate", options.keep_estimate)
    restart.checked("restarts", options.restarts)
    chosen = _levels_chosen(options)
    joins = chosen["sigma_curve"] is not None and curves.SIGMA_CURVES[chosen["sigma_curve"]].has_ends
    ends = (options.sigma_min, options.sigma_max)
    if options.sigma_data is not None:  # an EDM model's own range holds them
        ends = (None, None)
    elif joins and ends == (None, None):
        ends = options.ends_of_curve
    return {
        "timestep_spacing": options.timestep_spacing,
        "steps_offset": options.steps_offset,
        **chosen,
        "sigma_min": ends[0],
        "sigma_max": ends[1],
        "rho": options.rho,
        "final_sigmas_type": options.final_sigmas_type,
        "discard_next_to_last_sigma": options.discard_next_to_last_sigma,
        "shift_terminal": options.shift_terminal,
    }


def shift(options: Any, mu: float | None) -> float | None:
    """The shift of a flow's sigmas if the pipeline passes `mu`; None for the shift of the options."""
    if not options.use_dynamic_shifting:
        if mu is not None:  # some pipelines pass it to every scheduler
            _check.finite("mu", mu)
        return None
    if mu is None:
        raise ValueError("mu must be a number with use_dynamic_shifting=True, got None")
    mu = _check.finite("mu", mu)
    linear = _check.choice("time_shift_type", options.time_shift_type, TIME_SHIFT_TYPES) == "linear"
    try:
        return _check.positive("mu", mu) if linear else _check.positive("exp(mu)", math.exp(mu))
    except OverflowError:
        raise ValueError(f"mu must be small enough for exp(mu) to be finite, got {mu:g}") from None


def _levels_chosen(options: Any) -> dict[str, Any]:
    """The one curve, or the table, that the options ask for, each in its way."""
    chosen: dict[str, str | None] = {
        flag: name
        for flag, name in curves.FLAGS.items()
        if getattr(options, flag) is not None and _check.flag(flag, getattr(options, flag))
    }
    if options.ays_sigmas is not None:
        chosen["ays_sigmas"] = f"ays_{_check.choice('ays_sigmas', options.ays_sigmas, curves.ALIGN_YOUR_STEPS)}"
    if options.sigma_curve is not None:
        chosen["sigma_curve"] = _check.choice("sigma_curve", options.sigma_curve, curves.SIGMA_CURVES)
    if options.tuned_sigmas is not None:
        chosen["tuned_sigmas"] = None
    if len(chosen) > 1:
        known = ", ".join([*curves.FLAGS, *curves.BY_VALUE])
        raise ValueError(f"only one of {known} may be set, got {', '.join(chosen)}")
    return {"sigma_curve": next(iter(chosen.values()), None), "tuned_sigmas": options.tuned_sigmas}
