"""The time of a stage pair against the number of its elements."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from kdpm2.bench.pairs import COPY, ELEMENTS_PREFIX
from kdpm2.bench.timing import Record, Time

# Okabe and Ito's colours, which the colour-blind tell apart, and markers for those who see none.
_STYLES = {
    "diffusers": ("#D55E00", "s"),
    "k-diffusion": ("#E69F00", "^"),
    "kdpm2": ("#0072B2", "o"),
    "kdpm2.sample": ("#009E73", "D"),
}


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


def _elements(time: Time) -> int:
    return int(time.case.removeprefix(ELEMENTS_PREFIX))
