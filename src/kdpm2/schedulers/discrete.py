"""`KDPM2DiscreteScheduler`: DPM2 at eta = 0, the sampler users know as "DPM2"."""

from dataclasses import dataclass

import numpy as np
import torch

from kdpm2.schedulers._base import ArrayOrTensor, KDPM2Scheduler, KDPM2SchedulerOutput, held


@dataclass
class KDPM2DiscreteSchedulerOutput(KDPM2SchedulerOutput):
    """What a stage of the deterministic sampler returns: `prev_sample` and `pred_original_sample`."""

    __module__ = "kdpm2"


class KDPM2DiscreteScheduler(KDPM2Scheduler):
    """DPM2 without noise: a second-order solver of the probability flow.

    Arguments, defaults, methods and pictures are those of the diffusers class of this name. Algorithm 2 of
    "Elucidating the Design Space of Diffusion-Based Generative Models" (https://arxiv.org/abs/2206.00364), as
    sample_dpm_2 in Katherine Crowson's https://github.com/crowsonkb/k-diffusion.
    """

    # A saved pipeline names this module, and diffusers looks only in imported ones: `import kdpm2` has to be enough.
    __module__ = "kdpm2"

    _eta = 0.0

    @property
    def sigmas_interpol(self) -> torch.Tensor:
        """Shape (2N+2,), float32: the midpoint of the step to each sigma, laid out like `sigmas`; 0 where none is."""
        return held(np.concatenate([[0.0], self._table.mid, [0.0]]))

    def step(
        self,
        model_output: ArrayOrTensor,
        timestep: float | torch.Tensor,
        sample: ArrayOrTensor,
        return_dict: bool = True,
    ) -> KDPM2DiscreteSchedulerOutput | tuple[ArrayOrTensor, ArrayOrTensor]:
        """Make one stage.

        Args:
            model_output: Any shape, floating point: the network's output for the scaled sample, a tensor or an array.
            timestep: The current timestep; decides where a run begins if no `begin_index` was set.
            sample: Same shape and kind: the sample before scaling. It is kept, not copied, until the step is finished.
            return_dict: Whether to return an output object rather than a pair.

        Returns:
            `prev_sample` and `pred_original_sample`, new, in the dtype and on the device of `sample`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If shapes or devices differ, or a run begins and `timestep` is not in the schedule. The
                scheduler is then unchanged.
        """
        pair = self._advance(model_output, timestep, sample)
        return KDPM2DiscreteSchedulerOutput(*pair) if return_dict else pair
