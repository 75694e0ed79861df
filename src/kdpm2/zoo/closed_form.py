r"""Denoisers known in closed form, to measure a sampler against the truth.

Where the data are a mixture of Gaussians of means :math:`\mu_k` and one standard deviation s, the best estimate of a
clean sample from :math:`x = \alpha x_0 + \sigma n` is

.. math::
    D(x, \sigma) = \sum_k w_k \left(\mu_k + \frac{\alpha s^2}{v}\,(x - \alpha\mu_k)\right),\qquad
    w_k \propto e^{-|x-\alpha\mu_k|^2 / 2v},\qquad v = \alpha^2 s^2 + \sigma^2,

with :math:`\alpha = 1`, or :math:`1-\sigma` for a flow: Bayes' rule for normal distributions.
"""

import torch

from kdpm2 import _check
from kdpm2._check_tensor import floating

_LARGEST_DIMENSION = 10**6


class GaussianMixture:
    """The denoiser of a mixture of K equally likely Gaussians in D dimensions.

    Args:
        means: Shape (K, D), floating point: their means.
        std: The standard deviation of each in every direction, at least 0.
        flow: Whether samples are mixed as (1-σ)·x0 + σ·n.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has the wrong shape or is out of range.
    """

    def __init__(self, means: torch.Tensor, std: float, flow: bool = False) -> None:
        floating("means", means)
        if means.ndim != 2 or not means.numel():
            raise ValueError(f"means must have the shape (K, D), got {tuple(means.shape)}")
        if means.is_meta or not means.isfinite().all():
            raise ValueError(f"means must be finite numbers, got {_check.shown(means)}")
        self.means = means
        self.std = _check.number("std", std, 0, _check.LARGEST)
        self.flow = _check.flag("flow", flow)

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The clean samples to be expected, like `x` (B, D), from `sigma` (B,).

        Raises:
            TypeError: If one of them is no floating-point tensor.
            ValueError: If one of them has another shape.
        """
        if floating("x", x).ndim != 2 or x.shape[1] != self.means.shape[1]:
            raise ValueError(f"x must have the shape (B, {self.means.shape[1]}), got {tuple(x.shape)}")
        if floating("sigma", sigma).shape != x.shape[:1]:
            raise ValueError(f"sigma must have the shape ({len(x)},), got {tuple(sigma.shape)}")
        if sigma.device != x.device or x.is_meta:
            raise ValueError(f"x and sigma must be on one device, got {x.device} and {sigma.device}")
        sigma = sigma[:, None]
        alpha = 1 - sigma if self.flow else torch.ones_like(sigma)
        variance = (alpha * self.std) ** 2 + sigma**2
        means = self.means.to(x)
        squares = (x[:, None] - alpha[:, None] * means).square().sum(dim=2)
        weights = torch.softmax(-squares / (2 * variance), dim=1)
        towards_x = alpha * self.std**2 / variance
        return weights @ means * (1 - alpha * towards_x) + towards_x * x


def gaussian(std: float, dimensions: int = 1, flow: bool = False) -> GaussianMixture:
    """The denoiser of one Gaussian around 0."""
    count = _check.integer("dimensions", dimensions, 1, _LARGEST_DIMENSION)
    return GaussianMixture(torch.zeros(1, count, dtype=torch.float64, device="cpu"), std, flow)
