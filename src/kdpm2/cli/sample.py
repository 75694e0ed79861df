"""`kdpm2 sample`: pictures from the built-in digits model, or from any diffusers pipeline.

Image i of a run with seed s is drawn from a generator of its own, seeded with s + i on the CPU: it is the same picture
on every device, whatever else is drawn with it. Every option is checked before a model is loaded.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kdpm2._progress import bar
from kdpm2.cli import options as shared
from kdpm2.cli import said, values
from kdpm2.cli.loading import DTYPES, Model, describe, device_of, digits, dtype_of, load, number_of_digits
from kdpm2.cli.options import (
    HOW,
    OUTPUT,
    SPEED,
    WHAT,
    changes,
    flattened,
    own_levels,
    refuse,
    refused_by,
    scheduler_class,
    takes_scheduler_options,
)
from kdpm2.cli.output import check, printable
from kdpm2.cli.pictures import Drawn, Picture
from kdpm2.cli.stores import MOST, opened

_DIGITS = 100
_DEFAULT_STEPS = 25
_LARGEST_SEED = 2**64 - 1
_MOST_TOGETHER = 1000
_DIGITS_TOGETHER = 200
_LONGEST_SIDE = 16_384


def _option(metavar: str, group: str, text: str, **more: Any) -> Any:
    return typer.Option(metavar=metavar or None, help=text, rich_help_panel=group, show_default=False, **more)


@takes_scheduler_options
def sample(
    number: Annotated[
        int | None, _option("N", WHAT, "How many images [100 digits, 1 of a pipeline]", parser=values.whole(1, MOST))
    ] = None,
    labels: Annotated[
        values.Labels | None,
        _option("A,B,..", WHAT, "Classes in turn, as in 3,1,any [0,1,..,9]", parser=values.labels),
    ] = None,
    pipeline: Annotated[
        str | None, _option("NAME", WHAT, "A diffusers pipeline, folder or hub id, not the digits")
    ] = None,
    prompt: Annotated[str | None, _option("TEXT", WHAT, "What a text-to-image pipeline draws")] = None,
    negative_prompt: Annotated[str | None, _option("TEXT", WHAT, "What it is to stay away from")] = None,
    height: Annotated[
        int | None, _option("PIXELS", WHAT, "Of a pipeline's images", parser=values.whole(8, _LONGEST_SIDE, 8))
    ] = None,
    width: Annotated[
        int | None, _option("PIXELS", WHAT, "Of a pipeline's images", parser=values.whole(8, _LONGEST_SIDE, 8))
    ] = None,
    steps: Annotated[
        int | None,
        _option("N", HOW, "Steps; the network runs 2N-1 times [25]", parser=values.whole(1, shared.MOST_STEPS)),
    ] = None,
    seed: Annotated[
        int,
        _option("S", HOW, "Of the first image; the next count up [0]", parser=values.whole(0, _LARGEST_SEED)),
    ] = 0,
    guidance_scale: Annotated[
        float | None,
        _option("X", HOW, "Classifier-free guidance [1, or the pipeline's]", parser=values.real(0, 100)),
    ] = None,
    at_sigmas: shared.AtSigmas = None,
    at_timesteps: shared.AtTimesteps = None,
    device: Annotated[str, _option("NAME", SPEED, "cpu, cuda, cuda:1, mps, or the fastest [auto]")] = "auto",
    dtype: Annotated[str | None, _option("NAME", SPEED, f"Of the weights: {', '.join(DTYPES)}")] = None,
    batch: Annotated[
        int | None,
        _option("N", SPEED, "Images drawn together [200 digits, 1]", parser=values.whole(1, _MOST_TOGETHER)),
    ] = None,
    output: Annotated[
        Path,
        _option(
            "PATH", OUTPUT, "A sheet .png, an .npz, or a folder of PNGs, of which it skips what is there [samples.png]"
        ),
    ] = Path("samples.png"),
    annotate: Annotated[bool, typer.Option("--annotate", help="Label the sheet", rich_help_panel=OUTPUT)] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there", rich_help_panel=OUTPUT)] = False,
    *,
    options: Mapping[str, Any],
) -> None:
    """Draw samples, from the built-in digits model unless a pipeline is named."""
    kind = check("--output", output, [".png", ".npz", None], force)
    if annotate and kind != ".png":
        refuse("--annotate", f"labels a contact sheet, whose name ends in .png, got --output {output}")
    count = number or (_DIGITS if pipeline is None else 1)
    if seed + count - 1 > _LARGEST_SEED:
        refuse("--seed", f"must be at most {_LARGEST_SEED} for the last of {count} images, got {seed} for the first")
    if dtype is not None and dtype not in DTYPES:
        refuse("--dtype", f"must be one of {', '.join(DTYPES)}, got {values.short(dtype)}")
    if pipeline is None:
        labels = _checked_labels(labels or values.Labels(range(number_of_digits())), number_of_digits() + 1)
    own = own_levels(steps, at_sigmas, at_timesteps, options)
    spaced: dict[str, Any] = own or {"num_inference_steps": steps or _DEFAULT_STEPS}
    changed = changes(options)
    model = digits() if pipeline is None else describe("--pipeline", pipeline)
    if labels is not None and pipeline is not None and "labels" in model.accepted and model.classes is not None:
        labels = _checked_labels(labels, model.classes)
    called = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "height": height,
        "width": width,
        "guidance_scale": guidance_scale,
        **spaced,
    }
    called = {name: value for name, value in called.items() if value is not None}
    _check_accepted(model, labels, called)
    scheduler_of = partial(_scheduler, scheduler_class(options), changed, spaced, options)
    scheduler = scheduler_of(model.config)

    listed = None if labels is None else ",".join(map(str, labels))
    given = said.given(
        {**options, "number": count, "seed": seed, "labels": listed, "steps": spaced.get("num_inference_steps")},
        levels={name: flattened(levels) for name, levels in own.items()},
        config=scheduler.config,
        of_model={"pipeline": pipeline, "dtype": dtype, **{n: v for n, v in called.items() if n not in spaced}},
    )
    store = opened(kind, output, force, given, len(scheduler.timesteps), annotate)
    wanted = store.wanted([Picture(seed + i, labels[i % len(labels)] if labels else None) for i in range(count)])
    if wanted:
        torch_device, torch_dtype = device_of(device), dtype_of(dtype)
        pipe = load("--pipeline", model, torch_dtype, scheduler_of).to(torch_device)
        together = batch or (_DIGITS_TOGETHER if pipeline is None else 1)
        for pictures_drawn in _draw(pipe, wanted, together, model, called, options):
            store.add(pictures_drawn)
    typer.echo(printable(store.close()))


def _checked_labels(labels: values.Labels, classes: int) -> values.Labels:
    """The labels, of which that for no class is called "any"."""
    for label in labels:
        if label != values.ANY and int(label) >= classes:
            refuse("--labels", f"each must be from 0 to {classes - 2}, or any, got {values.short(label)}")
    return values.Labels(values.ANY if label == classes - 1 else label for label in labels)


def _check_accepted(model: Model, labels: values.Labels | None, called: Mapping[str, Any]) -> None:
    """The pipeline takes what it is to be called with."""
    if "prompt" in model.accepted and "prompt" not in called:
        refuse("--prompt", "this pipeline needs one")
    if labels is not None and ("labels" not in model.accepted or model.classes is None):
        refuse("--labels", "this pipeline takes none")
    if model.on_pixels and model.classes is None and called.get("guidance_scale", 1) != 1:
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


def _draw(
    pipe: Any,
    pictures: list[Picture],
    together: int,
    model: Model,
    called: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Iterator[list[Drawn]]:
    """The pictures, a batch at a time."""
    batches = [pictures[i : i + together] for i in range(0, len(pictures), together)]
    if len(batches) > 1:
        pipe.set_progress_bar_config(leave=False)
    with bar(total=len(pictures), unit="image", disable=len(batches) == 1) as progress:
        for batch in batches:
            yield _draw_batch(pipe, batch, model, called, options)
            progress.update(len(batch))


def _draw_batch(
    pipe: Any, pictures: list[Picture], model: Model, called: Mapping[str, Any], options: Mapping[str, Any]
) -> list[Drawn]:
    from kdpm2.noise import generator_of

    seeds, count = [picture.seed for picture in pictures], len(pictures)
    # For the noise of steps, where the pipeline does not pass the generators on.
    pipe.scheduler.seed(seeds)
    arguments = dict(called)
    for name in ("prompt", "negative_prompt"):
        if name in arguments:
            arguments[name] = [arguments[name]] * count
    if pictures[0].label is not None:
        no_class = (model.classes or 1) - 1
        arguments["labels"] = [no_class if each.label == values.ANY else int(each.label or 0) for each in pictures]
    elif model.on_pixels:
        arguments["num_images"] = count
    try:
        images = getattr(pipe(generator=[generator_of(seed) for seed in seeds], **arguments), "images", None)
    except ValueError as error:  # by the custom of diffusers and of kdpm2: an argument is not what it should be
        raise refused_by(error, {**options, **called}) from error
    if images is None or len(images) != count:
        refuse("--pipeline", f"it must draw one image for each seed, got {'none' if images is None else len(images)}")
    return [Drawn(*picture, image) for picture, image in zip(pictures, images, strict=True)]
