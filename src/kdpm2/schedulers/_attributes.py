"""The attributes of a scheduler that programs read and write outside the loop.

The tensors are `_buffers.Buffer`s. An edit of one takes effect where it has a meaning:

==========================  =========================================================================================
`sigmas`                    the levels that the run visits, from the next call on; timesteps stay what they were
`timesteps`                 what a loop passes to say where it stands: a part of the schedule, or as many other values
`betas`, `alphas_cumprod`   what the model was trained on, from the next `set_timesteps` on
==========================  =========================================================================================

Other tensors follow from these. If one of them is edited, the next call that needs it raises ValueError.
"""

import math
from abc import abstractmethod
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kdpm2 import _check, noise_schedule
from kdpm2.curves import SIGMA_CURVES
from kdpm2.noise_schedule import NoiseSchedule, VariancePreserving
from kdpm2.run import Run
from kdpm2.sample_space import variance_preserving
from kdpm2.schedulers._buffers import Buffer, edits, forget, keep
from kdpm2.schedulers._configuration import Configured
from kdpm2.schedulers._options import is_flow
from kdpm2.schedulers._which_stage import Timestep, WhichStage
from kdpm2.spacing import Steps, ToldSteps
from kdpm2.table import StageTable

OF_MODEL = ("betas", "alphas", "alphas_cumprod", "log_sigmas")
OF_TABLE = ("sigmas", "sigmas_interpol", "sigmas_up", "sigmas_down")


class Attributes(Configured):
    """What a scheduler shows of its model, its schedule and its run."""

    _run: Run
    _schedule: NoiseSchedule
    _which: WhichStage
    _begin_at: int | None
    _in_variance_preserving: bool
    _options_of_run: SimpleNamespace
    _scales: dict[torch.dtype, tuple[torch.Tensor, ...]]

    @abstractmethod
    def _solver(self, steps: Steps, for_training: bool = False) -> StageTable:
        """The table of the configured sampler; one `for_training` is to visit the trained timesteps."""

    @property
    def table(self) -> StageTable:
        """The sampler that `set_timesteps` made: the coefficients of every stage."""
        return self._run.table

    @property
    def _table(self) -> StageTable:
        return self._run.table

    @Buffer
    def sigmas(self) -> torch.Tensor:
        """Shape (2N+2,), float32: the first sigma once, each later one twice, and the end, 0, three times.

        This is diffusers' layout. For a flow, shape (S+1,): the noise level of each stage, including midpoints, and the
        end.
        """
        table = self._table
        if self._shows_stages:
            return torch.from_numpy(np.append(table.stage_sigmas, table.sigmas[-1]).astype(np.float32))
        return doubled(table.sigmas)

    @property
    def _is_flow(self) -> bool:
        """Whether programs treat the scheduler as one of diffusers' flow-matching schedulers."""
        return self._schedule.flow

    @property
    def _shows_stages(self) -> bool:
        """Whether `sigmas` has the level of each stage."""
        return self._is_flow or self._table.keeps_estimate

    def _run_begins_or_ends(self) -> None:
        """Note where what is shown depends on whether a run is under way."""

    @Buffer
    def betas(self) -> torch.Tensor:
        """Shape (T,), float32: variance that each training timestep adds. AttributeError if the model has none."""
        return torch.tensor(self._variance_preserving("betas").betas, device="cpu")

    @Buffer
    def alphas(self) -> torch.Tensor:
        """Shape (T,), float32: 1 - betas."""
        return 1 - torch.tensor(self._variance_preserving("alphas").betas, device="cpu")

    @Buffer
    def alphas_cumprod(self) -> torch.Tensor:
        """Shape (T,), float32: running product of `alphas`."""
        return torch.tensor(self._variance_preserving("alphas_cumprod").alphas_cumprod, device="cpu")

    @Buffer
    def log_sigmas(self) -> torch.Tensor:
        """Shape (T,), float32: logarithm of the noise level at each training timestep."""
        return torch.tensor(self._variance_preserving("log_sigmas").log_sigmas, dtype=torch.float32, device="cpu")

    def _variance_preserving(self, name: str) -> VariancePreserving:
        if not isinstance(self._schedule, VariancePreserving):
            raise AttributeError(f"{name}: {self._schedule.named} has none")
        return self._schedule

    @property
    def timesteps(self) -> torch.Tensor:
        """Shape (S,), float32: what the network is conditioned on at each stage; S = 2N-1 stages for N steps to 0."""
        held: torch.Tensor = self.__dict__["timesteps"]
        return held

    @timesteps.setter
    def timesteps(self, value: torch.Tensor) -> None:
        self.__dict__["timesteps"] = value

    @property
    def init_noise_sigma(self) -> torch.Tensor:
        """Standard deviation of the sample that a run starts from, a float32 tensor of shape ()."""
        if self._is_flow:
            return torch.tensor(1.0, dtype=torch.float32, device="cpu")
        edited = edits(self, ("sigmas",), closely=self._run.stage is None).get(
            "sigmas"
        )  # where a run will start, though none has looked at it yet
        start = self._table.start if not isinstance(edited, torch.Tensor) else float(edited.max())
        # As diffusers' classes have it: the data is counted in for some, for most it is too little to matter.
        with_data = self.config.timestep_spacing == "leading" or self._schedule.starts_with_data
        with_data = with_data and not self._in_variance_preserving
        return torch.tensor(np.hypot(start, 1) if with_data else start, dtype=torch.float32, device="cpu")

    @property
    def begin_index(self) -> int | None:
        """The stage at which the next run begins, or None if its first timestep decides."""
        return self._begin_at

    @property
    def step_index(self) -> int | None:
        """The stage that the next call of `step` makes, or None between runs."""
        return self._run.stage

    @property
    def _begin_index(self) -> int | None:
        """The name under which diffusers' own code reads and sets `begin_index`."""
        return self._begin_at

    @_begin_index.setter
    def _begin_index(self, value: int | None) -> None:
        self._begin_at = value

    @property
    def _step_index(self) -> int | None:
        """The name under which programs read and set `step_index`: None forgets the run."""
        return self._run.stage

    @_step_index.setter
    def _step_index(self, value: int | None) -> None:
        if value != self._run.stage:
            stage = None if value is None else _check.integer("_step_index", value, 0, len(self._table) - 1)
            self._run = Run(self._table, stage)
            self._run_begins_or_ends()

    def _init_step_index(self, timestep: Timestep) -> None:
        """Begin a run, as diffusers' own code does: at `begin_index`, or at this timestep."""
        self._step_index = self._which.begins(timestep) if self._begin_at is None else self._begin_at

    @property
    def state_in_first_order(self) -> bool:
        """Whether the next call of `step` starts a step, rather than finishing one from its midpoint."""
        stage = self._begin_at if self._run.stage is None else self._run.stage
        return stage is None or bool(self._table.starts_step[stage])

    def __len__(self) -> int:
        """The number of training timesteps."""
        return int(self.config.num_train_timesteps)

    def set_shift(self, shift: float) -> None:
        """Set the shift of a flow's sigmas. It counts from the next `set_timesteps` on.

        Raises:
            TypeError: If `shift` is no number.
            ValueError: If it is not above 0, or the model is no flow.
        """
        if self._schedule.shift is None:
            raise ValueError(f"shift is for flow models, and this is {self._schedule.named}, got {shift}")
        self.register_to_config(flow_shift=_check.positive("shift", shift))

    def time_shift(self, mu: float, sigma: float, t: Any) -> Any:
        """A flow's noise levels `t`, in (0, 1], shifted by `mu`. Pipelines call this, mostly with `sigma` 1.

        The result is s / (s + (1/t - 1)^sigma). Here s is exp(mu), or mu itself with `time_shift_type="linear"`.
        """
        shift = mu if self.config.time_shift_type == "linear" else math.exp(mu)
        return shift / (shift + (1 / t - 1) ** sigma)

    def _sigma_to_t(self, sigma: ArrayLike, log_sigmas: object = None) -> NDArray[np.float64]:
        """The timestep of each noise level, as community pipelines ask a scheduler for it."""
        return self._schedule.timestep(sigma)

    def _convert_to_karras(self, in_sigmas: Any, num_inference_steps: int) -> NDArray[np.float64]:
        """Karras' curve between the ends of these sigmas."""
        return self._converted("karras", in_sigmas, num_inference_steps)

    def _convert_to_exponential(self, in_sigmas: Any, num_inference_steps: int) -> NDArray[np.float64]:
        """The exponential curve between the ends of these sigmas."""
        return self._converted("exponential", in_sigmas, num_inference_steps)

    def _convert_to_beta(self, in_sigmas: Any, num_inference_steps: int) -> NDArray[np.float64]:
        """The beta curve between the ends of these sigmas."""
        return self._converted("beta", in_sigmas, num_inference_steps)

    def _converted(self, curve: str, in_sigmas: Any, count: int) -> NDArray[np.float64]:
        sigma_min, sigma_max = (getattr(self.config, name, None) for name in ("sigma_min", "sigma_max"))
        first, last = float(in_sigmas[0]), float(in_sigmas[-1])
        return SIGMA_CURVES[curve].levels(
            first if sigma_max is None else sigma_max, last if sigma_min is None else sigma_min, count
        )

    def _look(self) -> None:
        """Let what a program has changed since the last call take effect."""
        if self.timesteps is not self._which.timesteps:
            self._use_timesteps()
        if self._watched:
            self._use_edits()

    def _edited_model(self) -> NoiseSchedule | None:
        """The model that a program has written to `betas` or `alphas_cumprod`; None if it has not."""
        found = edits(self, OF_MODEL, closely=True)
        if not found:
            return None
        if not isinstance(self._schedule, VariancePreserving):
            raise ValueError(f"{next(iter(found))} must not be assigned: {self._schedule.named} has none")
        continuous = self._schedule.continuous
        nothing = [name for name, held in found.items() if held is None]
        if nothing:
            raise ValueError(f"{nothing[0]} must be the model's own or others of its kind, got None")
        if "betas" in found:
            return noise_schedule.discrete(trained_betas=found["betas"], continuous=continuous)
        if "alphas_cumprod" in found:
            return noise_schedule.from_alphas_cumprod(found["alphas_cumprod"], continuous)
        raise ValueError(f"{next(iter(found))} must not be assigned: it follows from betas, so assign those")

    def _use_edits(self) -> None:
        """Let what a program has written to the tensors of the schedule take effect."""
        found = edits(self, OF_TABLE, closely=self._run.stage is None)
        if "sigmas" in found:
            self._use_sigmas(found.pop("sigmas"))
        if found:
            _refuse(next(iter(found)))

    def _use_sigmas(self, held: Any) -> None:
        """Let the run visit the levels in `sigmas`, in the attribute's layout, or one for each step and the end."""
        table, shown = self._table, type(self).sigmas.made(self)
        if table.keeps_estimate:  # a level there belongs to two steps
            _refuse("sigmas")
        try:
            levels = held.detach().to("cpu", torch.float64).numpy()
        except (AttributeError, RuntimeError, TypeError):
            _refuse("sigmas")
        if levels.shape == shown.shape:
            starts = table.first_stage if self._shows_stages else 2 * np.arange(len(table.up))
            visited = np.append(levels[starts], levels[-1])
        elif levels.shape == table.sigmas.shape:
            visited = levels
        else:
            _refuse("sigmas")
        if not (np.isfinite(visited).all() and (np.diff(visited) < 0).all() and visited[-1] >= 0):
            _refuse("sigmas")
        made = self._remade(visited)
        if len(made) != len(table):
            _refuse("sigmas")
        self._run = self._run._replace(table=made)
        remade = type(self).sigmas.made(self)
        rounding = 4 * float(torch.finfo(held.dtype).eps)
        follows = levels.shape != remade.shape or np.allclose(levels, remade.numpy(), rtol=max(rounding, 1e-6))
        # Where each level stands once, midpoints follow from the starts that were changed.
        if not follows and (not self._shows_stages or np.allclose(visited, table.sigmas, rtol=1e-6)):
            self._run = self._run._replace(table=table)
            _refuse("sigmas")
        self._scales.clear()
        if follows:
            keep(self, "sigmas", held, OF_TABLE)
        else:
            forget(self, OF_TABLE)

    def _remade(self, sigmas: NDArray[np.float64]) -> StageTable:
        """The table for other sigmas or other options. The network is told the same timesteps."""
        table = self._table
        made = self._solver(ToldSteps(sigmas, table.stage_timesteps[table.first_stage]))
        if self._in_variance_preserving:
            made = variance_preserving(made)
        return replace(made, stage_timesteps=table.stage_timesteps) if len(made) == len(table) else made

    def _use_prediction_type(self) -> None:
        """Let a `prediction_type` changed since `set_timesteps` count for the run that begins, as in diffusers."""
        predicted, noted = self.config.prediction_type, self._options_of_run
        if predicted != noted.prediction_type and is_flow(noted) == is_flow(self._options()):
            self._options_of_run = SimpleNamespace(**vars(noted) | {"prediction_type": predicted})
            try:
                self._run = Run(self._remade(self._table.sigmas))
            except BaseException:
                self._options_of_run = noted
                raise

    def _use_timesteps(self) -> None:
        """From now on, look up a loop's timesteps in the tensor that a program has assigned to `timesteps`."""
        held, which, told = self.timesteps, self._which, self._table.stage_timesteps.astype(np.float32)
        if not isinstance(held, torch.Tensor) or held.ndim != 1 or not len(held):
            _refuse("timesteps")
        first = which.place_of(held)
        if first is None:
            values = held.detach().to("cpu", torch.float32).numpy()
            if values[0] < values[-1] and told[0] > told[-1]:
                _refuse("timesteps")
            where = [i for i in range(len(told) - len(values) + 1) if np.array_equal(told[i : i + len(values)], values)]
            if not where and len(values) != len(told):
                _refuse("timesteps")
            first = where[0] if where else 0
        self._which = WhichStage(held, which.starts_step, first)
        self._which.continues(which)


def doubled(per_step: NDArray[np.float64]) -> torch.Tensor:
    """Values of the steps, in diffusers' layout for its stages."""
    held = np.concatenate([per_step[:1], np.repeat(per_step[1:], 2), per_step[-1:]])
    return torch.from_numpy(held.astype(np.float32))


def _refuse(name: str) -> NoReturn:
    raise ValueError(
        f"{name} holds values that are no schedule of this sampler: call set_timesteps(sigmas=...) with the levels "
        "where steps start, or set_timesteps(timesteps=...), which set all of its tensors; "
        "final_sigmas_type='sigma_min' ends a run above 0"
    )
