"""What tuning found, and what it was held against."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TUNED = "tuned"


class Tried(NamedTuple):
    """Levels that were tried, and how they did on samples that no search has seen.

    Attributes:
        name: What they are called: "tuned", or an untuned curve.
        levels: Shape (N+1,): where the steps start, and 0.
        error: The mean distance to the fine run: of each sample the root of the mean square of the differences.
        uncertainty: Its standard error.
    """

    name: str
    levels: Floats
    error: float
    uncertainty: float


@dataclass(frozen=True, eq=False)
class Tuned:
    """Noise levels for a model and a number of steps.

    Attributes:
        sigmas: Shape (N+1,): where the steps start, and 0; for `kdpm2.sample`.
        name: Whose levels they are: "tuned", or the untuned curve that was better on held-out samples.
        options: The options of a scheduler that ask for these levels: `Scheduler.from_config(config, **tuned.options)`.
            For other numbers of steps they are interpolated in log σ.
        tried: What was tried, best first.
        steps: N.
        eta: The stochasticity that they are for.
        reference_steps: How many steps the fine run had.
        samples: How many samples the errors are means of.
        calls: How many network calls of a batch it took.
        stopped: Whether it was stopped before it was done.
    """

    sigmas: Floats
    name: str
    options: dict[str, Any]
    tried: tuple[Tried, ...]
    steps: int
    eta: float
    reference_steps: int
    samples: int
    calls: int
    stopped: bool = False

    def __str__(self) -> str:
        """The report, as lines of text."""
        width = max(len(each.name) for each in self.tried)
        lines = [
            f"{self.steps} steps, eta {self.eta:g}: "
            f"distance to {self.reference_steps} steps, mean of {self.samples} held-out samples"
        ]
        lines += [
            f"{'>' if each.name == self.name else ' '} {each.name:<{width}}  {each.error:.5g} ± {each.uncertainty:.2g}"
            for each in self.tried
        ]
        lines.append(f"sigmas: {', '.join(f'{level:.4g}' for level in self.sigmas)}")
        lines.append(f"{self.calls} network calls of a batch{', stopped early' * self.stopped}")
        return "\n".join(lines)
