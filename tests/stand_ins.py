"""What stands in for pipelines of the hub in code of the documentation: real classes, small networks."""

from typing import Any

import diffusers
import torch

from tests.pipelines.conftest import WIDTH, latent_unet, random_network, spelling_tokenizer, stable_diffusion

WORDS, TEXT, POOLED = 4, 32, 64


class SmallFlux(diffusers.FluxPipeline):
    """Flux with the same words for every prompt."""

    def encode_prompt(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        return torch.ones(1, WORDS, TEXT), torch.ones(1, POOLED), torch.zeros(WORDS, 3)


def small_flux() -> Any:
    transformer = random_network(
        diffusers.FluxTransformer2DModel,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT,
        pooled_projection_dim=POOLED,
        axes_dims_rope=[4, 4, 8],
    )
    autoencoder = random_network(
        diffusers.AutoencoderKL,
        block_out_channels=(8, WIDTH),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=1,
        sample_size=16,
        shift_factor=0.1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    nothing = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipe = SmallFlux(scheduler=scheduler, vae=autoencoder, transformer=transformer, **nothing)
    pipe.default_sample_size = 8
    return pipe


def small_stable_diffusion(tmp_path_factory: Any) -> Any:
    parts = stable_diffusion(spelling_tokenizer(tmp_path_factory))
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1
    )
    return diffusers.StableDiffusionPipeline(**parts, unet=latent_unet(), scheduler=scheduler)
