"""The rows of all requests in one tensor on the device: which of them a sample takes is an index, data like any other.

Row 0 is nobody's, and all zeros: what stands at it stays 0. Each request owns a slot, the rows from `first` on, as many
as the longest table there may be. What the rows hold is known on the host too, in a byte for each: which terms a stage
has decides what need not be computed, and nothing is read back for that.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import update
from kdpm2.table import StageTable
from kdpm2.update import COLUMNS

ANCHORED, ANCHOR_SCALED, X, X_SCALED, NOISE = 1, 2, 4, 8, 16
"""Of the terms of a row: the anchor's is there, and not 1; the sample's is there, and not 1; the noise's is there."""


class Rows(NamedTuple):
    """The table of one request, of S stages, on the CPU.

    Attributes:
        coefficients: Shape (S, 8), float32 or float64, columns as in `kdpm2.update.COLUMNS`.
        conditions: Shape (2, S), same dtype: noise levels, and what the network is conditioned on.
        step: Shape (S,), int64: which step each stage belongs to.
    """

    coefficients: torch.Tensor
    conditions: torch.Tensor
    step: torch.Tensor

    @staticmethod
    def of(table: StageTable, dtype: torch.dtype) -> "Rows":
        """Those of a table, for samples of a dtype."""
        held = update.on_device(table, torch.device("cpu"), dtype)
        levels = torch.from_numpy(table.stage_sigmas).to(held.timesteps)
        return Rows(held.rows, torch.stack([levels, held.timesteps]), held.step)

    def terms(self) -> NDArray[np.uint8]:
        """Shape (S,): which terms each stage has."""
        column = dict(zip(COLUMNS, self.coefficients.numpy().T, strict=True))
        return np.asarray(
            ANCHORED * (column["anchor"] != 0)
            + ANCHOR_SCALED * (column["anchor"] != 1)
            + X * (column["x"] != 0)
            + X_SCALED * (column["x"] != 1)
            + NOISE * (column["noise"] != 0),
            dtype=np.uint8,
        )


class SlotRows:
    """Rows for a number of slots, which grows when they are full.

    Attributes:
        coefficients: Shape (R, 8), as in `Rows`, for 1 + slots · most_stages = R.
        conditions: Shape (2, R).
        step: Shape (R,), int64.
        terms: Shape (R,): on the host, which terms each row has.
    """

    def __init__(self, slots: int, most_stages: int, dtype: torch.dtype, device: torch.device) -> None:
        self._most_stages = most_stages
        self.coefficients = torch.zeros(1, len(COLUMNS), dtype=dtype, device=device)
        # Where there is no sample the network is told of noise, so that it divides by no 0.
        self.conditions = torch.tensor([[1.0], [0.0]], dtype=dtype, device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.terms = np.zeros(1, dtype=np.uint8)
        self._free: list[int] = []
        self._grow(slots)

    def _grow(self, slots: int) -> None:
        start, more = len(self.terms), slots * self._most_stages
        self.coefficients = torch.cat([self.coefficients, self.coefficients.new_zeros(more, len(COLUMNS))])
        self.conditions = torch.cat([self.conditions, self.conditions.new_zeros(2, more)], dim=1)
        self.step = torch.cat([self.step, self.step.new_zeros(more)])
        self.terms = np.append(self.terms, np.zeros(more, dtype=np.uint8))
        self._free += range(start, start + more, self._most_stages)[::-1]

    def take(self, rows: Rows) -> int:
        """Put a request's rows into a slot that is free; where they begin."""
        if not self._free:
            self._grow((len(self.terms) - 1) // self._most_stages)
        first = self._free.pop()
        own = slice(first, first + len(rows.step))
        ahead = self.step.is_cuda  # without a wait for the device
        self.coefficients[own].copy_(rows.coefficients, non_blocking=ahead)
        self.conditions[:, own].copy_(rows.conditions, non_blocking=ahead)
        self.step[own].copy_(rows.step, non_blocking=ahead)
        self.terms[own] = rows.terms()
        return first

    def leave(self, first: int) -> None:
        """Free the slot whose rows begin there."""
        self._free.append(first)

    def held(self, first: int, stages: int) -> Rows:
        """The rows of a request, on the CPU."""
        own = slice(first, first + stages)
        kept = (self.coefficients[own], self.conditions[:, own], self.step[own])
        return Rows(*(tensor.cpu().contiguous() for tensor in kept))
