"""kdpm2's samplers against ComfyUI's own, in ComfyUI's KSampler: every model type, schedule and way to run.

    KDPM2_COMFYUI=path/to/ComfyUI python -m tests.integrations.against_comfyui

Where the two differ by more than float32's rounding, both run in float64. There they must agree, and both float32 runs
are measured against it. With --options the options of the samplers are compared instead, one schedule for each type.
"""

import argparse
import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from tests.integrations import real_comfyui

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
SCHEDULES = (
    *("simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic"),
    "kl_optimal",
)
WAYS = ("plain", "mask", "denoise 0.5", "batch index", "not to 0", "two parts")
PAIRS = {"dpm_2_ancestral": "kdpm2_ancestral", "dpm_2": "kdpm2"}
SHAPE, SEED, STEPS, GUIDANCE = (2, real_comfyui.CHANNELS, 8, 8), 5, 7, 3.0
ROUNDING = 1e-5
OPTIONS: tuple[tuple[str, dict[str, float]], ...] = (
    *(("dpm_2_ancestral", {"eta": eta, "s_noise": s_noise}) for eta in (0.0, 0.5, 1.0) for s_noise in (1.0, 1.1)),
    ("dpm_2", {"s_churn": 2.0}),
    ("dpm_2", {"s_churn": 2.0, "s_tmin": 0.5, "s_tmax": 5.0, "s_noise": 1.007}),
    ("dpm_2_ancestral", {"eta": 1.5}),
)


class Compared(NamedTuple):
    """What a case gave, all of it over the largest number of the sample.

    `apart` is the difference between the two. The others are None where that is within float32's rounding: the
    difference in float64, and how far each is from that.
    """

    apart: float
    in_float64: float | None = None
    theirs: float | None = None
    ours: float | None = None


def pack() -> Any:
    """The pack, imported as ComfyUI imports it, and its names in ComfyUI's menus."""
    name = str(PACK).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    extension = asyncio.run(module.comfy_entrypoint())
    module.__dict__["node_list"] = asyncio.run(extension.get_node_list())
    return module


def sampled(model: Any, sampler: str, schedule: str, way: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A run of ComfyUI's KSampler. In float64 it has the levels and the noise of the one in float32."""
    from comfy import sample, samplers

    generator = torch.Generator().manual_seed(1)
    picture, ones = torch.randn(SHAPE, generator=generator), torch.rand((SHAPE[0], 1, 8, 8), generator=generator)
    latent = picture if way in ("mask", "denoise 0.5") else torch.zeros(SHAPE)
    noise = sample.prepare_noise(latent, SEED, [3, 1] if way == "batch index" else None).to(dtype)
    kept = {"noise_mask": (ones > 0.5).to(dtype)} if way == "mask" else {}
    denoise = 0.5 if way == "denoise 0.5" else 1.0
    device = torch.device("cpu")
    sigmas = samplers.KSampler(model, STEPS, device, sampler, schedule, denoise).sigmas.to(dtype)
    conditioning = [real_comfyui.conditioning(value) for value in (0.5, -0.5)]

    def part(noise: torch.Tensor, latent: torch.Tensor, **cut: int) -> torch.Tensor:
        return sample.sample(  # type: ignore[no-any-return]
            *(model, noise, STEPS, GUIDANCE, sampler, schedule, *conditioning, latent.to(dtype)),
            **(kept | cut | {"denoise": denoise, "sigmas": sigmas.clone(), "seed": SEED, "disable_pbar": True}),
        )

    if way == "two parts":
        return part(torch.zeros_like(noise), part(noise, latent, last_step=3), start_step=3)
    return part(noise, latent, **({"last_step": 4} if way == "not to 0" else {}))


def rounded_noise() -> Any:
    """Has ComfyUI draw the numbers of float32 for a run in float64, too."""
    from comfy.k_diffusion import sampling

    drawn = sampling.default_noise_sampler

    def rounded(x: torch.Tensor, seed: int | None = None) -> Any:
        draw = drawn(x.float(), seed=seed)
        return lambda sigma, sigma_next: draw(sigma, sigma_next).to(x.dtype)

    return mock.patch.object(sampling, "default_noise_sampler", rounded)


def compared(name: str, sampler: str, schedule: str, way: str) -> Compared:
    """One case."""
    model = real_comfyui.model_of(name)
    theirs, ours = (sampled(model, each, schedule, way).double() for each in (sampler, PAIRS[sampler]))
    scale = theirs.abs().max()
    apart = float((ours - theirs).abs().max() / scale)
    if apart <= ROUNDING:
        return Compared(apart)
    model = real_comfyui.model_of(name, torch.float64)
    with rounded_noise():
        exact, also = (sampled(model, each, schedule, way, torch.float64) for each in (sampler, PAIRS[sampler]))
    return Compared(
        apart, *(float((a - b).abs().max() / scale) for a, b in ((exact, also), (theirs, exact), (ours, exact)))
    )


def cases(names: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Every case of these model types."""
    for name in names:
        for sampler in PAIRS:
            for schedule in SCHEDULES:
                for way in WAYS:
                    yield name, sampler, schedule, way


def with_options(model: Any, sampler: str, options: dict[str, float]) -> torch.Tensor:
    """A run of ComfyUI's custom sampling, with options of the sampler."""
    from comfy import sample, samplers

    noise, latent = sample.prepare_noise(torch.zeros(SHAPE), SEED), torch.zeros(SHAPE)
    sigmas = samplers.KSampler(model, STEPS, torch.device("cpu"), "dpm_2", "karras", 1.0).sigmas
    conditioning = [real_comfyui.conditioning(value) for value in (0.5, -0.5)]
    torch.manual_seed(SEED)  # ComfyUI's own churn draws from torch's global generator
    made: torch.Tensor = sample.sample_custom(
        *(model, noise, GUIDANCE, samplers.ksampler(sampler, options), sigmas, *conditioning, latent),
        disable_pbar=True,
        seed=SEED,
    )
    return made


def print_options(name: str) -> None:
    """A line for each of the options."""
    model = real_comfyui.model_of(name)
    for sampler, options in OPTIONS:
        theirs = with_options(model, sampler, options)
        try:
            ours = with_options(model, PAIRS[sampler], options)
        except ValueError as refused:
            print(f"{name}: {sampler} {options}: refused: {refused}")
            continue
        apart = float((ours - theirs).abs().max() / theirs.abs().max())
        print(f"{name}: {sampler} {options}: apart by {apart:.1e}; ours finite: {bool(ours.isfinite().all())}")


def main() -> None:
    """Print a row for each model type and sampler, and those cases that differ by more than rounding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", action="append", help="a model type; all if none is given")
    parser.add_argument("--verbose", action="store_true", help="print every case that differs by more than rounding")
    parser.add_argument("--options", action="store_true", help="compare the options of the samplers")
    asked = parser.parse_args()
    sys.argv[1:] = []
    real_comfyui.load(os.environ[real_comfyui.VARIABLE])
    pack()
    for name in asked.type or real_comfyui.model_types():
        if asked.options:
            print_options(name)
            continue
        for sampler in PAIRS:
            found = {case: compared(*case) for case in cases([name]) if case[1] == sampler}
            wide = {case: each for case, each in found.items() if each.ours is not None}
            told = [f"{name}: {sampler}: {len(found)} cases, apart by up to {max(e.apart for e in found.values()):.1e}"]
            if wide:
                told += [
                    f"{len(wide)} by more than {ROUNDING:g}: in float64 apart by up to "
                    f"{max(e.in_float64 or 0 for e in wide.values()):.1e}",
                    f"from that, in float32, theirs up to {max(e.theirs or 0 for e in wide.values()):.1e}, "
                    f"ours up to {max(e.ours or 0 for e in wide.values()):.1e}, "
                    f"ours nearer in {sum((e.ours or 0) < (e.theirs or 0) for e in wide.values())}",
                ]
            print("; ".join(told), flush=True)
            for case, each in wide.items() if asked.verbose else ():
                print("   ", *case[2:], each)


if __name__ == "__main__":
    main()
