"""A running request: its rows, the row at which it stands, its noise, and two samples."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import update
from kdpm2.noise import Noise
from kdpm2.table import StageTable
from kdpm2.update import COLUMNS

_NOISE = COLUMNS.index("noise")


@dataclass(frozen=True)
class Rows:
    """The table of one request of S stages, on the host.

    Attributes:
        coefficients: Shape (S, 7), float32 or float64, columns as in `kdpm2.update.COLUMNS`.
        conditions: Shape (3, S), same dtype: noise levels, what the network is conditioned on, and `starts` of
            `kdpm2.update.DeviceTable`.
        step: Shape (S,), int64: which step each stage belongs to.
        keeps_estimate: Whether a stage's anchor is the clean sample that the stage before saw.
    """

    coefficients: NDArray[np.floating]
    conditions: NDArray[np.floating]
    step: NDArray[np.int64]
    keeps_estimate: bool = False

    @staticmethod
    def of(table: StageTable, dtype: torch.dtype) -> "Rows":
        """Those of a table, for samples of a dtype."""
        held = update.on_device(table, torch.device("cpu"), dtype)
        levels = torch.from_numpy(table.stage_sigmas).to(held.timesteps)
        return Rows(
            held.rows.numpy(),
            torch.stack([levels, held.timesteps, held.starts]).numpy(),
            held.step.numpy(),
            table.keeps_estimate,
        )

    def __len__(self) -> int:
        return len(self.step)


@dataclass(eq=False)
class Live:
    """A request.

    Attributes:
        id: Its number.
        seed: The seed of its noise.
        rows: Its sampler.
        noise: Where the noise of its steps comes from.
        waiting: What its stage reads, and what the stage before read, without a batch dimension. Only until it has a
            place in the batch.
        stage: The stage at which it stands.
        drawn: The noise that this stage adds, once it is drawn. So a stage that failed does not draw twice.
    """

    id: int
    seed: int
    rows: Rows
    noise: Noise
    waiting: tuple[torch.Tensor, torch.Tensor] | None
    stage: int = 0
    drawn: torch.Tensor | None = None

    @property
    def adds_noise(self) -> bool:
        """Whether its stage adds noise."""
        return bool(self.rows.coefficients[self.stage, _NOISE])

    @property
    def step(self) -> int:
        """The step that its stage belongs to."""
        return int(self.rows.step[self.stage])


def at_hand(requests: list[Live], size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of requests, (size, 7), and their conditions, (3, size), on the host.

    In empty places the rows are 0. The network is told noise level 1 there, so it does not divide by 0.
    """
    coefficients = torch.zeros(size, len(COLUMNS), dtype=dtype, device="cpu")
    conditions = torch.tensor([[1.0], [0.0], [0.0]], dtype=dtype, device="cpu").repeat(1, size)
    if requests:
        count = len(requests)
        coefficients.numpy()[:count] = [each.rows.coefficients[each.stage] for each in requests]
        conditions.numpy()[:, :count] = np.transpose([each.rows.conditions[:, each.stage] for each in requests])
    return coefficients, conditions
