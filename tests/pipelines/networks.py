"""Small random networks of every kind that pipelines of diffusers are made of."""

from functools import cache
from typing import Any

import diffusers
import torch
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    ClapTextConfig,
    ClapTextModelWithProjection,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GPT2Config,
    GPT2Model,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
)

from .conftest import PROMPT_LENGTH, SMALL, WIDTH, random_network

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
    return random_network(diffusers.UNet2DConditionModel, **{**SMALL, "in_channels": in_channels, **given})


XL_TIME = 4


def xl_told(ids: int = 6) -> dict[str, Any]:
    """How a network of Stable Diffusion XL is told sizes and cuts, `ids` numbers in all."""
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": XL_TIME,
        "projection_class_embeddings_input_dim": ids * XL_TIME + WIDTH,
    }


def xl_unet(in_channels: int = 4, ids: int = 6, **config: Any) -> Any:
    return unet(in_channels, **xl_told(ids), **config)


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
    return controlnet(**xl_told())


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


def pictures_reader() -> Any:
    return CLIPImageProcessor(crop_size=SIDE, size=SIDE)


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


@cache
def union_controlnet() -> Any:
    network = random_network(
        diffusers.ControlNetUnionModel,
        block_out_channels=(WIDTH,),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",),
        cross_attention_dim=WIDTH,
        conditioning_embedding_out_channels=(8, WIDTH),
        num_control_type=2,
        num_trans_channel=WIDTH,
        num_trans_head=2,
        num_proj_channel=WIDTH,
        **xl_told(),
    )
    return awoken(network)


@cache
def small_controlnet(network: Any) -> Any:
    """A ControlNet-XS for the network."""
    return awoken(
        random_network(
            diffusers.ControlNetXSAdapter.from_unet,
            network,
            block_out_channels=[WIDTH],
            num_attention_heads=4,
            conditioning_embedding_out_channels=(8, WIDTH),
        )
    )


@cache
def sparse_controlnet() -> Any:
    return awoken(
        random_network(
            diffusers.SparseControlNetModel,
            block_out_channels=(WIDTH,),
            layers_per_block=1,
            attention_head_dim=4,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlockMotion",),
            cross_attention_dim=WIDTH,
            conditioning_embedding_out_channels=(8, WIDTH),
            motion_num_attention_heads=2,
            motion_max_seq_length=8,
        )
    )


@cache
def allegro() -> Any:
    return awoken(
        random_network(
            diffusers.AllegroTransformer3DModel,
            num_attention_heads=2,
            attention_head_dim=24,
            num_layers=1,
            cross_attention_dim=48,
            caption_channels=WIDTH,
            sample_height=4,
            sample_width=4,
            sample_frames=2,
        )
    )


@cache
def cogvideo() -> dict[str, Any]:
    network = random_network(
        diffusers.CogVideoXTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=8,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=WIDTH,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=1,
        max_text_seq_length=5,
    )
    autoencoder = random_network(
        diffusers.AutoencoderKLCogVideoX,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    return {"transformer": awoken(network), "vae": autoencoder}


@cache
def gpt2() -> Any:
    return random_network(GPT2Model, GPT2Config(vocab_size=40, n_embd=WIDTH, n_layer=1, n_head=2))


@cache
def t5() -> Any:
    config = T5Config(vocab_size=40, d_model=WIDTH, d_kv=8, d_ff=2 * WIDTH, num_layers=1, num_heads=2)
    return random_network(T5EncoderModel, config)


@cache
def text_projection() -> Any:
    """A text encoder with a projection, for the tokenizer that spells."""
    given = CLIPTextConfig(
        vocab_size=54,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=PROMPT_LENGTH,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    return random_network(CLIPTextModelWithProjection, given)


@cache
def unclip() -> dict[str, Any]:
    network = unet(class_embed_type="projection", projection_class_embeddings_input_dim=2 * WIDTH)
    normalizer = random_network(StableUnCLIPImageNormalizer, embedding_dim=WIDTH)
    return {"unet": network, "image_normalizer": normalizer, "image_noising_scheduler": diffusers.DDPMScheduler()}


@cache
def prior() -> Any:
    network = random_network(
        diffusers.PriorTransformer,
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=WIDTH,
        num_embeddings=PROMPT_LENGTH,
        num_layers=1,
    )
    return awoken(network)


@cache
def unidiffuser() -> dict[str, Any]:
    network = random_network(
        diffusers.UniDiffuserModel,
        text_dim=WIDTH,
        clip_img_dim=WIDTH,
        num_text_tokens=PROMPT_LENGTH,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        norm_num_groups=4,
        sample_size=8,
        patch_size=2,
        use_patch_pos_embed=True,
    )
    decoder = random_network(
        diffusers.UniDiffuserTextDecoder, PROMPT_LENGTH, WIDTH, vocab_size=40, n_embd=WIDTH, n_layer=1, n_head=2
    )
    return {"unet": awoken(network), "text_decoder": decoder, "image_encoder": pictures_encoder()}


@cache
def long_sound() -> dict[str, Any]:
    """What Stable Audio is made of: it draws latents of a waveform, of three dimensions."""
    transformer = random_network(
        diffusers.StableAudioDiTModel,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        cross_attention_dim=WIDTH,
        cross_attention_input_dim=WIDTH,
        time_proj_dim=8,
        global_states_input_dim=2 * WIDTH,
    )
    autoencoder = random_network(
        diffusers.AutoencoderOobleck,
        encoder_hidden_size=4,
        downsampling_ratios=[1, 2],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        audio_channels=2,
        sampling_rate=32,
    )
    durations = random_network(diffusers.StableAudioProjectionModel, WIDTH, WIDTH, 0, 32)
    return {"transformer": transformer, "vae": autoencoder, "projection_model": durations}


@cache
def wave_unet() -> Any:
    """A network on waveforms, of three dimensions."""
    return random_network(
        diffusers.UNet1DModel,
        sample_size=64,
        sample_rate=64,
        in_channels=2,
        out_channels=2,
        extra_in_channels=32,
        # Not "fourier", which makes pictures of the last digit of a timestep.
        time_embedding_type="positional",
        down_block_types=("DownBlock1DNoSkip", "AttnDownBlock1D"),
        up_block_types=("AttnUpBlock1D", "UpBlock1DNoSkip"),
        block_out_channels=(32, 32),
    )


@cache
def two_prompts_unet() -> Any:
    """A network that is shown two descriptions of a sound."""
    return random_network(
        diffusers.AudioLDM2UNet2DConditionModel,
        block_out_channels=(WIDTH,),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=((WIDTH, WIDTH),),
    )


@cache
def packed() -> Any:
    """A transformer on packed latents, whose scheduler is given sigmas."""
    return random_network(
        diffusers.BriaTransformer2DModel,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=[2, 2, 4],
    )
