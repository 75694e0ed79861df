"""`python -m benchmarks`: what kdpm2 costs on this machine, beside diffusers and k-diffusion."""

import json
import os
import shlex
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from kdpm2.cli.options import as_arguments, refuse
from kdpm2.cli.output import check, printable, written


def bench(
    json_: Annotated[Path | None, typer.Option("--json", help="A .json to write, with every median.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw time against size as well: a .png, .svg or .pdf to write.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="A .md to write, with the tables.")] = None,
    gpu: Annotated[Path | None, typer.Option(help="What benchmarks/gpu.sh wrote, for the Markdown.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME-PREFIX", help="Only cases whose names begin so; may be given again."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few repeats and small sizes, to see that it runs.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch.", show_default="as many as torch takes")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Run diffusers, k-diffusion and kdpm2 in turn; print each one's median, and how many times that of kdpm2 it is.

    All of it takes some minutes. What is not installed is left out.
    """
    for option, path, suffixes in (
        ("--json", json_, [".json"]),
        ("--plot", plot, [".png", ".svg", ".pdf"]),
        ("--markdown", markdown, [".md"]),
    ):
        if path is not None:
            check(option, path, suffixes, force)
    if plot is not None and find_spec("matplotlib") is None:
        refuse("--plot", "needs matplotlib")
    on_gpu = None if gpu is None else _read(gpu)

    import torch  # a second of import time that --help need not wait for

    from benchmarks import cases, machine, pairs, report
    from benchmarks.timing import Record

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        chosen = cases.chosen(only or [], quick)
    except ValueError as error:
        refuse("--only", str(error))
    if plot is not None and not any(case.name.startswith(pairs.ELEMENTS_PREFIX) for case in chosen):
        refuse("--plot", f"draws the cases that begin with {pairs.ELEMENTS_PREFIX.strip()!r}, which --only leaves out")
    records: list[Record] = []
    for case in chosen:
        found = case.measure()
        records += found
        typer.echo(report.line(found) if found else f"{case.name}: what it needs is not installed")
    given = {
        "json": json_,
        "plot": plot,
        "markdown": markdown,
        "gpu": gpu,
        "only": only,
        "quick": quick or None,
        "threads": threads,
        "force": force or None,
    }
    words = [word for pair in as_arguments({k: v for k, v in given.items() if v is not None}) for word in pair if word]
    results = report.Results(
        date=date.today().isoformat(),
        command=printable(shlex.join(["python", "-m", "benchmarks", *words])),
        threads=torch.get_num_threads(),
        machine=machine.described(),
        versions=machine.versions(),
        records=records,
    )
    if json_ is not None:
        with written("--json", json_, force) as unfinished:
            unfinished.write_text(report.as_json(results), encoding="utf-8")
    if plot is not None:
        from benchmarks.plot import draw

        with written("--plot", plot, force) as unfinished:
            draw(records, unfinished)
    if markdown is not None:
        picture = None if plot is None else Path(os.path.relpath(plot, markdown.parent)).as_posix()
        with written("--markdown", markdown, force) as unfinished:
            unfinished.write_text(report.markdown(results, picture, on_gpu), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        refuse("--gpu", f"must be a file that benchmarks/gpu.sh wrote, got {path}: {error}")
    if not isinstance(held, dict) or not held.keys() >= {"date", "machine", "versions", "parts"}:
        refuse("--gpu", f"must be a file that benchmarks/gpu.sh wrote, got {path}")
    return held


app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
app.command()(bench)

if __name__ == "__main__":
    app()
