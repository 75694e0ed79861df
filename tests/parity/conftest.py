import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def k_diffusion_sampling() -> Any:
    """k-diffusion's samplers. Its package imports training code whose dependencies are many; this module needs none."""
    spec = importlib.util.find_spec("k_diffusion")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    torchvision, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
    torchvision.__dict__["transforms"] = transforms
    transforms.__dict__["functional"] = ModuleType("torchvision.transforms.functional")
    stubs = {"k_diffusion": package, "torchvision": torchvision, "torchvision.transforms": transforms}
    sys.modules.update(stubs)
    sampling = importlib.import_module("k_diffusion.sampling")
    for name in ("torchvision", "torchvision.transforms"):
        del sys.modules[name]
    return sampling
