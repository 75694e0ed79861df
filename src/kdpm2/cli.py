"""The `kdpm2` command: pictures from the built-in digits model, or from any diffusers pipeline, as one contact sheet.

Image i of a run with seed s is drawn from a generator of its own, seeded with s + i on the CPU: it is the same picture
on every device, whatever else is drawn with it. The sheet is a PNG whose text chunk `parameters` holds the settings as
Stable Diffusion's users know them, and whose chunk `command` holds the command that makes it again.
"""

import inspect
import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import kdpm2

if TYPE_CHECKING:
    from PIL import Image

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


class Sampler(str, Enum):
    """KDPM2 with and without fresh noise at every step."""

    ancestral = "ancestral"
    discrete = "discrete"


class Sigmas(str, Enum):
    """How the first and the last noise level are joined."""

    plain = "plain"
    karras = "karras"
    exponential = "exponential"
    beta = "beta"
    polyexponential = "polyexponential"
    lu = "lu"
    ays_sd15 = "ays_sd15"
    ays_sdxl = "ays_sdxl"
    ays_svd = "ays_svd"


class Spacing(str, Enum):
    """How timesteps are spaced."""

    linspace = "linspace"
    leading = "leading"
    trailing = "trailing"
    simple = "simple"
    sgm_uniform = "sgm_uniform"


SAMPLER_NAMES = {"ancestral": "DPM2 a", "discrete": "DPM2"}
DIGITS = 100


@app.callback()
def _kdpm2() -> None:
    """Sample diffusion models with KDPM2, the sampler also known as "DPM2 a"."""


@app.command()
def sample(
    steps: Annotated[int, typer.Option(help="Sampling steps N; the network runs 2N-1 times.")] = 25,
    number: Annotated[
        int | None, typer.Option(min=1, help="How many images.", show_default="100 digits, 1 image of a pipeline")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image; the next ones count up.")] = 0,
    labels: Annotated[
        str | None, typer.Option(help="Classes to draw in turn, as in 3,1,4.", show_default="0,1,2,3,4,5,6,7,8,9")
    ] = None,
    sampler: Annotated[Sampler, typer.Option(help="With or without fresh noise at every step.")] = Sampler.ancestral,
    sigmas: Annotated[Sigmas | None, typer.Option(help="The noise levels.", show_default="the model's own")] = None,
    spacing: Annotated[Spacing | None, typer.Option(help="The timesteps.", show_default="the model's own")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Classifier-free guidance.", show_default="1, or the pipeline's own")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto for the fastest there is.")] = "auto",
    output: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("samples.png"),
    pipeline: Annotated[
        str | None,
        typer.Option(help="A diffusers pipeline, a folder or a hub id, instead of the digits.", show_default=False),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What a text-to-image pipeline draws.", show_default=False)] = None,
) -> None:
    """Write a contact sheet of samples, from the built-in digits model unless a pipeline is named."""
    if output.suffix.lower() != ".png":
        _refuse("--output", f"must end in .png, got {output}")
    if not output.parent.is_dir():
        _refuse("--output", f"the folder {output.parent} does not exist")
    classes = _labels(labels, digits=pipeline is None)
    torch_device = _device(device)
    pipe = _pipeline(pipeline)
    _set_scheduler(pipe, steps, sampler, sigmas, spacing)
    pipe.to(torch_device)
    images = _draw(
        pipe,
        seeds=range(seed, seed + (number or (DIGITS if pipeline is None else 1))),
        together=pipeline is None,
        classes=classes,
        prompt=prompt,
        steps=steps,
        guidance_scale=guidance_scale,
    )

    from kdpm2 import contact_sheet

    options = {
        "--steps": steps,
        "--number": len(images),
        "--seed": seed,
        "--labels": classes and ",".join(map(str, classes)),
        "--sampler": sampler.value,
        "--sigmas": _curve(pipe.scheduler.config),
        "--spacing": pipe.scheduler.config.timestep_spacing,
        "--guidance-scale": guidance_scale,
        "--pipeline": pipeline,
        "--prompt": prompt,
    }
    contact_sheet.save(contact_sheet.tiled(images), output, _text_chunks(options, images[0].size))
    typer.echo(f"{output}: {len(images)} images")


def _text_chunks(options: dict[str, Any], size: tuple[int, int]) -> dict[str, str]:
    settings = {
        "Steps": options["--steps"],
        "Sampler": SAMPLER_NAMES[options["--sampler"]],
        "Schedule type": options["--sigmas"].capitalize(),
        "CFG scale": options["--guidance-scale"],
        "Seed": options["--seed"],
        "Size": "x".join(map(str, size)),
        "Model": options["--pipeline"] or "kdpm2 digits",
        "Version": f"kdpm2 {kdpm2.__version__}",
    }
    subject = options["--prompt"] or (f"digits {options['--labels']}" if options["--labels"] else "")
    listed = ", ".join(f"{key}: {value}" for key, value in settings.items() if value is not None)
    given = [(option, str(value)) for option, value in options.items() if value is not None]
    command = shlex.join(["kdpm2", "sample", *(word for pair in given for word in pair)])
    return {"parameters": f"{subject}\n{listed}", "command": command}


def _curve(config: Any) -> str:
    return next((name for name in Sigmas.__members__ if config.get(f"use_{name}_sigmas")), Sigmas.plain.value)


def _refuse(option: str, why: str) -> NoReturn:
    raise typer.BadParameter(why, param_hint=option)


def _labels(text: str | None, digits: bool) -> list[int] | None:
    if text is None:
        return list(range(10)) if digits else None
    if not all(label.isdecimal() for label in text.split(",")):
        _refuse("--labels", f"must be whole numbers separated by commas, got {text!r}")
    return [int(label) for label in text.split(",")]


def _device(name: str) -> Any:
    import torch  # a second of import time that --help need not wait for

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        _refuse("--device", f"{name!r} cannot be used here: {str(error).splitlines()[0]}")


def _pipeline(name: str | None) -> Any:
    if name is None:
        from kdpm2.zoo import digits

        return digits()

    from diffusers import DiffusionPipeline

    is_folder = Path(name).is_dir()
    if not is_folder and (Path(name).is_absolute() or name.startswith(".") or name.count("/") != 1):
        _refuse("--pipeline", f"must be a folder, or a hub id like owner/name; there is no folder {name!r}")
    # Only a hub id may touch the network, and nothing may run code or unpickle.
    return DiffusionPipeline.from_pretrained(
        name, local_files_only=is_folder, use_safetensors=True, trust_remote_code=False
    )


def _set_scheduler(pipe: Any, steps: int, sampler: Sampler, sigmas: Sigmas | None, spacing: Spacing | None) -> None:
    cls = {
        Sampler.ancestral: kdpm2.KDPM2AncestralDiscreteScheduler,
        Sampler.discrete: kdpm2.KDPM2DiscreteScheduler,
    }[sampler]
    if not any(compatible.__name__ == cls.__name__ for compatible in pipe.scheduler.compatibles):
        _refuse("--pipeline", f"its {type(pipe.scheduler).__name__} is for models that KDPM2 cannot sample")
    changes: dict[str, Any] = {}
    if sigmas is not None:
        changes |= {f"use_{name}_sigmas": name == sigmas.value for name in Sigmas.__members__ if name != "plain"}
    if spacing is not None:
        changes["timestep_spacing"] = spacing.value
    try:
        pipe.scheduler = cls.from_config(pipe.scheduler.config, **changes)
        pipe.scheduler.set_timesteps(steps)
    except (TypeError, ValueError) as error:
        _refuse("--pipeline, --steps, --sigmas or --spacing", str(error))


def _draw(
    pipe: Any,
    seeds: Sequence[int],
    together: bool,
    classes: list[int] | None,
    prompt: str | None,
    steps: int,
    guidance_scale: float | None,
) -> list["Image.Image"]:
    from tqdm import tqdm

    from kdpm2.zoo import PixelPipeline

    if set(pipe.components) == {"unet", "scheduler"} and not isinstance(pipe, PixelPipeline):
        # The pipelines of diffusers for a network alone do not scale its input, as these samplers have to.
        pipe = PixelPipeline(**pipe.components)
    accepted = inspect.signature(pipe.__call__).parameters
    if ("prompt" in accepted) != (prompt is not None):
        _refuse("--prompt", "this pipeline needs one" if prompt is None else "this pipeline takes none")
    if classes is not None and "labels" not in accepted:
        _refuse("--labels", "this pipeline takes none")
    if guidance_scale is not None and "guidance_scale" not in accepted:
        _refuse("--guidance-scale", "this pipeline takes none")
    options = {"num_inference_steps": steps, "prompt": prompt, "guidance_scale": guidance_scale}
    options = {key: value for key, value in options.items() if value is not None}
    labels = None if classes is None else [classes[i % len(classes)] for i in range(len(seeds))]
    if together:
        return list(_draw_batch(pipe, seeds, labels, options))
    pipe.set_progress_bar_config(leave=False)
    images: list[Image.Image] = []
    for i, seed in enumerate(tqdm(seeds, unit="image", disable=len(seeds) == 1)):
        images += _draw_batch(pipe, [seed], labels and labels[i : i + 1], options)
    return images


def _draw_batch(
    pipe: Any, seeds: Sequence[int], labels: list[int] | None, options: dict[str, Any]
) -> list["Image.Image"]:
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    if labels is not None:
        options = options | {"labels": labels}
    try:
        images: list[Image.Image] = pipe(generator=generators, **options).images
    except ValueError as error:  # by the custom of diffusers and of kdpm2: an argument is not what it should be
        raise typer.BadParameter(str(error)) from error
    return images


def main() -> None:
    """Run the command."""
    app()
