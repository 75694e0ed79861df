"""What a picture says of how it was made: two texts, which its PNG holds as chunks.

`parameters` has the settings as Stable Diffusion's users know them, `command` the command that makes it again.
"""

import shlex
from collections.abc import Mapping
from typing import Any

import kdpm2
from kdpm2.cli.options import Sampler, as_arguments, curve_of
from kdpm2.cli.pictures import Picture

SAMPLER_NAMES = {Sampler.ancestral: "DPM2 a", Sampler.discrete: "DPM2"}
_ORDER = ("steps", "number", "seed", "labels", "at_sigmas", "at_timesteps")


def given(
    options: Mapping[str, Any], levels: Mapping[str, str | None], config: Mapping[str, Any], of_model: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a command in full: also those that were left to the configuration, if they say how a run went."""
    own = {f"at_{name}": text for name, text in levels.items()}
    curve = curve_of(config)
    named = {} if curve is None else {"sigmas": curve}
    spaced = {} if own else {**named, "spacing": config["timestep_spacing"]}
    said = {**options, **own, **spaced, **of_model}
    return {name: said[name] for name in (*_ORDER, *said) if said.get(name) is not None}


def of_one(said: Mapping[str, Any], picture: Picture) -> dict[str, Any]:
    """What makes one picture of a run."""
    return {**said, "number": 1, "seed": picture.seed} | ({} if picture.label is None else {"labels": picture.label})


def command(said: Mapping[str, Any]) -> str:
    """The command that makes a picture or a sheet again."""
    words = [word for pair in as_arguments(said) for word in pair if word]
    return shlex.join(["kdpm2", "sample", *words])


def settings(said: Mapping[str, Any], stages: int, size: tuple[int, int]) -> dict[str, Any]:
    """The settings of pictures of a size, made in so many stages, by the names that Stable Diffusion's users know."""
    known = {
        "Steps": said.get("steps", (stages + 1) // 2),
        "Sampler": SAMPLER_NAMES[said["sampler"]],
        "Schedule type": said.get("sigmas", "own").capitalize(),
        "CFG scale": said.get("guidance_scale"),
        "Seed": said["seed"],
        "Size": "x".join(map(str, size)),
        "Model": said.get("pipeline") or f"kdpm2 {said['model']}",
        # As A1111 has them.
        "Eta": said.get("eta"),
        "Sigma churn": said.get("s_churn"),
        "Sigma noise": said.get("s_noise"),
        "Restarts": said.get("restarts"),
        "Discard penultimate sigma": said.get("discard_next_to_last_sigma"),
        "Version": f"kdpm2 {kdpm2.__version__}",
    }
    return {name: value for name, value in known.items() if value is not None}


def listed(named: Mapping[str, Any]) -> str:
    """Settings on one line."""
    return ", ".join(f"{name}: {value}" for name, value in named.items())


def chunks(said: Mapping[str, Any], stages: int, size: tuple[int, int]) -> dict[str, str]:
    """The two texts of pictures of a size, made in so many stages."""
    subject = said.get("prompt") or " ".join(str(said[name]) for name in ("model", "labels") if name in said)
    if "negative_prompt" in said:
        subject += f"\nNegative prompt: {said['negative_prompt']}"
    return {"parameters": f"{subject}\n{listed(settings(said, stages, size))}", "command": command(said)}
