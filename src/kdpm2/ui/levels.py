"""The noise levels of one or two configurations, drawn in the colours of the page."""

import html
import io
import re
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdpm2.table import StageTable

_INK = "#010203"  # stands for the colour of the page's text
_COLORS = ("#3b82f6", "#f97316")  # readable on white and on black


def drawn(tables: Sequence[tuple[str, StageTable]]) -> str:
    """An SVG of at most two tables, each with its name: sigma, midpoints, down and up over the network calls.

    Nothing where there is no table.
    """
    if not tables:
        return ""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, table), color in zip(tables, _COLORS, strict=False):
        calls, starts = range(1, len(table) + 1), ~table.reads_midpoint
        axes.plot(calls, table.stage_sigmas, color=color, alpha=0.5, linewidth=1.5)
        for chosen, marker, what in ((starts, "o", "sigma"), (~starts, "x", "midpoint")):
            at = [stage for stage in range(len(table)) if chosen[stage]]
            shown = table.stage_sigmas[at]
            axes.plot([stage + 1 for stage in at], shown, marker, color=color, label=_label(name, what))
        for levels, marker, what in ((table.down, "v", "down"), (table.up, "^", "up")):
            ends = [stage for stage in range(len(table)) if table.ends_step[stage] and levels[table.step[stage]] > 0]
            at_ends = [levels[table.step[stage]] for stage in ends]
            if ends:
                axes.plot(
                    [e + 1.5 for e in ends],
                    at_ends,
                    marker,
                    color=color,
                    alpha=0.75,
                    markersize=5,
                    label=_label(name, what),
                )
    axes.set(yscale="log", xlabel="network call", ylabel="noise level")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=_INK, alpha=0.12)
    axes.legend(fontsize=9, framealpha=0, labelcolor=_INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    axes.tick_params(colors=_INK, which="both")
    return _svg(figure, "; ".join(_in_words(name, table) for name, table in tables))


def _label(name: str, what: str) -> str:
    return f"{name}: {what}" if name else what


def _in_words(name: str, table: StageTable) -> str:
    starts = [*table.stage_sigmas[table.starts_step], table.sigmas[-1]]  # with what noise alone raises
    levels = ", ".join(f"{sigma:.3g}" for sigma in starts)
    return f"{name or 'settings'}: {len(table)} network calls, sigma {levels}"


def _svg(figure: Figure, words: str) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r'width="[^"]*" height="[^"]*"|height="[^"]*" width="[^"]*"', "", text, count=1)
    head = f'<svg role="img" aria-label="{html.escape(words)}" id="levels-plot" style="width:100%;height:auto"'
    return text.replace("<svg", head, 1)
