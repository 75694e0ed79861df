"""Every kind of pipeline that diffusers would run with its own KDPM2 draws the same pictures with kdpm2's.

Each row of the table is a real pipeline with small random networks, run once with diffusers' scheduler and once with
ours. So that saturated or constant pictures hide nothing, each run shows as well that its pictures vary and depend on
the seed. Stable Diffusion's text-to-image, image-to-image and inpainting, and DDPM, are in `test_same_pictures.py`.
"""

import copy
import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    ClapTextConfig,
    ClapTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

import kdpm2

from .conftest import SMALL, WIDTH, random_network

Pictures = NDArray[np.float32]

LOAD_AND_DRAW = """
import sys
import kdpm2
import numpy, torch
from diffusers import DiffusionPipeline

torch.set_num_threads(1)
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1] + "/pipeline")
assert type(pipeline.scheduler) is kdpm2.KDPM2AncestralDiscreteScheduler, type(pipeline.scheduler)
generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
arguments = torch.load(sys.argv[1] + "/arguments.pt")
numpy.save(sys.argv[1] + "/pictures.npy", pipeline(**arguments, generator=generators).images)
"""

STEPS = 3
SIDE = 16  # of a picture, in pixels; its latents have half of it
FRAMES = 3
ANCESTRAL = "KDPM2AncestralDiscreteScheduler"
SCHEDULERS = (ANCESTRAL, "KDPM2DiscreteScheduler")
TOLERANCE = 1e-4

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
# For pipelines that do not scale the network's input: so little noise that it does not matter much.
MILD = {"beta_start": 1e-4, "beta_end": 1e-3}
KARRAS = {**STABLE_DIFFUSION, "use_karras_sigmas": True}


def drawn_at_random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


IMAGES = drawn_at_random(2, 3, SIDE, SIDE).sigmoid()
CONTROLS = drawn_at_random(2, 3, SIDE, SIDE, seed=1).sigmoid()
MASK = torch.zeros(2, 1, SIDE, SIDE)
MASK[:, :, 4:13, 2:11] = 1

PROMPTS = {
    "prompt_embeds": drawn_at_random(2, 5, WIDTH, seed=2),
    "negative_prompt_embeds": drawn_at_random(2, 5, WIDTH, seed=3),
    "guidance_scale": 5.0,
}
XL_PROMPTS = {
    **PROMPTS,
    "pooled_prompt_embeds": drawn_at_random(2, WIDTH, seed=4),
    "negative_pooled_prompt_embeds": drawn_at_random(2, WIDTH, seed=5),
}
WORDS = {"prompt": "red fox", "negative_prompt": "dull", "guidance_scale": 5.0}
ONE_PROMPT = {name: value[:1] if isinstance(value, torch.Tensor) else value for name, value in PROMPTS.items()}
SOUND_PROMPTS = {name: value[:, 0] if isinstance(value, torch.Tensor) else value for name, value in PROMPTS.items()}
PROMPT_MASKS = {name: torch.ones(2, 5) for name in ("prompt_attention_mask", "negative_prompt_attention_mask")}
SIZE = {"height": SIDE, "width": SIDE}


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


CLAP = {
    "vocab_size": 40,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "projection_dim": WIDTH,
}


def sound_unet() -> Any:
    return unet(
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=WIDTH,
        class_embeddings_concat=True,
    )


class Row(NamedTuple):
    """A pipeline, what it is made of besides what all are, and how it is called; seeds: one, or one a picture."""

    pipeline: str
    modules: Callable[[], Mapping[str, Any]]
    arguments: Mapping[str, Any]
    config: Mapping[str, Any] = STABLE_DIFFUSION
    seeds: tuple[int, ...] = (0,)
    schedulers: tuple[str, ...] = SCHEDULERS


XL_ABSENT = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))


TABLE: dict[str, Row] = {
    "text, guidance rescaled": Row(
        "StableDiffusionPipeline",
        lambda: {"unet": unet()},
        {**PROMPTS, "guidance_rescale": 0.7},
        seeds=(0, 1),
    ),
    "upscale": Row(
        "StableDiffusionUpscalePipeline",
        lambda: {"unet": unet(7, num_class_embeds=30), "low_res_scheduler": diffusers.DDPMScheduler()},
        {**PROMPTS, "image": IMAGES, "noise_level": 20},
    ),
    "depth": Row(
        "StableDiffusionDepth2ImgPipeline",
        lambda: {"unet": unet(5)},
        {**PROMPTS, "image": IMAGES, "depth_map": CONTROLS[:, 0], "strength": 0.7},
    ),
    "instruct": Row(
        "StableDiffusionInstructPix2PixPipeline",
        lambda: {"unet": unet(8)},
        {**PROMPTS, "image": IMAGES, "image_guidance_scale": 1.5},
        seeds=(0, 1),
    ),
    "controlnet": Row(
        "StableDiffusionControlNetPipeline",
        lambda: {"unet": unet(), "controlnet": controlnet()},
        {**PROMPTS, "image": CONTROLS},
    ),
    "controlnet, image": Row(
        "StableDiffusionControlNetImg2ImgPipeline",
        lambda: {"unet": unet(), "controlnet": controlnet()},
        {**PROMPTS, "image": IMAGES, "control_image": CONTROLS, "strength": 0.7, "control_guidance_end": 0.6},
    ),
    "controlnet, inpaint": Row(
        "StableDiffusionControlNetInpaintPipeline",
        lambda: {"unet": unet(9), "controlnet": controlnet()},
        {**PROMPTS, **SIZE, "image": IMAGES, "mask_image": MASK, "control_image": CONTROLS},
    ),
    "xl": Row(
        "StableDiffusionXLPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet()},
        {**XL_PROMPTS, **SIZE, "guidance_rescale": 0.7},
        KARRAS,
        seeds=(0, 1),
    ),
    "xl, image": Row(
        "StableDiffusionXLImg2ImgPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet()},
        {**XL_PROMPTS, "image": IMAGES, "strength": 0.7},
    ),
    "xl, inpaint": Row(
        "StableDiffusionXLInpaintPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(9)},
        {**XL_PROMPTS, **SIZE, "image": IMAGES, "mask_image": MASK, "strength": 0.7},
        seeds=(0, 1),
    ),
    "xl, instruct": Row(
        "StableDiffusionXLInstructPix2PixPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(8)},
        {**XL_PROMPTS, **SIZE, "image": IMAGES},
    ),
    "xl, controlnet": Row(
        "StableDiffusionXLControlNetPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "controlnet": xl_controlnet()},
        {**XL_PROMPTS, "image": CONTROLS},
        KARRAS,
    ),
    "xl, controlnet, image": Row(
        "StableDiffusionXLControlNetImg2ImgPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "controlnet": xl_controlnet()},
        {**XL_PROMPTS, "image": IMAGES, "control_image": CONTROLS},
    ),
    "xl, controlnet, inpaint": Row(
        "StableDiffusionXLControlNetInpaintPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "controlnet": xl_controlnet()},
        {**XL_PROMPTS, **SIZE, "image": IMAGES, "mask_image": MASK, "control_image": CONTROLS, "strength": 0.7},
    ),
    "adapter": Row(
        "StableDiffusionAdapterPipeline",
        lambda: {"unet": unet(), "adapter": adapter()},
        {**PROMPTS, **SIZE, "image": CONTROLS},
    ),
    "xl, adapter": Row(
        "StableDiffusionXLAdapterPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "adapter": adapter()},
        {**XL_PROMPTS, **SIZE, "image": CONTROLS},
    ),
    "variation": Row(
        "StableDiffusionImageVariationPipeline",
        lambda: {"unet": unet(), "image_encoder": pictures_encoder()},
        {"image": IMAGES},
    ),
    "pag": Row("StableDiffusionPAGPipeline", lambda: {"unet": unet()}, PROMPTS),
    "pag, image": Row(
        "StableDiffusionPAGImg2ImgPipeline",
        lambda: {"unet": unet()},
        {**PROMPTS, "image": IMAGES, "strength": 0.7},
    ),
    "pag, inpaint": Row(
        "StableDiffusionPAGInpaintPipeline",
        lambda: {"unet": unet()},
        {**PROMPTS, **SIZE, "image": IMAGES, "mask_image": MASK},
    ),
    "pag, xl": Row("StableDiffusionXLPAGPipeline", lambda: {**XL_ABSENT, "unet": xl_unet()}, {**XL_PROMPTS, **SIZE}),
    "pag, xl, image": Row(
        "StableDiffusionXLPAGImg2ImgPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet()},
        {**XL_PROMPTS, "image": IMAGES, "strength": 0.7},
    ),
    "pag, xl, inpaint": Row(
        "StableDiffusionXLPAGInpaintPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet()},
        {**XL_PROMPTS, **SIZE, "image": IMAGES, "mask_image": MASK},
    ),
    "pag, controlnet": Row(
        "StableDiffusionControlNetPAGPipeline",
        lambda: {"unet": unet(), "controlnet": controlnet()},
        {**PROMPTS, "image": CONTROLS},
    ),
    "pag, controlnet, inpaint": Row(
        "StableDiffusionControlNetPAGInpaintPipeline",
        lambda: {"unet": unet(), "controlnet": controlnet()},
        {**PROMPTS, **SIZE, "image": IMAGES, "mask_image": MASK, "control_image": CONTROLS},
    ),
    "pag, xl, controlnet": Row(
        "StableDiffusionXLControlNetPAGPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "controlnet": xl_controlnet()},
        {**XL_PROMPTS, "image": CONTROLS},
    ),
    "pag, xl, controlnet, image": Row(
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "controlnet": xl_controlnet()},
        {**XL_PROMPTS, "image": IMAGES, "control_image": CONTROLS},
    ),
    "video": Row(
        "TextToVideoSDPipeline",
        lambda: {"unet": video_unet()},
        {**PROMPTS, **SIZE, "num_frames": FRAMES},
    ),
    "video, video": Row(
        "VideoToVideoSDPipeline",
        lambda: {"unet": video_unet()},
        {**ONE_PROMPT, "video": CONTROLS[None], "strength": 0.7},
    ),
    "motion, controlnet": Row(
        "AnimateDiffControlNetPipeline",
        lambda: {"unet": unet(), "motion_adapter": motion_adapter(), "controlnet": controlnet()},
        {**ONE_PROMPT, **SIZE, "num_frames": 2, "conditioning_frames": list(CONTROLS)},
    ),
    "motion, pag": Row(
        "AnimateDiffPAGPipeline",
        lambda: {"unet": unet(), "motion_adapter": motion_adapter()},
        {**PROMPTS, **SIZE, "num_frames": FRAMES},
        seeds=(0, 1),
    ),
    "transformer": Row(
        "PixArtSigmaPipeline",
        lambda: {**XL_ABSENT, "transformer": captioned(diffusers.PixArtTransformer2DModel)},
        {**PROMPTS, **SIZE, **PROMPT_MASKS, "negative_prompt": None, "use_resolution_binning": False},
        seeds=(0, 1),
    ),
    "transformer, pag": Row(
        "PixArtSigmaPAGPipeline",
        lambda: {**XL_ABSENT, "transformer": captioned(diffusers.PixArtTransformer2DModel)},
        {**PROMPTS, **SIZE, **PROMPT_MASKS, "negative_prompt": None, "use_resolution_binning": False},
    ),
    "transformer, video": Row(
        "LattePipeline",
        lambda: {**XL_ABSENT, "transformer": captioned(diffusers.LatteTransformer3DModel, video_length=FRAMES)},
        {**ONE_PROMPT, **SIZE, "video_length": FRAMES, "negative_prompt": None},
    ),
    "sound": Row(
        "AudioLDMPipeline",
        lambda: {
            **audio(),
            "unet": sound_unet(),
            "text_encoder": random_network(ClapTextModelWithProjection, ClapTextConfig(**CLAP)),
        },
        {**SOUND_PROMPTS, "audio_length_in_s": 0.005},
        seeds=(0, 1),
    ),
    "text and depth": Row("StableDiffusionLDM3DPipeline", lambda: {"unet": unet()}, PROMPTS),
    "safe": Row("StableDiffusionPipelineSafe", lambda: {"unet": unet()}, WORDS),
    "model editing": Row("StableDiffusionModelEditingPipeline", lambda: {"unet": unet()}, PROMPTS),
    "boxes": Row(
        "StableDiffusionGLIGENPipeline",
        lambda: {"unet": unet(attention_type="gated")},
        {**WORDS, "gligen_phrases": ["a fox"], "gligen_boxes": [[0.1, 0.1, 0.6, 0.6]]},
    ),
    "inpaint, legacy": Row(
        "StableDiffusionInpaintPipelineLegacy",
        lambda: {"unet": unet()},
        {**PROMPTS, "image": IMAGES, "mask_image": MASK, "strength": 0.7},
    ),
    "music": Row(
        "MusicLDMPipeline",
        lambda: {
            **audio(),
            "unet": sound_unet(),
            "text_encoder": random_network(ClapTextModelWithProjection, ClapTextConfig(**CLAP)),
        },
        {**SOUND_PROMPTS, "audio_length_in_s": 0.005},
    ),
    "kandinsky": Row(
        "KandinskyV22Pipeline",
        kandinsky,
        {
            "image_embeds": drawn_at_random(2, WIDTH, seed=2),
            "negative_image_embeds": drawn_at_random(2, WIDTH, seed=3),
            **SIZE,
        },
        MILD,
        seeds=(0, 1),
        schedulers=(ANCESTRAL,),
    ),
}

HERE = {title: row for title, row in TABLE.items() if hasattr(diffusers, row.pipeline)}
"""The rows for the installed version of diffusers, which may be an old one."""

COVERED_ELSEWHERE = {"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"}
"""By `test_same_pictures.py`, on more schedules; `DDPMPipeline` too, which does not say that it admits the class."""

ADMITTING = ("KarrasDiffusionSchedulers", "SchedulerMixin", "KDPM2")


def reasons(reason: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, reason)


def same_loop(row: str, *names: str) -> dict[str, str]:
    return reasons(f"calls its scheduler just as {TABLE[row].pipeline} does, around other networks", *names)


NOT_COVERED = {
    # Another pipeline's loop
    **same_loop(
        "text, guidance rescaled",
        "AltDiffusionPipeline",
        "StableDiffusionAttendAndExcitePipeline",
        "StableUnCLIPImg2ImgPipeline",
        "StableUnCLIPPipeline",
        "VersatileDiffusionDualGuidedPipeline",
        "VersatileDiffusionImageVariationPipeline",
        "VersatileDiffusionPipeline",
        "VersatileDiffusionTextToImagePipeline",
    ),
    **same_loop("depth", "AltDiffusionImg2ImgPipeline"),
    **same_loop("upscale", "OnnxStableDiffusionUpscalePipeline"),
    **same_loop("controlnet", "StableDiffusionControlNetXSPipeline"),
    **same_loop("xl", "KolorsPipeline"),
    **same_loop("xl, image", "KolorsImg2ImgPipeline"),
    **same_loop("pag, xl", "KolorsPAGPipeline"),
    **same_loop("xl, controlnet", "StableDiffusionXLControlNetUnionPipeline", "StableDiffusionXLControlNetXSPipeline"),
    **same_loop("xl, controlnet, image", "StableDiffusionXLControlNetUnionImg2ImgPipeline"),
    **same_loop("xl, controlnet, inpaint", "StableDiffusionXLControlNetUnionInpaintPipeline"),
    **same_loop("boxes", "StableDiffusionGLIGENTextImagePipeline"),
    **same_loop("motion, controlnet", "AnimateDiffSparseControlNetPipeline"),
    **same_loop("transformer, video", "AllegroPipeline", "CogVideoXFunControlPipeline"),
    **same_loop("sound", "AudioLDM2Pipeline"),
    # Pipelines that these samplers do not fit, diffusers' as little as ours
    **reasons(
        "does not scale the network's input, so that it draws nothing sensible with a scheduler of noise levels",
        "BriaFiboEditPipeline",
        "BriaFiboPipeline",
        "DanceDiffusionPipeline",
        "MotifVideoImage2VideoPipeline",
        "MotifVideoPipeline",
        "UniDiffuserPipeline",
    ),
    "BriaPipeline": "passes sigmas, which diffusers' KDPM2 refuses",
    "DiTPipeline": "steps the scaled sample, which ours refuses: see the test above",
    "StableDiffusionDiffEditPipeline": "mixes in, call by call, latents that a DDIMInverseScheduler left for each step",
    "StableDiffusionParadigmsPipeline": "solves for many timesteps at once, and needs a scheduler's `_get_variance`",
    "StableDiffusionSAGPipeline": "refuses timesteps that are not integers, as diffusers' KDPM2 has them",
    "SemanticStableDiffusionPipeline": "fails with diffusers' KDPM2: has room for one call of the network a step",
    **reasons(
        "fails with diffusers' KDPM2: slices alphas by its timesteps, which are not integers",
        "TextToVideoZeroPipeline",
        "TextToVideoZeroSDXLPipeline",
    ),
}


def built(row: Row, components: Mapping[str, Any]) -> Any:
    """The pipeline, with None for what its constructor asks for and a run does without."""
    # Its own autoencoder, since the upscaling pipeline writes into the configuration of the one it is given.
    own = {"vae": copy.deepcopy(components["vae"]), "scheduler": theirs(ANCESTRAL, row)}
    given = {**components, **own, **row.modules()}
    build = getattr(diffusers, row.pipeline)
    parameters = inspect.signature(build.__init__).parameters.values()
    wanted = {
        each.name: given.get(each.name)
        for each in parameters
        if each.name in given or (each.default is each.empty and each.name not in ("self", "kwargs"))
    }
    pipeline = build(**wanted)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def theirs(scheduler: str, row: Row) -> Any:
    return getattr(diffusers, scheduler)(**row.config)


def exchanged(scheduler: Any) -> Any:
    return getattr(kdpm2, type(scheduler).__name__).from_config(scheduler.config)


def seeded(seeds: tuple[int, ...]) -> torch.Generator | list[torch.Generator]:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return generators if len(seeds) > 1 else generators[0]


def drawn(pipeline: Any, scheduler: Any, row: Row, shift: int = 0, **options: Any) -> Pictures:
    pipeline.scheduler = scheduler
    given = {"num_inference_steps": STEPS, "output_type": "np", **row.arguments, **options}
    torch.manual_seed(row.seeds[0] + shift)  # for pipelines that give their generator to no step
    output = pipeline(**given, generator=seeded(tuple(seed + shift for seed in row.seeds)))[0]
    return np.asarray(output, dtype=np.float32)


def check_varied(pictures: Pictures, others: Pictures) -> None:
    """That a comparison of the pictures would have shown a difference."""
    assert np.isfinite(pictures).all()
    assert pictures.std() > 0.03
    assert np.mean((pictures == 0) | (pictures == 1)) < 0.5
    assert np.abs(pictures - others).max() > 0.05


def largest_difference(record_property: Any, label: str, a: Pictures, b: Pictures) -> float:
    difference = float(np.abs(a - b).max())
    record_property("largest difference", difference)
    print(f"\n{label}: {difference:.1e}")
    return difference


@pytest.mark.parametrize(("title", "name"), [(title, name) for title, row in HERE.items() for name in row.schedulers])
def test_the_pictures_are_those_of_diffusers(
    components: dict[str, Any], title: str, name: str, record_property: Any
) -> None:
    row = TABLE[title]
    pipeline, scheduler = built(row, components), theirs(name, row)
    expected = drawn(pipeline, scheduler, row)
    pictures = drawn(pipeline, exchanged(scheduler), row)
    label = f"{row.pipeline} ({title}), {name}"
    assert largest_difference(record_property, label, pictures, expected) <= TOLERANCE
    if name == ANCESTRAL:
        check_varied(pictures, drawn(pipeline, pipeline.scheduler, row, shift=7))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_base_hands_its_latents_on_to_a_refiner(components: dict[str, Any], name: str, record_property: Any) -> None:
    options = {"num_inference_steps": 5, "output_type": "np"}
    base, refiner = (
        built(Row(pipeline, modules, {}), components)
        for pipeline, modules in (
            ("StableDiffusionXLPipeline", lambda: {**XL_ABSENT, "unet": xl_unet()}),
            (
                "StableDiffusionXLImg2ImgPipeline",
                lambda: {**XL_ABSENT, "unet": xl_unet(ids=5), "requires_aesthetics_score": True},
            ),
        )
    )

    def refined(scheduler: Any, seed: int = 0) -> Pictures:
        base.scheduler = scheduler
        refiner.scheduler = type(scheduler).from_config(scheduler.config)
        generator = torch.Generator().manual_seed(seed)
        prompts = {**XL_PROMPTS, "generator": generator}
        latents = base(**prompts, **{**options, "output_type": "latent"}, **SIZE, denoising_end=0.6).images
        pictures: Pictures = refiner(**prompts, **options, image=latents, denoising_start=0.6).images
        return pictures

    reference = getattr(diffusers, name)(**KARRAS)
    expected, pictures = refined(reference), refined(exchanged(reference))
    label = f"StableDiffusionXLPipeline and StableDiffusionXLImg2ImgPipeline (refiner), {name}"
    assert largest_difference(record_property, label, pictures, expected) <= TOLERANCE
    check_varied(pictures, refined(exchanged(reference), seed=1))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("title", ["xl", "controlnet, image"])
def test_a_callback_sees_and_changes_every_stage(
    components: dict[str, Any], title: str, name: str, record_property: Any
) -> None:
    row, seen = TABLE[title], list[tuple[int, float, torch.Tensor]]()
    pipeline, scheduler = built(row, components), theirs(name, row)

    def callback(_: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, float(timestep), tensors["latents"].clone()))
        return {"latents": tensors["latents"] * 0.5 + 1}

    expected = drawn(pipeline, scheduler, row, callback_on_step_end=callback)
    theirs_seen = seen.copy()
    seen.clear()
    pictures = drawn(pipeline, exchanged(scheduler), row, callback_on_step_end=callback)
    assert [step for step, _, _ in seen] == [step for step, _, _ in theirs_seen]
    for (_, timestep, latents), (_, their_timestep, their_latents) in zip(seen, theirs_seen, strict=True):
        assert timestep == pytest.approx(their_timestep, abs=1e-3)
        torch.testing.assert_close(latents, their_latents, rtol=1e-4, atol=1e-4)
    label = f"{row.pipeline} ({title}, callback), {name}"
    assert largest_difference(record_property, label, pictures, expected) <= TOLERANCE
    check_varied(pictures, drawn(pipeline, pipeline.scheduler, row))


def test_a_saved_pipeline_draws_the_same_in_a_new_process(
    components: dict[str, Any], tmp_path: Path, record_property: Any
) -> None:
    row = TABLE["xl"]
    pipeline, scheduler = built(row, components), theirs(ANCESTRAL, row)
    expected = drawn(pipeline, scheduler, row)
    pipeline.scheduler = exchanged(scheduler)
    pipeline.save_pretrained(tmp_path / "pipeline")
    torch.save({"num_inference_steps": STEPS, "output_type": "np", **row.arguments}, tmp_path / "arguments.pt")
    subprocess.run([sys.executable, "-c", LOAD_AND_DRAW, tmp_path], check=True)
    pictures = np.load(tmp_path / "pictures.npy")
    label = f"{row.pipeline} (xl, saved), {ANCESTRAL}"
    assert largest_difference(record_property, label, pictures, expected) <= TOLERANCE
    check_varied(pictures, drawn(pipeline, pipeline.scheduler, row, shift=7))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_pipeline_that_steps_the_scaled_sample_is_told_so(components: dict[str, Any], name: str) -> None:
    """It gives `step` what `scale_model_input` returned, so with diffusers' scheduler it draws wrong pictures."""
    row = Row(
        "DiTPipeline",
        lambda: {"transformer": patches(diffusers.DiTTransformer2DModel, num_embeds_ada_norm=1000)},
        {"class_labels": [1, 2]},
    )
    pipeline, scheduler = built(row, components), theirs(name, row)
    assert np.isfinite(drawn(pipeline, scheduler, row)).all()
    with pytest.raises(ValueError, match="before scaling"):
        drawn(pipeline, exchanged(scheduler), row)


def admitted() -> set[str]:
    """The pipelines of the installed diffusers whose constructor says that they take the reference's class."""
    names = set()
    for name in dir(diffusers):
        if "KDiffusion" in name:
            continue  # old versions have them: they sample with k-diffusion's functions, and import all of its package
        build = getattr(diffusers, name)
        if not inspect.isclass(build) or not issubclass(build, diffusers.DiffusionPipeline):
            continue
        scheduler = inspect.signature(build.__init__).parameters.get("scheduler")
        if scheduler and any(word in str(scheduler.annotation) for word in ADMITTING):
            names.add(name)
    return names


def test_every_pipeline_that_admits_the_reference_is_covered_or_has_a_reason() -> None:
    covered = {row.pipeline for row in TABLE.values()} | COVERED_ELSEWHERE
    names = admitted()
    print(f"\n{len(names)} admitted: {len(names & covered)} covered, {len(names - covered)} not covered")
    assert len(names) > 50
    assert sorted(names - covered - set(NOT_COVERED)) == []
    assert sorted(covered & set(NOT_COVERED)) == []


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("title", ["text, guidance rescaled", "xl"])
def test_bfloat16_rounds_no_worse_than_with_diffusers(
    components: dict[str, Any], title: str, name: str, record_property: Any
) -> None:
    row = TABLE[title]
    pipeline, scheduler = built(row, components), theirs(name, row)
    exact = drawn(pipeline, scheduler, row)
    for part, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            setattr(pipeline, part, copy.deepcopy(module).to(torch.bfloat16))
    given = {
        part: value.to(torch.bfloat16) if isinstance(value, torch.Tensor) else value
        for part, value in row.arguments.items()
    }
    half = row._replace(arguments=given)
    expected, pictures = drawn(pipeline, scheduler, half), drawn(pipeline, exchanged(scheduler), half)
    label = f"{row.pipeline} ({title}, bfloat16), {name}"
    difference = largest_difference(record_property, label, pictures, expected)
    # Each stage rounds its sample and the network's input, and each of a picture's values lies between 0 and 1.
    assert difference <= 2 * (2 * STEPS - 1) * torch.finfo(torch.bfloat16).eps
    error, their_error = (np.sqrt(np.mean((rounded - exact) ** 2)) for rounded in (pictures, expected))
    assert error <= 1.25 * their_error
    check_varied(pictures, drawn(pipeline, pipeline.scheduler, half, shift=7))
