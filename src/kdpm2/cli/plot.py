"""A schedule drawn: noise levels and timesteps against the stages of a run."""

from pathlib import Path

import typer

from kdpm2.table import StageTable


def draw(table: StageTable, path: Path) -> None:
    """Write the plot of a table, in the format that the suffix of `path` names."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise typer.BadParameter("needs matplotlib: pip install kdpm2[plot]", param_hint="--plot") from None

    stages, starts = range(len(table)), ~table.reads_midpoint
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    levels, timesteps = figure.subplots(1, 2)
    levels.plot(stages, table.stage_sigmas, color="0.8", zorder=0)
    for name, chosen, marker in (("start of a step", starts, "o"), ("midpoint", ~starts, "x")):
        at = [stage for stage in stages if chosen[stage]]
        levels.plot(at, table.stage_sigmas[at], marker, label=f"sigma, {name}")
        timesteps.plot(at, table.stage_timesteps[at], marker, label=name)
    # Where each step ends: the level it goes down to, and the noise it adds there.
    ends = [stage for stage in stages if table.ends_step[stage]]
    for name, values, marker in (("down", table.down, "v"), ("up", table.up, "^")):
        shown = [(stage + 0.5, values[table.step[stage]]) for stage in ends if values[table.step[stage]] > 0]
        if shown:
            levels.plot(*zip(*shown, strict=True), marker, markersize=5, alpha=0.6, label=name)
    levels.set(yscale="log", xlabel="stage", ylabel="noise level", title="sigma, down and up")
    timesteps.set(xlabel="stage", ylabel="timestep", title="what the network is conditioned on")
    for axes in (levels, timesteps):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
