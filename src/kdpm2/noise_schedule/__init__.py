"""What a model was trained on. Each family of models is one class in one file.

==========================================  =============================================================
`VariancePreserving`                        models with betas, made by `discrete` or `from_alphas_cumprod`
`RectifiedFlow`                             flow-matching models
`EDM`                                       models of the EDM family
`SigmaConditioned`                          networks that are denoisers already
==========================================  =============================================================
"""

from kdpm2.noise_schedule.betas import BETA_SCHEDULES, discrete, from_alphas_cumprod
from kdpm2.noise_schedule.coordinates import ADDED, MIXED, Coordinates, shifted
from kdpm2.noise_schedule.edm import EDM
from kdpm2.noise_schedule.family import NoiseSchedule, Spaced, checked
from kdpm2.noise_schedule.rectified_flow import RectifiedFlow
from kdpm2.noise_schedule.sigma_conditioned import SigmaConditioned
from kdpm2.noise_schedule.variance_preserving import VariancePreserving

__all__ = [
    "ADDED",
    "BETA_SCHEDULES",
    "EDM",
    "MIXED",
    "Coordinates",
    "NoiseSchedule",
    "RectifiedFlow",
    "SigmaConditioned",
    "Spaced",
    "VariancePreserving",
    "checked",
    "discrete",
    "from_alphas_cumprod",
    "shifted",
]
