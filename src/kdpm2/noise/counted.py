"""Noise that is a pure function of a seed, a step and a place: `kdpm2.philox`."""

from typing import Any

import torch

from kdpm2 import philox
from kdpm2._check_tensor import without_waiting
from kdpm2.noise.seeds import Seeds, checked_seeds, drawn_seeds
from kdpm2.noise.source import Noise
from kdpm2.table import StageTable


class Philox(Noise):
    """The same noise on every device. A GPU makes it where it is added. Each sample has its own seed.

    Args:
        seeds: One for each sample.
        device: Where the noise is made.
    """

    def __init__(self, seeds: list[int], device: torch.device) -> None:
        self.seeds = seeds
        held = torch.tensor([philox.signed(seed) for seed in seeds], dtype=torch.int64, device="cpu")
        self.streams: torch.Tensor = without_waiting(held, device)

    @classmethod
    def of(cls, seeds: Seeds, table: StageTable, like: torch.Tensor) -> "Philox":
        """From one seed, a list of seeds, or a new seed for None. With one seed, each sample takes the next one."""
        checked = checked_seeds("seeds", seeds)
        first = drawn_seeds(None) if checked is None else checked
        each = [first + i for i in range(len(like) if like.ndim else 1)] if isinstance(first, int) else first
        return cls(each, like.device)

    def serves(self, like: torch.Tensor) -> bool:
        """There is a seed for each sample."""
        return len(self.seeds) == (len(like) if like.ndim else 1)

    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """The draw of the step's number."""
        self.streams = without_waiting(self.streams, like.device)
        shape = tuple(like.shape) if like.ndim else (1,)
        noise = philox.normal(self.streams, step, shape).reshape(like.shape)
        return noise.to(torch.promote_types(like.dtype, noise.dtype))

    def state(self) -> dict[str, Any]:
        """The seeds. There is no other state."""
        return {"seeds": self.seeds}

    @classmethod
    def of_state(cls, state: dict[str, Any], like: torch.Tensor) -> "Philox":
        """From the seeds."""
        return cls(state["seeds"], like.device)
