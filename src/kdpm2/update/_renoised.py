r"""CFG++'s sample and output for a stage that starts a step: see `kdpm2.guidance`."""

import torch

from kdpm2.table import StageTable


def renoised(
    table: StageTable, stage: int, sample: torch.Tensor, model_output: torch.Tensor, unguided: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair (x̃, m̃), new tensors; the sample and the output themselves in a stage that does not start a step.

    Args:
        table: The sampler.
        stage: Which stage of it.
        sample: Shape (B, ...): what the stage reads, before scaling.
        model_output: Same shape: the guided output of the network.
        unguided: Same shape: the one without the condition.
    """
    if not table.starts_step[stage]:
        return sample, model_output
    row = table.row(stage)
    denoised = row.denoised_x, row.denoised_model
    return renoised_of(denoised, float(table.stage_alphas[stage]), sample, model_output, unguided)


def renoised_of(
    denoised: tuple[float, float] | tuple[torch.Tensor, torch.Tensor],
    alpha: float | torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    unguided: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from the numbers, or from tensors that broadcast with the sample: p and q, and alpha, or 0 for it."""
    p, q = denoised
    working = torch.promote_types(sample.dtype, torch.float32)
    output = model_output.to(working)
    difference = (output - unguided) * alpha
    return (sample + q * difference).to(sample.dtype), output - p * difference
