"""A pipeline's network as a denoiser: what a loop makes of it is what the pipeline draws."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import zoo

STEPS = 6


def started(scheduler: Any, shape: tuple[int, ...], seed: int) -> Any:
    scheduler.set_timesteps(STEPS)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return noise * scheduler.init_noise_sigma


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_stable_diffusion(components: dict[str, Any], unets: dict[int, Any], guidance_scale: float) -> None:
    scheduler = kdpm2.KDPM2AncestralDiscreteScheduler(beta_schedule="scaled_linear", eta=0.0)
    pipe = diffusers.StableDiffusionPipeline(**components, unet=unets[4], scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    told: Any = {"prompt": ["red fox", "hen"], "negative_prompt": ["owl", "cow"], "guidance_scale": guidance_scale}
    latents = started(pipe.scheduler, (2, 4, 8, 8), 0)
    noise = latents / pipe.scheduler.init_noise_sigma
    expected = pipe(**told, num_inference_steps=STEPS, latents=noise, output_type="latent").images
    denoiser = kdpm2.denoiser_of(pipe, **told)
    made = kdpm2.sample(denoiser, latents, pipe.scheduler.table)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
    one = kdpm2.denoiser_of(pipe, "red fox", guidance_scale=guidance_scale)
    assert kdpm2.sample(one, latents, pipe.scheduler.table).shape == latents.shape
    with pytest.raises(ValueError, match="x must hold a sample for each of 2 prompts or labels, got 3"):
        kdpm2.sample(denoiser, latents[[0, 1, 1]], pipe.scheduler.table)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_digits(guidance_scale: float) -> None:
    pipe = zoo.digits()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler.register_to_config(eta=0.0)
    x = started(pipe.scheduler, (1, 1, 8, 8), 3)
    expected = pipe(
        [7],
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    denoiser = kdpm2.denoiser_of(pipe, labels=[7], guidance_scale=guidance_scale)
    made = kdpm2.sample(denoiser, x, pipe.scheduler.table)
    np.testing.assert_allclose((made / 2 + 0.5).clamp(0, 1)[0, 0], expected[0, :, :, 0], atol=1e-5)
    assert kdpm2.sample(kdpm2.denoiser_of(pipe), x, pipe.scheduler.table).shape == x.shape


def test_a_network_without_classes(pixel_unets: dict[int | None, Any]) -> None:
    pipe = diffusers.DDPMPipeline(pixel_unets[None], diffusers.DDPMScheduler())
    denoiser = kdpm2.denoiser_of(pipe)
    assert kdpm2.sample(denoiser, torch.randn(2, 3, 8, 8) * 10, [10.0, 1.0, 0.0]).isfinite().all()
    with pytest.raises(ValueError, match="must be None and 1 for a network without classes"):
        kdpm2.denoiser_of(pipe, labels=[1])
    with pytest.raises(ValueError, match="prompt must be None for a pipeline without prompts"):
        kdpm2.denoiser_of(pipe, "fox")


def test_what_it_does_not_take(components: dict[str, Any], unets: dict[int, Any]) -> None:
    pipe = diffusers.StableDiffusionPipeline(**components, unet=unets[4], scheduler=diffusers.PNDMScheduler())
    with pytest.raises(TypeError, match="pipe must be a diffusers pipeline with a unet and a scheduler"):
        kdpm2.denoiser_of(3)
    for prompt in (None, 3, [1], []):
        with pytest.raises(TypeError, match="prompt must be a text or a list of texts"):
            kdpm2.denoiser_of(pipe, prompt)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels must be None for a pipeline with prompts"):
        kdpm2.denoiser_of(pipe, "fox", labels=[1])
    with pytest.raises(ValueError, match="guidance_scale must be a number from 0 to 100"):
        kdpm2.denoiser_of(pipe, "fox", guidance_scale=-1)
    with pytest.raises(ValueError, match="negative_prompt must be one, or one for each of 2 prompts, got 3"):
        kdpm2.denoiser_of(pipe, ["a", "b"], ["c", "d", "e"], guidance_scale=2)
    with pytest.raises(ValueError, match="each of labels must be an integer from 0 to 10"):
        kdpm2.denoiser_of(zoo.digits(), labels=[11])
