"""The configuration of another scheduler, in the words of ours: a pipeline's scheduler is then swapped by one line.

A configuration says two things. The first is what the *model* was trained on: betas, shift, what it predicts. This
holds for every solver, and so do the defaults of the class that the model came with. The second is how the other
*solver* was set up: where it ended, whether it clipped, whether it drew noise. This is dropped.
"""

import inspect
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import diffusers
from diffusers.configuration_utils import FrozenDict

from kdpm2 import _check
from kdpm2.curves import BY_VALUE, FLAGS
from kdpm2.schedulers._options import OF_THE_MODEL

_OURS = ("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler")
_OF_BETAS = (
    *_OURS,
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
    "DEISMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverSDEScheduler",
    "SASolverScheduler",
    "UnCLIPScheduler",
    "RePaintScheduler",
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "DDIMInverseScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
)
_OF_FLOWS = (
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "LTXEulerAncestralRFScheduler",
)
_OF_EDM = ("EDMDPMSolverMultistepScheduler", "EDMEulerScheduler")
_EDM_CURVES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}

_OTHER_NAMES = ("shift",)  # of flow_shift
# By these a configuration without a class is known to be of another solver.
_OF_OTHERS = {
    "solver_order",
    "solver_type",
    "algorithm_type",
    "variance_type",
    "set_alpha_to_one",
    "interpolation_type",
}
# What diffusers' KDPM2 leaves out as well, though it changes pictures, and what a user can do.
_LEFT_OUT = {
    "clip_sample": "pass clip_sample=True to from_config to keep it",
    "thresholding": "pass thresholding=True to from_config to keep it",
    "stochastic_sampling": "these samplers take their noise from eta",
    "interpolation_type": "these samplers read sigma linearly between timesteps",
    "lambda_min_clipped": "these samplers visit all noise levels",
}
_WITHOUT_EFFECT = (None, False, "linear", -math.inf)  # values of these that change nothing
_LIMITS = ("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value")


def translated(config: Mapping[str, Any], own: type, changes: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A configuration in the words of kdpm2, with the caller's changes, and what a user must be warned of.

    Args:
        config: A scheduler's configuration, or what its file holds.
        own: The class that will take it. Its own configurations stay as they are.
        changes: Options that the caller sets instead, in our words.

    Raises:
        TypeError: If a name in the configuration is not a text.
        ValueError: If these samplers do not know the models of its scheduler, or cannot do what it asks for.
    """
    _check_names(config)
    # Edits of a configuration are attributes of it, while its items stay what they were.
    attributes = getattr(config, "__dict__", {})
    words = {name: attributes.get(name, value) for name, value in config.items()}
    if "_use_default_values" in words:
        left = [name for name in words["_use_default_values"] if words.get(name) is config.get(name)]
        words["_use_default_values"] = left
    changed = dict(changes)
    if "flow_shift" not in changed and "shift" in changed:
        changed["flow_shift"] = changed.pop("shift")
    in_memory = isinstance(config, FrozenDict) or "_use_default_values" in words
    name, options = _source(words, in_memory)
    if name is None and "discard_next_to_last_sigma" in words:
        options.add("discard_next_to_last_sigma")  # ours, or of a subclass, which has its own options first
    family = _family(name, options, words, None if in_memory else set(_parameters(own)))
    if "discard_next_to_last_sigma" in options and (name in (None, *_OURS) or _is_own(name, own)):
        words.pop("shift", None)  # follows from flow_shift, which may be about to change
        return words | changed, []
    words = _with_defaults(name, words, {option: each.default for option, each in _parameters(own).items()})
    warnings = []
    if name not in (None, *_OURS) or options & _OF_OTHERS:
        who = name or "the configuration"
        warnings = [
            f"{option}={words[option]} of {who} is left out: {advice}"
            for option, advice in _LEFT_OUT.items()
            if words.get(option) not in _WITHOUT_EFFECT and option not in changed
        ]
        # Where the other solver ended a run is not ours, nor what it clipped to, unless we are to clip.
        left_out = {"final_sigmas_type", "clip_sample", "thresholding"}
        if name == "RePaintScheduler":
            left_out.add("eta")  # of DDIM, whose steps it measures otherwise
        if not (changed.get("clip_sample") or changed.get("thresholding")):
            left_out.update(_LIMITS)
        words = {option: value for option, value in words.items() if option not in left_out}
    translate = {"betas": _betas, "flow": _flow, "edm": _edm}[family]
    return translate(words, changed) | changed, warnings


def _check_names(config: Mapping[Any, Any]) -> None:
    """A configuration's options have names, and what diffusers notes in it has its types."""
    wrong = [name for name in config if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"config must have texts for the names of options, got {_check.shown(wrong[0])}")
    defaults = config.get("_use_default_values", [])
    if not isinstance(defaults, (list, tuple, set, frozenset)):
        raise TypeError(f"_use_default_values must be a list of options' names, got {_check.shown(defaults)}")


def _is_own(name: str | None, own: type) -> bool:
    return name in [each.__name__ for each in own.__mro__]


def _source(words: Mapping[str, Any], in_memory: bool) -> tuple[str | None, set[str]]:
    """The class of a configuration, or None if it cannot be known, and the options of that class.

    A configuration in memory does not name its class until it is saved. It has the options of its class first. After
    these come options that were kept from earlier configurations.
    """
    options = [option for option in words if not option.startswith("_")]
    name = words.get("_class_name")
    if isinstance(name, (list, tuple)) and name:
        name = name[-1]  # a class outside diffusers stands beside its module
    if isinstance(name, str):
        return name.removeprefix("Flax"), set(options)
    if in_memory:
        known = {name: set(_parameters(getattr(diffusers, name, None))) for name in (*_OF_BETAS, *_OF_FLOWS, *_OF_EDM)}
        alike = [name for name, own in known.items() if own and set(options[: len(own)]) == own]
        if alike:
            name = max(alike, key=lambda each: len(known[each]))
            return name, known[name]
        if "_use_default_values" in words:
            first = list(words).index("_use_default_values")
            options = [option for option in list(words)[:first] if not option.startswith("_")]
    return None, set(options)


def _parameters(cls: Any) -> Mapping[str, inspect.Parameter]:
    """The options of a class; none for None."""
    parameters = dict(inspect.signature(cls.__init__).parameters) if cls is not None else {}
    parameters.pop("self", None)
    return parameters


def _family(name: str | None, options: set[str], words: Mapping[str, Any], ours: set[str] | None) -> str:
    """Which kind of model a configuration is for: by its class if diffusers has it, else by its options.

    One that was written by hand may have some of `ours` alone.
    """
    for family, known in (("betas", _OF_BETAS), ("flow", _OF_FLOWS), ("edm", _OF_EDM)):
        if name in known:
            return family
    by_hand = name is None and ours is not None
    if name is None or not hasattr(diffusers, name):
        if options & {"beta_start", "beta_end", "beta_schedule", "discard_next_to_last_sigma"}:
            return "betas"
        if "shift" in options and (by_hand or words.get("prediction_type") == "flow_prediction"):
            return "flow"
        if {"sigma_schedule", "sigma_data"} <= options and "solver_order" not in options:
            return "edm"
    if by_hand and options <= (ours or set()) - {"sigma_data", "sigma_max"}:
        return "betas"
    who = f"{name}, with options" if name is not None else "one with options"
    raise ValueError(
        f"config must be of a scheduler whose models these samplers know, got that of {who} "
        f"{', '.join(sorted(options)) or 'none'}: they know models with betas, flow matching and EDM models"
    )


def _with_defaults(name: str | None, words: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """The configuration, with the defaults of its class for everything that it leaves out."""
    parameters = {} if name is None or name in _OURS else _parameters(getattr(diffusers, name, None))
    theirs = {option: each.default for option, each in parameters.items()}
    kept = {*OF_THE_MODEL, *_OTHER_NAMES, *_LEFT_OUT}
    words = {option: theirs[option] for option in theirs if option in kept} | words
    left = []
    for option in words.get("_use_default_values", []):
        default = ours if option in kept and option in ours else theirs
        if option in default and words.get(option) == default[option]:
            left.append(option)
    return words | {"_use_default_values": left}


def _betas(words: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a scheduler that has betas."""
    asked = {**words, **changed}
    other = "solver_order" in words or words.get("_class_name") not in (None, *_OURS)
    if other and not (asked.get("use_flow_sigmas") or asked.get("prediction_type") == "flow_prediction"):
        # Multistep solvers look at these for a flow alone, but hold them for every model.
        of_flows = ("flow_shift", "use_dynamic_shifting")
        words = {name: value for name, value in words.items() if name not in of_flows}
    if any(asked.get(flag) is True for flag in FLAGS):
        return words
    # The ends of a curve, which diffusers' schedulers do not look at without one; it may be chosen later.
    ends = {name: words[name] for name in ("sigma_min", "sigma_max") if words.get(name) is not None}
    if ends:
        kept = [ends.get("sigma_min"), ends.get("sigma_max")]
        words = words | dict.fromkeys(ends) | {"_ends_of_curve": kept}
    if words.get("use_flow_sigmas") is True:
        # The multistep solvers of diffusers space a flow's sigmas in one way, whatever their timestep_spacing says.
        left = [name for name in words.get("_use_default_values", []) if name != "timestep_spacing"]
        words = words | {"timestep_spacing": "trailing", "_use_default_values": left}
    return words


def _flow(words: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Those of FlowMatchEuler and FlowMatchHeun, and of LTX's ancestral scheduler, which has no shift."""
    inverted = words.get("invert_sigmas")
    if inverted is not None and _check.flag("invert_sigmas", inverted):
        raise ValueError("invert_sigmas must be False: these samplers go from noise to data, got True")
    largest = words.get("sigma_max")
    if isinstance(largest, (int, float)) and largest > 1:
        raise ValueError(f"sigma_max must be at most 1 for a flow model, whose noise levels end there, got {largest:g}")
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
        "timestep_spacing": words.get("timestep_spacing", "linspace"),
        "sigma_data": None,
        "sigma_min": None,
        "sigma_max": None,
    }


def _edm(words: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    curve = _check.choice("sigma_schedule", words.get("sigma_schedule", "karras"), _EDM_CURVES)
    asked = any(changed.get(name) not in (None, False) for name in FLAGS) or any(
        changed.get(name) is not None for name in BY_VALUE
    )
    return {
        **{name: value for name, value in words.items() if name != "_use_default_values"},
        "_class_name": words.get("_class_name", "EDMEulerScheduler"),
        _EDM_CURVES[curve]: not asked,
        "rho": words.get("rho") if curve == "karras" and not asked else None,
    }
