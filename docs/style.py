"""One look for every picture: colours that the colour-blind tell apart, on a transparent ground.

A picture is shown on white and on black. So its ground is transparent, and its ink is the grey that stands out from
both equally. Letters are so large that a picture of 11 inches can still be read on a telephone, 400 pixels wide.
"""

from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

INK = "#7f7f7f"
BLUE, ORANGE, GREEN, PINK, RED, SKY = "#1F85C7", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
COLORS = (BLUE, ORANGE, GREEN, PINK, RED, SKY)
"""Okabe and Ito's, less black and yellow, and with a lighter blue: those vanish on one of the two grounds."""
DPI = 120

STYLE: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 20,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.titlecolor": INK,
    "axes.titlesize": 20,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 20,
    "grid.alpha": 0.3,
    "grid.color": INK,
    "legend.facecolor": "none",
    "legend.framealpha": 0,
    "legend.fontsize": 18,
    "legend.labelcolor": INK,
    "lines.linewidth": 2,
    "savefig.transparent": True,
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 18,
    "ytick.color": INK,
    "ytick.labelsize": 18,
}


def styled() -> Any:
    """A context in which pictures are made and written in this style."""
    return matplotlib.rc_context(STYLE)


def save(figure: Figure, path: Path) -> None:
    """Write a picture with nothing behind it."""
    figure.savefig(path, dpi=DPI)
