"""The settings of the page, to and from what the command line says."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kdpm2.cli import values
from kdpm2.cli.asked import Asked, read
from kdpm2.cli.loading import Model
from kdpm2.cli.options import Refusal, as_arguments, flattened
from kdpm2.zoo.built_in import BUILT_IN, DEFAULT, DIGITS

OWN = "model's own"
MOST_PICTURES = 100
"""That are drawn at once, or stand in a cell of a grid."""

WIDGETS = (
    "pipeline",
    "labels",
    "prompt",
    "negative_prompt",
    "sampler",
    "steps",
    "eta",
    "eta_by_step",
    "s_churn",
    "s_noise",
    "s_noise_by_step",
    "restarts",
    "sigmas",
    "spacing",
    "discard_next_to_last_sigma",
    "guidance_scale",
    "seed",
    "number",
    "others",
)
"""What has a place on the page, in its order. `others` holds the other options, as the command line writes them."""

START: dict[str, Any] = {
    "pipeline": DEFAULT.name,
    "labels": "",
    "prompt": "",
    "negative_prompt": "",
    "sampler": "ancestral",
    "steps": 8,
    "eta": 1.0,
    "eta_by_step": "",
    "s_churn": 0.0,
    "s_noise": 1.0,
    "s_noise_by_step": "",
    "restarts": "",
    "sigmas": OWN,
    "spacing": OWN,
    "discard_next_to_last_sigma": False,
    "guidance_scale": None,
    "seed": 0,
    "number": 1,
    "others": "",
}

_OF_MODEL = ("eta", "s_churn", "s_noise", "discard_next_to_last_sigma", "restarts")
"""What the page says in full, and a model's configuration may say too."""

BY_STEP = {"eta": "eta_by_step", "s_noise": "s_noise_by_step"}
"""Options with a slider, and the fields whose words stand in its place."""


class Settings(NamedTuple):
    """What the page says: options, and how many pictures."""

    asked: Asked
    number: int


class WrongSettingError(ValueError):
    """A setting that cannot be, in words for the page."""


def own(model: Model) -> dict[str, Any]:
    """The values of settings that leave a model's configuration as it is."""
    said = {name: model.config.get(name) for name in _OF_MODEL}
    return _placed({name: START[name] if value is None else value for name, value in said.items()})


def first(model: Model) -> dict[str, Any]:
    """The values of settings with which the page begins to draw with a model."""
    which = model.built_in
    return own(model) | {
        "labels": "" if which is None else ",".join(which.first),
        "guidance_scale": (1.0 if which is None else which.guidance_scale) if model.on_pixels else None,
        "number": 8 if model.on_pixels else 1,
    }


def _placed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the page has them: a number on its slider, and what is more in words."""
    said = dict(options)
    for name, field in BY_STEP.items():
        if name in said:
            several = not isinstance(said[name], (int, float))
            said |= {name: START[name], field: _words(said[name])} if several else {field: ""}
    if "restarts" in said:
        said["restarts"] = _words(said["restarts"] or None).removeprefix(values.NO_RESTARTS)
    return said


def _words(value: Any) -> str:
    return str(value) if isinstance(value, (values.InWords, str)) else values.in_words(value)


def has_effect(model: Model, sampler: str, by_step: Mapping[str, Any]) -> dict[str, bool]:
    """The settings that may be without effect, and whether they have one for a model, a sampler and fields of words."""
    prompts = "prompt" in model.accepted
    return {
        "labels": model.classes is not None,
        "prompt": prompts,
        "negative_prompt": prompts and "negative_prompt" in model.accepted,
        "eta": sampler == "ancestral" and not by_step["eta_by_step"],
        "eta_by_step": sampler == "ancestral",
        "s_noise": not by_step["s_noise_by_step"],
        "s_churn": sampler == "discrete",
    }


def count(name: str, value: Any) -> int:
    """A number of pictures; `WrongSettingError` for one that cannot be."""
    try:
        return values.whole(1, MOST_PICTURES)(str(value or 0))
    except Refusal as error:
        raise WrongSettingError(f"{name}: {in_words(error)}") from error


def in_words(error: Any) -> WrongSettingError:
    """What an error of the command says, without its first words."""
    text: str = error.format_message().removeprefix("Invalid value for ").removeprefix("Invalid value: ")
    return WrongSettingError(re.sub(r"^'(--[\w-]+)':", r"\1:", text))


def settings(said: Mapping[str, Any], model: Model) -> Settings:
    """What the values of `WIDGETS` say; `WrongSettingError` for what the command does not take."""
    without_effect = {name for name, has in has_effect(model, said["sampler"], said).items() if not has}
    without_saying = _options(own(model)) | {"pipeline": DEFAULT.name}
    asked: dict[str, Any] = {}
    for name, value in _options({name: each for name, each in said.items() if name not in without_effect}).items():
        if name in ("number", "others") or value in (None, "", OWN):
            continue
        if name not in without_saying or value != without_saying[name]:
            option = "model" if name == "pipeline" and value in BUILT_IN else name
            asked[option] = int(value) if isinstance(value, float) and value.is_integer() else value
    arguments = [f"{option}={value}" if value else option for option, value in as_arguments(asked)]
    number = count("pictures", said["number"])
    try:
        whole = read([*arguments, *shlex.split(said["others"] or "")])
        if "pipeline" in whole:  # written among the others: what is written last counts
            whole.pop("model", None)
        return Settings(whole, number)
    except Refusal as error:
        raise in_words(error) from error
    except ValueError as error:  # shlex: a quotation without an end
        raise WrongSettingError(f"other options: {error}") from error


def _options(said: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says as options: words that stand in a slider's place are its option's."""
    options = {name: value for name, value in said.items() if name not in BY_STEP.values()}
    options |= {name: said[field] for name, field in BY_STEP.items() if said.get(field)}
    return options | ({"restarts": said["restarts"] or values.NO_RESTARTS} if "restarts" in said else {})


def of_command(words: Sequence[str], named: Callable[[str], Model]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the page has to say for the words of a `kdpm2 sample` or `kdpm2 grid`, and the options of a grid alone.

    Args:
        words: Those of the command.
        named: Gives the model of a name.

    Raises:
        WrongSettingError: If they are another command, or none, or need a model that the page does not have.
    """
    if list(words[:1]) != ["kdpm2"] or words[1:2] not in (["sample"], ["grid"]):
        raise WrongSettingError("no command of kdpm2 that draws pictures")
    rest, of_grid = _without(words[2:], ("--number", "--x", "--y", "--seeds"))
    try:
        asked = read([word for word in rest if word != "--annotate"])
    except Refusal as error:
        raise in_words(error) from error
    # Before there were others, no command said that it means the digits.
    name = str(asked.get("pipeline") or getattr(asked.pop("model", None), "value", DIGITS.name))
    said = START | own(named(name)) | {"pipeline": name, "steps": 25}
    said["number"] = count("pictures", of_grid.pop("--number", of_grid.get("--seeds", "1")))
    others: Asked = {}
    for name, value in asked.items():
        if name in ("device", "batch"):
            continue
        text = ",".join(map(str, value)) if isinstance(value, values.Labels) else getattr(value, "value", value)
        if name in WIDGETS:
            said |= _placed({name: value if isinstance(value, values.InWords) else text})
        else:
            others[name] = flattened(value) if isinstance(value, values.Numbers) else value
    if "at_sigmas" in others or "at_timesteps" in others:
        said["steps"] = None
    said["others"] = shlex.join(word for pair in as_arguments(others) for word in pair if word)
    return said, of_grid


def _without(words: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words without some options, and those options."""
    rest, found, left = [], {}, list(words)
    while left:
        word = left.pop(0)
        if word in names and left:
            found[word] = left.pop(0)
        else:
            rest.append(word)
    return rest, found
