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

from kdpm2.curves import FLAGS, SIGMA_CURVES
from kdpm2.timestep_spacing import TIMESTEP_SPACINGS


class Sampler(str, Enum):
    """KDPM2 with and without fresh noise at every step."""

    ancestral = "ancestral"
    discrete = "discrete"


PLAIN = "plain"
# Of strings, so that each is its own name on the command line.
Sigmas = Enum("Sigmas", {name: name for name in (PLAIN, *SIGMA_CURVES)}, type=str)  # type: ignore[misc]
Spacing = Enum("Spacing", {name: name for name in TIMESTEP_SPACINGS}, type=str)  # type: ignore[misc]

# Name in the configuration, type, and help; in the order of --help.
_OPTIONS: list[tuple[str, type, str]] = [
    ("eta", float, "Ancestral: share of each step's noise that is new, 0 to 1."),
    ("s_noise", float, "Scale of all noise that steps add."),
    ("noise", str, "Ancestral: gaussian, or brownian for one picture that converges as steps grow."),
    ("s_churn", float, "Discrete: how much noise a run adds on its way down."),
    ("s_tmin", float, "Discrete: smallest sigma that is churned."),
    ("s_tmax", float, "Discrete: largest sigma that is churned."),
    ("sigma_min", float, "Last sigma of the curve."),
    ("sigma_max", float, "First sigma of the curve."),
    ("rho", float, "Exponent of karras (7) and polyexponential (1) sigmas."),
    ("final_sigmas_type", str, "zero or sigma_min: where a run ends."),
    ("discard_next_to_last_sigma", bool, "Leave out the sigma before the last."),
    ("steps_offset", int, "Added to leading timesteps."),
    ("prediction_type", str, "What the model predicts: epsilon, sample, v_prediction or flow_prediction."),
    ("rescale_betas_zero_snr", bool, "Stretch the betas to end in pure noise."),
    ("timestep_type", str, "discrete or continuous."),
    ("use_flow_sigmas", bool, "The model is a flow."),
    ("flow_shift", float, "Shift of a flow's sigmas towards noise."),
    ("use_dynamic_shifting", bool, "A flow's shift follows the size of the image."),
    ("time_shift_type", str, "How mu makes that shift: exponential or linear."),
    ("shift_terminal", float, "Last sigma of a flow, stretched to."),
    ("sigma_data", float, "The model is EDM's, for data of this standard deviation."),
]


def refuse(option: str, why: str) -> NoReturn:
    """End the command with a message about one of its options."""
    raise typer.BadParameter(why, param_hint=option)


def takes_scheduler_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every scheduler option; it gets those that were given as the mapping `options`."""
    own = inspect.signature(command)
    added = {
        "sampler": (Annotated[Sampler, typer.Option(help="With or without fresh noise.")], Sampler.ancestral),
        "sigmas": (Annotated[Sigmas | None, typer.Option(help="The noise levels.")], None),
        "spacing": (Annotated[Spacing | None, typer.Option(help="The timesteps.")], None),
        **{
            name: (Annotated[kind | None, typer.Option(help=text, show_default=False)], None)
            for name, kind, text in _OPTIONS
        },
        "set_": (
            Annotated[
                list[str] | None,
                typer.Option("--set", metavar="NAME=VALUE", help="Any other entry of the scheduler's configuration."),
            ],
            None,
        ),
    }

    def merged(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in added}
        command(**arguments, options={name: value for name, value in given.items() if value is not None})

    parameters = [parameter for parameter in own.parameters.values() if parameter.name != "options"]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in added.items()
    ]
    merged.__name__, merged.__doc__ = command.__name__, command.__doc__
    merged.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    merged.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return merged


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
        changed["ays_sigmas"] = None
        changed["sigma_curve"] = None if curve in (PLAIN, *FLAGS.values()) else curve
    if "spacing" in options:
        changed["timestep_spacing"] = options["spacing"].value
    changed |= {name: options[name] for name, _, _ in _OPTIONS if name in options}
    for assignment in options.get("set_", []):
        name, separator, value = assignment.partition("=")
        if not separator:
            refuse("--set", f"must be NAME=VALUE, got {assignment!r}")
        try:
            changed[name] = json.loads(value)
        except json.JSONDecodeError:
            changed[name] = value
    known = inspect.signature(scheduler_class(options).__init__).parameters
    for name in changed:
        if name not in known or name == "self":
            option = f"--{name.replace('_', '-')}" if name in options else "--set"
            refuse(option, f"the {options['sampler'].value} sampler has no option {name}")
    return changed


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


def own_levels(at_sigmas: str | None, at_timesteps: str | None, options: Mapping[str, Any]) -> dict[str, list[float]]:
    """What `--at-sigmas` or `--at-timesteps` say; a BadParameter where another option would space them."""
    given = {"sigmas": numbers("--at-sigmas", at_sigmas), "timesteps": numbers("--at-timesteps", at_timesteps)}
    own = {name: values for name, values in given.items() if values is not None}
    for name in ("sigmas", "spacing"):
        if own and name in options:
            refuse(f"--{name}", "must be left out with --at-sigmas or --at-timesteps, which say it all")
    return own


def numbers(option: str, text: str | None) -> list[float] | None:
    """Numbers separated by commas."""
    if text is None:
        return None
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        refuse(option, f"must be numbers separated by commas, got {text!r}")


def curve_of(config: Mapping[str, Any]) -> str:
    """The name, among `Sigmas`, of a configuration's curve."""
    if config.get("ays_sigmas"):
        return f"ays_{config['ays_sigmas']}"
    by_flag = next((name for flag, name in FLAGS.items() if config.get(flag)), None)
    return by_flag or config.get("sigma_curve") or PLAIN


def checked_folder(option: str, name: str) -> bool:
    """Whether `name` is a folder rather than a hub id; a BadParameter if it can be neither."""
    is_folder = Path(name).is_dir()
    if not is_folder and (Path(name).is_absolute() or name.startswith(".") or name.count("/") != 1):
        refuse(option, f"must be a folder, or a hub id like owner/name; there is no folder {name!r}")
    return is_folder


def flattened(values: Sequence[float] | None) -> str | None:
    """Numbers as `numbers` reads them."""
    return None if values is None else ",".join(f"{value:g}" for value in values)
