r"""What a network predicts, as the affine map from sample and network output to the clean sample.

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

The network of the families vp and edm reads :math:`x/\sqrt{\sigma^2+\sigma_d^2}`, where :math:`\sigma_d`, the standard
deviation of the data, is 1 for vp; the others read x. EDM's own output, scaled by :math:`c_{out}`, is diffusers'
"epsilon" there, and its negative is "v_prediction": with :math:`\sigma_d = 1` that is the v of vp.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020): https://arxiv.org/abs/2006.11239
    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), for v:
      https://arxiv.org/abs/2202.00512
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1, for EDM:
      https://arxiv.org/abs/2206.00364
    | Flow Matching for Generative Modeling (Lipman et al., 2022): https://arxiv.org/abs/2210.02747
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.noise_schedule import NoiseSchedule

Floats = NDArray[np.float64]
Affine = tuple[Floats, Floats]


def _epsilon(sigma: Floats, sigma_data: float) -> Affine:
    return np.ones_like(sigma), -sigma


def _sample(sigma: Floats, sigma_data: float) -> Affine:
    return np.zeros_like(sigma), np.ones_like(sigma)


def _preconditioned(sigma: Floats, sigma_data: float) -> Affine:
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / np.sqrt(total)


def _v_prediction(sigma: Floats, sigma_data: float) -> Affine:
    c_skip, c_out = _preconditioned(sigma, sigma_data)
    return c_skip, -c_out


PREDICTION_TYPES: dict[str, dict[str, Callable[[Floats, float], Affine]]] = {
    "vp": {"epsilon": _epsilon, "sample": _sample, "v_prediction": _v_prediction},
    # A straight path's velocity n - x0 leads from x to x0 as the noise does where the data is not scaled.
    "flow": {"flow_prediction": _epsilon, "sample": _sample},
    "edm": {"epsilon": _preconditioned, "v_prediction": _v_prediction},
    "denoiser": {"sample": _sample},
}
_FAMILIES = {"vp": "a model with betas", "flow": "a flow model", "edm": "an EDM model", "denoiser": "a denoiser"}


def affine(schedule: NoiseSchedule, prediction_type: str, sigma: Floats) -> Affine:
    """The pair (p, q) at each noise level, shaped like `sigma`.

    Raises:
        TypeError: If `schedule` is none, or `sigma` holds no numbers.
        ValueError: If models of the schedule's family have no such prediction type.
    """
    prediction_type = checked(schedule, prediction_type)
    return PREDICTION_TYPES[schedule.family][prediction_type](_check.elements("sigma", sigma), schedule.sigma_data)


def checked(schedule: NoiseSchedule, prediction_type: str) -> str:
    """`prediction_type` if models of the schedule's family have it; ValueError otherwise."""
    known = PREDICTION_TYPES[_family(schedule)]
    if not isinstance(prediction_type, str) or prediction_type not in known:
        raise ValueError(
            f"prediction_type must be one of {', '.join(map(repr, known))} for {_FAMILIES[schedule.family]}, "
            f"got {_check.shown(prediction_type)}"
        )
    return prediction_type


def _family(schedule: object) -> str:
    """The family of a noise schedule; TypeError if it is none."""
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(f"schedule must be one of kdpm2.noise_schedule, got {_check.shown(schedule)}")
    return schedule.family


def input_scale(schedule: NoiseSchedule, sigma: Floats) -> Floats:
    """What the sample is multiplied by before the network reads it."""
    sigma = _check.elements("sigma", sigma)
    if _family(schedule) in ("flow", "denoiser"):
        return np.ones_like(sigma)
    return np.asarray(1 / np.sqrt(sigma**2 + schedule.sigma_data**2))
