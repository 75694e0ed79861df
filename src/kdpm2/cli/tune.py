"""`kdpm2 tune`: noise levels for a model and a number of steps, into a scheduler's configuration."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kdpm2.cli import values
from kdpm2.cli.asked import Models
from kdpm2.cli.grouped import option
from kdpm2.cli.guiding import check_guided, takes_guidance_options
from kdpm2.cli.loading import DTYPES, Model, built_in, describe, device_of, dtype_of, load
from kdpm2.cli.options import HOW, OUTPUT, PLAIN, SPEED, WHAT, refuse, refused_by
from kdpm2.cli.output import check, printable, written
from kdpm2.cli.plan import built_in_of, check_accepted, checked_labels, guided_as
from kdpm2.zoo.built_in import BUILT_IN, DEFAULT

_MOST_STEPS = 1000
_MOST_SAMPLES = 10_000
_LARGEST_SEED = 2**64 - 1 - _MOST_SAMPLES
_MOST_CALLS = 10**9


@takes_guidance_options
def tune(
    labels: Annotated[
        values.Labels | None,
        option("A,B,..", WHAT, "Kinds in turn, as in face,any or 3,1 [every]", parser=values.labels),
    ] = None,
    model: Annotated[
        Models | None, option("NAME", WHAT, f"A built-in model: {', '.join(BUILT_IN)} [{DEFAULT.name}]")
    ] = None,
    pipeline: Annotated[
        str | None, option("NAME", WHAT, "A diffusers pipeline, folder or hub id, in its place")
    ] = None,
    prompt: Annotated[str | None, option("TEXT", WHAT, "What a text-to-image pipeline draws")] = None,
    negative_prompt: Annotated[str | None, option("TEXT", WHAT, "What a text-to-image pipeline must not draw")] = None,
    steps: Annotated[
        int, option("N", HOW, "Steps that the levels are for [8]", parser=values.whole(2, _MOST_STEPS))
    ] = 8,
    eta: Annotated[
        float, option("0..1", HOW, "Share of a step's noise that is new [1]", parser=values.real(0, 1))
    ] = 1.0,
    samples: Annotated[
        int, option("N", HOW, "Samples; half decide at the end [40]", parser=values.whole(4, _MOST_SAMPLES))
    ] = 40,
    seed: Annotated[
        int, option("S", HOW, "Of the first sample; the next count up [0]", parser=values.whole(0, _LARGEST_SEED))
    ] = 0,
    calls: Annotated[
        int | None,
        option("N", HOW, "Network calls to spend [400, more from 17 steps]", parser=values.whole(1, _MOST_CALLS)),
    ] = None,
    device: Annotated[str, option("NAME", SPEED, "cpu, cuda, cuda:1, mps, or the fastest [auto]")] = "auto",
    dtype: Annotated[str | None, option("NAME", SPEED, f"Of the weights: {', '.join(DTYPES)}")] = None,
    output: Annotated[
        Path, option("FILE", OUTPUT, "The configuration to write, a .json [scheduler_config.json]")
    ] = Path("scheduler_config.json"),
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file if it is there", rich_help_panel=OUTPUT)
    ] = False,
    *,
    guidance: Mapping[str, Any],
) -> None:
    """Find the noise levels at which few steps come closest to many.

    It says how far the untuned curves are, and writes a scheduler's configuration with the best levels. Ctrl-C ends the
    search with the best so far.
    """
    check("--output", output, [".json"], force)
    if dtype is not None and dtype not in DTYPES:
        refuse("--dtype", f"must be one of {', '.join(DTYPES)}, got {values.short(dtype)}")
    named: dict[str, Any] = {
        name: value for name, value in {"model": model, "pipeline": pipeline}.items() if value is not None
    }
    which = built_in_of(named)
    if which is None:
        known = describe("--pipeline", str(pipeline))
    else:
        known, named["model"] = built_in(which), which.name
        labels = labels or values.Labels(range(len(which.kinds)))
        guidance = guided_as(which, guidance)
    if labels is not None and known.classes is not None:
        labels = checked_labels(labels, known)
    called: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative_prompt}
    called = {name: value for name, value in called.items() if value is not None}
    check_guided(guidance)
    check_accepted(known, labels, called | {name: guidance[name] for name in ("guidance_scale",) if name in guidance})
    torch_device, torch_dtype = device_of(device), dtype_of(dtype)

    from kdpm2 import KDPM2AncestralDiscreteScheduler, denoiser_of
    from kdpm2 import tune as found

    scheduler_of: Any = KDPM2AncestralDiscreteScheduler.from_config
    pipe = load("--pipeline", known, torch_dtype, scheduler_of).to(torch_device)
    try:
        denoiser = denoiser_of(pipe, labels=_in_turn(labels, samples, known), **called, **guidance)
        size = pipe.unet.config.sample_size
        sides = size if isinstance(size, (list, tuple)) else (size, size)
        tuned = found(
            denoiser,
            (samples, pipe.unet.config.in_channels, *sides),
            steps,
            eta=eta,
            seed=seed,
            calls=calls,
            device=torch_device,
            dtype=pipe.unet.dtype,
            progress=True,
        )
    except (TypeError, ValueError) as error:
        if str(error).startswith("pipe must"):
            refuse("--pipeline", str(error).removeprefix("pipe "))
        raise refused_by(error, {"calls": calls, **called, **guidance}) from error
    scheduler = scheduler_of(pipe.scheduler.config, eta=eta, **tuned.options)
    with written("--output", output, force) as unfinished:
        scheduler.to_json_file(unfinished)
    typer.echo(str(tuned))
    words = [f"--{name} {shlex.quote(value)}" for name, value in named.items()]
    typer.echo(f"kdpm2 sample {' '.join(words)} --steps {steps} --eta {eta:g} {_as_options(tuned.options)}")
    typer.echo(printable(str(output)))


def _as_options(options: Mapping[str, Any]) -> str:
    """The options of a scheduler as those of `kdpm2 sample`."""
    words = ["--sigmas", options.get("sigma_curve") or PLAIN]
    if options.get("tuned_sigmas"):
        words += ["--set", f"tuned_sigmas={json.dumps(options['tuned_sigmas'], separators=(',', ':'))}"]
    if "timestep_spacing" in options:
        words += ["--spacing", options["timestep_spacing"]]
    if options.get("discard_next_to_last_sigma"):
        words.append("--discard-next-to-last-sigma")
    return shlex.join(words)


def _in_turn(labels: values.Labels | None, count: int, model: Model) -> list[int] | None:
    """A class for each sample."""
    if labels is None or model.classes is None:
        return None
    numbers = [model.class_of(label) for label in labels]
    return [numbers[i % len(numbers)] for i in range(count)]
