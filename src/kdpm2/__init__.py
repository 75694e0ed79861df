"""Sampling diffusion models with KDPM2, the sampler users know as "DPM2 a".

Public names are imported when they are first used: `import kdpm2` loads neither torch nor diffusers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import SchedulerMixin as SchedulerMixin

    from kdpm2 import (
        batching,
        by_step,
        curves,
        denoiser,
        generate,
        graph,
        inversion,
        loop,
        noise,
        noise_schedule,
        philox,
        prediction,
        restart,
        sampling,
        schedulers,
        spacing,
        state,
        table,
        tuning,
        update,
        zoo,
    )
    from kdpm2.denoiser import Denoiser
    from kdpm2.guidance import guided
    from kdpm2.inversion import invert
    from kdpm2.of_pipeline import denoiser_of
    from kdpm2.sampling import sample
    from kdpm2.schedulers import (
        KDPM2AncestralDiscreteScheduler,
        KDPM2AncestralDiscreteSchedulerOutput,
        KDPM2DiscreteScheduler,
        KDPM2DiscreteSchedulerOutput,
    )
    from kdpm2.tuning import Tuned, tune

__version__ = "0.2.0"

__all__ = [
    "Denoiser",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteSchedulerOutput",
    "KDPM2DiscreteScheduler",
    "KDPM2DiscreteSchedulerOutput",
    "Tuned",
    "batching",
    "by_step",
    "curves",
    "denoiser",
    "denoiser_of",
    "generate",
    "graph",
    "guided",
    "inversion",
    "invert",
    "loop",
    "noise",
    "noise_schedule",
    "philox",
    "prediction",
    "restart",
    "sample",
    "sampling",
    "schedulers",
    "spacing",
    "state",
    "table",
    "tune",
    "tuning",
    "update",
    "zoo",
]

_HOMES = {
    "Denoiser": "kdpm2.denoiser",
    "denoiser_of": "kdpm2.of_pipeline",
    "guided": "kdpm2.guidance",
    "invert": "kdpm2.inversion",
    "sample": "kdpm2.sampling",
    "tune": "kdpm2.tuning",
    "Tuned": "kdpm2.tuning",
    **{name: "kdpm2.schedulers" for name in __all__ if name.startswith("KDPM2")},
    # Where a pipeline is loaded, diffusers recognises a component as a scheduler by this name in its library.
    "SchedulerMixin": "diffusers",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in __all__:
        return import_module(f"kdpm2.{name}")
    raise AttributeError(f"module 'kdpm2' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
