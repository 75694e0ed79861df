r"""CFG++'s sample and output for the row of a stage that starts a step: see `kdpm2.guidance`."""

import torch


def renoised(
    denoised: tuple[float, float] | tuple[torch.Tensor, torch.Tensor],
    alpha: float | torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    unguided: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair (x̃, m̃), new tensors.

    Args:
        denoised: p and q of the stage: numbers, or tensors that broadcast with the sample.
        alpha: What the data is multiplied by in the sample; 0 in a stage that does not start a step.
        sample: Shape (B, ...): what the stage reads, before scaling.
        model_output: Same shape: the guided output of the network.
        unguided: Same shape: the one without the condition.
    """
    p, q = denoised
    working = torch.promote_types(sample.dtype, torch.float32)
    output = model_output.to(working)
    difference = (output - unguided) * alpha
    return (sample + q * difference).to(sample.dtype), output - p * difference
