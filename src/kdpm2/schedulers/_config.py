"""What a configuration says: of the model it was made for, of the sigmas to visit, and in another scheduler's words.

The schedulers of flow-matching and EDM models have configurations of their own. `translated` writes them in the words
of ours, so that `from_config` takes them, and a pipeline's scheduler is swapped by one line there too.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np

from kdpm2 import _check, curves, noise_schedule, spacing
from kdpm2.noise_schedule import EDM, NoiseSchedule, RectifiedFlow

TIME_SHIFT_TYPES = ("exponential", "linear")
TIMESTEP_TYPES = ("discrete", "continuous")

_CURVE_FLAGS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
    "use_polyexponential_sigmas": "polyexponential",
    "use_lu_lambdas": "lu",
}
_LONGEST_SEQUENCE = 10**9
_EDM_CURVES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}


def is_flow(config: Any) -> bool:
    """Whether the configuration is a flow's: it says so, or the model predicts what only a flow's does."""
    predicted = config.prediction_type
    flow = isinstance(predicted, str) and predicted == "flow_prediction"
    return _check.flag("use_flow_sigmas", config.use_flow_sigmas) or flow


def trained(config: Any) -> NoiseSchedule:
    """What the model was trained on: flow or EDM if the configuration says so, else betas.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is out of range, or contradicts another.
    """
    _check.choice("timestep_type", config.timestep_type, TIMESTEP_TYPES)
    _check.choice("time_shift_type", config.time_shift_type, TIME_SHIFT_TYPES)
    _check.choice("final_sigmas_type", config.final_sigmas_type, spacing.FINAL_SIGMAS)
    flow = is_flow(config)
    dynamic = _check.flag("use_dynamic_shifting", config.use_dynamic_shifting)
    if flow and config.sigma_data is not None:
        raise ValueError(f"sigma_data must be None for a flow model, got {_check.shown(config.sigma_data)}")
    if config.trained_betas is not None and (flow or config.sigma_data is not None):
        raise ValueError(
            "trained_betas must be None for a flow or an EDM model, which has no betas, "
            f"got {_check.shown(config.trained_betas)}"
        )
    if flow or config.sigma_data is not None or config.trained_betas is not None:
        _check_unused_betas(config)
    _check_for_pipelines(config)
    if flow:
        shift = _check.positive("flow_shift", config.flow_shift)
        return RectifiedFlow(config.num_train_timesteps, 1.0 if dynamic else shift)
    if dynamic or config.shift_terminal is not None or not _is_one(config.flow_shift):
        raise ValueError(
            "flow_shift, use_dynamic_shifting and shift_terminal must be 1, False and None for a model that is no "
            f"flow, got {_check.shown(config.flow_shift)}, {dynamic} and {_check.shown(config.shift_terminal)}; "
            "prediction_type='flow_prediction' makes it one"
        )
    if config.sigma_data is not None:
        _check.count("num_train_timesteps", config.num_train_timesteps)
        low = EDM.sigma_min if config.sigma_min is None else config.sigma_min
        high = EDM.sigma_max if config.sigma_max is None else config.sigma_max
        return EDM(low, high, config.sigma_data)
    return noise_schedule.discrete(
        config.num_train_timesteps,
        config.beta_start,
        config.beta_end,
        config.beta_schedule,
        config.trained_betas,
        config.rescale_betas_zero_snr,
        # diffusers has continuous timesteps for v alone.
        continuous=config.timestep_type == "continuous" and config.prediction_type == "v_prediction",
    )


def _check_unused_betas(config: Any) -> None:
    """Options that play no part for this model are to have their types all the same; any number will do."""
    _check.finite("beta_start", config.beta_start)
    _check.finite("beta_end", config.beta_end)
    if not isinstance(config.beta_schedule, str):
        _check.choice("beta_schedule", config.beta_schedule, noise_schedule.BETA_SCHEDULES)
    _check.flag("rescale_betas_zero_snr", config.rescale_betas_zero_snr)


def _check_for_pipelines(config: Any) -> None:
    """Options from which pipelines compute `mu`; None stands in some models' configurations."""
    for name in ("base_shift", "max_shift"):
        if config[name] is not None:
            _check.finite(name, config[name])
    for name in ("base_image_seq_len", "max_image_seq_len"):
        if config[name] is not None:
            _check.integer(name, config[name], 1, _LONGEST_SEQUENCE)
    if config.base_image_seq_len is not None and config.base_image_seq_len == config.max_image_seq_len:
        raise ValueError(
            f"max_image_seq_len must differ from base_image_seq_len, got {config.max_image_seq_len} for both"
        )


def _is_one(value: object) -> bool:
    return isinstance(value, Real) and value == 1


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """What NumPy, torch and other kinds of numbers in a configuration are to a JSON file."""
    changed: dict[str, Any] = {}
    for name, value in config.items():
        is_array = isinstance(value, np.ndarray) and value.ndim > 0  # which diffusers can write
        if hasattr(value, "tolist") and not is_array:
            changed[name] = value.tolist()
        elif isinstance(value, (Fraction, Decimal)):
            changed[name] = float(value)
    return changed


def check_names(config: Mapping[Any, Any]) -> None:
    """A configuration's options have names, and what diffusers notes in it has its types.

    Raises:
        TypeError: If not.
    """
    wrong = [name for name in config if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"config must have texts for the names of options, got {_check.shown(wrong[0])}")
    defaults = config.get("_use_default_values", [])
    if not isinstance(defaults, (list, tuple, set, frozenset)):
        raise TypeError(f"_use_default_values must be a list of options' names, got {_check.shown(defaults)}")


def spacing_options(config: Any) -> dict[str, Any]:
    """The keyword arguments of `kdpm2.spacing.steps`, but for the number of steps and the shift of the run.

    Raises:
        TypeError: If a flag is none.
        ValueError: If more than one curve is asked for.
    """
    edm = config.sigma_data is not None
    _check.flag("discard_next_to_last_sigma", config.discard_next_to_last_sigma)
    return {
        "timestep_spacing": config.timestep_spacing,
        "steps_offset": config.steps_offset,
        "sigma_curve": _sigma_curve(config),
        # An EDM model's own range holds its ends.
        "sigma_min": None if edm else config.sigma_min,
        "sigma_max": None if edm else config.sigma_max,
        "rho": config.rho,
        "final_sigmas_type": config.final_sigmas_type,
        "discard_next_to_last_sigma": config.discard_next_to_last_sigma,
        "shift_terminal": config.shift_terminal,
    }


def shift(config: Any, mu: float | None) -> float | None:
    """The shift of a flow's sigmas for a run whose pipeline passes `mu`; None for that of the configuration.

    Raises:
        TypeError: If `mu` is no number.
        ValueError: If it is missing, or gives no shift.
    """
    if not config.use_dynamic_shifting:
        if mu is not None:  # some pipelines pass it to every scheduler
            _check.finite("mu", mu)
        return None
    if mu is None:
        raise ValueError("mu must be a number with use_dynamic_shifting=True, got None")
    mu = _check.finite("mu", mu)
    linear = _check.choice("time_shift_type", config.time_shift_type, TIME_SHIFT_TYPES) == "linear"
    try:
        return _check.positive("mu", mu) if linear else _check.positive("exp(mu)", math.exp(mu))
    except OverflowError:
        raise ValueError(f"mu must be small enough for exp(mu) to be finite, got {mu:g}") from None


def _sigma_curve(config: Any) -> str | None:
    chosen = {flag: _CURVE_FLAGS[flag] for flag in _CURVE_FLAGS if config[flag] is not None}
    chosen = {flag: curve for flag, curve in chosen.items() if _check.flag(flag, config[flag])}
    if config.ays_sigmas is not None:
        model = _check.choice("ays_sigmas", config.ays_sigmas, curves.ALIGN_YOUR_STEPS)
        chosen["ays_sigmas"] = f"ays_{model}"
    if len(chosen) > 1:
        known = ", ".join([*_CURVE_FLAGS, "ays_sigmas"])
        raise ValueError(f"only one of {known} may be set, got {', '.join(chosen)}")
    return next(iter(chosen.values()), None)


def translated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of another scheduler for a flow or an EDM model, in the words of ours; others as they are.

    Raises:
        ValueError: If it asks for what these samplers cannot do.
    """
    words = dict(config)
    if "discard_next_to_last_sigma" in words:  # ours
        words.pop("shift", None)  # follows from flow_shift, which may be about to change
    elif "beta_start" in words:
        words |= _of_betas(words)
    elif "shift" in words or {"eta", "s_noise"} <= words.keys():
        words = _flow(words)
    elif "sigma_schedule" in words and ("solver_order" not in words or "algorithm_type" in words):
        words = _edm(words)
    elif "sigma_data" in words or "sigma_max" in words:
        name = words.get("_class_name", "one with sigma_data or sigma_max and no betas")
        raise ValueError(f"config must be of a scheduler whose models these samplers know, got that of {name}")
    return words


def _of_betas(words: dict[str, Any]) -> dict[str, Any]:
    """What is said differently by a scheduler that has betas."""
    changed: dict[str, Any] = {}
    curved = any(words.get(flag) is True for flag in _CURVE_FLAGS)
    if not curved:  # the ends of a curve, which diffusers' schedulers do not look at without one
        changed |= {name: None for name in ("sigma_min", "sigma_max") if name in words}
        if words.get("use_flow_sigmas") is True:
            # The multistep solvers of diffusers space a flow's sigmas in one way, whatever their timestep_spacing says.
            changed["timestep_spacing"] = "trailing"
            left = [name for name in words.get("_use_default_values", []) if name != "timestep_spacing"]
            changed["_use_default_values"] = left
    return changed


def _flow(words: dict[str, Any]) -> dict[str, Any]:
    """Those of FlowMatchEuler and FlowMatchHeun, and of LTX's ancestral scheduler, which has no shift."""
    inverted = words.get("invert_sigmas")
    if inverted is not None and _check.flag("invert_sigmas", inverted):
        raise ValueError("invert_sigmas must be False: these samplers go from noise to data, got True")
    terminal = words.get("shift_terminal")
    # Not use_flow_sigmas: where a configuration has that, Flux's pipelines keep their sigmas to themselves, and leave
    # the spacing to a scheduler that cannot know which one they mean.
    return {
        # What was left at its default over there has another default here.
        **{name: value for name, value in words.items() if name not in ("_use_default_values", "shift")},
        "_class_name": words.get("_class_name", "FlowMatchEulerDiscreteScheduler"),
        "prediction_type": "flow_prediction",
        "flow_shift": words.get("shift", 1.0),
        "shift_terminal": None if isinstance(terminal, Real) and terminal == 0 else terminal,
        "timestep_spacing": "linspace",
        "sigma_data": None,
        "sigma_min": None,
        "sigma_max": None,
    }


def _edm(words: dict[str, Any]) -> dict[str, Any]:
    curve = _check.choice("sigma_schedule", words.get("sigma_schedule", "karras"), _EDM_CURVES)
    return {
        **{name: value for name, value in words.items() if name != "_use_default_values"},
        "_class_name": words.get("_class_name", "EDMEulerScheduler"),
        _EDM_CURVES[curve]: True,
        "rho": words.get("rho") if curve == "karras" else None,
    }
