"""A stand-in for the parts of ComfyUI that the pack touches: the same names and calls, and as little as they need.

It is for a machine without ComfyUI. With a checkout of ComfyUI the same tests run on the real thing.
"""

import sys
import types
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch


class Const:
    """What marks a flow."""


class Sampling:
    """A model's noise levels."""

    def __init__(self, sigmas: torch.Tensor) -> None:
        self.sigmas = sigmas
        self.sigma_min, self.sigma_max = sigmas[0], sigmas[-1]

    def noise_scaling(self, sigma: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        return (1 - sigma) * latent + sigma * noise if isinstance(self, Const) else latent + sigma * noise


class FlowSampling(Sampling, Const):
    """Those of a flow."""


class KSAMPLER:
    """A sampler function with options, over a model."""

    def __init__(self, sampler_function: Callable[..., torch.Tensor], extra_options: dict[str, Any]) -> None:
        self.sampler_function, self.extra_options = sampler_function, extra_options

    def sample(
        self, model_wrap: Any, sigmas: Any, extra_args: Any, callback: Any, noise: Any, latent_image: Any = None
    ) -> Any:
        x = model_wrap.inner_model.model_sampling.noise_scaling(sigmas[0], noise, latent_image)
        model = types.SimpleNamespace(inner_model=model_wrap)
        model_k = _Called(model_wrap, model)
        return self.sampler_function(model_k, x, sigmas, extra_args, callback, True, **self.extra_options)


class _Called:
    """What a sampler function is given."""

    def __init__(self, function: Callable[..., torch.Tensor], model: Any) -> None:
        self.function, self.inner_model = function, model.inner_model

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **kw: Any) -> torch.Tensor:
        return self.function(x, sigma, **kw)


class SchedulerHandler(NamedTuple):
    """How a scheduler is called: with a model's levels, or with two ends."""

    handler: Callable[..., torch.Tensor]
    use_ms: bool = True


class KSampler:
    """The stock sampler's menus."""

    SAMPLERS: ClassVar[list[str]] = ["euler", "dpm_2", "dpm_2_ancestral"]
    SCHEDULERS: ClassVar[list[str]] = ["simple"]
    DISCARD_PENULTIMATE_SIGMA_SAMPLERS: ClassVar[set[str]] = {"dpm_2", "dpm_2_ancestral"}


def default_noise_sampler(x: torch.Tensor, seed: int | None = None) -> Callable[[Any, Any], torch.Tensor]:
    """Numbers from a generator with this seed, whatever the noise levels."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return lambda sigma, sigma_next: torch.randn(x.shape, dtype=x.dtype, generator=generator)


def prepare_noise(latent: torch.Tensor, seed: int, noise_inds: Any = None) -> torch.Tensor:
    """The noise that a run starts from."""
    return torch.randn(latent.shape, dtype=latent.dtype, generator=torch.manual_seed(seed))


class _Field:
    """An input or output of a node."""

    class Input:
        def __init__(self, id: str, **options: Any) -> None:
            self.id, self.options = id, options

    class Output:
        def __init__(self, **options: Any) -> None:
            self.options = options


class _Schema:
    def __init__(self, node_id: str, inputs: list[Any], outputs: list[Any], **options: Any) -> None:
        self.node_id, self.inputs, self.outputs, self.options = node_id, inputs, outputs, options


class _Node:
    @classmethod
    def GET_SCHEMA(cls) -> Any:  # noqa: N802 - ComfyUI's name
        return cls.define_schema()  # type: ignore[attr-defined]


class _NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


def load() -> None:
    """Put the stand-in where ComfyUI's modules would be imported from."""
    fields = dict.fromkeys(
        ("Boolean", "Combo", "Float", "Image", "Int", "Model", "Sampler", "Sigmas", "String"), _Field
    )
    io = types.SimpleNamespace(ComfyNode=_Node, NodeOutput=_NodeOutput, Schema=_Schema, **fields)
    k_diffusion = {"default_noise_sampler": default_noise_sampler}
    samplers = {
        "KSAMPLER": KSAMPLER,
        "KSampler": KSampler,
        "SchedulerHandler": SchedulerHandler,
        "KSAMPLER_NAMES": ["euler", "dpm_2", "dpm_2_ancestral"],
        "SAMPLER_NAMES": KSampler.SAMPLERS,
        "SCHEDULER_NAMES": KSampler.SCHEDULERS,
        "SCHEDULER_HANDLERS": {"simple": SchedulerHandler(lambda model_sampling, steps: torch.zeros(steps + 1))},
    }
    modules: dict[str, dict[str, Any]] = {
        "comfy": {},
        "comfy.k_diffusion": {},
        "comfy.k_diffusion.sampling": k_diffusion,
        "comfy.model_sampling": {"CONST": Const},
        "comfy.sample": {"prepare_noise": prepare_noise},
        "comfy.samplers": samplers,
        "comfy_api": {},
        "comfy_api.latest": {"ComfyExtension": object, "io": io},
    }
    for name, held in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(held)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
