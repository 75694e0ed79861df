"""A run of the command, worked out and checked from what is asked for, before any model is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kdpm2.cli import said, values
from kdpm2.cli.asked import LARGEST_SEED, Asked
from kdpm2.cli.guiding import GUIDANCE, check_guided
from kdpm2.cli.loading import DTYPES, Model, built_in, describe
from kdpm2.cli.options import changes, flattened, own_levels, refuse, refused_by, scheduler_class, scheduler_options
from kdpm2.cli.pictures import Picture
from kdpm2.table import StageTable
from kdpm2.zoo.built_in import BUILT_IN, DEFAULT, BuiltIn

_DEFAULT_STEPS = 25


@dataclass(frozen=True)
class Plan:
    """What is to be drawn, and how.

    Attributes:
        model: With what.
        pictures: Their seeds and labels.
        called: What else the pipeline is called with.
        spaced: What of it says where the steps are.
        options: Those of the scheduler that were given.
        scheduler_of: Makes our scheduler of a model's configuration.
        scheduler: Ours, of the configuration that is known of.
        given: The options in full, as `said.given` has them.
        together: How many pictures are drawn in one batch.
        device: Its name, or "auto".
        dtype: The name of the weights' dtype; None for their own.
    """

    model: Model
    pictures: list[Picture]
    called: dict[str, Any]
    spaced: Mapping[str, Any]
    options: Mapping[str, Any]
    scheduler_of: Callable[[Any], Any]
    scheduler: Any
    given: dict[str, Any]
    together: int
    device: str
    dtype: str | None

    @property
    def table(self) -> StageTable | None:
        """The stages of a run; None where a flow's shift follows the size of the image, which the pipeline knows."""
        return None if self.scheduler.config.use_dynamic_shifting else self.scheduler.table

    @property
    def stages(self) -> int:
        """How often a run calls the network, as far as is known before it."""
        if self.table is not None:
            return len(self.table)
        return 2 * max(len(each) if isinstance(each, list) else each for each in self.spaced.values()) - 1


def planned(asked: Asked, number: int | None = None, described: Callable[[str, str], Model] = describe) -> Plan:
    """The plan of a run; ends the command for what cannot be.

    Args:
        asked: What is asked for.
        number: Of pictures; a sheet of a built-in model or 1 of a pipeline if None.
        described: What a pipeline is made of; for many plans, a function that looks only once.
    """
    options = {name: asked[name] for name in scheduler_options() if name in asked}
    pipeline, seed, dtype = asked.get("pipeline"), asked["seed"], asked.get("dtype")
    which = built_in_of(asked)
    count = number or (1 if which is None else which.sheet)
    if seed + count - 1 > LARGEST_SEED:
        refuse("--seed", f"must be at most {LARGEST_SEED} for the last of {count} images, got {seed} for the first")
    if dtype is not None and dtype not in DTYPES:
        refuse("--dtype", f"must be one of {', '.join(DTYPES)}, got {values.short(dtype)}")
    labels = asked.get("labels")
    if which is not None:
        model = built_in(which)
        labels = checked_labels(labels or values.Labels(range(len(which.kinds))), model)
        asked = guided_as(which, asked)
    own = own_levels(asked.get("steps"), asked.get("at_sigmas"), asked.get("at_timesteps"), options)
    spaced: dict[str, Any] = own or {"num_inference_steps": asked.get("steps") or _DEFAULT_STEPS}
    changed = changes(options)
    if pipeline is not None:
        model = described("--pipeline", pipeline)
        if labels is not None and "labels" in model.accepted and model.classes is not None:
            labels = checked_labels(labels, model)
    called = {
        name: asked[name] for name in ("prompt", "negative_prompt", "height", "width", *GUIDANCE) if name in asked
    } | spaced
    check_accepted(model, labels, called)
    if model.on_pixels:
        check_guided(asked)
    scheduler_of = partial(_scheduler, scheduler_class(options), changed, spaced, options)
    scheduler = scheduler_of(model.config)
    listed = None if labels is None else ",".join(map(str, labels))
    given = said.given(
        {**options, "number": count, "seed": seed, "labels": listed, "steps": spaced.get("num_inference_steps")},
        levels={name: flattened(levels) for name, levels in own.items()},
        config=scheduler.config,
        of_model={"model": which and which.name, "pipeline": pipeline, "dtype": dtype} | _as_written(called, spaced),
    )
    pictures = [Picture(seed + i, labels[i % len(labels)] if labels else None) for i in range(count)]
    together = asked.get("batch") or (1 if which is None else which.together)
    return Plan(
        model, pictures, called, spaced, options, scheduler_of, scheduler, given, together, asked["device"], dtype
    )


def _as_written(called: Mapping[str, Any], spaced: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline is called with as the command has it, without what says where the steps are."""
    own = {name: value for name, value in called.items() if name not in spaced}
    return {name: flattened(value) if isinstance(value, values.Numbers) else value for name, value in own.items()}


def built_in_of(asked: Mapping[str, Any]) -> BuiltIn | None:
    """The built-in model that is asked for; None for a pipeline."""
    if "pipeline" in asked:
        if "model" in asked:
            refuse("--model", "names a built-in model, and must be left out with --pipeline")
        return None
    return BUILT_IN[asked["model"].value] if "model" in asked else DEFAULT


def guided_as(which: BuiltIn, asked: Mapping[str, Any]) -> Asked:
    """What is asked for, with the built-in model's own guidance if there is to be some and no scale is named.

    CFG++ has scales of another size.
    """
    if which.guidance_scale == 1 or asked.get("guidance_plus_plus"):
        return dict(asked)
    return {"guidance_scale": which.guidance_scale, **asked}


def checked_labels(labels: values.Labels, model: Model) -> values.Labels:
    """The labels as the model has them, of which that for no class is called "any"."""
    checked = values.Labels()
    for label in labels:
        own = model.label_of(label)
        if own is None:
            words = f", one of {', '.join(model.kinds)}" if model.kinds else ""
            highest = (model.classes or 0) - 2
            refuse("--labels", f"each must be from 0 to {highest}{words}, or any, got {values.short(label)}")
        checked.append(own)
    return checked


def check_accepted(model: Model, labels: values.Labels | None, called: Mapping[str, Any]) -> None:
    """The pipeline takes what it is to be called with."""
    if "prompt" in model.accepted and "prompt" not in called:
        refuse("--prompt", "this pipeline needs one")
    if labels is not None and ("labels" not in model.accepted or model.classes is None):
        refuse("--labels", "this pipeline takes none")
    guides = called.get("guidance_scale", 1) != 1 or called.get("guidance_plus_plus", False)
    if model.on_pixels and model.classes is None and guides:
        refuse("--guidance-scale", "must be 1 for a network without classes")
    names = {"num_inference_steps": "--steps", "sigmas": "--at-sigmas", "timesteps": "--at-timesteps"}
    for name in called:
        if name not in model.accepted:
            refuse(names.get(name, f"--{name.replace('_', '-')}"), "this pipeline takes none")


def _scheduler(
    cls: Any, changed: Mapping[str, Any], spaced: Mapping[str, Any], options: Mapping[str, Any], config: Any
) -> Any:
    """Our scheduler of a model's configuration, with the options of the command."""
    try:
        scheduler = cls.from_config(config, **changed)
        if not scheduler.config.use_dynamic_shifting:  # where the pipeline knows the shift
            scheduler.set_timesteps(**spaced)
    except (TypeError, ValueError) as error:
        raise refused_by(error, options) from error
    return scheduler
