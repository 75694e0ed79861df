"""A custom node file for ComfyUI: a checkpoint, a text encoder and a decoder that are tiny.

ComfyUI imports it from its folder of custom nodes, where it is a link to this file.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))  # not `tests`: ComfyUI has a package of this name
real_comfyui = importlib.import_module("real_comfyui")


class TinyCheckpoint:
    """A model of the type that is its name."""

    RETURN_TYPES, FUNCTION = ("MODEL", "CLIP", "VAE"), "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"ckpt_name": ("STRING", {})}}

    def load(self, ckpt_name: str) -> tuple[Any, None, None]:
        return real_comfyui.model_of(ckpt_name), None, None


class TinyTextEncode:
    """A conditioning that is the length of a text."""

    RETURN_TYPES, FUNCTION = ("CONDITIONING",), "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"text": ("STRING", {})}, "optional": {"clip": ("CLIP",)}}

    def encode(self, text: str, clip: Any = None) -> tuple[Any]:
        return (real_comfyui.conditioning(len(text) / 100),)


class TinyDecode:
    """Three of the channels as colours."""

    RETURN_TYPES, FUNCTION = ("IMAGE",), "decode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"samples": ("LATENT",)}, "optional": {"vae": ("VAE",)}}

    def decode(self, samples: Any, vae: Any = None) -> tuple[Any]:
        return ((samples["samples"][:, :3].movedim(1, -1) / 4 + 0.5).clamp(0, 1),)


NODE_CLASS_MAPPINGS = {each.__name__: each for each in (TinyCheckpoint, TinyTextEncode, TinyDecode)}
