r"""A pipeline for networks that work on pixels, conditioned on a class label or on nothing.

With guidance, the network is called with and without the label in one batched call (`kdpm2.guidance`). Each image can
have its own generator, so an image does not depend on what else is in the batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, UNet2DModel
from PIL import Image

from kdpm2 import _check
from kdpm2.denoiser import Outputs
from kdpm2.guidance import Guidance, Interval
from kdpm2.noise import Generators, gaussian
from kdpm2.schedulers import KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler
from kdpm2.update import renoised
from kdpm2.zoo.cells import CellUNet


class PixelPipeline(DiffusionPipeline):
    """Images from a network on pixels and one of kdpm2's schedulers.

    Args:
        unet: A `UNet2DModel`, or a network called as one, trained on pixels in [-1, 1]. If it takes class labels, the
            last of them stands for "no label".
        scheduler: An ancestral or a discrete KDPM2 scheduler, configured for the network.
    """

    def __init__(
        self,
        unet: UNet2DModel | CellUNet,
        scheduler: KDPM2AncestralDiscreteScheduler | KDPM2DiscreteScheduler,
    ) -> None:
        if not isinstance(scheduler, (KDPM2AncestralDiscreteScheduler, KDPM2DiscreteScheduler)):
            raise TypeError(f"scheduler must be one of kdpm2's, got {_check.shown(scheduler)}")
        if not callable(unet) or not hasattr(unet, "config"):
            raise TypeError(f"unet must be a UNet2DModel, got {_check.shown(unet)}")
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        labels: Sequence[int] | None = None,
        num_images: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        generator: Generators = None,
        output_type: Literal["pil", "np", "pt"] = "pil",
        sigmas: Sequence[float] | None = None,
        timesteps: Sequence[float] | None = None,
        guidance_plus_plus: bool = False,
        guidance_interval: Interval = None,
        guidance_rescale: float = 0.0,
    ) -> ImagePipelineOutput:
        """Sample a batch of B images.

        Args:
            labels: B class labels, for a network that takes them. They count from 0. The number of classes itself
                stands for "no label". None draws without labels.
            num_images: B, if no labels are given. None for 1.
            num_inference_steps: N, for 2N-1 network evaluations; 25 if None.
            guidance_scale: From 0 to 100; 1 is the network's own distribution.
            generator: One for the batch, or a list with one for each image.
            output_type: "pil" for a list of images, "np" for a float array (B, H, W, C) in [0, 1], "pt" for a float
                tensor (B, C, H, W) in [0, 1].
            sigmas: Instead of N: the noise levels at which steps start; see `set_timesteps` of the scheduler.
            timesteps: Instead of N: the timesteps at which steps start.
            guidance_plus_plus: CFG++, as `plus_plus` of `kdpm2.guided`.
            guidance_interval: As `interval` of `kdpm2.guided`.
            guidance_rescale: As `rescale` of `kdpm2.guided`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, labels are given to a network that takes none, or the
                network's configuration does not say what size its samples have.
        """
        _check.choice("output_type", output_type, ("pil", "np", "pt"))
        guidance_scale = _check.number("guidance_scale", guidance_scale, 0, 100)
        batch, classes = self._classes(labels, num_images)
        guides = _check.flag("guidance_plus_plus", guidance_plus_plus) or guidance_scale != 1
        if classes is None and guides:
            raise ValueError(f"guidance_scale must be 1 for a network without classes, got {guidance_scale:g}")
        asked = (guidance_scale, guidance_plus_plus, guidance_interval, guidance_rescale)
        applied = Guidance.of(self.scheduler._schedule, *asked) if guides else None
        shape = (batch, self.unet.config.in_channels, *self._height_width())

        if num_inference_steps is None and sigmas is None and timesteps is None:
            num_inference_steps = 25
        self.scheduler.set_timesteps(num_inference_steps, device=self.device, sigmas=sigmas, timesteps=timesteps)
        if applied is not None:
            applied.check(self.scheduler.table)
        sample = gaussian(shape, self.unet.dtype, self.device, generator) * self.scheduler.init_noise_sigma
        with self.progress_bar(total=len(self.scheduler.timesteps)) as progress:
            for stage, timestep in enumerate(self.scheduler.timesteps):
                scaled = self.scheduler.scale_model_input(sample, timestep)
                model_output, unguided = outputs(self.unet, scaled, timestep, classes, applied)
                if unguided is not None:
                    sample, model_output = renoised(self.scheduler.table, stage, sample, model_output, unguided)
                sample = self.scheduler.step(model_output, timestep, sample, generator=generator, return_dict=False)[0]
                progress.update()
        return ImagePipelineOutput(as_output(sample, output_type))

    def _height_width(self) -> tuple[int, int]:
        size = self.unet.config.sample_size
        height, width = size if isinstance(size, (list, tuple)) and len(size) == 2 else (size, size)
        if not all(isinstance(n, int) and n >= 1 for n in (height, width)):
            raise ValueError(f"sample_size of the network must be one or two integers at least 1, got {size!r}")
        return height, width

    def _classes(self, labels: Sequence[int] | None, num_images: int | None) -> tuple[int, torch.Tensor | None]:
        count = self.unet.config.num_class_embeds
        if labels is None:
            batch = 1 if num_images is None else _check.count("num_images", num_images)
            return batch, None if count is None else torch.full((batch,), count - 1, device=self.device)
        if count is None:
            raise ValueError(f"labels must be None for a network without classes, got {_check.shown(labels)}")
        try:
            if isinstance(labels, (str, bytes, Mapping)) or not hasattr(labels, "__getitem__"):
                raise TypeError
            held = _check.listed("labels", labels, _check.MOST_STEPS, "labels")
        except (TypeError, RuntimeError):
            raise TypeError(f"labels must be a list of integers, got {_check.shown(labels)}") from None
        if not held:
            raise ValueError("labels must hold at least one label, got none")
        if num_images is not None and _check.count("num_images", num_images) != len(held):
            raise ValueError(f"num_images must be the number of labels, {len(held)}, got {num_images}")
        checked = [_check.integer("each of labels", label, 0, count - 1) for label in held]
        return len(checked), torch.tensor(checked, device=self.device)


def outputs(
    unet: Any, scaled: torch.Tensor, timestep: torch.Tensor, classes: torch.Tensor | None, guidance: Guidance | None
) -> Outputs:
    """What a stage follows; with guidance from one call of the network for both halves.

    Args:
        unet: The network. The last of its classes stands for "no label".
        scaled: Its input, of shape (B, C, H, W).
        timestep: One for all, or one for each, of shape (B,).
        classes: Shape (B,), or None if the network takes none.
        guidance: How both halves become one; None for the classes alone.
    """
    if classes is None or guidance is None:
        return Outputs(unet(scaled, timestep, classes).sample)
    labels = torch.cat([torch.full_like(classes, unet.config.num_class_embeds - 1), classes])
    timesteps = torch.cat([timestep, timestep]) if timestep.ndim else timestep
    both = unet(torch.cat([scaled, scaled]), timesteps, labels).sample
    without, with_label = both.chunk(2)
    return guidance(without, with_label, timestep)


def as_output(sample: torch.Tensor, output_type: str) -> Any:
    """Samples (B, C, H, W) in [-1, 1] as images, in the way that `output_type` of `PixelPipeline` says."""
    images = (sample / 2 + 0.5).clamp(0, 1).float().cpu()
    if output_type == "pt":
        return images
    arrays = images.permute(0, 2, 3, 1).numpy()
    if output_type == "np":
        return arrays
    levels = (arrays * 255).round().astype(np.uint8)
    return [Image.fromarray(level.squeeze(-1) if level.shape[-1] == 1 else level) for level in levels]
