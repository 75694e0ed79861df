"""A network as small as those of robots, beside which the scheduler's time counts."""

import torch
from torch import nn


class Policy(nn.Module):
    """Predicts the noise in a chunk of actions from an observation: three hidden layers, with random weights.

    Its sizes are those of Diffusion Policy's smallest task, 16 actions of 2 numbers for an observation of 20.

    References:
        | Diffusion Policy: Visuomotor Policy Learning via Action Diffusion (Chi et al., 2023):
          https://arxiv.org/abs/2303.04137
    """

    frequencies: torch.Tensor
    ACTIONS = (16, 2)
    OBSERVATION = 20
    _WIDTH = 256
    _FREQUENCIES = 32

    def __init__(self) -> None:
        super().__init__()
        size = self.ACTIONS[0] * self.ACTIONS[1]
        widths = [size + self.OBSERVATION + 2 * self._FREQUENCIES, *[self._WIDTH] * 3]
        hidden = [layer for i, width in enumerate(widths[1:]) for layer in (nn.Linear(widths[i], width), nn.Mish())]
        self.layers = nn.Sequential(*hidden, nn.Linear(self._WIDTH, size))
        self.register_buffer("frequencies", torch.logspace(0, -4, self._FREQUENCIES))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, observation: torch.Tensor) -> torch.Tensor:
        """The noise in `sample` (B, 16, 2), seen `observation` (B, 20); `timestep` is of shape () or (B,)."""
        angles = timestep.reshape(-1, 1).expand(len(sample), 1) * self.frequencies
        read = torch.cat([sample.flatten(1), angles.sin(), angles.cos(), observation], dim=-1)
        predicted: torch.Tensor = self.layers(read)
        return predicted.reshape(sample.shape)
