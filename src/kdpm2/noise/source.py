"""The protocol of noise: every kind gives the standard normal noise of a step, whoever asks for it."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from kdpm2.noise.seeds import Generators, Seeds, drawn_seeds
from kdpm2.table import StageTable


class Source(ABC):
    """Gives the noise of steps.

    Attributes:
        fresh: Whether what is drawn is a new tensor, which whoever asked may write to.
        streams: Shape (B,), int64: for noise that is a pure function of a seed, a step and a place, the seeds of
            `kdpm2.philox`, from which a kernel makes it where it is added. None for any other.
    """

    fresh: bool = True
    streams: torch.Tensor | None = None

    @abstractmethod
    def draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """The noise that a step adds, with the shape and device of `like` (B, ...), in its dtype or a wider one."""


class Noise(Source):
    """A kind of noise that has a name in `kdpm2.noise.NOISES`.

    Attributes:
        drawn_on: Whether a call's own generators are drawn from at each call, as diffusers does it. If not, a run takes
            seeds from the first call's.
    """

    drawn_on: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def of(cls, seeds: Seeds, table: StageTable, like: torch.Tensor) -> "Noise":
        """The noise of a run.

        Args:
            seeds: One for the batch, or one for each sample, which then does not depend on its neighbours; None for a
                new one, or torch's global generator.
            table: The run's stages.
            like: Shape (B, ...): a tensor with the shape, dtype and device of the samples.
        """

    @classmethod
    def of_generators(cls, generator: Generators, table: StageTable, like: torch.Tensor) -> "Noise":
        """The noise of a run whose caller has generators."""
        return cls.of(drawn_seeds(generator, like.shape), table, like)

    @classmethod
    def check(cls, table: StageTable) -> None:
        """Raise ValueError if the noise is not defined for the steps of a table."""
        return

    def serves(self, like: torch.Tensor) -> bool:
        """Whether it can go on for samples like these, if their shape or device changed."""
        return True

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Where it stands: numbers, lists of numbers and tensors, from which `of_state` goes on."""

    @classmethod
    @abstractmethod
    def of_state(cls, state: dict[str, Any], like: torch.Tensor) -> "Noise":
        """The noise that goes on where another stood when `state` was taken.

        `like` is as in `of`, or a tensor without elements if the samples are not known yet.
        """
