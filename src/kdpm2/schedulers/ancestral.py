"""`KDPM2AncestralDiscreteScheduler`: DPM2 at eta = 1, the sampler users know as "DPM2 a"."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.by_step import by_step
from kdpm2.kept import keeping_estimates
from kdpm2.noise import Generators, Noise, kind_named
from kdpm2.schedulers._attributes import doubled
from kdpm2.schedulers._base import KDPM2Scheduler, KDPM2SchedulerOutput
from kdpm2.schedulers._buffers import Buffer
from kdpm2.schedulers._configuration import defaults_of
from kdpm2.schedulers._noising import ArrayOrTensor
from kdpm2.schedulers._session import constructor
from kdpm2.spacing import Steps
from kdpm2.table import StageTable, dpm2


@dataclass
class KDPM2AncestralDiscreteSchedulerOutput(KDPM2SchedulerOutput):
    """What a stage of the ancestral sampler returns: `prev_sample` and `pred_original_sample`."""

    __module__ = "kdpm2"


class KDPM2AncestralDiscreteScheduler(KDPM2Scheduler):
    """DPM2 with ancestral sampling: each step goes below its target level, and noise brings it up to it again.

    Its arguments, defaults, methods and pictures are those of the diffusers class of the same name. The method is
    Algorithm 2 of "Elucidating the Design Space of Diffusion-Based Generative Models"
    (https://arxiv.org/abs/2206.00364), in the form of sample_dpm_2_ancestral in Katherine Crowson's
    https://github.com/crowsonkb/k-diffusion.
    """

    # A saved pipeline names this module, and diffusers looks only in imported ones: `import kdpm2` has to be enough.
    __module__ = "kdpm2"

    @constructor
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "linear",
        trained_betas: NDArray[Any] | list[float] | None = None,
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        use_beta_sigmas: bool = False,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        use_polyexponential_sigmas: bool = False,
        use_lu_lambdas: bool = False,
        ays_sigmas: str | None = None,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        rho: float | None = None,
        final_sigmas_type: str = "zero",
        discard_next_to_last_sigma: bool = False,
        rescale_betas_zero_snr: bool = False,
        timestep_type: str = "discrete",
        use_flow_sigmas: bool = False,
        flow_shift: float = 1.0,
        use_dynamic_shifting: bool = False,
        time_shift_type: str = "exponential",
        shift_terminal: float | None = None,
        base_shift: float = 0.5,
        max_shift: float = 1.15,
        base_image_seq_len: int = 256,
        max_image_seq_len: int = 4096,
        sigma_data: float | None = None,
        eta: float | list[float] | dict[str, float] = 1.0,
        s_noise: float | list[float] | dict[str, float] = 1.0,
        noise: str = "gaussian",
        snr_shift_scale: float = 1.0,
        sample_space: str | None = None,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        sigma_curve: str | None = None,
        tuned_sigmas: list[float] | NDArray[Any] | None = None,
        restarts: list[Any] | None = None,
        keep_estimate: bool = False,
    ) -> None:
        """Set up the schedule of the trained model, and a run that visits every trained timestep.

        The docstring of the class explains the arguments.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, or contradicts another.
        """
        self._set_up()

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return defaults_of(KDPM2AncestralDiscreteScheduler)

    def _solver(self, steps: Steps, for_training: bool = False) -> StageTable:
        options = self._options_of_run
        kind = kind_named(options.noise)
        # Above 1 some steps would have one stage, and pipelines count on two.
        by_step("eta", options.eta, steps.starts, 1)
        table = dpm2(self._schedule, steps, options.prediction_type, options.eta, options.s_noise)
        if for_training:
            return table
        kind.check(table)
        return keeping_estimates(table, steps) if options.keep_estimate else table

    @property
    def _kind_of_noise(self) -> type[Noise]:
        return kind_named(self._options_of_run.noise)

    @Buffer
    def sigmas_up(self) -> torch.Tensor:
        """Shape (2N+2,), float32: standard deviation of the noise that each step adds, in the layout of `sigmas`."""
        return doubled(np.append(self._table.up, 0.0))

    @Buffer
    def sigmas_down(self) -> torch.Tensor:
        """Shape (2N+2,), float32: noise level of each step before it adds noise, in the layout of `sigmas`."""
        return doubled(np.append(self._table.down, 0.0))

    @Buffer
    def sigmas_interpol(self) -> torch.Tensor:
        """Shape (2N+2,), float32: the midpoint of the step from each sigma, in the layout of `sigmas`."""
        return doubled(np.append(self._table.mid, 0.0))

    def step(
        self,
        model_output: ArrayOrTensor,
        timestep: float | torch.Tensor,
        sample: ArrayOrTensor,
        generator: Generators = None,
        return_dict: bool = True,
        eta: float = 0.0,
    ) -> KDPM2AncestralDiscreteSchedulerOutput | tuple[ArrayOrTensor, ArrayOrTensor]:
        """Make one stage.

        Args:
            model_output: Any shape, floating point: the network's output for the scaled sample, a tensor or an array.
            timestep: The current timestep. It decides where a run begins if no `begin_index` was set.
            sample: Same shape and kind: the sample before scaling. The scheduler keeps it until the step is finished,
                and does not copy it.
            generator: One for the batch, or a list with one for each sample. None for the seed that was set with
                `seed`, or else for torch's global generator.
            return_dict: Whether to return an output object rather than a pair.
            eta: Has no effect. Pipelines pass 0 by themselves, and any other value gives a warning. The `eta` that
                counts is an option of the scheduler.

        Returns:
            `prev_sample` and `pred_original_sample`: new tensors or arrays with the dtype and device of `sample`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If shapes or devices differ; if a run begins and `timestep` is not in the schedule; if
                `timestep` is that of another stage; or if the sample that began the step was changed in place since
                then. The scheduler is then unchanged.
        """
        if return_dict is not True and return_dict is not False:
            _check.flag("return_dict", return_dict)
        if type(eta) is not float or eta:
            self._check_eta(eta)
        pair = self._advance(model_output, timestep, sample, generator)
        return KDPM2AncestralDiscreteSchedulerOutput(*pair) if return_dict else pair
