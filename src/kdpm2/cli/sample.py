"""`kdpm2 sample`: pictures from the built-in digits model, or from any diffusers pipeline, as one contact sheet.

Image i of a run with seed s is drawn from a generator of its own, seeded with s + i on the CPU: it is the same picture
on every device, whatever else is drawn with it. The sheet is a PNG whose text chunk `parameters` holds the settings as
Stable Diffusion's users know them, and whose chunk `command` holds the command that makes it again.
"""

import inspect
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import kdpm2
from kdpm2.cli.loading import load_pipeline
from kdpm2.cli.options import (
    Sampler,
    as_arguments,
    changes,
    curve_of,
    flattened,
    own_levels,
    refuse,
    scheduler_class,
    takes_scheduler_options,
)
from kdpm2.cli.output import check, printable, written

if TYPE_CHECKING:
    from PIL import Image

SAMPLER_NAMES = {Sampler.ancestral: "DPM2 a", Sampler.discrete: "DPM2"}
DIGITS = 100
_OPTION_FOR = {"num_inference_steps": "--steps", "sigmas": "--at-sigmas", "timesteps": "--at-timesteps"}


@takes_scheduler_options
def sample(
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps N; the network runs 2N-1 times.", show_default="25")
    ] = None,
    number: Annotated[
        int | None, typer.Option(min=1, help="How many images.", show_default="100 digits, 1 image of a pipeline")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image; the next ones count up.")] = 0,
    labels: Annotated[
        str | None, typer.Option(help="Classes to draw in turn, as in 3,1,4.", show_default="0,1,2,3,4,5,6,7,8,9")
    ] = None,
    at_sigmas: Annotated[
        str | None, typer.Option(help="Noise levels of one's own, as in 14.6,3.9,0.4.", show_default=False)
    ] = None,
    at_timesteps: Annotated[
        str | None, typer.Option(help="Timesteps of one's own, as in 999,500,100.", show_default=False)
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Classifier-free guidance.", show_default="1, or the pipeline's own")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto for the fastest there is.")] = "auto",
    output: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("samples.png"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite it if it is there.")] = False,
    pipeline: Annotated[
        str | None,
        typer.Option(help="A diffusers pipeline, a folder or a hub id, instead of the digits.", show_default=False),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What a text-to-image pipeline draws.", show_default=False)] = None,
    *,
    options: Mapping[str, Any],
) -> None:
    """Write a contact sheet of samples, from the built-in digits model unless a pipeline is named."""
    check("--output", output, [".png"], force)
    classes = _labels(labels, digits=pipeline is None)
    own = own_levels(at_sigmas, at_timesteps, options)
    if steps is not None and own:
        refuse("--steps", "must be left out with --at-sigmas or --at-timesteps, which say how many there are")
    changed = changes(options)
    torch_device = _device(device)
    pipe = _pipeline(pipeline)
    spaced: dict[str, Any] = own or {"num_inference_steps": 25 if steps is None else steps}
    _set_scheduler(pipe, spaced, scheduler_class(options), changed)
    pipe.to(torch_device)
    images = _draw(
        pipe,
        seeds=range(seed, seed + (number or (DIGITS if pipeline is None else 1))),
        together=pipeline is None,
        classes=classes,
        options={**spaced, "prompt": prompt, "guidance_scale": guidance_scale},
    )

    from kdpm2.cli import contact_sheet

    config = pipe.scheduler.config
    given = {
        "steps": spaced.get("num_inference_steps"),
        "number": len(images),
        "seed": seed,
        "labels": classes and ",".join(map(str, classes)),
        "at_sigmas": flattened(own.get("sigmas")),
        "at_timesteps": flattened(own.get("timesteps")),
        **options,
        "sigmas": None if own else curve_of(config),
        "spacing": None if own else config.timestep_spacing,
        "guidance_scale": guidance_scale,
        "pipeline": pipeline,
        "prompt": prompt,
    }
    given = {name: value for name, value in given.items() if value is not None}
    chunks = _text_chunks(given, len(pipe.scheduler.timesteps), images[0].size)
    with written("--output", output, force) as unfinished:
        contact_sheet.save(contact_sheet.tiled(images), unfinished, chunks)
    typer.echo(printable(f"{output}: {len(images)} images"))


def _text_chunks(given: Mapping[str, Any], stages: int, size: tuple[int, int]) -> dict[str, str]:
    settings = {
        "Steps": given.get("steps", (stages + 1) // 2),
        "Sampler": SAMPLER_NAMES[given["sampler"]],
        "Schedule type": given.get("sigmas", "own").capitalize(),
        "CFG scale": given.get("guidance_scale"),
        "Seed": given["seed"],
        "Size": "x".join(map(str, size)),
        "Model": given.get("pipeline", "kdpm2 digits"),
        # As A1111 has them.
        "Eta": given.get("eta"),
        "Sigma churn": given.get("s_churn"),
        "Sigma noise": given.get("s_noise"),
        "Discard penultimate sigma": given.get("discard_next_to_last_sigma"),
        "Version": f"kdpm2 {kdpm2.__version__}",
    }
    subject = given.get("prompt") or (f"digits {given['labels']}" if "labels" in given else "")
    listed = ", ".join(f"{key}: {value}" for key, value in settings.items() if value is not None)
    words = [word for pair in as_arguments(given) for word in pair if word]
    return {"parameters": f"{subject}\n{listed}", "command": shlex.join(["kdpm2", "sample", *words])}


def _labels(text: str | None, digits: bool) -> list[int] | None:
    if text is None:
        return list(range(10)) if digits else None
    if not all(label.isdecimal() for label in text.split(",")):
        refuse("--labels", f"must be whole numbers separated by commas, got {text!r}")
    return [int(label) for label in text.split(",")]


def _device(name: str) -> Any:
    import torch  # a second of import time that --help need not wait for

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        refuse("--device", f"{name!r} cannot be used here: {str(error).splitlines()[0]}")


def _pipeline(name: str | None) -> Any:
    if name is None:
        from kdpm2.zoo import digits

        return digits()
    return load_pipeline("--pipeline", name)


def _set_scheduler(pipe: Any, spaced: Mapping[str, Any], cls: Any, changed: Mapping[str, Any]) -> None:
    if getattr(pipe, "scheduler", None) is None:
        refuse("--pipeline", "it has no scheduler to put KDPM2 in the place of")
    known = {compatible.__name__ for compatible in cls().compatibles}
    if type(pipe.scheduler).__name__ not in known:
        refuse("--pipeline", f"its {type(pipe.scheduler).__name__} is for models that KDPM2 cannot sample")
    try:
        pipe.scheduler = cls.from_config(pipe.scheduler.config, **changed)
        if not pipe.scheduler.config.use_dynamic_shifting:  # where the pipeline knows the shift
            pipe.scheduler.set_timesteps(**spaced)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def _draw(
    pipe: Any, seeds: Sequence[int], together: bool, classes: list[int] | None, options: Mapping[str, Any]
) -> list["Image.Image"]:
    from tqdm import tqdm

    from kdpm2.zoo import PixelPipeline

    if set(pipe.components) == {"unet", "scheduler"} and not isinstance(pipe, PixelPipeline):
        # The pipelines of diffusers for a network alone do not scale its input, as these samplers have to.
        pipe = PixelPipeline(**pipe.components)
    accepted = inspect.signature(pipe.__call__).parameters
    options = {name: value for name, value in options.items() if value is not None}
    if "prompt" in accepted and "prompt" not in options:
        refuse("--prompt", "this pipeline needs one")
    if classes is not None and "labels" not in accepted:
        refuse("--labels", "this pipeline takes none")
    for name in options:
        if name not in accepted:
            refuse(_OPTION_FOR.get(name, f"--{name.replace('_', '-')}"), "this pipeline takes none")
    labels = None if classes is None else [classes[i % len(classes)] for i in range(len(seeds))]
    if together:
        return list(_draw_batch(pipe, seeds, labels, options))
    pipe.set_progress_bar_config(leave=False)
    images: list[Image.Image] = []
    for i, seed in enumerate(tqdm(seeds, unit="image", disable=len(seeds) == 1)):
        images += _draw_batch(pipe, [seed], labels and labels[i : i + 1], options)
    return images


def _draw_batch(
    pipe: Any, seeds: Sequence[int], labels: list[int] | None, options: Mapping[str, Any]
) -> list["Image.Image"]:
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    # For the noise of steps, where the pipeline does not pass the generators on.
    pipe.scheduler.seed(list(seeds))
    if labels is not None:
        options = {**options, "labels": labels}
    try:
        images: list[Image.Image] = pipe(generator=generators, **options).images
    except ValueError as error:  # by the custom of diffusers and of kdpm2: an argument is not what it should be
        raise typer.BadParameter(str(error)) from error
    return images
