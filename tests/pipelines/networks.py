"""Small random networks of every kind that pipelines of diffusers are made of."""

from functools import cache
from typing import Any

import diffusers
import torch
from transformers import (
    ClapTextConfig,
    ClapTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

from .conftest import SMALL, WIDTH, random_network

SIDE = 16  # of a picture, in pixels; its latents have half of it


@cache
def unet(in_channels: int = 4, **config: Any) -> Any:
    given = {
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
        "cross_attention_dim": WIDTH,
        **config,
    }
    return random_network(diffusers.UNet2DConditionModel, **SMALL, in_channels=in_channels, **given)


XL_TIME = 4


def xl_unet(in_channels: int = 4, ids: int = 6) -> Any:
    """A network that is told sizes and cuts as well, `ids` numbers in all."""
    width = ids * XL_TIME + WIDTH
    return unet(
        in_channels,
        addition_embed_type="text_time",
        addition_time_embed_dim=XL_TIME,
        projection_class_embeddings_input_dim=width,
    )


@cache
def controlnet(**config: Any) -> Any:
    small = {name: value for name, value in SMALL.items() if name != "sample_size"}
    network = random_network(
        diffusers.ControlNetModel,
        **small,
        down_block_types=("CrossAttnDownBlock2D",),
        cross_attention_dim=WIDTH,
        conditioning_embedding_out_channels=(8, WIDTH),
        **config,
    )
    return awoken(network)


def xl_controlnet() -> Any:
    return controlnet(
        addition_embed_type="text_time",
        addition_time_embed_dim=XL_TIME,
        projection_class_embeddings_input_dim=6 * XL_TIME + WIDTH,
    )


def awoken(network: Any) -> Any:
    """With random values where training starts with zeros, which would make the network blind to its input."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
    return network


@cache
def pictures_encoder() -> Any:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=4,
    )
    return random_network(CLIPVisionModelWithProjection, config)


@cache
def adapter() -> Any:
    return random_network(diffusers.T2IAdapter, 3, [WIDTH], num_res_blocks=1, downscale_factor=2)


@cache
def motion_adapter() -> Any:
    return awoken(
        random_network(
            diffusers.MotionAdapter,
            block_out_channels=(WIDTH,),
            motion_layers_per_block=1,
            motion_norm_num_groups=4,
            motion_num_attention_heads=2,
            motion_max_seq_length=8,
        )
    )


@cache
def video_unet() -> Any:
    return awoken(
        random_network(
            diffusers.UNet3DConditionModel,
            **SMALL,
            down_block_types=("CrossAttnDownBlock3D",),
            up_block_types=("CrossAttnUpBlock3D",),
            cross_attention_dim=WIDTH,
        )
    )


@cache
def patches(build: Any, **config: Any) -> Any:
    """A transformer on patches of the latents, which predicts a variance too."""
    given = {"out_channels": 8, "sample_size": 8, **config}
    return awoken(
        random_network(
            build,
            in_channels=4,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            **given,
        )
    )


def captioned(build: Any, **config: Any) -> Any:
    given = {"caption_channels": WIDTH, "cross_attention_dim": WIDTH, "norm_type": "ada_norm_single", **config}
    return patches(build, num_embeds_ada_norm=1000, **given)


@cache
def kandinsky() -> dict[str, Any]:
    network = random_network(
        diffusers.UNet2DConditionModel,
        **SMALL,
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        down_block_types=("SimpleCrossAttnDownBlock2D",),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D",),
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=WIDTH,
    )
    autoencoder = random_network(
        diffusers.VQModel,
        block_out_channels=(8, WIDTH),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )
    return {"unet": network, "movq": autoencoder}


@cache
def audio() -> dict[str, Any]:
    """What pipelines of sound share: they draw spectrograms."""
    autoencoder = random_network(
        diffusers.AutoencoderKL,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, WIDTH),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
    )
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8,
        sampling_rate=16000,
        upsample_initial_channel=16,
        upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        normalize_before=False,
        initializer_range=0.3,
    )
    return {"vae": autoencoder, "vocoder": random_network(SpeechT5HifiGan, vocoder), "tokenizer": None}


@cache
def clap() -> Any:
    config = ClapTextConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=WIDTH,
    )
    return random_network(ClapTextModelWithProjection, config)


def sound_unet() -> Any:
    return unet(
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=WIDTH,
        class_embeddings_concat=True,
    )
