r"""What a network predicts, as the affine map from sample and network output to the clean sample.

With the variance-exploding sample :math:`x = x_0 + \sigma n` and the network output m,

.. math:: \hat x_0 = p\,x + q\,m

=============  =============================  ==================================
epsilon        :math:`p = 1`                  :math:`q = -\sigma`
sample         :math:`p = 0`                  :math:`q = 1`
v_prediction   :math:`p = 1/(\sigma^2+1)`     :math:`q = -\sigma/\sqrt{\sigma^2+1}`
=============  =============================  ==================================

The network itself reads :math:`x/\sqrt{\sigma^2+1}`, the variance-preserving sample.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020): https://arxiv.org/abs/2006.11239
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), for v:
      https://arxiv.org/abs/2202.00512
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check

Floats = NDArray[np.float64]


def _epsilon(sigma: Floats) -> tuple[Floats, Floats]:
    return np.ones_like(sigma), -sigma


def _sample(sigma: Floats) -> tuple[Floats, Floats]:
    return np.zeros_like(sigma), np.ones_like(sigma)


def _v_prediction(sigma: Floats) -> tuple[Floats, Floats]:
    return 1 / (sigma**2 + 1), -sigma / np.sqrt(sigma**2 + 1)


PREDICTION_TYPES: dict[str, Callable[[Floats], tuple[Floats, Floats]]] = {
    "epsilon": _epsilon,
    "sample": _sample,
    "v_prediction": _v_prediction,
}


def affine(prediction_type: str, sigma: Floats) -> tuple[Floats, Floats]:
    """The pair (p, q) at each noise level, shaped like `sigma`; ValueError for an unknown prediction type."""
    return PREDICTION_TYPES[_check.choice("prediction_type", prediction_type, PREDICTION_TYPES)](sigma)


def input_scale(sigma: Floats) -> Floats:
    """What the sample is multiplied by before the network reads it."""
    return np.asarray(1 / np.sqrt(sigma**2 + 1))
