"""What is kept of a stage for the next, as its anchor."""

import torch

from kdpm2.table import Row, StageTable
from kdpm2.update._eager import denoised


def kept(
    table: StageTable, stage: int, row: Row, sample: torch.Tensor, model_output: torch.Tensor
) -> torch.Tensor | None:
    """The anchor of the stage after `stage`: what this one read, or the clean sample that it saw; None for none.

    Args:
        table: The sampler.
        stage: Which stage of it.
        row: Its coefficients.
        sample: Shape (B, ...): what the stage reads, before scaling.
        model_output: Same shape: the network's output.
    """
    if not table.keeps_anchor[stage]:
        return None
    return denoised(row, sample, model_output) if table.keeps_estimate else sample
