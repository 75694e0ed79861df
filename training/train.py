"""Train the built-in digits model and write it where the package ships it.

The network is taught v-prediction on scikit-learn's 1,797 handwritten digits (8x8, scaled to [-1, 1]) at noise levels
spread evenly over the timesteps of Stable Diffusion's schedule, fractional ones included, since DPM2's midpoints are
fractional. A tenth of the labels is dropped, so that the network also learns the digits as a whole, which
classifier-free guidance needs (https://arxiv.org/abs/2207.12598). An exponential average of the weights is kept
and rounded to float16.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import UNet2DModel
from sklearn.datasets import load_digits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from kdpm2 import KDPM2AncestralDiscreteScheduler, noise_schedule
from kdpm2.zoo.handwriting import NO_LABEL, WEIGHTS

SCHEDULE: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
LABEL_DROPOUT = 0.1
EMA_DECAY = 0.999


def network() -> UNet2DModel:
    """A U-Net of 0.9 million weights: two resolutions, conditioned on the timestep and one of eleven labels."""
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        norm_num_groups=8,
        add_attention=False,
        num_class_embeds=NO_LABEL + 1,
    )


def train(
    output: Annotated[Path, typer.Option(help="Folder for the weights and configurations.")] = WEIGHTS,
    seed: Annotated[int, typer.Option(help="Seed of the weights, the batches and the noise.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 3600,
    batch: Annotated[int, typer.Option(help="Digits a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1.5e-3,
) -> None:
    """Train from a seed; about a quarter of an hour on two cores."""
    torch.manual_seed(seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    schedule = noise_schedule.discrete(**SCHEDULE)

    model = network()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.05)
    progress = tqdm(range(steps), unit="step", mininterval=5)
    smooth = None
    for _ in progress:
        pick = torch.randint(len(images), (batch,))
        clean, label = images[pick], labels[pick]
        label = torch.where(torch.rand(batch) < LABEL_DROPOUT, NO_LABEL, label)
        # One timestep in each of `batch` equal parts of the range: the loss varies less than with independent draws.
        timestep = (torch.arange(batch) + torch.rand(batch)) / batch * (len(schedule) - 1)
        log_sigma = np.interp(timestep.numpy(), np.arange(len(schedule)), schedule.log_sigmas)
        sigma = torch.tensor(np.exp(log_sigma), dtype=torch.float32)[:, None, None, None]
        scale = (sigma**2 + 1).rsqrt()
        noise = torch.randn_like(clean)
        target = (noise - sigma * clean) * scale
        loss = (model((clean + sigma * noise) * scale, timestep, label).sample - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        average.update_parameters(model)
        smooth = loss.item() if smooth is None else smooth + 0.01 * (loss.item() - smooth)
        progress.set_postfix(loss=f"{smooth:.4f}", refresh=False)

    averaged: Any = average.module
    averaged.half().save_pretrained(output / "unet")
    KDPM2AncestralDiscreteScheduler(**SCHEDULE, prediction_type="v_prediction", use_karras_sigmas=True).save_pretrained(
        output / "scheduler"
    )


if __name__ == "__main__":
    typer.run(train)
