"""The time of a stage pair against the number of its elements, and how long requests wait under load."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.pairs import COPY, ELEMENTS_PREFIX
from benchmarks.serving import CONTINUOUS, NO_WAITING, STATIC
from benchmarks.timing import Record, Served, Time

# Okabe and Ito's colours, which the colour-blind tell apart, and markers for those who see none.
_STYLES = {
    "diffusers": ("#D55E00", "s"),
    "k-diffusion": ("#E69F00", "^"),
    "kdpm2": ("#0072B2", "o"),
    "kdpm2.sample": ("#009E73", "D"),
}

_POLICY_STYLES = {CONTINUOUS: ("#0072B2", "-"), NO_WAITING: ("#E69F00", "--"), STATIC: ("#D55E00", "-.")}


def draw(records: Sequence[Record], path: Path) -> None:
    """Write the plot, in the format that the suffix of `path` names."""
    times = [record for record in records if isinstance(record, Time) and record.case.startswith(ELEMENTS_PREFIX)]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for project, (color, marker) in _STYLES.items():
        points = [(_elements(time), time.seconds * 1e6) for time in times if time.project == project]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=5, label=project)
    # The same for the scheduler and the loop.
    bounds = [(_elements(time), time.bound * 1e6) for time in times if time.project == "kdpm2" and time.bound]
    label = f"bound: what must be moved, at the speed of {COPY}"
    axes.plot(*zip(*bounds, strict=True), color="0.4", linestyle="--", label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="elements of the sample (float32)",
        ylabel="time of a stage pair without its noise (µs)",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)


def draw_latencies(records: Sequence[Record], path: Path) -> None:
    """Write the plot of the share of requests that were answered within a time, for each load and policy.

    Raises:
        ValueError: If none of `records` is of requests served.
    """
    served = [record for record in records if isinstance(record, Served)]
    if not served:
        raise ValueError("records must hold some of requests served, got none")
    loads = list(dict.fromkeys(record.case for record in served))
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    for axes, case in zip(figure.subplots(1, len(loads), sharey=True, squeeze=False)[0], loads, strict=True):
        for record in served:
            if record.case == case:
                color, style = _POLICY_STYLES[record.project]
                axes.plot(
                    record.latencies, range(1, 100), color=color, linestyle=style, linewidth=3, label=record.project
                )
        axes.set(xscale="log", title=case.removeprefix("batching "), ylim=(0, 100))
        axes.grid(alpha=0.3, which="both")
    figure.supxlabel("seconds from arrival to answer", fontsize=20)
    figure.supylabel("answered (%)", fontsize=20)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(_POLICY_STYLES))
    figure.savefig(path, dpi=120)


def _elements(time: Time) -> int:
    return int(time.case.removeprefix(ELEMENTS_PREFIX))
