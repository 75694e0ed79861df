"""The state of a run along a table: one integer, one tensor, and the state of its noise.

A run is at a stage. Between the two stages of a step it holds the *anchor*, the sample at the start of the step, or
what `kdpm2.kept` has in its place. After the last stage nothing is kept.
"""

from typing import Any, NamedTuple

import torch

from kdpm2.table import Row, StageTable


class Anchor:
    """The sample at the start of a step: the caller's own tensor, whose changes are noticed, or a copy of it.

    Changes through `tensor.data` are not noticed, because torch does not count them.

    Args:
        sample: The sample.
        shared: Whether others may write to its memory without torch noticing.

    Attributes:
        tensor: The sample.
        version: How many changes torch had counted when the step began; None for a copy, which nobody changes.
    """

    __slots__ = ("tensor", "version")

    def __init__(self, sample: torch.Tensor, shared: bool = False) -> None:
        # Of a view, changes of its neighbours count too; of what was made in inference mode, none do, nor those that
        # are made through NumPy, whose memory torch cannot resize.
        copied = shared or sample._is_view() or sample.is_inference() or not sample.untyped_storage().resizable()
        self.tensor = sample.detach().clone() if copied else sample
        self.version = None if copied else sample._version

    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.tensor, self.version is not None

    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.tensor, watched = state
        self.version = self.tensor._version if watched else None  # a copy's changes count anew


class Run(NamedTuple):
    """The state of one run of a sampler. Every change makes a new object."""

    table: StageTable
    stage: int | None = None
    """The stage that is made next; None before the run begins."""
    anchor: Anchor | None = None
    """Between the two stages of a step; else None."""
    noise: Any = None
    """What the run draws its noise from, for whoever draws it; None until something is drawn."""

    def row(self, stage: int, sample: torch.Tensor) -> Row:
        """The coefficients of the stage that reads `sample`.

        Raises:
            ValueError: If the step began with a sample of another shape or device, or if that one was changed since.
        """
        anchor = self.anchor
        if anchor is None:
            return self.table.rows_entered[stage]
        tensor = anchor.tensor
        if tensor.shape != sample.shape or tensor.device != sample.device:
            self.check(sample)
        if anchor.version is not None and tensor._version != anchor.version:
            raise ValueError(
                "sample was changed in place since it began this step, which is finished from it: assign what step "
                "returns rather than copy it into the sample, or pass step a clone of the sample"
            )
        return self.table.rows_anchored[stage]

    def check(self, sample: torch.Tensor) -> None:
        """Raise ValueError if the step began with a sample of another shape or device."""
        anchor = sample if self.anchor is None else self.anchor.tensor
        if anchor.shape != sample.shape or anchor.device != sample.device:
            raise ValueError(
                f"sample must keep the shape and device that it had when this step began, {tuple(anchor.shape)} on "
                f"{anchor.device}, got {tuple(sample.shape)} on {sample.device}: a batch may change between two steps"
            )

    def made(self, stage: int, sample: torch.Tensor, clean: torch.Tensor, shared: bool = False) -> "Run":
        """The run after `stage` was made from `sample`, with the `clean` sample that the network saw.

        The memory of both may be `shared` with others.
        """
        if stage + 1 == len(self.table.rows):
            return Run(self.table)
        if not self.table.keeps_anchor[stage]:
            return Run(self.table, stage + 1, None, self.noise)
        # The clean sample is the caller's, who may do with it what he likes.
        anchor = Anchor(clean, shared=True) if self.table.keeps_estimate else Anchor(sample, shared)
        return Run(self.table, stage + 1, anchor, self.noise)
