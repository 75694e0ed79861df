r"""What noise levels are tried on: one batch, one path of noise, and runs that are counted.

Every run starts from the same normal noise and, where η > 0, draws from the same Brownian path. So the distance between
a run of N steps and one of many is a number for each sample, and two sets of levels are compared on the same noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import loop, spacing
from kdpm2.denoiser import Around, Denoiser, Outputs
from kdpm2.noise import Brownian, Gaussian, OnPath, gaussian, generator_of
from kdpm2.table import dpm2

Floats = NDArray[np.float64]


def calls_of(levels: int) -> int:
    """How many network calls a run takes that starts steps at so many levels and ends at 0."""
    return 2 * levels - 1


@dataclass
class Traced:
    """A run with what it passed through.

    Attributes:
        samples: Where it ended, shape (B, ...).
        before: The samples before each step.
        denoised: The estimate of the clean samples there.
    """

    samples: torch.Tensor
    before: list[torch.Tensor] = field(default_factory=list)
    denoised: list[torch.Tensor] = field(default_factory=list)


class Bench:
    """Runs of one batch.

    Args:
        denoiser: What is sampled.
        shape: Of the batch, (B, ...).
        eta: Stochasticity.
        highest: The largest level at which a run may start.
        seed: Of the first noise and of the path.
        device: Of the samples.
        dtype: Of the samples.
        told: Called with the number of network calls of each run.

    Attributes:
        schedule: Of the denoiser.
        eta: Stochasticity.
        calls: How many network calls there were.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        shape: tuple[int, ...],
        eta: float,
        highest: float,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        told: Callable[[int], object],
    ) -> None:
        self.schedule = denoiser.schedule
        self.eta, self._told, self.calls = eta, told, 0
        self._noise = gaussian(shape, dtype, device, [generator_of(seed + i) for i in range(shape[0])])
        self._path = Brownian(self._noise, 0.0, highest, seed) if eta else None

        def count() -> None:
            self.calls += 1
            self._told(1)

        self._denoiser = _Counted(denoiser, count)

    def run(self, levels: Floats, start: torch.Tensor | None = None, trace: bool = False) -> Traced:
        """A run over levels, the last of which is its end; from the first noise, or from samples at the first level."""
        x = self._noise * float(levels[0]) if start is None else start
        steps = spacing.given(self.schedule, levels)
        table = dpm2(self.schedule, steps, self._denoiser.prediction_type, self.eta)
        traced = Traced(x)

        def note(told: dict[str, Any]) -> None:
            traced.before.append(told["x"])
            traced.denoised.append(told["denoised"])

        # Without a path no step adds noise.
        noise = Gaussian(None) if self._path is None else OnPath(self._path, table.sigmas.tolist())
        run = loop.Run(table, self._denoiser, noise, {}, note if trace else None)
        traced.samples = loop.eager(run, x)
        return traced


class _Counted(Around):
    """A denoiser that tells of each of its network calls."""

    def __init__(self, denoiser: Denoiser, count: Callable[[], None]) -> None:
        super().__init__(denoiser)
        self._count = count

    def outputs(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> Outputs:
        """What the denoiser says."""
        self._count()
        return self.inner.outputs(x, timestep, **conditioning)


def distances(a: torch.Tensor, b: torch.Tensor) -> Floats:
    """How far apart samples are, shape (B,): the root of the mean square of their differences."""
    difference = (a - b).reshape(len(a), -1).double()
    return np.asarray(difference.square().mean(dim=1).sqrt().cpu().numpy())
