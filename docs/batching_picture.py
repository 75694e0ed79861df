"""Make the picture at the head of docs/batching.md: which request each place of a batch is taken by, call after call.

The calls are those of the two policies' own loops, around a network that only notes who is in its batch.
"""

from pathlib import Path
from typing import Any

import torch
from benchmarks import batching, serving
from benchmarks.load import Request
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from docs import style

PICTURE = Path(__file__).parent / "figures" / "batching.png"
PLACES = 4
STEPS = (4, 10, 6, 3, 5, 12, 4, 6, 3, 8)
POLICIES = {"Static": serving.STATIC, "Continuous": serving.CONTINUOUS}


def calls(policy: str) -> list[set[int]]:
    """The requests that each call of the network is made for, all of which are there from the start."""
    seen = []

    def network(x: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(set(labels.tolist()) - {serving.NO_LABEL})
        return x

    requests = [Request(0.0, steps, label, label) for label, steps in enumerate(STEPS)]
    tables = {steps: batching.table(steps) for steps in STEPS}
    serving.serve(requests, network, tables, serving.POLICIES[policy], PLACES)
    return seen


def bars(axes: Any, seen: list[set[int]]) -> None:
    """A bar for each request, in the first place that is free when it comes, and hatching behind them all."""
    free_from = [0] * PLACES
    axes.broken_barh([(0, len(seen))], (-0.5, PLACES), facecolor="none", hatch="///", edgecolor=style.INK, linewidth=0)
    for request in range(len(STEPS)):
        present = [number for number, members in enumerate(seen) if request in members]
        start, length = present[0], len(present)
        place = next(place for place, free in enumerate(free_from) if free <= start)
        free_from[place] = start + length
        axes.barh(place, length, left=start, height=0.86, color=style.COLORS[request % len(style.COLORS)])
        axes.text(start + length / 2, place, str(request + 1), color="black", ha="center", va="center", weight="bold")


def main() -> None:
    """Write the picture."""
    with style.styled():
        _write()


def _write() -> None:
    figure = Figure(figsize=(11, 7), layout="constrained")
    found = {title: calls(policy) for title, policy in POLICIES.items()}
    for axes, (title, seen) in zip(figure.subplots(2, 1, sharex=True), found.items(), strict=True):
        bars(axes, seen)
        axes.grid(False)
        axes.set(
            title=f"{title}: {len(seen)} network calls",
            ylabel="place",
            yticks=range(PLACES),
            yticklabels=range(1, PLACES + 1),
            ylim=(PLACES - 0.5, -0.5),
            xlim=(0, max(map(len, found.values()))),
        )
    axes.set_xlabel("network calls")
    waits = Patch(facecolor="none", hatch="///", edgecolor=style.INK, label="computed for nobody")
    axes.legend(handles=[waits], loc="center right")
    style.save(figure, PICTURE)


if __name__ == "__main__":
    main()
