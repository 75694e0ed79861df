r"""Options that change the clean sample before a stage uses it. Models of pixels are often sampled so.

*Clipping* keeps it within :math:`\pm r`. *Dynamic thresholding* sets s to the quantile p of the sample's absolute
values, but at least to 1 and at most to a largest value. The sample becomes :math:`\mathrm{clip}(\hat x_0, -s, s) / s`.

In both cases a stage is no longer linear in the network's output. It is made from the changed clean sample, with the
row for a network that predicts the clean sample.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020), whose samplers clip: https://arxiv.org/abs/2006.11239
    | Photorealistic Text-to-Image Diffusion Models (Saharia et al., 2022), section 2.3: https://arxiv.org/abs/2205.11487
"""

from typing import Any, NamedTuple

import torch

from kdpm2 import _check


class Limits(NamedTuple):
    """What is done to the clean sample: clipped to ±`largest`, or thresholded at `quantile` where that is not None."""

    largest: float
    quantile: float | None = None

    def __call__(self, clean: torch.Tensor) -> torch.Tensor:
        """The clean sample, shape (B, ...), within its limits: a new tensor."""
        if self.quantile is None:
            return clean.clamp(-self.largest, self.largest)
        flat = clean.reshape(len(clean), -1) if clean.ndim else clean.reshape(1, 1)
        working = flat.to(torch.promote_types(clean.dtype, torch.float32))
        bound = torch.quantile(working.abs(), self.quantile, dim=1, keepdim=True)
        bound = bound.clamp(min=1, max=self.largest)  # below 1 it would make contrast that is not there
        return (working.clamp(-bound, bound) / bound).reshape(clean.shape).to(clean.dtype)


def limits(options: Any) -> Limits | None:
    """What the options ask for; None if the clean sample is used as it is.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If it is out of range.
    """
    clip = _check.flag("clip_sample", options.clip_sample)
    reach = _check.positive("clip_sample_range", options.clip_sample_range)
    quantile = _check.number("dynamic_thresholding_ratio", options.dynamic_thresholding_ratio, 0, 1)
    largest = _check.positive("sample_max_value", options.sample_max_value)
    if _check.flag("thresholding", options.thresholding):
        return Limits(largest, quantile)
    return Limits(reach) if clip else None
