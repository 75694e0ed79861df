"""Back to noise: the deterministic sampler upwards, from a picture to the noise that it comes from.

Without fresh noise a sampler follows an ordinary differential equation, which can be followed both ways. So a picture
has a noise from which the same sampler draws it again, to the accuracy of its steps (order 2). The noise can be kept,
mixed with another, or sampled from with another prompt.

References:
    | Denoising Diffusion Implicit Models (Song et al., 2021), section 4.3: https://arxiv.org/abs/2010.02502
    | Prompt-to-prompt editing of real pictures (Mokady et al., 2022), which begins so: https://arxiv.org/abs/2211.09794
"""

from collections.abc import Mapping
from typing import Any

import torch

from kdpm2 import _check, spacing
from kdpm2.denoiser import Network, as_denoiser
from kdpm2.loop import Callback
from kdpm2.sampling import Sigmas, sample
from kdpm2.table import dpm2


def invert(
    denoiser: Network,
    x: torch.Tensor,
    sigmas: Sigmas,
    *,
    conditioning: Mapping[str, Any] | None = None,
    flow: bool | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    mode: str = "eager",
) -> torch.Tensor:
    """The samples at the first noise level from which DPM2 without fresh noise draws `x`.

    `kdpm2.sample(denoiser, invert(denoiser, x, sigmas), sigmas[:-1], eta=0)`, where the last of `sigmas` is 0, returns
    `x` again, but for the error of the steps. A last step to 0 would denoise it once more. With guidance the error is
    larger, since the equation is then stiffer: invert without it.

    Args:
        denoiser: As in `kdpm2.sample`.
        x: Shape (B, ...), floating point: clean samples. They are taken for those at the last level above 0, so let
            this be small, and do not leave out the next-to-last sigma.
        sigmas: Shape (N+1,): the noise levels of the run that draws them, falling, with or without a final 0.
        conditioning: As in `kdpm2.sample`.
        flow: As in `kdpm2.sample`.
        callback: As in `kdpm2.sample`.
        progress: As in `kdpm2.sample`.
        mode: As in `kdpm2.sample`.

    Returns:
        A new tensor like `x`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """
    model = as_denoiser(denoiser, flow)
    steps = spacing.inverted(model.schedule, spacing.given(model.schedule, _check.numbers("sigmas", sigmas)))
    table = dpm2(model.schedule, steps, model.prediction_type, 0.0)
    return sample(
        denoiser, x, table, conditioning=conditioning, flow=flow, callback=callback, progress=progress, mode=mode
    )
