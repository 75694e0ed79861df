r"""The affine maps from sample and network output to the clean sample. Each model family has some of them.

With the solver's sample x at noise level σ and the network output m,

.. math:: \hat x_0 = p\,x + q\,m

=========  ===============  =======================================  ================================================
family     prediction type  p                                        q
=========  ===============  =======================================  ================================================
vp         epsilon          :math:`1`                                :math:`-\sigma`
vp         sample           :math:`0`                                :math:`1`
vp         v_prediction     :math:`1/(\sigma^2+1)`                   :math:`-\sigma/\sqrt{\sigma^2+1}`
flow       flow_prediction  :math:`1`                                :math:`-\sigma`
flow       sample           :math:`0`                                :math:`1`
edm        epsilon          :math:`\sigma_d^2/(\sigma^2+\sigma_d^2)` :math:`\sigma\sigma_d/\sqrt{\sigma^2+\sigma_d^2}`
edm        v_prediction     :math:`\sigma_d^2/(\sigma^2+\sigma_d^2)` :math:`-\sigma\sigma_d/\sqrt{\sigma^2+\sigma_d^2}`
denoiser   sample           :math:`0`                                :math:`1`
=========  ===============  =======================================  ================================================

The networks of the families vp and edm read :math:`x/\sqrt{\sigma^2+\sigma_d^2}`. Here :math:`\sigma_d` is the standard
deviation of the data, and 1 for vp. The other networks read x. For edm, diffusers calls EDM's own output, scaled by
:math:`c_{out}`, "epsilon", and its negative "v_prediction". With :math:`\sigma_d = 1` the latter is the v of vp.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020): https://arxiv.org/abs/2006.11239
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), for v:
      https://arxiv.org/abs/2202.00512
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1, for EDM:
      https://arxiv.org/abs/2206.00364
    | Flow Matching for Generative Modeling (Lipman et al., 2022): https://arxiv.org/abs/2210.02747
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Affine: TypeAlias = tuple[Floats, Floats]
Prediction: TypeAlias = Callable[[Floats, float], Affine]
"""From noise levels and the standard deviation of the data to (p, q), each shaped like the noise levels."""


def epsilon(sigma: Floats, sigma_data: float) -> Affine:
    """The noise. For a flow it is the velocity n - x0, which has the same formula."""
    return np.ones_like(sigma), -sigma


def sample(sigma: Floats, sigma_data: float) -> Affine:
    """The clean sample itself."""
    return np.zeros_like(sigma), np.ones_like(sigma)


def preconditioned(sigma: Floats, sigma_data: float) -> Affine:
    """EDM's own output, c_skip · x + c_out · m."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / np.sqrt(total)


def v_prediction(sigma: Floats, sigma_data: float) -> Affine:
    """The velocity v of a variance-preserving model. For EDM it is the negative of the network's output."""
    c_skip, c_out = preconditioned(sigma, sigma_data)
    return c_skip, -c_out
