"""The protocol of noise: every kind returns the standard normal noise of a step."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from kdpm2.noise.seeds import Generators, Seeds, drawn_seeds
from kdpm2.table import StageTable


class Source(ABC):
    """Gives the noise of steps.

    Attributes:
        fresh: Whether `draw` returns a new tensor, which the caller may write to.
        streams: Shape (B,), int64: the seeds of `kdpm2.philox`, if the noise depends on seed, step and place only. A
            kernel can then make the noise where it is added. None for any other noise.
    """

    fresh: bool = True
    streams: torch.Tensor | None = None

    @abstractmethod
    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """The noise that a step adds, with the shape and device of `like` (B, ...), in its dtype or a wider one."""


class Noise(Source):
    """A kind of noise that has a name in `kdpm2.noise.NOISES`.

    Attributes:
        drawn_on: Whether each call draws from the generators that are passed to it, as in diffusers. If not, a run
            takes seeds from the generators of its first call.
    """

    drawn_on: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def of(cls, seeds: Seeds, table: StageTable, like: torch.Tensor) -> "Noise":
        """The noise of a run.

        Args:
            seeds: One for the batch, or one for each sample, so a sample does not depend on its neighbours. None for a
                new one, or for torch's global generator.
            table: The run's stages.
            like: Shape (B, ...): a tensor with the shape, dtype and device of the samples.
        """

    @classmethod
    def of_generators(cls, generator: Generators, table: StageTable, like: torch.Tensor) -> "Noise":
        """The noise of a run, from generators that the caller passes."""
        return cls.of(drawn_seeds(generator, like.shape), table, like)

    @classmethod
    def check(cls, table: StageTable) -> None:
        """Raise ValueError if the noise is not defined for the steps of a table."""
        return

    def serves(self, like: torch.Tensor) -> bool:
        """Whether it can go on for samples like these, after their shape or device has changed."""
        return True

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The state: numbers, lists of numbers and tensors, from which `of_state` continues."""

    @classmethod
    @abstractmethod
    def of_state(cls, state: dict[str, Any], like: torch.Tensor) -> "Noise":
        """The noise that continues where another one stood when its `state` was taken.

        `like` is as in `of`, or a tensor without elements if the samples are not known yet.
        """
