"""Drop-in replacements for the KDPM2 schedulers of diffusers."""

from kdpm2 import _progress as _progress  # before diffusers
from kdpm2.schedulers.ancestral import KDPM2AncestralDiscreteScheduler, KDPM2AncestralDiscreteSchedulerOutput
from kdpm2.schedulers.discrete import KDPM2DiscreteScheduler, KDPM2DiscreteSchedulerOutput

__all__ = [
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteSchedulerOutput",
    "KDPM2DiscreteScheduler",
    "KDPM2DiscreteSchedulerOutput",
]
