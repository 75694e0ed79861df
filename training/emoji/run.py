"""A training run: the network, what it learns by, and all that a checkpoint has to hold.

The network is taught v-prediction, mean square, at noise levels that are log-normal around the level at which pictures
take shape (https://arxiv.org/abs/2206.00364), within Stable Diffusion's schedule, and so at fractional timesteps. An
eighth of the labels is dropped for classifier-free guidance. The rate is constant and falls to zero in the last third,
and an exponential average of the weights is kept, which is short at first.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdpm2 import noise_schedule
from kdpm2.zoo.cells import CellUNet
from training.emoji.muon import Muon
from training.emoji.pictures import KINDS, SIZE

SCHEDULE: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
NO_LABEL = len(KINDS)
_LEVELS = noise_schedule.discrete(**SCHEDULE)
_LOG_SIGMA, _DEVIATION = -0.5, 1.3
_LABEL_DROPOUT = 0.125
_EMA = 0.999
_WARM_UP = 100  # steps
_COOL_DOWN = 1 / 3  # of all steps
_FOR_ADAM = ("conv_in", "conv_out", "class_embedding")


class Run:
    """The state of a run.

    Args:
        seed: Of the weights.
        rate: The highest rate of learning.
        steps: How many there are to be.
    """

    def __init__(self, seed: int, rate: float, steps: int) -> None:
        torch.manual_seed(seed)
        self.rate, self.steps = rate, steps
        self.model = CellUNet(SIZE, num_class_embeds=NO_LABEL + 1)
        self.average = CellUNet(SIZE, num_class_embeds=NO_LABEL + 1)
        self.average.load_state_dict(self.model.state_dict())
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, weight in self.model.named_parameters():
            is_inside = weight.ndim >= 2 and not any(part in name for part in _FOR_ADAM)
            (matrices if is_inside else others).append(weight)
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, lr=rate),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True),
        )
        self.step, self.cpu_seconds = 0, 0.0
        self.losses: list[float] = []

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "step": self.step,
            "losses": self.losses,
            "cpu_seconds": self.cpu_seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for each, held in zip(self.optimizers, state["optimizers"], strict=True):
            each.load_state_dict(held)
        self.step, self.losses, self.cpu_seconds = state["step"], state["losses"], state["cpu_seconds"]

    def learn(self, clean: Tensor, kinds: Tensor) -> None:
        """One step on pictures (n, 3, 24, 24) in [-1, 1] and their kinds (n,)."""
        labels = torch.where(torch.rand(len(kinds)) < _LABEL_DROPOUT, NO_LABEL, kinds)
        timesteps, sigmas = _levels(len(clean))
        scale = (sigmas**2 + 1).rsqrt()
        noise = torch.randn_like(clean)
        target = (noise - sigmas * clean) * scale
        loss = (self.model((clean + sigmas * noise) * scale, timesteps, labels).sample - target).square().mean()
        self.model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        left = (self.steps - self.step) / (self.steps * _COOL_DOWN)
        for each in self.optimizers:
            each.param_groups[0]["lr"] = self.rate * min(1, (self.step + 1) / _WARM_UP, left)
            each.step()
        kept = min(_EMA, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - kept)
        self.losses.append(loss.item())
        self.step += 1


def _levels(count: int) -> tuple[Tensor, Tensor]:
    """Timesteps (count,) and their sigmas (count, 1, 1, 1): one in each of `count` equally likely ranges."""
    share = (torch.arange(count) + torch.rand(count, dtype=torch.float64)) / count
    logs = _LEVELS.log_sigmas
    log_sigmas = (_LOG_SIGMA + _DEVIATION * torch.special.ndtri(share)).clamp(logs[0], logs[-1])
    timesteps = np.interp(log_sigmas.numpy(), logs, np.arange(len(logs)))
    return torch.tensor(timesteps, dtype=torch.float32), log_sigmas.exp().float()[:, None, None, None]
