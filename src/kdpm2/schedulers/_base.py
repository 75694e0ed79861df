"""What the drop-in schedulers share: the interface of diffusers' classes. The mathematics is in `kdpm2.table`.

`set_timesteps` makes a table from the options. `scale_model_input` and `step` take a run along the table, one stage for
each call. A run begins at `begin_index` if one was set, else at the timestep of its first call. From then on the
scheduler counts the stages itself. The timestep of each call must be that of the stage; `_which_stage` says how it is
read. After the last stage the run is forgotten, and the next call begins a new one.

A run belongs to the schedule that it began with. If two loops share a scheduler and each calls `set_timesteps`, one of
them gets an error, because its timesteps belong to a schedule that was replaced. If the loops pass copies or numbers,
only the order of the timesteps can show this, and sometimes it does not. So give each loop its own scheduler.
"""

import threading
import weakref
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils import BaseOutput
from numpy.typing import NDArray

from kdpm2 import _check, spacing, update
from kdpm2._check_tensor import alike, check_like, from_array, kind_of, on_device
from kdpm2.noise import Generators, Seeds
from kdpm2.run import Run
from kdpm2.sample_space import variance_preserving
from kdpm2.schedulers import _clean, _options, _steps
from kdpm2.schedulers._attributes import OF_MODEL, OF_TABLE
from kdpm2.schedulers._buffers import forget
from kdpm2.schedulers._noising import ARRAY, ArrayOrTensor
from kdpm2.schedulers._sample_space import InSampleSpace, no_tensor
from kdpm2.schedulers._session import InSession
from kdpm2.schedulers._state import Stoppable
from kdpm2.schedulers._which_stage import Timestep, WhichStage, found
from kdpm2.spacing import Steps
from kdpm2.table import StageTable


@dataclass
class KDPM2SchedulerOutput(BaseOutput):
    """What `step` returns: tensors, or arrays if the sample was an array.

    Attributes:
        prev_sample: The sample after the stage, which the next stage reads.
        pred_original_sample: The network's estimate of the clean sample.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor | None = None


class _Locked:
    """The lock that lets one call at a time change a run. It is kept apart, because a lock cannot be copied."""

    __slots__ = ("_lock",)


class KDPM2Scheduler(SchedulerMixin, Stoppable, InSampleSpace, InSession, _Locked):
    """What both schedulers share: the methods that a loop calls, and the options. `_solver` makes the table.

    The docstring of each class explains its options, in the words of `_explained`.

    `docs/options.md` says more about each.
    """

    _compatibles: ClassVar = [
        *(scheduler.name for scheduler in KarrasDiffusionSchedulers),
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
        "EDMEulerScheduler",
        "EDMDPMSolverMultistepScheduler",
    ]
    order = 2
    num_inference_steps: int

    def _set_up(self) -> None:
        """Set the schedule of the trained model, and a run that visits every trained timestep."""
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._seeds: Seeds = None
        options = self._options()
        self._schedule = _options.trained(options)
        self._model = _options.key_of_the_model(options)
        count = options.num_train_timesteps
        trained = self._schedule.trained_timesteps
        if trained is not None and trained < count:
            count = trained
            self._warn(
                f"trained_betas are {count}, so there are {count} timesteps, and not num_train_timesteps="
                f"{options.num_train_timesteps}: pass num_train_timesteps={count}, or all of the betas"
            )
        # Which sigmas to leave out is for runs to say, and the shift of an image for those that know it.
        every = _options.spacing_options(options) | {"discard_next_to_last_sigma": False, "final_sigmas_type": "zero"}
        steps = spacing.steps(self._schedule, count, **every)
        self._set_options(options)
        self._set_table(self._solver(steps, for_training=True), None)
        self.num_inference_steps = int(count)
        # Last, since diffusers writes out the whole configuration here, which may hold anything until it is checked.
        changed = _options.plain(self.config)
        if self._schedule.shift is not None:
            self._noted_shift = changed.get("flow_shift", options.flow_shift)
            changed["shift"] = self._noted_shift  # diffusers' schedulers of flows call it so
        if changed:
            self.register_to_config(**changed)

    def _set_options(self, options: SimpleNamespace) -> None:
        """Note the options that a run needs, as they are now."""
        self._options_of_run = options
        self._limits = _clean.limits(options)
        if options.sample_space is not None:
            _check.choice("sample_space", options.sample_space, _options.SAMPLE_SPACES)
        seen = self._never_scales and options.sample_space is None and self._schedule.stepped_unscaled
        self._in_variance_preserving = seen or options.sample_space == "variance_preserving"

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        num_train_timesteps: int | None = None,
        sigmas: Sequence[float] | NDArray[Any] | StageTable | None = None,
        timesteps: Sequence[float] | NDArray[Any] | None = None,
        mu: float | None = None,
    ) -> None:
        """Set the noise levels of the runs to come: N steps in 2N-1 stages. A run in progress is forgotten.

        The configuration is read again, so changes of it take effect now.

        Args:
            num_inference_steps: N, at least 1. It may be None if `sigmas` or `timesteps` are given, because these say
                how many steps there are.
            device: The device of `self.timesteps`.
            num_train_timesteps: Use only this many of the trained timesteps, from the first on. None for all. Only for
                models with betas.
            sigmas: Where the steps start, strictly decreasing, with or without the final 0. The sigmas of a flow are
                then shifted and stretched, and a curve, if one is chosen, joins the first and the last. Other options
                of the noise levels have no effect, except `final_sigmas_type`: with "sigma_min" the run ends at the
                last sigma given. A `kdpm2.table.StageTable` may be given instead. It is any sampler, and is used
                unchanged.
            timesteps: Where the steps start, as timesteps, used unchanged. If `sigmas` are given too, the network is
                told these timesteps at the starts. Between two starts they are interpolated.
            mu: The shift of a flow with `use_dynamic_shifting`, which needs it. Without that option it has no effect.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, or contradicts another. The scheduler is then unchanged.
        """
        options, before = self._options(), self._schedule
        model = _options.key_of_the_model(options)
        schedule = self._edited_model() or (before if model == self._model else _options.trained(options))
        asked: Steps | StageTable
        if sigmas is None and timesteps is None:
            asked = _steps.spaced(schedule, options, num_inference_steps, num_train_timesteps, mu)
        else:
            asked = _steps.own(schedule, options, num_inference_steps, num_train_timesteps, sigmas, timesteps, mu)
        noted = self._options_of_run
        self._schedule, self._options_of_run = schedule, options
        try:
            table = asked if isinstance(asked, StageTable) else self._solver(asked)
            self._set_options(options)
            self._set_table(table, device)
        except BaseException:
            self._schedule = before
            self._set_options(noted)
            raise
        if schedule is not before:
            forget(self, OF_MODEL)
        self._model = model
        self.num_inference_steps = len(asked.sigmas) - 1
        # Pipelines that pass sigmas or timesteps take the stages for the steps: to begin an image where they mean to,
        # they have to be told that a step is one.
        self.order = 2 if sigmas is None and timesteps is None and not table.keeps_estimate else 1

    def _set_table(self, table: StageTable, device: str | torch.device | None) -> None:
        """Begin anew with this table."""
        timesteps = on_device(torch.from_numpy(table.stage_timesteps.astype(np.float32)), device)
        if self._in_variance_preserving:
            table = variance_preserving(table)
        which, run = WhichStage(timesteps, table.starts_step), Run(table)
        with self._lock:
            if "_which" in self.__dict__:
                which.replaces(self._which, self._run.stage)
            self._which, self._run = which, run
            self.timesteps = timesteps
            self._begin_at: int | None = None
            self._scales: dict[torch.dtype, tuple[torch.Tensor, ...]] = {}
            self._scales_input = bool((table.rows[:, 0] != 1).any())
            self._scaled = no_tensor
            self.is_scale_input_called = False
            forget(self, OF_TABLE)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scaled": no_tensor}  # weak references cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __copy__(self) -> "KDPM2Scheduler":
        """An independent copy in the same state, with its own noise."""
        made = self.__class__.__new__(self.__class__)
        own = {name: copy(self.__dict__[name]) for name in ("_which", "_warned")}
        own["_run"] = self._run._replace(noise=deepcopy(self._run.noise))
        made.__setstate__(self.__getstate__() | own | {"_watched": dict(self.__dict__.get("_watched", {}))})
        return made

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the next run at stage `begin_index` of the 2N-1. The timestep of its first call then does not matter.

        Raises:
            TypeError: If `begin_index` is no integer.
            ValueError: If there is no such stage.
        """
        self._begin_at = _check.integer("begin_index", begin_index, 0, len(self._table) - 1)

    @classmethod
    def _get_compatibles(cls) -> list[type]:
        """The compatible classes of diffusers, which diffusers finds itself, and this one, which it does not know."""
        return [*super()._get_compatibles(), cls]

    def index_for_timestep(self, timestep: Timestep, schedule_timesteps: torch.Tensor | None = None) -> int:
        """The stage of a timestep.

        Args:
            timestep: A number, or a tensor of one element. A view of `timesteps` is found by its place in memory.
            schedule_timesteps: The timesteps to search, one for each stage. None searches `timesteps`.

        Returns:
            The first stage with this timestep that starts a step. If there is none, the first midpoint with it.

        Raises:
            TypeError: If `timestep` is neither a number nor a tensor of numbers.
            ValueError: If it is not one timestep, or is not in the schedule.
        """
        if schedule_timesteps is None:
            self._look()
        which, known = self._which, schedule_timesteps
        indices = which.all(timestep) if known is None else found(timestep, known, which.starts_step)
        if len(indices) != 1:
            raise ValueError(f"timestep must be one timestep, got {len(indices)}")
        return indices[0]

    def _stage(self, timestep: Timestep) -> int:
        """The stage of a call: where a run begins, or where it stands."""
        if self._watched or self.__dict__["timesteps"] is not self._which.timesteps:
            self._look()
        stage = self._run.stage
        if stage is None:
            self._use_prediction_type()
            self._run_begins_or_ends()
            return self._which.begins(timestep) if self._begin_at is None else self._begin_at
        self._which.check(timestep, stage)
        return stage

    def scale_model_input(self, sample: ArrayOrTensor, timestep: Timestep) -> ArrayOrTensor:
        """The sample as the network reads it: divided by √(σ² + 1), or scaled as the model's family says.

        Args:
            sample: Any shape, floating point: a tensor or an array.
            timestep: The current timestep. It decides where a run begins if no `begin_index` was set.

        Returns:
            A new tensor or array like `sample`.

        Raises:
            TypeError: If `sample` is not a floating-point tensor or array.
            ValueError: If a run begins and `timestep` is not in the schedule, or if a run is under way and `timestep`
                is that of another stage.
        """
        if isinstance(sample, ARRAY):
            return self.scale_model_input(from_array("sample", sample), timestep).numpy()
        try:
            scales = self._scales[sample.dtype]
            known = sample.layout is torch.strided and not sample.is_nested
        except (AttributeError, KeyError):
            known = False
        if not known:
            kind_of("sample", sample)
        with self._lock:
            stage = self._stage(timestep)
            # The table, and so the scales, may be others than before.
            if not known or self._scales.get(sample.dtype) is not scales:
                scales = self._scales[sample.dtype] = update.input_scales(self._table, sample.dtype)
            if self._run.stage is None:
                self._run = self._run._replace(stage=stage)
            self.is_scale_input_called = True
        scaled = sample.mul(scales[stage])
        if not sample.ndim:  # of two tensors without dimensions, the wider dtype is the product's
            scaled = scaled.to(sample.dtype)
        if self._scales_input:
            if sample is self._scaled():
                self._warn(
                    "scale_model_input was given what it returned, which is scaled twice, and the picture will be "
                    "wrong: give it the sample that step returned"
                )
            self._scaled = weakref.ref(scaled)
        return scaled

    def _advance(
        self, model_output: Any, timestep: Timestep, sample: Any, generator: Generators, shared: bool = False
    ) -> tuple[Any, Any]:
        """One stage: the sample after it, and the clean sample that the network sees."""
        if not alike(model_output, sample):
            if isinstance(model_output, ARRAY) and isinstance(sample, ARRAY):
                output, read = from_array("model_output", model_output), from_array("sample", sample)
                advanced, clean = self._advance(output, timestep, read, generator, shared=True)
                return advanced.numpy(), clean.numpy()
            kind = kind_of("sample", sample)
            self._run.check(sample)
            model_output = self._without_variance(model_output, sample)
            check_like("model_output", model_output, "sample", kind)
        with self._lock:
            stage = self._stage(timestep)
            if self._scales_input and (not self.is_scale_input_called or sample is self._scaled()):
                self._check_scaled(stage, sample)
            row, anchor = self._run.row(stage, sample), self._run.anchor
            start = None if anchor is None else anchor.tensor
            if start is not None and start.dtype is not sample.dtype:
                start = start.to(sample.dtype)
            noise = self._noise(stage, model_output, generator) if row.noise else None
            if self._limits is None:
                result = update.apply(row, sample, model_output, start, noise, into=noise)
            else:
                clean = self._limits(update.denoised(row, sample, model_output))
                result = update.advance(row.of_denoised(), sample, clean, start, noise, into=noise), clean
            self._run = self._run.made(stage, sample, result[1], shared)
            if self._run.stage is None:
                self._run_begins_or_ends()
        return result

    def _without_variance(self, model_output: Any, sample: Any) -> Any:
        """The network's output without the variance. Some models predict the variance in additional channels."""
        learned = str(self.config.get("variance_type")).startswith("learned")
        if learned and isinstance(model_output, torch.Tensor) and isinstance(sample, torch.Tensor) and sample.ndim > 1:
            channels = sample.shape[1]
            if model_output.ndim == sample.ndim and model_output.shape[1] == 2 * channels:
                return model_output[:, :channels]
        return model_output
