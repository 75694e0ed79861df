"""The built-in model: handwritten digits of 8x8 pixels, class-conditional, in less than 2 MB.

A diffusers `UNet2DModel` of 0.9 million weights, stored in float16, that predicts v on Stable Diffusion's noise
schedule. It was trained on the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak,
https://archive.ics.uci.edu/dataset/80), which scikit-learn ships; `training/` makes it again.
"""

from pathlib import Path

from diffusers import UNet2DModel
from safetensors.torch import load_file

from kdpm2.schedulers import KDPM2AncestralDiscreteScheduler
from kdpm2.zoo.pixels import PixelPipeline

WEIGHTS = Path(__file__).parent / "weights"
NO_LABEL = 10


def digits() -> PixelPipeline:
    """The digits pipeline on the CPU in float32, with an ancestral scheduler on Karras sigmas.

    Labels 0 to 9 are the digits. `NO_LABEL` (10) stands for any digit. Nothing is downloaded.
    """
    folder = WEIGHTS / "unet"
    unet = UNet2DModel.from_config(UNet2DModel.load_config(folder))
    unet.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    scheduler = KDPM2AncestralDiscreteScheduler.from_pretrained(WEIGHTS / "scheduler")
    return PixelPipeline(unet.eval(), scheduler)
