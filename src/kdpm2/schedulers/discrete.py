"""`KDPM2DiscreteScheduler`: DPM2 at eta = 0, the sampler users know as "DPM2"."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check
from kdpm2.kept import keeping_estimates
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
    """DPM2, a solver of second order. It is deterministic unless churn adds noise.

    Its arguments, defaults, methods and pictures are those of the diffusers class of the same name. The method is
    Algorithm 2 of "Elucidating the Design Space of Diffusion-Based Generative Models"
    (https://arxiv.org/abs/2206.00364), in the form of sample_dpm_2 in Katherine Crowson's
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
        s_noise: float | list[float] | dict[str, float] = 1.0,
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
        restarts: list[Any] | None = None,
        invert: bool = False,
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
        return defaults_of(KDPM2DiscreteScheduler)

    def _solver(self, steps: Steps, for_training: bool = False) -> StageTable:
        options = self._options_of_run
        s_churn = _check.number("s_churn", options.s_churn, 0, math.inf)
        if for_training:
            s_churn = 0.0
        churn = Churn(s_churn, options.s_tmin, math.inf if options.s_tmax is None else options.s_tmax)
        table = dpm2(self._schedule, steps, options.prediction_type, 0.0, options.s_noise, churn)
        return keeping_estimates(table, steps) if options.keep_estimate and not for_training else table

    def _noise_levels(self, stages: list[int]) -> NDArray[np.float64]:
        """At a midpoint, the noise level of the step after it, except for flows.

        diffusers' inpainting uses this level, and pictures must be the same. For flows diffusers has no pictures to
        match.
        """
        table = self._table
        if self._is_flow:
            return super()._noise_levels(stages)
        return np.where(table.starts_step, table.stage_sigmas, table.sigmas[table.step + 1])[stages]

    @property
    def _shows_stages(self) -> bool:
        """True for a flow. A flow of the multistep solvers shows stages only during a run."""
        return self._table.keeps_estimate or (
            self._is_flow and (self._run.stage is not None or not self._options_of_run.use_flow_sigmas)
        )

    def _run_begins_or_ends(self) -> None:
        if self._is_flow:
            forget(self, ("sigmas",))

    @Buffer
    def sigmas_interpol(self) -> torch.Tensor:
        """Shape (2N+2,), float32: the midpoint of the step to each sigma, in the layout of `sigmas`, or 0."""
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
            timestep: The current timestep. It decides where a run begins if no `begin_index` was set.
            sample: Same shape and kind: the sample before scaling. The scheduler keeps it until the step is finished,
                and does not copy it.
            return_dict: Whether to return an output object rather than a pair.
            generator: For the noise of churn: one for the batch, or a list with one for each sample. None for the seed
                that was set with `seed`, or else for torch's global generator.
            eta: Has no effect. Pipelines pass 0 by themselves, and any other value gives a warning. This class has no
                such option.

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
        return KDPM2DiscreteSchedulerOutput(*pair) if return_dict else pair
