"""What a configuration says: of the model it was made for, of the sigmas to visit, and in another scheduler's words.

The schedulers of flow-matching and EDM models have configurations of their own. `translated` writes them in the words
of ours, so that `from_config` takes them, and a pipeline's scheduler is swapped by one line there too.
"""

import math
from collections.abc import Mapping
from typing import Any

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
_EDM_CURVES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}


def is_flow(config: Any) -> bool:
    """Whether the configuration is a flow's: it says so, or the model predicts what only a flow's does."""
    return _check.flag("use_flow_sigmas", config.use_flow_sigmas) or config.prediction_type == "flow_prediction"


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
        raise ValueError(f"sigma_data must be None for a flow model, got {config.sigma_data}")
    if flow:
        return RectifiedFlow(config.num_train_timesteps, 1.0 if dynamic else config.flow_shift)
    if dynamic or config.shift_terminal is not None or config.flow_shift != 1:
        raise ValueError(
            "flow_shift, use_dynamic_shifting and shift_terminal must be 1, False and None for a model that is no "
            f"flow, got {config.flow_shift}, {dynamic} and {config.shift_terminal}; "
            "prediction_type='flow_prediction' makes it one"
        )
    if config.sigma_data is not None:
        _check.integer("num_train_timesteps", config.num_train_timesteps, 1)
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


def spacing_options(config: Any) -> dict[str, Any]:
    """The keyword arguments of `kdpm2.spacing.steps`, but for the number of steps and the shift of the run.

    Raises:
        TypeError: If a flag is none.
        ValueError: If more than one curve is asked for.
    """
    edm = config.sigma_data is not None
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
        return None  # some pipelines pass mu to every scheduler
    if mu is None:
        raise ValueError("mu must be a number with use_dynamic_shifting=True, got None")
    mu = _check.number("mu", mu, -math.inf, math.inf)
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
    curved = any(words.get(flag) for flag in _CURVE_FLAGS)
    if not curved:  # the ends of a curve, which diffusers' schedulers do not look at without one
        changed |= {name: None for name in ("sigma_min", "sigma_max") if name in words}
        if words.get("use_flow_sigmas"):
            # The multistep solvers of diffusers space a flow's sigmas in one way, whatever their timestep_spacing says.
            changed["timestep_spacing"] = "trailing"
            left = [name for name in words.get("_use_default_values", []) if name != "timestep_spacing"]
            changed["_use_default_values"] = left
    return changed


def _flow(words: dict[str, Any]) -> dict[str, Any]:
    """Those of FlowMatchEuler and FlowMatchHeun, and of LTX's ancestral scheduler, which has no shift."""
    if words.get("invert_sigmas"):
        raise ValueError("invert_sigmas must be False: these samplers go from noise to data, got True")
    # Not use_flow_sigmas: where a configuration has that, Flux's pipelines keep their sigmas to themselves, and leave
    # the spacing to a scheduler that cannot know which one they mean.
    return {
        # What was left at its default over there has another default here.
        **{name: value for name, value in words.items() if name not in ("_use_default_values", "shift")},
        "_class_name": words.get("_class_name", "FlowMatchEulerDiscreteScheduler"),
        "prediction_type": "flow_prediction",
        "flow_shift": words.get("shift", 1.0),
        "shift_terminal": words.get("shift_terminal") or None,
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
