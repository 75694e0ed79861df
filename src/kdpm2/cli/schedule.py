"""`kdpm2 schedule`: the noise levels, timesteps, up and down that a configuration visits, in print or as a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kdpm2.cli import options as shared
from kdpm2.cli import values
from kdpm2.cli.grouped import option
from kdpm2.cli.loading import loading
from kdpm2.cli.options import (
    HOW,
    MOST_STEPS,
    OUTPUT,
    WHAT,
    changes,
    checked_folder,
    own_levels,
    refuse,
    refused_by,
    scheduler_class,
    takes_scheduler_options,
)
from kdpm2.cli.output import check, printable, written

_COLUMNS = f"{'stage':>5} {'step':>4} {'timestep':>12} {'sigma':>12} {'down':>12} {'up':>12}"


@takes_scheduler_options
def schedule(
    steps: Annotated[int | None, option("N", HOW, "Steps [10]", parser=values.whole(1, MOST_STEPS))] = None,
    pipeline: Annotated[
        str | None, option("NAME", WHAT, "Show the schedule of this pipeline or scheduler, a folder or hub id")
    ] = None,
    at_sigmas: shared.AtSigmas = None,
    at_timesteps: shared.AtTimesteps = None,
    mu: Annotated[float | None, option("X", HOW, "Shift of a flow with dynamic shifting", parser=values.real())] = None,
    plot: Annotated[Path | None, option("FILE", OUTPUT, "Draw it too: a .png, .svg or .pdf to write")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the plot if it is there", rich_help_panel=OUTPUT)
    ] = False,
    *,
    options: Mapping[str, Any],
) -> None:
    """Print what a run does: the timestep and noise level of each network call, and where each step goes.

    A step starts at sigma, goes down by way of its midpoint, and then adds noise of size up. Without --pipeline the
    schedule is that of the scheduler's defaults, 1,000 linear betas.
    """
    if plot is not None:
        check("--plot", plot, [".png", ".svg", ".pdf"], force)
    own = own_levels(steps, at_sigmas, at_timesteps, options)
    cls = scheduler_class(options)
    changed = changes(options)
    if steps is None and not own:
        steps = 10
    try:
        scheduler = _saved(cls, pipeline, changed) if pipeline is not None else cls(**changed)
        scheduler.set_timesteps(steps, mu=mu, **own)
    except (TypeError, ValueError) as error:
        given = {"mu": mu, **options} if mu is not None else options
        raise refused_by(error, given) from error
    table = scheduler.table
    typer.echo(_COLUMNS)
    for stage in range(len(table)):
        step = table.step[stage]
        line = f"{stage:>5} {step:>4} {table.stage_timesteps[stage]:>12.6g} {table.stage_sigmas[stage]:>12.6g}"
        typer.echo(f"{line} {table.down[step]:>12.6g} {table.up[step]:>12.6g}" if table.ends_step[stage] else line)
    typer.echo(f"ends at sigma {table.sigmas[-1]:g}; starts from noise times {float(scheduler.init_noise_sigma):g}")
    if plot is not None:
        from kdpm2.cli.plot import draw

        with written("--plot", plot, force) as unfinished:
            draw(table, unfinished)
        typer.echo(printable(str(plot)))


def _saved(cls: Any, name: str, changed: Mapping[str, Any]) -> Any:
    is_folder = checked_folder("--pipeline", name)
    alone = is_folder and (Path(name) / "scheduler_config.json").is_file()
    if is_folder and not alone and not (Path(name) / "scheduler" / "scheduler_config.json").is_file():
        refuse("--pipeline", f"there is no scheduler_config.json in {name} or {name}/scheduler")
    with loading("--pipeline", name):
        config = cls.load_config(name, subfolder=None if alone else "scheduler", local_files_only=is_folder)
    return cls.from_config(config, **changed)
