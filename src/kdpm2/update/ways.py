"""Chooses how a stage is made: by the kernel where possible, else by torch operations."""

from operator import attrgetter

import torch

from kdpm2.philox import Draw
from kdpm2.table import Row
from kdpm2.update import _eager, _fused, _indexed

_on_gpu = attrgetter("is_cuda")  # a function, but one that costs no call of Python's


def apply(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    into: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sample after the stage, and the network's estimate of the clean sample.

    Args:
        row: The stage's coefficients.
        sample: Any shape: what the stage reads, before scaling.
        model_output: Same shape: the network's output.
        anchor: Same shape: the sample at the start of the step; needed if `row.anchor` is not 0.
        noise: Same shape: a standard normal draw; needed if `row.noise` is not 0.
        into: `noise`, if it is not needed any more. A float32 sample is then made in its memory.

    Returns:
        Two tensors with the shape, dtype and device of `sample`. They are new, except that one may use the memory of
        `into`.
    """
    if _on_gpu(sample) and _serves(sample, model_output, anchor, noise):
        return _fused.apply(row, sample, model_output, anchor, noise)
    return _eager.apply(row, sample, model_output, anchor, noise, into)


def advance(
    row: Row,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    anchor: torch.Tensor | None = None,
    noise: torch.Tensor | Draw | None = None,
    into: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sample after the stage alone, from the same arguments as `apply`.

    `noise` may also be a `kdpm2.philox.Draw`, which is made where it is added. `into` may also be the anchor, the
    sample if there is no anchor, or other memory.
    """
    drawn = None if isinstance(noise, Draw) else noise
    if _on_gpu(sample) and _serves(sample, model_output, anchor, drawn, into):
        kept = into if into is not None and into.dtype is sample.dtype else None
        return _fused.advance(row, sample, model_output, anchor, noise, kept)
    if isinstance(noise, Draw):
        drawn = noise.like(sample)
        into = drawn if into is None else into
    return _eager.advance(row, sample, model_output, anchor, drawn, into)


def each(
    rows: torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    previous: torch.Tensor,
    noise: torch.Tensor | Draw | None = None,
) -> torch.Tensor:
    """The samples after a stage, where each sample has its own row: a new tensor.

    Args:
        rows: Shape (B, 7), float32 or float64, on the device: columns as in `COLUMNS`.
        sample: Shape (B, ...): what the stage reads, before scaling.
        model_output: Same shape: the network's output.
        previous: Same shape, finite: the sample that the stage before read. It is the anchor for rows that have one.
        noise: Same shape: standard normal draws, or any finite numbers for rows that add no noise. None if no row adds
            noise.
    """
    drawn = None if isinstance(noise, Draw) else noise
    if not torch.compiler.is_compiling() and _on_gpu(sample) and _serves(sample, model_output, previous, drawn):
        return _fused.each(rows, sample, model_output, previous, noise)
    if isinstance(noise, Draw):
        drawn = _made(noise, rows, sample)
    return _indexed.indexed(rows, sample, model_output, previous, drawn)


def _made(noise: Draw, rows: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """The noise of the samples that add some; on a GPU of all, as that is to be known without waiting for it."""
    if not rows.is_cpu or torch.compiler.is_compiling():
        return noise.like(sample)
    adding = rows[:, _indexed.COLUMNS.index("noise")].nonzero()[:, 0]
    drawn = Draw(noise.seeds[adding], noise.number[adding]).like(sample[adding])
    return drawn.new_zeros(sample.shape).index_copy(0, adding, drawn)


def _serves(*tensors: torch.Tensor | None) -> bool:
    """Whether the kernel can take these tensors together, the sample first."""
    return _fused.available(*(tensor for tensor in tensors if tensor is not None))
