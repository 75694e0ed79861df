"""A configuration to take away: as a command, as Python, and as a scheduler's configuration."""

from typing import Any

from kdpm2.cli import said
from kdpm2.cli.options import changes, scheduler_class
from kdpm2.cli.plan import Plan


def command(plan: Plan) -> str:
    """The `kdpm2 sample` that draws the same pictures."""
    return said.command(plan.given)


def scheduler_config(plan: Plan) -> str:
    """What `scheduler_config.json` holds."""
    text: str = plan.scheduler.to_json_string()
    return text


def python(plan: Plan) -> str:
    """A program that draws the same pictures."""
    cls = scheduler_class(plan.options).__name__
    changed = "".join(
        f", {name}={value!r}"
        for name, value in changes(plan.options).items()
        if not (_is_off(value) and _is_off(plan.model.config.get(name)))
    )
    seeds = [picture.seed for picture in plan.pictures]
    imports = [f"from kdpm2 import {cls}", "from kdpm2.noise import generator_of"]
    weights = "" if plan.dtype is None else f"torch.{plan.dtype}"
    put = f"pipe.scheduler = {cls}.from_config(pipe.scheduler.config{changed})"
    if plan.model.built_in is not None:
        imports[0] += ", zoo"
        made = [f"pipe = zoo.{plan.model.built_in.name}()" + (weights and f".to({weights})"), put]
    else:
        imports.insert(0, "from diffusers import DiffusionPipeline")
        of_weights = weights and f", torch_dtype={weights}"
        made = [f"pipe = DiffusionPipeline.from_pretrained({plan.model.name!r}{of_weights})", put]
        if plan.model.on_pixels:
            imports.append("from kdpm2.zoo.pixels import PixelPipeline")
            made.append("pipe = PixelPipeline(**pipe.components)")
    lines = [
        *(["import torch"] if weights else []),
        *imports,
        "",
        *made,
        f"seeds = range({seeds[0]}, {seeds[-1] + 1})",
        "pipe.scheduler.seed(list(seeds))",
        "generators = [generator_of(seed) for seed in seeds]",
        f"images = pipe({_called(plan)}generator=generators).images",
    ]
    return "\n".join(lines) + "\n"


def _is_off(value: Any) -> bool:
    return value is None or value is False


def _called(plan: Plan) -> str:
    called: dict[str, Any] = {}
    count = len(plan.pictures)
    if plan.pictures[0].label is not None:
        called["labels"] = [plan.model.class_of(each.label) for each in plan.pictures if each.label is not None]
    elif plan.model.on_pixels:
        called["num_images"] = count
    for name, value in plan.called.items():
        several = name in ("prompt", "negative_prompt") and count > 1
        called[name] = [value] * count if several else list(value) if isinstance(value, list) else value
    return "".join(f"{name}={value!r}, " for name, value in called.items())
