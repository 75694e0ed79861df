r"""Where the local error of a run is, and levels that share it evenly.

The error that a step of length h in λ = log σ makes by itself is :math:`C(\lambda)\,h^3` for a second-order method. Along
a fine run, one step is held against two half steps. Their distance gives C. It is measured in the sample's own spread at
that level, :math:`\sqrt{\alpha^2 s^2+\sigma^2}` for data of standard deviation s, because what is left of an error at the
end of the run shrinks with that spread. Levels between which :math:`\int C^{1/3}\,d\lambda` is the same make equal errors:
the mesh of a solver of ordinary differential equations.

The last step, to 0, has one stage. It returns the estimate of the clean sample, and how far that is from the end of the
fine run is known for every level. So the level at which the last step starts is the one with the smallest sum.

References:
    | Equidistribution: Good approximation by splines with variable knots (de Boor, 1973)
    | Levels optimised for a model: Align Your Steps (Sabour et al., 2024), https://arxiv.org/abs/2404.14507
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpm2.tuning.bench import Bench, Traced, squared

Floats = NDArray[np.float64]

WINDOWS = 12
"""How many steps are held against two half steps, at two network calls each."""

_ORDER = 3
_POINTS = 1000
_LEAST = 1e-12


class LocalError(NamedTuple):
    """Local errors over log σ, as root mean squares.

    Attributes:
        log_sigma: Shape (P,), falling.
        shared: Shape (P,), rising from 0: the integral of the density from the first level.
        jump: Shape (P,): the error of a last step from each level to 0.
    """

    log_sigma: Floats
    shared: Floats
    jump: Floats

    def levels(self, steps: int) -> Floats:
        """Where `steps` steps start, and 0: equal errors, with the last level where their sum is smallest."""
        gaps = steps - 1
        sums = gaps * (self.shared / gaps) ** _ORDER + self.jump
        last = max(int(np.argmin(sums)), 1)
        starts = np.interp(np.linspace(0, self.shared[last], steps), self.shared, self.log_sigma)
        return np.append(np.exp(starts), 0.0)

    def predicted(self, levels: Floats) -> float:
        """The sum of the errors of steps that start at `levels`, the last of which is the end, 0."""
        at = -np.log(levels[:-1])
        shared = np.interp(at, -self.log_sigma, self.shared)
        return float((np.diff(shared) ** _ORDER).sum() + np.interp(at[-1], -self.log_sigma, self.jump))


def measured(bench: Bench, fine: Floats, traced: Traced) -> LocalError:
    """The local error along a fine run over `fine`, which was traced."""
    logs = np.log(fine[:-1])
    spread = float(traced.samples.double().std())
    starts = np.unique(np.linspace(0, len(logs) - 3, WINDOWS).round().astype(int))
    middles, thirds = [], []
    for start in starts:
        whole = bench.run(fine[[start, start + 2]], traced.before[start]).samples
        at_end = np.hypot(float(bench.schedule.alpha(fine[start + 2])) * spread, fine[start + 2])
        error = np.sqrt(squared(whole, traced.before[start + 2]).mean()) * spread / at_end
        middles.append(logs[start + 1])
        thirds.append((error + _LEAST) ** (1 / _ORDER) / (logs[start] - logs[start + 2]))
    log_sigma = np.linspace(logs[0], logs[-1], _POINTS)
    density = np.exp(np.interp(-log_sigma, -np.array(middles), np.log(thirds)))
    step = log_sigma[0] - log_sigma[1]
    shared = np.append(0.0, np.cumsum((density[1:] + density[:-1]) / 2 * step))
    jumps = [np.sqrt(squared(each, traced.samples).mean()) + _LEAST for each in traced.denoised]
    return LocalError(log_sigma, shared, np.exp(np.interp(-log_sigma, -logs, np.log(jumps))))
