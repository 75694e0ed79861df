"""The noise of a scheduler: what its steps add, and what `add_noise` adds for training and for editing images."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import update
from kdpm2._check_tensor import floating, from_array
from kdpm2.noise import Gaussian, Generators, Noise, Seeds, checked_generators, checked_seeds
from kdpm2.schedulers._attributes import Attributes
from kdpm2.schedulers._which_stage import flat

ArrayOrTensor = TypeVar("ArrayOrTensor", torch.Tensor, NDArray[Any])

# NumPy makes scalars of its own of what arrays without dimensions are computed to.
ARRAY = (np.ndarray, np.generic)


class Noising(Attributes):
    """How noise is drawn and added."""

    _seeds: Seeds

    def seed(self, seed: Seeds) -> None:
        """Set the seed from which each run draws its noise if `step` gets no generator.

        This is for pipelines that pass no generator, like those of Stable Diffusion 3 and Flux. Each run then draws the
        same noise, on every device. The pipeline still draws the initial sample from its own generator.

        Args:
            seed: An integer for the batch, one integer for each sample, or None for torch's global generator.

        Raises:
            TypeError: If it is or holds something else.
            ValueError: If an integer is negative, or does not fit into 64 bits.
        """
        self._seeds = checked_seeds("seed", seed)
        self._run = self._run._replace(noise=None)

    def _noise(self, stage: int, like: torch.Tensor, generator: Generators) -> torch.Tensor:
        """The standard normal noise that a stage adds, shaped like the network's output."""
        kind, given = self._kind_of_noise, generator is not None or self._seeds is None
        if given and kind.drawn_on:
            return kind.of_generators(generator, self._table, like).draw(0, like)
        table, noise = self._table, self._run.noise
        if generator is not None and noise is not None:  # it draws no more, but what is wrong is refused all the same
            checked_generators(generator, like.shape)
        if noise is None or not noise.serves(like):
            noise = kind.of_generators(generator, table, like) if given else kind.of(self._seeds, table, like)
        drawn: torch.Tensor = noise.draw(int(table.step[stage]), like)
        self._run = self._run._replace(noise=noise)  # kept only where it fits the sample
        return drawn

    @property
    def _kind_of_noise(self) -> type[Noise]:
        """What the noise of steps is."""
        return Gaussian

    def add_noise(
        self, original_samples: ArrayOrTensor, noise: ArrayOrTensor, timesteps: torch.Tensor
    ) -> ArrayOrTensor:
        """Noisy samples, each at its own noise level σ.

        They are original_samples + σ · noise. For a flow they are (1-σ) · original_samples + σ · noise.

        Args:
            original_samples: Shape (B, ...), floating point.
            noise: Standard normal noise, of a shape that broadcasts with the samples.
            timesteps: Shape (B,) or (1,): timesteps of the schedule. If the schedule has equal timesteps, the one
                nearest to where the run stands is meant. Once a `begin_index` is set, the values do not matter, as in
                diffusers: the noise level is that of the stage at which the run stands or will begin.

        Returns:
            A new tensor or array like `original_samples`.

        Raises:
            TypeError: If a sample is not a floating-point tensor or array.
            ValueError: If a timestep is not in the schedule, or shapes do not fit.
        """
        if isinstance(original_samples, ARRAY) and isinstance(noise, ARRAY):
            clean = from_array("original_samples", original_samples)
            return self.add_noise(clean, from_array("noise", noise), timesteps).numpy()
        shape: tuple[int, ...] = _broadcast(floating("original_samples", original_samples), floating("noise", noise))
        count = timesteps.numel() if isinstance(timesteps, torch.Tensor) else len(flat(timesteps))
        if count not in (1, *shape[:1]):
            raise ValueError(
                f"timesteps must hold one timestep, or one a sample for samples of shape {shape}, got {count}"
            )
        self._look()
        stands = self._run.stage
        if self._begin_at is None:
            stages = self._which.all(timesteps, stands)
        else:
            stages = [self._begin_at if stands is None else stands]
        level = self._noise_levels(stages).reshape([-1, *[1] * (len(shape) - 1)][: len(shape)])
        alpha = self._schedule.alpha(level)
        if self._in_variance_preserving:
            alpha = 1 / np.hypot(1, level)
            level = level * alpha
        return update.noised(original_samples, noise, torch.from_numpy(level), torch.from_numpy(alpha))

    def scale_noise(self, sample: ArrayOrTensor, timestep: torch.Tensor, noise: ArrayOrTensor) -> ArrayOrTensor:
        """The same as `add_noise`, under the name that the pipelines of flow models use.

        Args:
            sample: Shape (B, ...), floating point: clean samples.
            timestep: Shape (B,) or (1,), or one number: as `timesteps` of `add_noise`.
            noise: Standard normal noise, of a shape that broadcasts with the sample.

        Returns:
            A new tensor or array like `sample`.

        Raises:
            TypeError: If a sample is not a floating-point tensor or array.
            ValueError: If a timestep is not in the schedule, or shapes do not fit.
        """
        return self.add_noise(sample, noise, timestep)

    def _noise_levels(self, stages: list[int]) -> NDArray[np.float64]:
        """The noise level of a sample that stands at each stage."""
        return self._table.stage_sigmas[stages]


def _broadcast(original: torch.Tensor, noise: torch.Tensor) -> tuple[int, ...]:
    if noise.device != original.device:
        raise ValueError(f"noise must be on the device of original_samples, {original.device}, got {noise.device}")
    try:
        return tuple(torch.broadcast_shapes(original.shape, noise.shape))
    except RuntimeError:
        raise ValueError(
            f"noise must have a shape that broadcasts with original_samples, {tuple(original.shape)}, "
            f"got {tuple(noise.shape)}"
        ) from None
