"""`KDPM2AncestralDiscreteScheduler`: DPM2 at eta = 1, the sampler users know as "DPM2 a"."""

from dataclasses import dataclass

import numpy as np
import torch

from kdpm2.noise import Generators
from kdpm2.schedulers._base import ArrayOrTensor, KDPM2Scheduler, KDPM2SchedulerOutput, held


@dataclass
class KDPM2AncestralDiscreteSchedulerOutput(KDPM2SchedulerOutput):
    """What a stage of the ancestral sampler returns: `prev_sample` and `pred_original_sample`."""

    __module__ = "kdpm2"


class KDPM2AncestralDiscreteScheduler(KDPM2Scheduler):
    """DPM2 with ancestral sampling: each step goes below its target and adds noise up to it.

    Arguments, defaults, methods and pictures are those of the diffusers class of this name. Algorithm 2 of
    "Elucidating the Design Space of Diffusion-Based Generative Models" (https://arxiv.org/abs/2206.00364), as
    sample_dpm_2_ancestral in Katherine Crowson's https://github.com/crowsonkb/k-diffusion.
    """

    # A saved pipeline names this module, and diffusers looks only in imported ones: `import kdpm2` has to be enough.
    __module__ = "kdpm2"

    _eta = 1.0

    @property
    def sigmas_up(self) -> torch.Tensor:
        """Shape (2N+2,), float32: standard deviation of the noise that each step adds, laid out like `sigmas`."""
        return held(np.append(self._table.up, 0.0))

    @property
    def sigmas_down(self) -> torch.Tensor:
        """Shape (2N+2,), float32: noise level to which each step goes before it adds noise, laid out like `sigmas`."""
        return held(np.append(self._table.down, 0.0))

    @property
    def sigmas_interpol(self) -> torch.Tensor:
        """Shape (2N+2,), float32: the midpoint of the step from each sigma, laid out like `sigmas`."""
        return held(np.append(self._table.mid, [0.0, 0.0]))

    def step(
        self,
        model_output: ArrayOrTensor,
        timestep: float | torch.Tensor,
        sample: ArrayOrTensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> KDPM2AncestralDiscreteSchedulerOutput | tuple[ArrayOrTensor, ArrayOrTensor]:
        """Make one stage.

        Args:
            model_output: Any shape, floating point: the network's output for the scaled sample, a tensor or an array.
            timestep: The current timestep; decides where a run begins if no `begin_index` was set.
            sample: Same shape and kind: the sample before scaling. It is kept, not copied, until the step is finished.
            generator: One for the batch, or a list with one for each sample; torch's global one if None.
            return_dict: Whether to return an output object rather than a pair.

        Returns:
            `prev_sample` and `pred_original_sample`, new, in the dtype and on the device of `sample`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If shapes or devices differ, or a run begins and `timestep` is not in the schedule. The
                scheduler is then unchanged.
        """
        pair = self._advance(model_output, timestep, sample, generator)
        return KDPM2AncestralDiscreteSchedulerOutput(*pair) if return_dict else pair
