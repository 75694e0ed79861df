r"""A stage of a batch whose samples stand at different stages.

Each sample takes coefficients of its own, as in `kdpm2.update.at_stage`,

.. math:: \mathrm{output} = a_s\,x + b_s\,m + c_s\,\mathrm{previous} + e_s\,\mathrm{noise},

and nobody needs *previous* afterwards, so that the output is made in its memory. A batch has two kinds of rows, those
that read the anchor and those that do not, and kept apart they have fewer terms: a batch that predicts noise makes
:math:`x + b\,m` of the one kind, and :math:`\mathrm{anchor} + b\,m + e\,\mathrm{noise}` of the other.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch

from kdpm2.batching.rows import ANCHOR_SCALED, ANCHORED, NOISE, X_SCALED, X
from kdpm2.update import COLUMNS, DeviceTable, at_stage

_MODEL, _NEXT_SCALE = COLUMNS.index("model"), COLUMNS.index("next_scale")
_XS, _ANCHORS, _NOISES = COLUMNS.index("x"), COLUMNS.index("anchor"), COLUMNS.index("noise")


class Kind(NamedTuple):
    """The samples at rows of one kind: what is read, what was read before, and room for noise."""

    sample: torch.Tensor
    previous: torch.Tensor
    drawn: torch.Tensor


class Views(NamedTuple):
    """Views of a batch of which the first `border` samples are of one kind, or all if that is 0."""

    key: tuple[int, int, int]
    sample: torch.Tensor
    previous: torch.Tensor
    sizes: list[int]
    parts: list[slice]
    kinds: list[Kind]

    @staticmethod
    def of(key: tuple[int, int, int], sample: torch.Tensor, previous: torch.Tensor, drawn: torch.Tensor) -> "Views":
        """Those of what is kept, for a border, a count, and where the samples begin in memory."""
        border, count, _ = key
        ends = [border, count] if border else [count]
        parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        kinds = [Kind(sample[part], previous[part], drawn[part]) for part in parts]
        return Views(key, sample[:count], previous[:count], [p.stop - p.start for p in parts], parts, kinds)


def advance_into_previous(
    rows: torch.Tensor,
    start: int,
    terms: int,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    previous: torch.Tensor,
    noise: torch.Tensor,
) -> None:
    """Make the samples after the stage in the memory of `previous`.

    Args:
        rows: Shape (R, 8), contiguous: the coefficients of these samples and others.
        start: Where those of these samples begin.
        terms: What `kdpm2.batching.rows` says of any of them. Where some read the anchor and others do not, all are
            made as if they did, with more terms than the one or the other kind has alone.
        sample: Shape (B, ...), in the dtype of `rows`: what the stage reads, before scaling.
        model_output: Same shape and dtype: the network's output.
        previous: Same shape and dtype: what the stage before read.
        noise: Same shape and dtype: a standard normal draw; read if any row adds some.
    """
    # One view where a selection and a reshaping would be two: for small samples these cost as much as the arithmetic.
    alone = [1] * (sample.ndim - 1)
    shape, strides, offset = [len(sample), *alone], [len(COLUMNS), *alone], start * len(COLUMNS)

    def column(number: int) -> torch.Tensor:
        return rows.as_strided(shape, strides, offset + number)

    if terms & ANCHORED:
        if terms & ANCHOR_SCALED:
            previous.mul_(column(_ANCHORS))
        previous.addcmul_(model_output, column(_MODEL))
        if terms & X:
            previous.addcmul_(sample, column(_XS))
    elif terms & X_SCALED:
        torch.mul(sample, column(_XS), out=previous).addcmul_(model_output, column(_MODEL))
    else:
        torch.addcmul(sample, model_output, column(_MODEL), out=previous)
    if terms & NOISE:
        previous.addcmul_(noise, column(_NOISES))


def stage(
    held: DeviceTable,
    index: torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    previous: torch.Tensor,
    noise: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The samples after the stage, and the network's next input: new tensors, the same operations for every batch.

    The network's output where a row does not ask for it is not read: for a place that is empty it may be anything.
    """
    rows = held.rows.index_select(0, index)
    model, next_scale = (rows[:, i].reshape(-1, *[1] * (sample.ndim - 1)) for i in (_MODEL, _NEXT_SCALE))
    after = at_stage(held, index, sample, torch.where(model == 0, 0.0, model_output), previous, noise)
    return after, (after * next_scale).to(sample.dtype)


@cache
def compiled_stage() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """`stage`, as one graph for all batches of a shape."""
    return torch.compile(stage, fullgraph=True, dynamic=False)
