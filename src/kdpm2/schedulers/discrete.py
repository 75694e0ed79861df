"""`KDPM2DiscreteScheduler`: DPM2 at eta = 0, the sampler users know as "DPM2"."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.noise import Generators
from kdpm2.schedulers._attributes import doubled
from kdpm2.schedulers._base import KDPM2Scheduler, KDPM2SchedulerOutput
from kdpm2.schedulers._buffers import Buffer, forget
from kdpm2.schedulers._configuration import defaults_of
from kdpm2.schedulers._noising import ArrayOrTensor
from kdpm2.schedulers._session import constructor
from kdpm2.spacing import Steps
from kdpm2.table import Churn, StageTable, dpm2


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
        s_noise: float = 1.0,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float | None = None,
        snr_shift_scale: float = 1.0,
        sample_space: str | None = None,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        sigma_curve: str | None = None,
        tuned_sigmas: list[float] | NDArray[Any] | None = None,
    ) -> None:
        """Set up the schedule of the trained model, and the run that visits every timestep of it.

        The class says what the arguments are.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, or contradicts another.
        """
        self._set_up()

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return defaults_of(KDPM2DiscreteScheduler)

    def _solver(self, steps: Steps, for_training: bool = False) -> StageTable:
        options = self._options_of_run
        s_churn = _check.number("s_churn", options.s_churn, 0, math.inf)
        if for_training and self._schedule.coordinates.churns:
            s_churn = 0.0
        churn = Churn(s_churn, options.s_tmin, math.inf if options.s_tmax is None else options.s_tmax)
        return dpm2(self._schedule, steps, options.prediction_type, 0.0, options.s_noise, churn)

    def _noise_levels(self, stages: list[int]) -> NDArray[np.float64]:
        """At a midpoint that of the step after it: so diffusers inpaints, in mid-run, and pictures are to be the same.

        There are no pictures of diffusers' for flows.
        """
        table = self._table
        if self._is_flow:
            return super()._noise_levels(stages)
        return np.where(table.starts_step, table.stage_sigmas, table.sigmas[table.step + 1])[stages]

    @property
    def _shows_stages(self) -> bool:
        """For a flow; for one of multistep solvers in runs alone, as those show where steps start."""
        return self._is_flow and (self._run.stage is not None or not self._options_of_run.use_flow_sigmas)

    def _run_begins_or_ends(self) -> None:
        if self._is_flow:
            forget(self, ("sigmas",))

    @Buffer
    def sigmas_interpol(self) -> torch.Tensor:
        """Shape (2N+2,), float32: the midpoint of the step to each sigma, laid out like `sigmas`; 0 where none is."""
        return doubled(np.append(0.0, self._table.mid))

    def step(
        self,
        model_output: ArrayOrTensor,
        timestep: float | torch.Tensor,
        sample: ArrayOrTensor,
        return_dict: bool = True,
        generator: Generators = None,
        eta: float = 0.0,
    ) -> KDPM2DiscreteSchedulerOutput | tuple[ArrayOrTensor, ArrayOrTensor]:
        """Make one stage.

        Args:
            model_output: Any shape, floating point: the network's output for the scaled sample, a tensor or an array.
            timestep: The current timestep; decides where a run begins if no `begin_index` was set.
            sample: Same shape and kind: the sample before scaling. It is kept, not copied, until the step is finished.
            return_dict: Whether to return an output object rather than a pair.
            generator: Where churn draws its noise: one for the batch, or a list with one for each sample. If None, the
                seed of `seed`, or torch's global generator.
            eta: Plays no part, and is warned of if it is not 0, which pipelines pass of themselves. This class has no
                such option.

        Returns:
            `prev_sample` and `pred_original_sample`, new, in the dtype and on the device of `sample`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If shapes or devices differ, if a run begins and `timestep` is not in the schedule, if it is
                that of another stage, or if the sample that began the step was changed in place since. The scheduler
                is then unchanged.
        """
        if return_dict is not True and return_dict is not False:
            _check.flag("return_dict", return_dict)
        if type(eta) is not float or eta:
            self._check_eta(eta)
        pair = self._advance(model_output, timestep, sample, generator)
        return KDPM2DiscreteSchedulerOutput(*pair) if return_dict else pair
