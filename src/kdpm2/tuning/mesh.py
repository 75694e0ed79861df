r"""Where the local error of a run is, and levels that share it evenly.

The error that a step of length h in λ = log σ makes by itself is :math:`C(\lambda)\,h^q`. For a second-order method q
is 3. Where the steps add noise it is 3/2, because a step does not know the path between its two levels. Along a fine
run, one long step is held against the fine ones, which gives C. Levels between which :math:`\int C^{1/q}\,d\lambda` is
the same make equal errors: the mesh of a solver of ordinary differential equations, made for a stochastic one.

What is left of an error at the end of the run is less, and C is what is left. For Gaussian data of standard deviation s
an error shrinks with the spread of the sample, :math:`\sqrt{s^2+\sigma^2}`. Where fresh noise takes the place of old,
it shrinks with a power of that spread: in a step that goes from σ down to :math:`\sigma_{down}` and adds noise up to
σ', with the power :math:`\log(\sigma/\sigma_{down}) / \log(\sigma/\sigma')`.

The last step, to 0, has one stage. It returns the estimate of the clean sample, and how far that is from the end of the
fine run is known for every level. So the level at which the last step starts is the one with the smallest sum. An
estimate is a mean of what the sample may still become: its variance is smaller, by the square of that distance. If
noise is fresh, a run that ends early in such a mean is close to every fine run, and blurred. So no last step may lose
more than a tenth of the variance.

References:
    | Equidistribution: Good approximation by splines with variable knots (de Boor, 1973)
    | Levels optimised for a model: Align Your Steps (Sabour et al., 2024), https://arxiv.org/abs/2404.14507
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2.tuning.bench import Bench, Traced, distances

Floats = NDArray[np.float64]

WINDOWS = 12
"""How many long steps are held against the fine ones, at two network calls each."""

_ORDER, _ORDER_WITH_NOISE = 3.0, 1.5
_POINTS = 1000
_MOST_LOST = 0.1
_LEAST = 1e-12


class LocalError(NamedTuple):
    """Local errors over log σ, as root mean squares.

    Attributes:
        log_sigma: Shape (P,), falling.
        shared: Shape (P,), rising from 0: the integral of the density from the first level.
        jump: Shape (P,): the error of a last step from each level to 0.
        highest_last: The highest level at which a last step may start.
        order: q.
        power: Errors of steps add up to this power: 2 if they are independent of one another, else 1.
    """

    log_sigma: Floats
    shared: Floats
    jump: Floats
    highest_last: float
    order: float
    power: float

    def levels(self, steps: int) -> Floats:
        """Where `steps` steps start, and 0: equal errors, with the last level where their sum is smallest."""
        gaps = steps - 1
        sums = gaps * (self.shared / gaps) ** (self.order * self.power) + self.jump**self.power
        sums[self.log_sigma > np.log(self.highest_last)] = np.inf
        last = max(int(np.argmin(sums)), 1)
        starts = np.interp(np.linspace(0, self.shared[last], steps), self.shared, self.log_sigma)
        return np.append(np.exp(starts), 0.0)

    def predicted(self, levels: Floats) -> float:
        """What the errors of steps that start at `levels` add up to; the last level is the end, 0."""
        at = -np.log(levels[:-1])
        shared = np.interp(at, -self.log_sigma, self.shared)
        jump = np.interp(at[-1], -self.log_sigma, self.jump)
        return float((np.diff(shared) ** (self.order * self.power)).sum() + jump**self.power)


def measured(bench: Bench, fine: Floats, traced: Traced, steps: int) -> LocalError:
    """The local error along a fine run over `fine`, which was traced, for runs of so many steps."""
    order, power = (_ORDER_WITH_NOISE, 2.0) if bench.eta else (_ORDER, 1.0)
    logs = np.log(fine[:-1])
    spread = float(traced.samples.double().std())
    left = _left(bench, fine, spread)
    length = max(2, len(logs) // (2 * steps))
    starts = np.unique(np.linspace(0, len(logs) - 1 - length, WINDOWS).round().astype(int))
    middles, densities = [], []
    for start in starts:
        end = start + length
        whole = bench.run(fine[[start, end]], traced.before[start]).samples
        error = _root_mean_square(whole, traced.before[end]) * left[end]
        middles.append((logs[start] + logs[end]) / 2)
        densities.append((error + _LEAST) ** (1 / order) / (logs[start] - logs[end]))
    log_sigma = np.linspace(logs[0], logs[-1], _POINTS)
    density = np.exp(np.interp(-log_sigma, -np.array(middles), np.log(densities)))
    step = log_sigma[0] - log_sigma[1]
    shared = np.append(0.0, np.cumsum((density[1:] + density[:-1]) / 2 * step))
    jumps = [_root_mean_square(each, traced.samples) + _LEAST for each in traced.denoised]
    jump = np.exp(np.interp(-log_sigma, -logs, np.log(jumps)))
    too_high = np.flatnonzero(jump**2 > _MOST_LOST * spread**2)
    highest = float(np.exp(log_sigma[min(too_high[-1] + 1, _POINTS - 1) if len(too_high) else 0]))
    return LocalError(log_sigma, shared, jump, highest, order, power)


def _root_mean_square(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.sqrt(np.square(distances(a, b)).mean()))


def _left(bench: Bench, levels: Floats, spread: float) -> Floats:
    """What is left at the end of a run of an error at each level but the last, for Gaussian data."""
    schedule = bench.schedule
    sigma, following = levels[:-2], levels[1:-1]
    down, _, _ = schedule.coordinates.split(sigma, following, np.full_like(sigma, bench.eta))
    # As if samples were x0 + sigma n: those of a flow are that, scaled.
    at, reached, to = (each / np.maximum(schedule.alpha(each), _LEAST) for each in (sigma, down, following))
    power = np.log(at / reached) / np.log(at / to)
    shrinks = power * np.log(np.hypot(spread, at) / np.hypot(spread, to))
    remains = np.append(np.exp(-np.cumsum(shrinks[::-1])[::-1]), 1.0)
    return np.asarray(remains / np.maximum(schedule.alpha(levels[:-1]), _LEAST))
