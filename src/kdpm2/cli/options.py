"""The options of a scheduler on the command line, the same for every command.

Each is an option of the configuration under its own name; what the command line leaves out is the model's own. Any
other entry of a configuration is reached by `--set NAME=VALUE`.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from kdpm2 import _check
from kdpm2._check import MOST_STEPS as MOST_STEPS
from kdpm2.cli import values
from kdpm2.cli.gathered import Parameter, gathered
from kdpm2.curves import BY_VALUE, FLAGS, SIGMA_CURVES
from kdpm2.timestep_spacing import TIMESTEP_SPACINGS


class Sampler(str, Enum):
    """KDPM2 with and without fresh noise at every step."""

    ancestral = "ancestral"
    discrete = "discrete"


PLAIN = "plain"
# Of strings, so that each is its own name on the command line.
Sigmas = Enum("Sigmas", {name: name for name in (PLAIN, *SIGMA_CURVES)}, type=str)  # type: ignore[misc]
Spacing = Enum("Spacing", {name: name for name in TIMESTEP_SPACINGS}, type=str)  # type: ignore[misc]

WHAT, HOW, SPEED, OUTPUT = "What to draw", "How to draw it", "Where it is computed", "What is written"
NOISE, LEVELS, MODEL = "Noise of the steps", "Noise levels", "What the model was trained on"

# Name in the configuration, type, metavar, group, and help; in the order of --help.
_OPTIONS: list[tuple[str, type, str, str, str]] = [
    ("eta", values.ByStep, "0..1", NOISE, "Ancestral: share of a step's noise that is new [1]"),
    ("s_noise", values.ByStep, "X", NOISE, "Scale of the noise of steps [1]"),
    (
        "noise",
        str,
        "KIND",
        NOISE,
        "Ancestral: gaussian, philox, coloured, pyramid, offset, or brownian, with which pictures converge",
    ),
    (
        "restarts",
        values.Restarts,
        "A,B",
        NOISE,
        "From sigma A up to B by noise, and down again; or A,B,STEPS,TIMES;.. [none]",
    ),
    ("keep_estimate", bool, "", LEVELS, "N+1 network calls instead of 2N-1: see the docs"),
    ("s_churn", float, "X", NOISE, "Discrete: noise that a run adds on its way [0]"),
    ("s_tmin", float, "SIGMA", NOISE, "Discrete: smallest sigma that is churned [0]"),
    ("s_tmax", float, "SIGMA", NOISE, "Discrete: largest sigma that is churned"),
    ("sigma_min", float, "SIGMA", LEVELS, "Last sigma of the curve"),
    ("sigma_max", float, "SIGMA", LEVELS, "First sigma of the curve"),
    ("rho", float, "X", LEVELS, "Exponent of karras (7), polyexponential (1)"),
    ("final_sigmas_type", str, "zero|sigma_min", LEVELS, "Where a run ends [zero]"),
    ("discard_next_to_last_sigma", bool, "", LEVELS, "Leave out the sigma before the last"),
    ("steps_offset", int, "N", LEVELS, "Added to leading timesteps [0]"),
    ("prediction_type", str, "TYPE", MODEL, "epsilon, sample, v_prediction, flow_prediction"),
    ("rescale_betas_zero_snr", bool, "", MODEL, "Stretch the betas to end in pure noise"),
    ("timestep_type", str, "TYPE", MODEL, "discrete or continuous"),
    ("use_flow_sigmas", bool, "", MODEL, "The model is a flow"),
    ("flow_shift", float, "X", MODEL, "Shift of a flow's sigmas towards noise [1]"),
    ("use_dynamic_shifting", bool, "", MODEL, "A flow's shift follows the size of the image"),
    ("time_shift_type", str, "TYPE", MODEL, "How mu makes it: exponential or linear"),
    ("shift_terminal", float, "SIGMA", MODEL, "Stretch the sigmas of a flow to end at this one"),
    ("sigma_data", float, "X", MODEL, "EDM's model, for data of this deviation"),
]

SCHEDULER_OPTIONS: dict[str, type] = {name: kind for name, kind, *_ in _OPTIONS}
"""What each of them holds, by its name in the configuration."""

WORDS: dict[type, Callable[[str], Any]] = {values.ByStep: values.varying, values.Restarts: values.restarts}
"""How the options that take several numbers are read."""

Refusal: Any = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException")
"""What ends the command with a message: click's exception, of the click that typer has, which may be its own."""


def refuse(option: str, why: str) -> NoReturn:
    """End the command with a message about one of its options."""
    raise typer.BadParameter(why, param_hint=option)


def scheduler_options() -> dict[str, Parameter]:
    """Every scheduler option of the command line, by name."""
    curves, spacings = ", ".join(SIGMA_CURVES), ", ".join(TIMESTEP_SPACINGS)
    return {
        "sampler": Parameter(
            _option(
                Sampler, "NAME", HOW, "ancestral, with fresh noise at every step, or discrete, without [ancestral]"
            ),
            Sampler.ancestral,
        ),
        "sigmas": Parameter(
            _option(Sigmas, "CURVE", HOW, f"Curve of the noise levels: plain, {curves} [the model's own]")
        ),
        "spacing": Parameter(_option(Spacing, "NAME", HOW, f"Spacing of the timesteps: {spacings} [the model's own]")),
        **{name: Parameter(_option(kind, metavar, group, text)) for name, kind, metavar, group, text in _OPTIONS},
        "set_": Parameter(
            _option(list[str], "NAME=VALUE", HOW, "Any other option of the scheduler; may be given again", "--set")
        ),
    }


def takes_scheduler_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every scheduler option; it gets those that were given as the mapping `options`."""
    return gathered(command, "options", scheduler_options())


def _option(kind: Any, metavar: str, group: str, text: str, *names: str) -> Any:
    whole = values.whole(-_check.MOST_STEPS, _check.MOST_STEPS)
    readers = {int: whole, float: values.real(), **WORDS}
    option = typer.Option(
        *names, metavar=metavar or None, help=text, rich_help_panel=group, show_default=False, parser=readers.get(kind)
    )
    return Annotated[kind | None, option]


def scheduler_class(options: Mapping[str, Any]) -> Any:
    """The class that `--sampler` names."""
    import kdpm2

    discrete = options["sampler"] is Sampler.discrete
    return kdpm2.KDPM2DiscreteScheduler if discrete else kdpm2.KDPM2AncestralDiscreteScheduler


def changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the options change in a configuration; a BadParameter for what the class does not have."""
    changed: dict[str, Any] = {}
    if "sigmas" in options:
        curve = options["sigmas"].value
        changed |= {flag: name == curve for flag, name in FLAGS.items()}
        changed |= dict.fromkeys(BY_VALUE)
        changed["sigma_curve"] = None if curve in (PLAIN, *FLAGS.values()) else curve
    if "spacing" in options:
        changed["timestep_spacing"] = options["spacing"].value
    said = {name: options[name] for name, *_ in _OPTIONS if name in options}
    changed |= {name: each.value if isinstance(each, values.InWords) else each for name, each in said.items()}
    for assignment in options.get("set_", []):
        name, separator, value = assignment.partition("=")
        if not separator:
            refuse("--set", f"must be NAME=VALUE, got {values.short(assignment)}")
        try:
            changed[name] = json.loads(value)
        except (ValueError, RecursionError):  # the second for brackets without an end
            changed[name] = value
    known = [name for name in inspect.signature(scheduler_class(options).__init__).parameters if name != "self"]
    for name in changed:
        if name not in known:
            option = f"--{name.replace('_', '-')}" if name in options else "--set"
            why = f"the {options['sampler'].value} sampler has no option {values.short(name).strip(chr(39))}"
            refuse(option, why + _check.meant(name, known))
    return changed


_OPTION_OF = {
    "num_inference_steps": "--steps",
    "timestep_spacing": "--spacing",
    "sigma_curve": "--sigmas",
    "sigmas": "--at-sigmas",
    "timesteps": "--at-timesteps",
    "mu": "--mu",
}


def refused_by(error: Exception, options: Mapping[str, Any]) -> typer.BadParameter:
    """What a library's error says, with the option of the command that it is about, where that can be told."""
    text = " ".join(str(error).split())
    part, of, whole = (*text.split(" ", 3), "", "", "")[:3]
    name = (whole if of == "of" and whole in options else part).strip("`")
    option = _OPTION_OF.get(name)
    if name == "num_inference_steps":
        text = text.removeprefix(name).strip()
    if option is None and name in options:
        option = f"--{name.replace('_', '-')}"
    if option is None and any(assignment.partition("=")[0] == name for assignment in options.get("set_", [])):
        option = "--set"
    return typer.BadParameter(text, param_hint=option)


def as_arguments(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The options as they would be written, in pairs; a flag's second half is empty."""
    pairs: list[tuple[str, str]] = []
    for name, value in options.items():
        option = f"--{name.strip('_').replace('_', '-')}"
        if isinstance(value, bool):
            pairs.append((option if value else option.replace("--", "--no-", 1), ""))
        elif isinstance(value, list):
            pairs += [(option, item) for item in value]
        else:
            pairs.append((option, value.value if isinstance(value, Enum) else str(value)))
    return pairs


AtSigmas = Annotated[
    values.Numbers | None,
    typer.Option(
        parser=values.numbers,
        metavar="A,B,..",
        help="Noise levels of your own, as in 14.6,3.9,0.4",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
AtTimesteps = Annotated[
    values.Numbers | None,
    typer.Option(
        parser=values.numbers,
        metavar="A,B,..",
        help="Timesteps of your own, as in 999,500,100",
        show_default=False,
        rich_help_panel=HOW,
    ),
]


def own_levels(
    steps: int | None, at_sigmas: list[float] | None, at_timesteps: list[float] | None, options: Mapping[str, Any]
) -> dict[str, list[float]]:
    """What `--at-sigmas` or `--at-timesteps` say; a BadParameter where another option would space them."""
    own = {name: given for name, given in (("sigmas", at_sigmas), ("timesteps", at_timesteps)) if given is not None}
    for name in ("sigmas", "spacing"):
        if own and name in options:
            refuse(f"--{name}", "must be left out with --at-sigmas or --at-timesteps, which say it all")
    if steps is not None and own:
        refuse("--steps", "must be left out with --at-sigmas or --at-timesteps, which say how many there are")
    return own


def curve_of(config: Mapping[str, Any]) -> str | None:
    """The name, among `Sigmas`, of a configuration's curve; None for tuned levels, which have none."""
    if config.get("tuned_sigmas") is not None:
        return None
    if config.get("ays_sigmas"):
        return f"ays_{config['ays_sigmas']}"
    by_flag = next((name for flag, name in FLAGS.items() if config.get(flag)), None)
    return by_flag or config.get("sigma_curve") or PLAIN


def checked_folder(option: str, name: str) -> bool:
    """Whether `name` is a folder rather than a hub id; a BadParameter if it can be neither."""
    is_folder = Path(name).is_dir()
    if not is_folder and (Path(name).is_absolute() or name.startswith(".") or name.count("/") != 1):
        refuse(option, f"must be a folder, or a hub id like owner/name; there is no folder {values.short(name)}")
    return is_folder


def flattened(given: Sequence[float] | None) -> str | None:
    """Numbers as `numbers` reads them."""
    return None if given is None else ",".join(f"{value:g}" for value in given)
