"""The projects that are compared, as far as they are installed."""

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

CLASS_NAMES = {"ancestral": "KDPM2AncestralDiscreteScheduler", "discrete": "KDPM2DiscreteScheduler"}


def classes(sampler: str) -> dict[str, Any]:
    """The scheduler class of each project that has one; kdpm2's, too, is there only with diffusers.

    Args:
        sampler: "ancestral" or "discrete".
    """
    try:
        return {project: getattr(import_module(project), CLASS_NAMES[sampler]) for project in ("diffusers", "kdpm2")}
    except ImportError:
        return {}


def begin_anew(scheduler: Any) -> None:
    """Make a scheduler ready for another run with the timesteps that it has, as only diffusers' class has to be."""
    if hasattr(scheduler, "sample"):
        scheduler._step_index = scheduler.sample = None


@cache
def k_diffusion(name: str) -> Any:
    """A module of k-diffusion, or None where it is not installed.

    Importing the package would import its training code, whose dependencies are many. Its samplers need none of them
    but, for a function that they do not call, a name from torchvision.
    """
    spec = None if "k_diffusion" in sys.modules else find_spec("k_diffusion")
    if spec is not None:
        sys.modules["k_diffusion"] = module_from_spec(spec)
    elif "k_diffusion" not in sys.modules:
        return None
    stubs = {} if find_spec("torchvision") else _torchvision()
    sys.modules.update(stubs)
    try:
        return import_module(f"k_diffusion.{name}")
    except ImportError:
        return None
    finally:
        for stub in stubs:
            del sys.modules[stub]


def _torchvision() -> dict[str, ModuleType]:
    package, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
    package.__dict__["transforms"] = transforms
    transforms.__dict__["functional"] = ModuleType("torchvision.transforms.functional")
    return {"torchvision": package, "torchvision.transforms": transforms}
