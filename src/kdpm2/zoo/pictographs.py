"""The built-in emoji: colour pictures of 24x24 pixels, in a dozen kinds, from a network in less than 6 MB.

A `CellUNet` of 2.8 million weights, stored in float16, that predicts v on Stable Diffusion's noise schedule. It was
trained on Noto Color Emoji (Google, SIL Open Font License 1.1) and Fluent Emoji Flat (Microsoft, MIT);
`training/emoji` makes it again.
"""

from typing import Any

from safetensors.torch import load_file

from kdpm2.schedulers import KDPM2AncestralDiscreteScheduler
from kdpm2.zoo.built_in import EMOJI
from kdpm2.zoo.cells import CellUNet
from kdpm2.zoo.pixels import PixelPipeline

KINDS = EMOJI.kinds
"""What the labels from 0 on stand for. The number of kinds itself stands for any of them."""


def emoji() -> PixelPipeline:
    """The emoji pipeline on the CPU in float32, with an ancestral scheduler on Karras sigmas.

    Labels are places in `KINDS`. Nothing is downloaded.
    """
    folder = EMOJI.folder / "unet"
    network: Any = CellUNet.from_config(CellUNet.load_config(folder))
    network.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return PixelPipeline(network.eval(), KDPM2AncestralDiscreteScheduler.from_pretrained(EMOJI.folder / "scheduler"))
