"""The noise of steps in ComfyUI: a function of two noise levels, made for a batch and a seed.

"gaussian" noise is that of ComfyUI's own samplers, number for number. "brownian" noise follows one path over all noise
levels (`kdpm2.noise.Brownian`). The path is the same for any number of steps, and where a run is cut in two.

With noise per image, image i of a batch with seed s has the noise of the seed s + i. So it is the picture of that seed
alone. This needs the noise that a run starts from as well, which ComfyUI makes for the whole batch: `PerImage`.
"""

import logging
from collections.abc import Callable
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from comfy.k_diffusion import sampling as k_diffusion_sampling

from kdpm2.noise import Brownian

NOISES = ("gaussian", "brownian")
_SEEDS = 2**64


def noise_sampler_of(
    noise: str, x: torch.Tensor, seed: int | None, per_image: bool, top: float, churned: bool
) -> Callable[[Any, Any], torch.Tensor]:
    """A function of a noise level and the next that returns standard normal noise like `x`.

    Args:
        noise: One of `NOISES`.
        x: Shape (B, ...): the samples.
        seed: From 0 to 2^64 - 1; None for torch's global generator.
        per_image: Whether image i has the noise of seed + i.
        top: The largest noise level of the model and of the run.
        churned: Whether noise is added before steps, too.

    Raises:
        ValueError: If `noise` is unknown, if it is Brownian with churn, or if there is no seed for noise per image.
    """
    if noise not in NOISES:
        raise ValueError(f"noise must be one of {', '.join(map(repr, NOISES))}, got {noise!r}")
    if noise == "brownian" and churned:
        raise ValueError("noise must be 'gaussian' with s_churn, whose noise belongs to no step, got 'brownian'")
    seeds = seeds_of(seed, len(x)) if per_image else seed
    if noise == "brownian":
        return Brownian(x, 0.0, top, seeds)
    if not isinstance(seeds, list):
        together: Callable[[Any, Any], torch.Tensor] = k_diffusion_sampling.default_noise_sampler(x, seed=seeds)
        return together
    alone = [k_diffusion_sampling.default_noise_sampler(x[i : i + 1], seed=each) for i, each in enumerate(seeds)]
    return lambda sigma, sigma_next: torch.cat([draw(sigma, sigma_next) for draw in alone])


def seeds_of(seed: int | None, count: int) -> list[int]:
    """The seeds of the images of a batch, each of which is a picture of its own."""
    if seed is None:
        raise ValueError("seed must be an integer for noise per image, got None")
    return [(seed + i) % _SEEDS for i in range(count)]


class PerImage(comfy.samplers.KSAMPLER):
    """A sampler whose run starts from the noise of seed + i for image i, if the noise is that of the seed at all."""

    def sample(
        self, model_wrap: Any, sigmas: Any, extra_args: Any, callback: Any, noise: torch.Tensor, *args: Any, **kw: Any
    ) -> Any:
        """What ComfyUI calls, from this noise."""
        noise = started_per_image(noise, extra_args.get("seed"))
        return super().sample(model_wrap, sigmas, extra_args, callback, noise, *args, **kw)


def started_per_image(noise: torch.Tensor, seed: int | None) -> torch.Tensor:
    """The noise that a run starts from, made for each image alone.

    Noise that ComfyUI did not make from this seed stays as it is: it is the caller's own, or none.
    """
    seeds = seeds_of(seed, len(noise))
    if not noise.any():
        return noise
    like = noise.cpu()
    if not torch.equal(comfy.sample.prepare_noise(like, seed), like):
        logging.warning(
            "kdpm2: the first noise is not that of the seed, and stays: only the noise of steps is per image"
        )
        return noise
    alone = [comfy.sample.prepare_noise(like[i : i + 1], each) for i, each in enumerate(seeds)]
    return torch.cat(alone).to(noise.device, noise.dtype)
