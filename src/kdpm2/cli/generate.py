"""`kdpm2 generate`: a picture for each row of a table, on this machine or on a cluster, however often it is stopped.

The work is that of `kdpm2.generate`. The command exits with 0 if every row has a picture, with 3 if some have failed,
with 2 if an argument or a row is wrong, and with 1 if it had to stop.
"""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from kdpm2.cli import options as shared
from kdpm2.cli import values
from kdpm2.cli.grouped import option
from kdpm2.cli.guiding import takes_guidance_options
from kdpm2.cli.options import HOW, OUTPUT, SPEED, WHAT, refuse, takes_scheduler_options
from kdpm2.cli.output import printable

SOME_FAILED = 3
_MOST = 10**9
_LONGEST_SIDE = 16_384
CLUSTER = "On Ray"


class Format(str, Enum):
    """How pictures are kept."""

    parquet = "parquet"
    webdataset = "webdataset"
    png = "png"


class Engine(str, Enum):
    """Who draws them."""

    auto = "auto"
    local = "local"
    ray = "ray"


@takes_scheduler_options
@takes_guidance_options
def generate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[ROWS] OUTPUT",
            help="ROWS: a .parquet, .csv or .jsonl file, or a folder of them; none with --number. OUTPUT: a folder",
        ),
    ],
    number: Annotated[
        int | None, option("N", WHAT, "So many rows, without a table of them", parser=values.whole(1, _MOST))
    ] = None,
    labels: Annotated[
        values.Labels | None, option("A,B,..", WHAT, "Their classes in turn", parser=values.labels)
    ] = None,
    pipeline: Annotated[
        str | None, option("NAME", WHAT, "A diffusers pipeline, folder or hub id, not the digits")
    ] = None,
    prompt: Annotated[str | None, option("TEXT", WHAT, "Of rows without one")] = None,
    negative_prompt: Annotated[str | None, option("TEXT", WHAT, "What they are to stay away from")] = None,
    height: Annotated[
        int | None, option("PIXELS", WHAT, "Of a pipeline's images", parser=values.whole(8, _LONGEST_SIDE, 8))
    ] = None,
    width: Annotated[
        int | None, option("PIXELS", WHAT, "Of a pipeline's images", parser=values.whole(8, _LONGEST_SIDE, 8))
    ] = None,
    steps: Annotated[
        int | None,
        option("N", HOW, "Steps; the network runs 2N-1 times [25]", parser=values.whole(1, shared.MOST_STEPS)),
    ] = None,
    seed: Annotated[
        int, option("S", HOW, "Rows without a seed have S + id [0]", parser=values.whole(0, 2**64 - 1))
    ] = 0,
    device: Annotated[str, option("NAME", SPEED, "cpu, cuda, cuda:1, mps, or the fastest [auto]")] = "auto",
    dtype: Annotated[str | None, option("NAME", SPEED, "Of the weights: float32, float16, bfloat16")] = None,
    batch: Annotated[
        int | None,
        option("N", SPEED, "Rows drawn together [64 of a network on pixels, 1]", parser=values.whole(1, 10_000)),
    ] = None,
    engine: Annotated[
        Engine, option("NAME", CLUSTER, "local, in this process, ray, or auto: ray if it is installed [auto]")
    ] = Engine.auto,
    address: Annotated[str | None, option("HOST:PORT", CLUSTER, "Of a cluster that is there; auto finds it")] = None,
    actors: Annotated[
        int | None,
        option("N", CLUSTER, "How many models are loaded [one a GPU, or one]", parser=values.whole(1, 10**6)),
    ] = None,
    gpus: Annotated[
        float | None, option("X", CLUSTER, "GPUs of each actor [1 where there are some]", parser=values.real(0, 1000))
    ] = None,
    cpus: Annotated[
        float | None,
        option("X", CLUSTER, "CPUs of each actor [an equal share, 1 in a cluster]", parser=values.real(0, 1000)),
    ] = None,
    format_: Annotated[
        Format, option("NAME", OUTPUT, "parquet, webdataset or png [parquet]", "--format")
    ] = Format.parquet,
    rows_per_file: Annotated[
        int, option("N", OUTPUT, "Rows that are drawn and written together [500]", parser=values.whole(1, 100_000))
    ] = 500,
    keep: Annotated[str | None, option("A,B,..", OUTPUT, "Columns to keep that are no options")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Draw rows again that have failed", rich_help_panel=OUTPUT)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to do, and do nothing", rich_help_panel=OUTPUT)
    ] = False,
    *,
    guidance: Mapping[str, Any],
    options: Mapping[str, Any],
) -> None:
    """Draw a picture for each row of a table; run again after any end, it makes what is missing.

    Columns are id, seed, prompt, negative_prompt, label, steps, height, width, and any option of guidance and of the
    scheduler. What a row leaves out is as the options here say.
    """
    if len(paths) != (2 if number is None else 1):
        refuse("ROWS OUTPUT", f"must be two names, or OUTPUT alone with --number, got {len(paths)} names")
    if labels is not None and number is None:
        refuse("--labels", "needs --number; a table has a column for labels")
    given = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "height": height,
        "width": width,
        "steps": steps,
        **guidance,
        **_plain(options),
    }
    what: dict[str, Any] = {
        "pipeline": pipeline,
        "options": {name: value for name, value in given.items() if value is not None},
        "seed": seed,
        "keep": [] if keep is None else [name.strip() for name in keep.split(",")],
        "format": format_.value,
        "rows_per_file": rows_per_file,
        "dtype": dtype,
    }
    how: dict[str, Any] = {"device": device, "batch": batch, "engine": engine.value, "retry_failed": retry_failed}
    _run(paths, number, labels, what, how, (address, actors, gpus, cpus), dry_run)


def _run(
    paths: list[Path],
    number: int | None,
    labels: values.Labels | None,
    what: dict[str, Any],
    how: dict[str, Any],
    cluster: tuple[Any, ...],
    dry_run: bool,
) -> None:
    from kdpm2 import generate as package  # torch, a second of import time that --help need not wait for
    from kdpm2.generate.rows import numbered

    rows: Any = paths[0] if number is None else numbered(number, labels)
    try:
        if dry_run:
            typer.echo(printable(str(package.forecast(rows, paths[-1], **what))))
            return
        report = package.generate(rows, paths[-1], **what, **how, cluster=package.Cluster(*cluster), progress=True)
    except (TypeError, ValueError, ImportError, ConnectionError) as error:
        raise typer.BadParameter(" ".join(str(error).split())) from error
    except OSError as error:
        typer.echo(f"stopped: {error}; what was written stays, and the same command goes on from there", err=True)
        raise typer.Exit(1) from error
    typer.echo(printable(str(report)))
    if report.failed:
        raise typer.Exit(SOME_FAILED)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a scheduler as columns have them."""
    plain = {
        name: str(value) if isinstance(value, values.InWords) else getattr(value, "value", value)
        for name, value in options.items()
        if name != "set_"
    }
    for assignment in options.get("set_", []):
        name, separator, value = assignment.partition("=")
        if not separator:
            refuse("--set", f"must be NAME=VALUE, got {values.short(assignment)}")
        plain[name] = value
    return plain
