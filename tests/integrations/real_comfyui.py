"""ComfyUI's own code around tiny networks, from a checkout that an environment variable names.

What ComfyUI imports and no sampler uses is replaced by empty modules where it is not installed. So no torchvision is
needed. Its models are its own `BaseModel`, with all that differs between its model types, over a network of a few
numbers.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch

VARIABLE = "KDPM2_COMFYUI"
UNUSED = {"aiohttp", "alembic", "av", "einops", "kornia", "spandrel", "sqlalchemy", "torchaudio", "torchvision", "yarl"}
CHANNELS = 4
SETTINGS: dict[str, dict[str, Any]] = {
    "V_PREDICTION, zero SNR": {"zsnr": True},
    "EDM": {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5},
    "FLOW": {"shift": 3.0},
    "FLOW_COSMOS": {"sigma_min": 0.002, "sigma_max": 80.0},
}


class _Unused(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nothing else did, and is not used."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in UNUSED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Unused(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def load(checkout: str) -> None:
    """Make ComfyUI's modules importable, on the CPU."""
    if not (Path(checkout) / "comfy" / "samplers.py").is_file():
        raise FileNotFoundError(f"{VARIABLE} must be a checkout of ComfyUI, got {checkout}")
    sys.meta_path.append(_Finder())
    sys.path.insert(0, checkout)
    importlib.import_module("comfy.cli_args").args.cpu = True
    importlib.import_module("comfy.sample")
    importlib.import_module("comfy.model_base")


class Network(torch.nn.Module):
    """A smooth function of sample, timestep and conditioning, of a few numbers."""

    dtype = torch.float32

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread
        self.mix = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor | None = None, **kw: Any
    ) -> torch.Tensor:
        time = torch.sin(timesteps.reshape(-1, 1, 1, 1).to(x.dtype) / self.spread)
        told = 0.0 if context is None else context.to(x.dtype).mean(dim=(1, 2)).reshape(-1, 1, 1, 1)
        return 0.6 * x + 0.3 * torch.tanh(self.mix(x)) + 0.2 * time * x + 0.1 * told


def model_types() -> list[str]:
    """ComfyUI's ten model types, and a setting that is as much as one."""
    from comfy import model_base

    return [*(each.name for each in model_base.ModelType), "V_PREDICTION, zero SNR"]


def model_of(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A ComfyUI model of one of its types, on the CPU; in float64 without its roundings to float32."""
    from comfy import model_base, model_patcher, supported_models_base

    class Wide(model_base.BaseModel):
        def _apply_model(
            self, x: torch.Tensor, t: torch.Tensor, c_concat: Any = None, c_crossattn: Any = None, *args: Any, **kw: Any
        ) -> torch.Tensor:
            sampling = self.model_sampling
            output = self.diffusion_model(sampling.calculate_input(t, x), sampling.timestep(t), c_crossattn)
            denoised: torch.Tensor = sampling.calculate_denoised(t, output, x)
            return denoised

    config = supported_models_base.BASE({"disable_unet_model_creation": True})
    config.sampling_settings = SETTINGS.get(name, {})
    kind = model_base.ModelType[name.split(",")[0]]
    model = (Wide if dtype == torch.float64 else model_base.BaseModel)(config, kind)
    model.diffusion_model = Network(float(model.model_sampling.timestep(model.model_sampling.sigma_max))).to(dtype)
    model.diffusion_model.dtype = dtype
    device = torch.device("cpu")
    return model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def conditioning(value: float) -> list[Any]:
    """What a text encoder gives."""
    return [[torch.full((1, 2, 8), value), {}]]
