r"""Noise levels for any model and number of steps, where Align Your Steps has tables for three models.

`kdpm2.tune` works in three steps. It looks at a fine run for where the error is made, and spreads the levels so that
all steps make the same (`mesh`). It tries these levels and the untuned curves (`untuned`). From the best of them it
searches on, within a fixed number of network calls (`polish`). Then samples that the search has not seen decide between
the result and the best of the untuned curves.

The error of levels is the mean distance between where they lead and where the fine run leads, from the same
noise and along the same Brownian path (`bench`).

References:
    Align Your Steps (Sabour et al., 2024): https://arxiv.org/abs/2404.14507
"""

from kdpm2.tuning.report import Tried, Tuned
from kdpm2.tuning.search import CALLS, tune

__all__ = ["CALLS", "Tried", "Tuned", "tune"]
