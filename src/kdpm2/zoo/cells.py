"""A U-Net that sees a picture as cells of pixels.

A cell of 2x2 pixels in 3 colours is one place with 12 channels: the network has a quarter of the places to work on, at
no loss, and takes a fraction of the time. Its samples are pictures all the same. What it is given and what it returns
are rearranged inside (W. Shi et al., https://arxiv.org/abs/1609.05158), which leaves noise what it is.
"""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch.nn import functional


class CellUNet(ModelMixin, ConfigMixin):
    """A class-conditional U-Net of two or more resolutions, with attention at the lowest.

    Args:
        sample_size: Height and width of a picture in pixels; a multiple of `cell` for each resolution.
        in_channels: Of a picture.
        cell: Height and width of a cell in pixels.
        block_out_channels: Of each resolution.
        layers_per_block: Residual blocks of a resolution on the way down; one more on the way up.
        attention_head_dim: Channels of a head.
        num_class_embeds: How many labels it takes; the last of them for no label.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 24,
        in_channels: int = 3,
        cell: int = 2,
        block_out_channels: tuple[int, ...] = (64, 128),
        layers_per_block: int = 1,
        attention_head_dim: int = 32,
        num_class_embeds: int = 13,
    ) -> None:
        super().__init__()
        without = len(block_out_channels) - 1
        self.of_cells = UNet2DModel(
            sample_size=sample_size // cell,
            in_channels=in_channels * cell**2,
            out_channels=in_channels * cell**2,
            block_out_channels=tuple(block_out_channels),
            down_block_types=("DownBlock2D",) * without + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * without,
            layers_per_block=layers_per_block,
            norm_num_groups=8,
            attention_head_dim=attention_head_dim,
            num_class_embeds=num_class_embeds,
        )

    def forward(self, sample: torch.Tensor, timestep: Any, class_labels: torch.Tensor | None = None) -> UNet2DOutput:
        """What the network predicts of samples (B, C, H, W) at timesteps (B,) or one for all, with labels (B,)."""
        cells = functional.pixel_unshuffle(sample, self.config.cell)
        predicted = self.of_cells(cells, timestep, class_labels).sample
        return UNet2DOutput(sample=functional.pixel_shuffle(predicted, self.config.cell))
