r"""A stage that a tensor chooses: the same torch operations for every stage, for compilers and for batches.

The table lies on the device, and each stage, whether it starts a step or ends it, is

.. math:: \mathrm{output} = a_s\,x + b_s\,m + c_s\,\mathrm{previous} + e_s\,\mathrm{noise},

with s an index that is data like any other, one for all samples or one for each. *previous* is what the stage before
read: the anchor where there is one, and times 0 where there is none. So nothing depends on s but numbers, and one
compiled graph serves all stages, steps and tables of a length.
"""

from typing import NamedTuple

import numpy as np
import torch

from kdpm2._check_tensor import without_waiting
from kdpm2.table import Row, StageTable
from kdpm2.update._renoised import renoised_of

COLUMNS = Row._fields
"""What a row holds on a device: the numbers of a `Row`."""


class DeviceTable(NamedTuple):
    """A table's numbers as tensors.

    Attributes:
        rows: Shape (S, 7), float32 or float64: the coefficients of each stage, columns as in `COLUMNS`.
        timesteps: Shape (S,), same dtype: what the network is conditioned on.
        step: Shape (S,), int64: which step each stage belongs to.
        stage: Shape (S,), int64: 0 to S-1. Take an element of it as the stage: nothing is then copied to the device.
        starts: Shape (S,), float32 or float64: what the data is multiplied by in the sample of a stage that starts a
            step; 0 for other stages.
    """

    rows: torch.Tensor
    timesteps: torch.Tensor
    step: torch.Tensor
    stage: torch.Tensor
    starts: torch.Tensor


def on_device(table: StageTable, device: torch.device, dtype: torch.dtype = torch.float32) -> DeviceTable:
    """The table for samples of a dtype: in float64 for float64, else in float32."""
    working = torch.promote_types(dtype, torch.float32)

    def moved(values: object, to: torch.dtype) -> torch.Tensor:
        return without_waiting(torch.as_tensor(values, dtype=to, device="cpu"), device)

    return DeviceTable(
        rows=moved(table.rows, working),
        timesteps=moved(table.stage_timesteps, working),
        step=moved(table.step, torch.int64),
        stage=moved(np.arange(len(table)), torch.int64),
        starts=moved(table.stage_alphas * table.starts_step, working),
    )


def network_input(table: DeviceTable, stage: torch.Tensor, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network reads at a stage: the scaled sample, and its timestep of shape (B,).

    Args:
        table: On the device of the sample.
        stage: Shape () or (B,), int64.
        sample: Shape (B, ...), floating point.
    """
    index = stage.reshape(-1)
    scale = _per_sample(table.rows[:, 0].index_select(0, index), sample)
    return (sample * scale).to(sample.dtype), table.timesteps.index_select(0, index).expand(len(sample))


def renoised_at(
    table: DeviceTable, stage: torch.Tensor, sample: torch.Tensor, model_output: torch.Tensor, unguided: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`renoised` for the stages of a table; no change to the stages that do not start a step."""
    index = stage.reshape(-1)
    return renoised_by(
        table.rows.index_select(0, index), table.starts.index_select(0, index), sample, model_output, unguided
    )


def renoised_by(
    rows: torch.Tensor, starts: torch.Tensor, sample: torch.Tensor, model_output: torch.Tensor, unguided: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with the rows themselves, of shape (1 or B, 7), and `starts`, of shape (1 or B,)."""
    *_, p, q = (_per_sample(column, sample) for column in rows.unbind(1))
    return renoised_of((p, q), _per_sample(starts, sample), sample, model_output, unguided)


def denoised_by(rows: torch.Tensor, sample: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
    """The network's estimates of the clean samples, by rows of shape (B, 7): a new tensor."""
    *_, p, q = (_per_sample(column, sample) for column in rows.unbind(1))
    working = rows.dtype
    return (p * sample.to(working)).addcmul_(q, model_output.to(working)).to(sample.dtype)


def at_stage(
    table: DeviceTable,
    stage: torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    previous: torch.Tensor,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sample after the stage, a new tensor.

    Args:
        table: On the device of the sample.
        stage: Shape () or (B,), int64: one for all samples, or one for each.
        sample: Shape (B, ...), floating point: what the stage reads, before scaling.
        model_output: Same shape: the network's output.
        previous: Same shape: the sample that the stage before read; at the first stage of a run, any finite values.
            Give a separate tensor there, not `sample` itself. torch then compiles only one graph.
        noise: Same shape: a standard normal draw, or any finite numbers if the stage adds no noise. None if no stage of
            the table adds noise.
    """
    return indexed(table.rows.index_select(0, stage.reshape(-1)), sample, model_output, previous, noise)


def indexed(
    rows: torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    previous: torch.Tensor,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """The same with the rows themselves, of shape (1 or B, 7)."""
    _, x, model, anchor, drawn, *_ = (_per_sample(column, sample) for column in rows.unbind(1))
    working = rows.dtype
    # In the order of `kdpm2.update._eager`, and rounded as often where a coefficient is 0 or 1.
    total = (x * sample.to(working)).addcmul_(anchor, previous.to(working))
    if noise is not None:
        total = total.addcmul_(drawn, noise.to(working))
    return total.addcmul_(model, model_output.to(working)).to(sample.dtype)


def _per_sample(values: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """Shape (1 or B, 1, ...), for values of shape (1 or B,)."""
    return values.reshape(-1, *[1] * (sample.ndim - 1))
