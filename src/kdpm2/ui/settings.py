"""The settings of the page, to and from what the command line says."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kdpm2.cli import values
from kdpm2.cli.asked import Asked, read
from kdpm2.cli.options import Refusal, as_arguments, flattened

OWN = "model's own"
DIGITS = "digits"
_MOST = 64

WIDGETS = (
    "pipeline",
    "labels",
    "prompt",
    "negative_prompt",
    "sampler",
    "steps",
    "eta",
    "s_churn",
    "s_noise",
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
    "pipeline": DIGITS,
    "labels": "0,1,2,3,4,5,6,7",
    "prompt": "",
    "negative_prompt": "",
    "sampler": "ancestral",
    "steps": 8,
    "eta": 1.0,
    "s_churn": 0.0,
    "s_noise": 1.0,
    "sigmas": OWN,
    "spacing": OWN,
    "discard_next_to_last_sigma": False,
    "guidance_scale": 1.0,
    "seed": 0,
    "number": 8,
    "others": "",
}

_LEFT_OUT = {("pipeline", DIGITS), ("eta", 1.0), ("s_churn", 0.0), ("s_noise", 1.0)}
"""What goes without saying."""

_OF_SAMPLER = {"eta": "ancestral", "s_churn": "discrete"}
"""Options that only one of the samplers has; they are on the page with that one alone."""


class Settings(NamedTuple):
    """What the page says: options, and how many pictures."""

    asked: Asked
    number: int


class WrongSettingError(ValueError):
    """A setting that cannot be, in words for the page."""


def in_words(error: Any) -> WrongSettingError:
    """What an error of the command says, without its first words."""
    text: str = error.format_message().removeprefix("Invalid value for ").removeprefix("Invalid value: ")
    return WrongSettingError(text.replace("'--", "--").replace("':", ":"))


def settings(said: Mapping[str, Any]) -> Settings:
    """What the values of `WIDGETS` say; `WrongSettingError` for what the command does not take."""
    arguments: list[str] = []
    for name, value in said.items():
        if name in ("number", "others") or _OF_SAMPLER.get(name, said["sampler"]) != said["sampler"]:
            continue
        if value is None or value is False or value in ("", OWN) or (name, value) in _LEFT_OUT:
            continue
        option = f"--{name.replace('_', '-')}"
        whole = isinstance(value, float) and value.is_integer()
        arguments.append(option if value is True else f"{option}={int(value) if whole else value}")
    try:
        number = values.whole(1, _MOST)(str(int(said["number"] or 0)))
        return Settings(read([*arguments, *shlex.split(said["others"] or "")]), number)
    except Refusal as error:
        raise in_words(error) from error
    except ValueError as error:  # shlex: a quotation without an end
        raise WrongSettingError(f"other options: {error}") from error


def of_command(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the page has to say for the words of a `kdpm2 sample` or `kdpm2 grid`, and the options of a grid alone.

    Raises:
        WrongSettingError: If they are another command, or none.
    """
    if list(words[:1]) != ["kdpm2"] or words[1:2] not in (["sample"], ["grid"]):
        raise WrongSettingError("no command of kdpm2 that draws pictures")
    rest, own = _without(words[2:], ("--number", "--x", "--y", "--seeds"))
    try:
        asked = read([word for word in rest if word != "--annotate"])
    except Refusal as error:
        raise in_words(error) from error
    said = START | {"labels": "", "eta": 1.0, "guidance_scale": None}
    said |= {"steps": 25, "number": int(own.pop("--number", own.get("--seeds", "1")))}
    others: Asked = {}
    for name, value in asked.items():
        if name in ("device", "batch"):
            continue
        text = ",".join(map(str, value)) if isinstance(value, values.Labels) else getattr(value, "value", value)
        if name in WIDGETS:
            said[name] = text
        else:
            others[name] = flattened(value) if isinstance(value, values.Numbers) else value
    if "at_sigmas" in others or "at_timesteps" in others:
        said["steps"] = None
    said["number"] = max(1, min(said["number"], _MOST))
    said["others"] = shlex.join(word for pair in as_arguments(others) for word in pair if word)
    return said, own


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
