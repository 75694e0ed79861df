"""The table: pipelines of diffusers, what each is made of and how it is called; and which are not in it, and why."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import diffusers
import torch

from .conftest import WIDTH
from .networks import (
    SIDE,
    adapter,
    audio,
    captioned,
    clap,
    controlnet,
    kandinsky,
    motion_adapter,
    pictures_encoder,
    sound_unet,
    unet,
    video_unet,
    xl_controlnet,
    xl_unet,
)

STEPS = 3
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


class Row(NamedTuple):
    """A pipeline, what it is made of besides what all are, and how it is called.

    seeds: One, or one a picture.
    dimensions: Of the sample that the pipeline gives to `step`.
    """

    pipeline: str
    modules: Callable[[], Mapping[str, Any]]
    arguments: Mapping[str, Any]
    config: Mapping[str, Any] = STABLE_DIFFUSION
    seeds: tuple[int, ...] = (0,)
    schedulers: tuple[str, ...] = SCHEDULERS
    dimensions: int = 4


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
        dimensions=5,
    ),
    "motion, pag": Row(
        "AnimateDiffPAGPipeline",
        lambda: {"unet": unet(), "motion_adapter": motion_adapter()},
        {**PROMPTS, **SIZE, "num_frames": FRAMES},
        seeds=(0, 1),
        dimensions=5,
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
        dimensions=5,
    ),
    "sound": Row(
        "AudioLDMPipeline",
        lambda: {
            **audio(),
            "unet": sound_unet(),
            "text_encoder": clap(),
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
            "text_encoder": clap(),
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
    "LTX2VideoDiffusionDecodePipeline": "keeps a scheduler and never calls it",
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
