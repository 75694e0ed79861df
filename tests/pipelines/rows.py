"""The table: pipelines of diffusers, what each is made of and how it is called; and which are not in it, and why."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import diffusers
import torch
from PIL import Image

from .conftest import WIDTH
from .networks import (
    SIDE,
    adapter,
    allegro,
    audio,
    captioned,
    clap,
    cogvideo,
    controlnet,
    gpt2,
    kandinsky,
    long_sound,
    motion_adapter,
    packed,
    patches,
    pictures_encoder,
    pictures_reader,
    prior,
    small_controlnet,
    sound_unet,
    sparse_controlnet,
    t5,
    text_projection,
    two_prompts_unet,
    unclip,
    unet,
    unidiffuser,
    union_controlnet,
    video_unet,
    wave_unet,
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
WORDS = {"prompt": ["red fox", "a blue bird"], "negative_prompt": ["dull", "grey"], "guidance_scale": 5.0}
ONE_PROMPT, ONE_XL_PROMPT = (
    {name: value[:1] if isinstance(value, torch.Tensor) else value for name, value in prompts.items()}
    for prompts in (PROMPTS, XL_PROMPTS)
)
SOUND_PROMPTS = {name: value[:, 0] if isinstance(value, torch.Tensor) else value for name, value in PROMPTS.items()}
PROMPT_MASKS = {name: torch.ones(2, 5) for name in ("prompt_attention_mask", "negative_prompt_attention_mask")}
PICTURE = Image.fromarray((IMAGES[0].permute(1, 2, 0).numpy() * 255).astype("uint8"))
SIZE = {"height": SIDE, "width": SIDE}


class Row(NamedTuple):
    """A pipeline, what it is made of besides what all are, and how it is called.

    seeds: One, or one a picture.
    dimensions: Of the sample that the pipeline gives to `step`.
    pictures: How many it draws; two where it can.
    """

    pipeline: str
    modules: Callable[[], Mapping[str, Any]]
    arguments: Mapping[str, Any]
    config: Mapping[str, Any] = STABLE_DIFFUSION
    seeds: tuple[int, ...] = (0,)
    schedulers: tuple[str, ...] = SCHEDULERS
    dimensions: int = 4
    pictures: int = 2


XL_ABSENT = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))


TABLE: dict[str, Row] = {
    "class, stepping the scaled sample": Row(
        "DiTPipeline",
        lambda: {"transformer": patches(diffusers.DiTTransformer2DModel, num_embeds_ada_norm=1000)},
        {"class_labels": [1, 2]},
        MILD,
    ),
    "video, with more samples after two steps": Row(
        "TextToVideoZeroSDXLPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet()},
        {**ONE_XL_PROMPT, **SIZE, "prompt": None, "video_length": 2, "t0": 1, "t1": 2},
    ),
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
        seeds=(0, 1),
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
        seeds=(0, 1),
    ),
    "controlnet, image": Row(
        "StableDiffusionControlNetImg2ImgPipeline",
        lambda: {"unet": unet(), "controlnet": controlnet()},
        {**PROMPTS, "image": IMAGES, "control_image": CONTROLS, "strength": 0.7, "control_guidance_end": 0.6},
        seeds=(0, 1),
    ),
    "controlnet, inpaint": Row(
        "StableDiffusionControlNetInpaintPipeline",
        lambda: {"unet": unet(9), "controlnet": controlnet()},
        {**PROMPTS, **SIZE, "image": IMAGES, "mask_image": MASK, "control_image": CONTROLS},
        seeds=(0, 1),
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
        seeds=(0, 1),
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
        seeds=(0, 1),
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
        seeds=(0, 1),
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
        seeds=(0, 1),
    ),
    "pag": Row("StableDiffusionPAGPipeline", lambda: {"unet": unet()}, PROMPTS, seeds=(0, 1)),
    "pag, image": Row(
        "StableDiffusionPAGImg2ImgPipeline",
        lambda: {"unet": unet()},
        {**PROMPTS, "image": IMAGES, "strength": 0.7},
        seeds=(0, 1),
    ),
    "pag, inpaint": Row(
        "StableDiffusionPAGInpaintPipeline",
        lambda: {"unet": unet()},
        {**PROMPTS, **SIZE, "image": IMAGES, "mask_image": MASK},
    ),
    "pag, xl": Row(
        "StableDiffusionXLPAGPipeline", lambda: {**XL_ABSENT, "unet": xl_unet()}, {**XL_PROMPTS, **SIZE}, seeds=(0, 1)
    ),
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
    "video": Row("TextToVideoSDPipeline", lambda: {"unet": video_unet()}, {**PROMPTS, **SIZE, "num_frames": FRAMES}),
    "video, video": Row(
        "VideoToVideoSDPipeline",
        lambda: {"unet": video_unet()},
        {**ONE_PROMPT, "video": CONTROLS[None], "strength": 0.7},
        pictures=1,
    ),
    "motion, controlnet": Row(
        "AnimateDiffControlNetPipeline",
        lambda: {"unet": unet(), "motion_adapter": motion_adapter(), "controlnet": controlnet()},
        {**ONE_PROMPT, **SIZE, "num_frames": 2, "conditioning_frames": list(CONTROLS)},
        pictures=1,
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
        {**PROMPTS, **SIZE, "video_length": FRAMES, "negative_prompt": None},
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
    "text and depth": Row("StableDiffusionLDM3DPipeline", lambda: {"unet": unet()}, PROMPTS, seeds=(0, 1)),
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
        seeds=(0, 1),
    ),
    "music": Row(
        "MusicLDMPipeline",
        lambda: {
            **audio(),
            "unet": sound_unet(),
            "text_encoder": clap(),
        },
        {**SOUND_PROMPTS, "audio_length_in_s": 0.005},
        seeds=(0, 1),
    ),
    "text, alt": Row("AltDiffusionPipeline", lambda: {"unet": unet()}, PROMPTS, seeds=(0, 1)),
    "image, alt": Row(
        "AltDiffusionImg2ImgPipeline",
        lambda: {"unet": unet()},
        {**PROMPTS, "image": IMAGES, "strength": 0.7},
        seeds=(0, 1),
    ),
    "text, attended": Row(
        "StableDiffusionAttendAndExcitePipeline",
        lambda: {"unet": unet()},
        {**WORDS, "token_indices": [[1, 2], [2, 3]], "attn_res": (8, 8), "thresholds": {0: 0.1}},
    ),
    "text, semantic": Row(
        "SemanticStableDiffusionPipeline", lambda: {"unet": unet()}, {"prompt": WORDS["prompt"], "guidance_scale": 1.0}
    ),
    "unclip": Row(
        "StableUnCLIPPipeline",
        lambda: {
            **unclip(),
            "prior": prior(),
            "prior_text_encoder": text_projection(),
            "prior_scheduler": diffusers.UnCLIPScheduler(prediction_type="sample"),
        },
        {**WORDS, **SIZE, "prior_num_inference_steps": 2},
    ),
    "unclip, image": Row(
        "StableUnCLIPImg2ImgPipeline",
        lambda: {**unclip(), "image_encoder": pictures_encoder()},
        {**PROMPTS, **SIZE, "image_embeds": drawn_at_random(2, WIDTH, seed=6), "noise_level": 20},
        seeds=(0, 1),
    ),
    "versatile, text": Row(
        "VersatileDiffusionTextToImagePipeline",
        lambda: {"image_unet": unet(), "text_encoder": text_projection()},
        {**WORDS, **SIZE},
        seeds=(0, 1),
    ),
    "versatile, image": Row(
        "VersatileDiffusionImageVariationPipeline",
        lambda: {
            "image_unet": unet(),
            "image_encoder": pictures_encoder(),
            "image_feature_extractor": pictures_reader(),
        },
        {"image": IMAGES, **SIZE},
    ),
    "controlnet, small": Row(
        "StableDiffusionControlNetXSPipeline",
        lambda: {"unet": unet(layers_per_block=2), "controlnet": small_controlnet(unet(layers_per_block=2))},
        {**PROMPTS, "image": CONTROLS},
    ),
    "xl, controlnet, small": Row(
        "StableDiffusionXLControlNetXSPipeline",
        lambda: {
            **XL_ABSENT,
            "unet": xl_unet(layers_per_block=2),
            "controlnet": small_controlnet(xl_unet(layers_per_block=2)),
        },
        {**XL_PROMPTS, "image": CONTROLS},
    ),
    "xl, controlnet, union": Row(
        "StableDiffusionXLControlNetUnionPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "controlnet": union_controlnet()},
        {**XL_PROMPTS, "control_image": CONTROLS, "control_mode": 1},
    ),
    "xl, controlnet, union, image": Row(
        "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "controlnet": union_controlnet()},
        {**XL_PROMPTS, "image": IMAGES, "control_image": CONTROLS, "control_mode": 1},
    ),
    "xl, controlnet, union, inpaint": Row(
        "StableDiffusionXLControlNetUnionInpaintPipeline",
        lambda: {**XL_ABSENT, "unet": xl_unet(), "controlnet": union_controlnet()},
        {
            **XL_PROMPTS,
            **SIZE,
            "image": IMAGES,
            "mask_image": MASK,
            "control_image": CONTROLS,
            "control_mode": 1,
            "strength": 0.7,
        },
        seeds=(0, 1),
    ),
    "boxes, image": Row(
        "StableDiffusionGLIGENTextImagePipeline",
        lambda: {"unet": unet(9, attention_type="gated-text-image")},
        {**WORDS, "gligen_phrases": ["a fox"], "gligen_boxes": [[0.1, 0.1, 0.6, 0.6]], "gligen_inpaint_image": PICTURE},
    ),
    "motion, sparse controlnet": Row(
        "AnimateDiffSparseControlNetPipeline",
        lambda: {"unet": unet(), "motion_adapter": motion_adapter(), "controlnet": sparse_controlnet()},
        {**PROMPTS, **SIZE, "num_frames": 2, "conditioning_frames": [PICTURE]},
        dimensions=5,
    ),
    "transformer, long video": Row(
        "AllegroPipeline",
        lambda: {**XL_ABSENT, "transformer": allegro(), "vae": None},
        {
            **PROMPTS,
            **PROMPT_MASKS,
            "negative_prompt": None,
            "height": 32,
            "width": 32,
            "num_frames": 8,
            "output_type": "latent",
        },
        seeds=(0, 1),
        dimensions=5,
    ),
    "transformer, video, control": Row(
        "CogVideoXFunControlPipeline",
        lambda: {**XL_ABSENT, **cogvideo()},
        {**PROMPTS, **SIZE, "control_video": [[PICTURE], [PICTURE]]},
        dimensions=5,
        seeds=(0, 1),
    ),
    "sound, two prompts": Row(
        "AudioLDM2Pipeline",
        lambda: {
            **audio(),
            "unet": two_prompts_unet(),
            "text_encoder": clap(),
            "text_encoder_2": t5(),
            "language_model": gpt2(),
        },
        {
            **PROMPTS,
            "generated_prompt_embeds": drawn_at_random(2, 5, WIDTH, seed=6),
            "negative_generated_prompt_embeds": drawn_at_random(2, 5, WIDTH, seed=7),
            "attention_mask": torch.ones(2, 5),
            "negative_attention_mask": torch.ones(2, 5),
            "audio_length_in_s": 0.005,
        },
        seeds=(0, 1),
    ),
    "sound, long": Row("StableAudioPipeline", long_sound, {**PROMPTS, "output_type": "np"}, seeds=(0, 1), dimensions=3),
    "sound, waveform": Row(
        "DanceDiffusionPipeline",
        lambda: {"unet": wave_unet()},
        {"batch_size": 2},
        MILD,
        seeds=(0, 1),
        dimensions=3,
    ),
    "image and text": Row("UniDiffuserPipeline", unidiffuser, {**WORDS, **SIZE}, MILD, dimensions=2),
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

COVERED_ELSEWHERE = {
    "DDPMPipeline",
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
}
"""By `test_same_pictures.py`, on more schedules; `DDPMPipeline` does not say that it admits the class."""


class Failure(NamedTuple):
    """A row that cannot be compared, and the error that tells why; the discrete class fails as the ancestral one."""

    reason: str
    row: Row
    error: type[Exception]
    message: str


FAILURES_OF_DIFFUSERS: tuple[Failure, ...] = (
    Failure(
        "passes sigmas, which diffusers' KDPM2 refuses",
        Row("BriaPipeline", lambda: {"transformer": packed()}, {**PROMPTS, "height": 32, "width": 32}),
        ValueError,
        "does not support custom sigmas",
    ),
    Failure(
        "has room for one call of the network a step when it is guided; without guidance it is in the table",
        Row("SemanticStableDiffusionPipeline", lambda: {"unet": unet()}, WORDS),
        IndexError,
        "out of bounds",
    ),
    Failure(
        "mixes in, at each call of the network, a latent that a DDIMInverseScheduler left, which are one a step",
        Row(
            "StableDiffusionDiffEditPipeline",
            lambda: {"unet": unet(), "inverse_scheduler": diffusers.DDIMInverseScheduler(**STABLE_DIFFUSION)},
            {
                "prompt": "red fox",
                "mask_image": MASK[:1, 0, ::2, ::2],
                "image_latents": drawn_at_random(1, STEPS, 4, SIDE // 2, SIDE // 2),
                "inpaint_strength": 1.0,
            },
        ),
        ValueError,
        f"latent images from {2 * STEPS - 1} timesteps",
    ),
    Failure(
        "solves for many timesteps at once, and needs a scheduler's `_get_variance`",
        Row("StableDiffusionParadigmsPipeline", lambda: {"unet": unet()}, PROMPTS),
        AttributeError,
        "_get_variance",
    ),
    Failure(
        "refuses timesteps that are not integers",
        Row("StableDiffusionSAGPipeline", lambda: {"unet": unet()}, PROMPTS),
        ValueError,
        "does not support using a scheduler of type",
    ),
    Failure(
        "slices alphas by its timesteps, which are not integers",
        Row(
            "TextToVideoZeroPipeline",
            lambda: {"unet": unet()},
            {"prompt": "red fox", **SIZE, "video_length": 2, "t0": 1, "t1": 2},
        ),
        TypeError,
        "slice indices must be integers",
    ),
    Failure(
        "fails with every scheduler: its attention does not take an argument that its network gives it",
        Row(
            "VersatileDiffusionDualGuidedPipeline",
            lambda: {
                "image_unet": copy.deepcopy(unet()),
                "text_unet": copy.deepcopy(unet()),
                "text_encoder": text_projection(),
                "image_encoder": pictures_encoder(),
                "image_feature_extractor": pictures_reader(),
            },
            {"prompt": "red fox", "image": PICTURE, **SIZE},
        ),
        TypeError,
        "unexpected keyword argument 'encoder_attention_mask'",
    ),
)
"""What fails with diffusers' own class, with the installed version."""


def reasons(reason: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, reason)


def same_loop(row: str, *names: str) -> dict[str, str]:
    return reasons(f"calls its scheduler just as {TABLE[row].pipeline} does, around other networks", *names)


NOT_COVERED = {
    **{failure.row.pipeline: failure.reason for failure in FAILURES_OF_DIFFUSERS},
    # Pipelines that need packages besides those that diffusers does: sentencepiece, onnxruntime
    **same_loop("pag, xl", "KolorsPAGPipeline", "KolorsPipeline"),
    **same_loop("xl, image", "KolorsImg2ImgPipeline"),
    # Of old versions, some of which do not say what scheduler they take
    "DDIMPipeline": "makes a DDIMScheduler of the scheduler that it is given",
    "RePaintPipeline": "hands a step of its scheduler an original image and a mask",
    **reasons(
        "samples with k-diffusion's functions, not with its scheduler",
        "StableDiffusionKDiffusionPipeline",
        "StableDiffusionXLKDiffusionPipeline",
    ),
    "OnnxStableDiffusionUpscalePipeline": "multiplies an array by init_noise_sigma, a tensor in diffusers' KDPM2",
    # Pipelines of flows, which hand on more than diffusers' class takes; see test_flow_models.py
    **reasons(
        "reads the shift of a flow from its scheduler's configuration, where diffusers' KDPM2 has none",
        "BriaFiboEditPipeline",
        "BriaFiboPipeline",
    ),
    **reasons(
        "passes sigmas and a flow's shift, which diffusers' KDPM2 refuses",
        "MotifVideoImage2VideoPipeline",
        "MotifVideoPipeline",
    ),
    "LTX2VideoDiffusionDecodePipeline": "keeps a scheduler and never calls it",
    "VersatileDiffusionPipeline": "hands its components on to the three pipelines of Versatile Diffusion",
}
del NOT_COVERED["SemanticStableDiffusionPipeline"]  # only its guidance fails
