"""What the drop-in schedulers share: configuration, and the state of a run. The mathematics is in `kdpm2.table`.

A run's state is one integer, the stage, and one tensor, the anchor, which is present only between the two stages of a
step. A run begins at `begin_index` if one was set, else at the timestep given to the first call; from then on the
stage counts up by itself. After the last stage both are dropped, and the next call begins a new run. For the sake of
error messages a run also remembers what kind of sample it is about, and which scaled input it gave out last; and, so
that nothing is checked twice, which sample it has seen last. It keeps neither of these tensors alive.

A timestep tensor taken from `timesteps` is a view of it, and its storage offset is its index: nothing is compared and
nothing copied from the device, and equal timesteps are told apart. Only a number, or a tensor from elsewhere, is looked
up by value, among the stages that start a step before the midpoints: at eta = 1 each midpoint has the sigma of the step
that follows it, mostly its timestep too, and a run that continues an image starts with a step.
"""

import inspect
import os
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils import BaseOutput, logging
from numpy.typing import NDArray

from kdpm2 import _check, spacing, update
from kdpm2._check_tensor import Kind, check_like, floating, from_array, kind_of, on_device
from kdpm2.noise import Generators, Seeds, checked_seeds, gaussian_like, seeded
from kdpm2.noise_schedule import VariancePreserving
from kdpm2.schedulers import _config
from kdpm2.schedulers._pair import Pair
from kdpm2.spacing import Steps
from kdpm2.table import StageTable

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.get_logger(f"diffusers.{__name__}")  # heeds what users have told diffusers about its warnings

ArrayOrTensor = TypeVar("ArrayOrTensor", torch.Tensor, NDArray[Any])

# NumPy makes scalars of its own of what arrays without dimensions are computed to.
_ARRAY = (np.ndarray, np.generic)


_NO_TENSOR = object()


def _no_tensor() -> object:
    """A weak reference to no tensor."""
    return _NO_TENSOR


@dataclass
class KDPM2SchedulerOutput(BaseOutput):
    """What a stage returns: tensors, or arrays if arrays were given, like the sample.

    Attributes:
        prev_sample: The sample after the stage, which the next stage reads.
        pred_original_sample: The network's estimate of the clean sample.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor | None = None


class KDPM2Scheduler(SchedulerMixin, ConfigMixin):
    """State of a run, and the options of both schedulers; how a stage is made of them is `_solver`'s to say.

    Options of both:

    *The model.* `num_train_timesteps`: how many timesteps it was trained with, at least 1. `beta_start`, `beta_end`:
    its first and last beta, in (0, 1), joined as `beta_schedule` says ("linear", "scaled_linear", "squaredcos_cap_v2"),
    or at least as many `trained_betas` instead. `rescale_betas_zero_snr`: stretch them to end in pure noise.
    `prediction_type`: what it predicts, "epsilon", "sample", "v_prediction", or "flow_prediction". `timestep_type`:
    "discrete", or "continuous" for a v-prediction model that is conditioned on log(σ)/4. `use_flow_sigmas`: it is a
    flow, as one that predicts "flow_prediction" always is; `flow_shift`, `use_dynamic_shifting`, `time_shift_type`
    ("exponential", "linear") and `shift_terminal` then move its sigmas. `sigma_data`: it is an EDM model for data of
    this standard deviation. `base_shift`, `max_shift`, `base_image_seq_len`, `max_image_seq_len`: for pipelines, which
    compute their shift from them.

    *The noise levels.* `timestep_spacing`: "linspace", "leading", "trailing", "simple" or "sgm_uniform";
    `steps_offset` is added to every leading timestep. At most one of `use_karras_sigmas`, `use_exponential_sigmas`,
    `use_beta_sigmas`, `use_polyexponential_sigmas`, `use_lu_lambdas` and `ays_sigmas` ("sd15", "sdxl", "svd"): the
    curve between their first and last sigma, or between `sigma_max` and `sigma_min`; `rho` is its exponent.
    `final_sigmas_type`: end at "zero" or at "sigma_min". `discard_next_to_last_sigma`: leave the sigma before out.

    *The noise.* `s_noise`: scale of all noise that a step adds, at least 0.

    `docs/options.md` says more of each.
    """

    _compatibles: ClassVar = [
        *(scheduler.name for scheduler in KarrasDiffusionSchedulers),
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
        "EDMEulerScheduler",
        "EDMDPMSolverMultistepScheduler",
    ]
    order = 2

    timesteps: torch.Tensor
    """Shape (S,), float32: what the network is conditioned on at each stage; S = 2N-1 stages for N steps to 0."""
    num_inference_steps: int

    @abstractmethod
    def _solver(self, steps: Steps, for_training: bool = False) -> StageTable:
        """The table of the configured sampler; one `for_training` is to visit the trained timesteps."""

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | None = None, return_unused_kwargs: bool = False, **kwargs: Any
    ) -> "Self | tuple[Self, dict[str, Any]]":
        """A scheduler from the configuration of this one or of another.

        Those of diffusers' flow-matching and EDM schedulers are put into the words of ours.

        Args:
            config: A scheduler's `config`, or what its JSON file holds.
            return_unused_kwargs: Whether to return a pair, with what was not used.
            kwargs: Options to be set instead of what the configuration says. Unknown ones are ignored with a warning.

        Raises:
            TypeError: If an option has the wrong type.
            ValueError: If an option is out of range, or contradicts another.
        """
        words: Any = config
        if config is not None and not isinstance(config, (Mapping, str, os.PathLike)):
            raise TypeError(f"config must be a mapping of a scheduler's options, got {_check.shown(config)}")
        if isinstance(config, Mapping):
            _config.check_names(config)
            words = _config.translated(config)
            if "flow_shift" in words and "shift" in kwargs:
                kwargs["flow_shift"] = kwargs.pop("shift")
        unknown = sorted(kwargs.keys() - inspect.signature(cls.__init__).parameters.keys())
        if unknown and not return_unused_kwargs:
            logger.warning("%s has no option %s: ignored", cls.__name__, ", ".join(unknown))
        scheduler: Self | tuple[Self, dict[str, Any]] = super().from_config(words, return_unused_kwargs, **kwargs)
        return scheduler

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """What a configuration file holds, from diffusers' arguments.

        Raises:
            OSError: If there is no such file, or it is no JSON.
            ValueError: If it is JSON beyond what Python reads, or holds something else than options.
        """
        try:
            loaded = super().load_config(*args, **kwargs)
        except RecursionError:
            raise ValueError(
                f"{cls.config_name} must be JSON of options and their values, got one nested too deeply"
            ) from None
        except ValueError as error:
            if "integer string conversion" not in str(error):
                raise
            raise ValueError(
                f"{cls.config_name} must hold numbers that Python can read, got an integer of too many digits"
            ) from None
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if not isinstance(config, Mapping):
            raise ValueError(f"{cls.config_name} must hold a mapping of options, got {_check.shown(config)}")
        return loaded

    def _set_up(self) -> None:
        """Set the schedule of the trained model, and the run that visits every timestep of it."""
        config = self.config
        self._seeds: Seeds = None
        self._schedule = _config.trained(config)
        # Which sigmas to leave out is for runs to say, and the shift of an image for those that know it.
        options = _config.spacing_options(config)
        options |= {"discard_next_to_last_sigma": False, "final_sigmas_type": "zero"}
        steps = spacing.steps(self._schedule, config.num_train_timesteps, **options)
        self._set_steps(self._solver(steps, for_training=True), None)
        self.num_inference_steps = int(config.num_train_timesteps)
        # Last, since diffusers writes out the whole configuration here, which may hold anything until it is checked.
        changed = _config.plain(config)
        if self._schedule.flow:
            changed["shift"] = changed.get("flow_shift", config.flow_shift)  # diffusers' schedulers of flows call it so
        if changed:
            self.register_to_config(**changed)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        num_train_timesteps: int | None = None,
        sigmas: Sequence[float] | NDArray[Any] | None = None,
        timesteps: Sequence[float] | NDArray[Any] | None = None,
        mu: float | None = None,
    ) -> None:
        """Set the schedule of the runs to come, of N steps in 2N-1 stages, and forget the run in progress.

        Args:
            num_inference_steps: N, at least 1; may be None if `sigmas` or `timesteps` is given.
            device: Where `self.timesteps` is to be.
            num_train_timesteps: Use only the first so many trained timesteps; all if None. For models with betas.
            sigmas: Where the steps start, strictly decreasing, with or without the final 0. A flow's are then shifted
                and stretched, and its curve joins their ends. Other options of the noise levels play no part, but for
                `final_sigmas_type`: with "sigma_min" the run ends at the last one given.
            timesteps: The same as timesteps, taken as they are. Not both.
            mu: The shift of a flow with `use_dynamic_shifting`, which needs it; without, it plays no part.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, or contradicts another. The scheduler is then unchanged.
        """
        config = self.config
        options = _config.spacing_options(config)
        shift = _config.shift(config, mu)
        if sigmas is None and timesteps is None:
            if num_inference_steps is None:
                raise ValueError("num_inference_steps must be an integer at least 1 without sigmas or timesteps")
            steps = spacing.steps(
                self._schedule,
                num_inference_steps,
                num_train_timesteps=self._limit(num_train_timesteps),
                shift=shift,
                **options,
            )
        else:
            steps = self._custom_steps(num_inference_steps, num_train_timesteps, sigmas, timesteps, shift, options)
            num_inference_steps = len(steps.timesteps) if num_inference_steps is None else num_inference_steps
        table = self._solver(steps)
        self._set_steps(table, device)
        self.num_inference_steps = int(num_inference_steps)
        # Pipelines that pass sigmas or timesteps take the stages for the steps: to begin an image where they mean to,
        # they have to be told that a step is one.
        self.order = 2 if sigmas is None and timesteps is None else 1

    def _limit(self, num_train_timesteps: int | None) -> int | None:
        """The trained timesteps to use: a configuration may have more betas than timesteps."""
        if num_train_timesteps is None and isinstance(self._schedule, VariancePreserving):
            return int(self.config.num_train_timesteps)
        return num_train_timesteps

    def _custom_steps(
        self,
        num_inference_steps: int | None,
        num_train_timesteps: int | None,
        sigmas: Any,
        timesteps: Any,
        shift: float | None,
        options: dict[str, Any],
    ) -> Steps:
        if num_train_timesteps is not None:
            raise ValueError(
                f"num_train_timesteps must be None with sigmas or timesteps of one's own, "
                f"got {_check.shown(num_train_timesteps)}"
            )
        taken = ("sigma_curve", "sigma_min", "sigma_max", "rho", "final_sigmas_type", "shift_terminal")
        steps = spacing.custom(
            self._schedule, sigmas, timesteps, shift=shift, **{name: options[name] for name in taken}
        )
        count = len(sigmas if timesteps is None else timesteps)
        if num_inference_steps is not None:
            given = _check.integer("num_inference_steps", num_inference_steps, 1)
            if given not in (len(steps.timesteps), count):
                raise ValueError(
                    f"num_inference_steps must be None or the number of steps given, {len(steps.timesteps)}, "
                    f"got {_check.shown(given)}"
                )
        return steps

    def _set_steps(self, table: StageTable, device: str | torch.device | None) -> None:
        self.timesteps = on_device(torch.from_numpy(table.stage_timesteps.astype(np.float32)), device)
        self._own_timesteps = self.timesteps  # pipelines put slices in its place, whose memory is still this one's
        self._address = self._own_timesteps.data_ptr()
        self._table = table
        self._last_stage = len(table) - 1
        self._ends_step: list[bool] = table.ends_step.tolist()
        self._scales: dict[torch.dtype, tuple[torch.Tensor, ...]] = {}
        self._begin_index: int | None = None
        self._forget_run()

    def _forget_run(self) -> None:
        self._step_index: int | None = None
        self._anchor: torch.Tensor | None = None
        self._run_kind: Kind | None = None
        self._kind: Kind = ((), torch.float32, torch.device("cpu"))
        self._seen: Callable[[], object] = _no_tensor
        self._scaled: Callable[[], object] = _no_tensor
        self._seeded: Generators = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": _no_tensor, "_scaled": _no_tensor}  # weak references cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._address = self._own_timesteps.data_ptr()  # a copy's memory is elsewhere

    def seed(self, seed: Seeds) -> None:
        """Let every run draw its noise from this seed, where `step` is given no generator.

        For pipelines that pass none, like those of Stable Diffusion 3 and Flux: each run with the same seed draws the
        same noise, on every device. The initial sample is drawn by the pipeline, from its own generator.

        Args:
            seed: An integer for the batch, one integer for each sample, or None for torch's global generator.

        Raises:
            TypeError: If it is or holds something else.
            ValueError: If an integer is negative, or does not fit into 64 bits.
        """
        self._seeds = checked_seeds("seed", seed)
        self._seeded = None

    def _noise(self, stage: int, like: torch.Tensor, generator: Generators) -> torch.Tensor:
        """The standard normal noise that a stage adds, shaped like the network's output."""
        if generator is None and self._seeds is not None:
            generators = seeded(self._seeds) if self._seeded is None else self._seeded
            noise = gaussian_like(like, generators)
            self._seeded = generators  # kept only where they fit the sample
            return noise
        return gaussian_like(like, generator)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the next run at stage `begin_index` of the 2N-1, whatever timestep its first call is given.

        Raises:
            TypeError: If `begin_index` is no integer.
            ValueError: If there is no such stage.
        """
        self._begin_index = _check.integer("begin_index", begin_index, 0, len(self._table) - 1)

    @property
    def begin_index(self) -> int | None:
        """The stage at which the next run begins, or None if its first timestep decides."""
        return self._begin_index

    @property
    def step_index(self) -> int | None:
        """The stage that the next call of `step` makes, or None between runs."""
        return self._step_index

    @property
    def state_in_first_order(self) -> bool:
        """Whether the next call of `step` starts a step, rather than finishing one from its midpoint."""
        stage = self._begin_index if self._step_index is None else self._step_index
        return stage is None or bool(self._table.starts_step[stage])

    @property
    def init_noise_sigma(self) -> torch.Tensor:
        """Standard deviation of the sample that a run starts from, a float32 tensor of shape ()."""
        if self._schedule.flow:
            return torch.tensor(1.0, dtype=torch.float32)
        top = np.hypot(self._table.sigmas[0], self._table.initial_noise)
        # As diffusers' classes have it: the data is counted in for some, for most it is too little to matter.
        with_data = self.config.timestep_spacing == "leading" or self._schedule.family == "edm"
        return torch.tensor(np.hypot(top, 1) if with_data else top, dtype=torch.float32)

    @property
    def sigmas(self) -> torch.Tensor:
        """Shape (2N+2,), float32: σ₀, then each sigma to the end, 0, twice, and the end once more."""
        return held(self._table.sigmas)

    @property
    def betas(self) -> torch.Tensor:
        """Shape (T,), float32: variance added by each training timestep; AttributeError for a model without."""
        return torch.tensor(self._variance_preserving("betas").betas)

    @property
    def alphas(self) -> torch.Tensor:
        """Shape (T,), float32: 1 - betas."""
        return 1 - self.betas

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """Shape (T,), float32: running product of `alphas`."""
        return torch.tensor(self._variance_preserving("alphas_cumprod").alphas_cumprod)

    @property
    def log_sigmas(self) -> torch.Tensor:
        """Shape (T,), float32: logarithm of the noise level at each training timestep."""
        return torch.tensor(self._variance_preserving("log_sigmas").log_sigmas, dtype=torch.float32)

    def _variance_preserving(self, name: str) -> VariancePreserving:
        if not isinstance(self._schedule, VariancePreserving):
            raise AttributeError(f"{name}: a {self._schedule.family} model has none")
        return self._schedule

    @classmethod
    def _get_compatibles(cls) -> list[type]:
        """The compatible classes of diffusers, which its own look-up finds, and this one, which it cannot know."""
        return [*super()._get_compatibles(), cls]

    def __len__(self) -> int:
        """The number of training timesteps."""
        return int(self.config.num_train_timesteps)

    def index_for_timestep(self, timestep: float | torch.Tensor, schedule_timesteps: torch.Tensor | None = None) -> int:
        """The stage of a timestep.

        Args:
            timestep: A number, or a tensor of one element; a view of `timesteps` is located by its place there.
            schedule_timesteps: The timesteps to search, laid out like `timesteps`, which is searched if None.

        Returns:
            The first match among the stages that start a step, else the first among the midpoints.

        Raises:
            TypeError: If `timestep` is neither a number nor a tensor of numbers.
            ValueError: If it is not one timestep, or is not in the schedule.
        """
        indices = self._indices(timestep) if schedule_timesteps is None else _found(timestep, schedule_timesteps)
        if len(indices) != 1:
            raise ValueError(f"timestep must be one timestep, got {len(indices)}")
        return indices[0]

    def _indices(self, timesteps: float | torch.Tensor) -> list[int]:
        if isinstance(timesteps, torch.Tensor) and timesteps.ndim < 2 and _share_memory(timesteps, self.timesteps):
            first, stride = timesteps.storage_offset() - self.timesteps.storage_offset(), (*timesteps.stride(), 0)[0]
            return [int(first + i * stride) for i in range(timesteps.numel())]
        return _found(timesteps, self.timesteps)

    def _beginning(self, timestep: float | torch.Tensor) -> int:
        """The stage at which a run begins whose first call is given `timestep`."""
        if self._begin_index is not None:
            return self._begin_index
        indices = set(self._indices(timestep))
        if len(indices) != 1:
            raise ValueError(f"timestep must be the same for every sample, got {_check.shown(timestep)}")
        stage = indices.pop()
        if not 0 <= stage <= self._last_stage:
            raise ValueError(f"timestep must be in scheduler.timesteps, got a view of {stage} places from its start")
        return stage

    def scale_model_input(self, sample: ArrayOrTensor, timestep: float | torch.Tensor) -> ArrayOrTensor:
        """`sample` as the network was trained to read it: divided by √(σ² + 1), or as the model's family does.

        Args:
            sample: Any shape, floating point: a tensor or an array.
            timestep: The current timestep; decides where a run begins if no `begin_index` was set.

        Returns:
            A new tensor or array like `sample`.

        Raises:
            TypeError: If `sample` is not a floating-point tensor or array.
            ValueError: If a run begins and `timestep` is not in the schedule, if it is that of another stage than the
                run stands at, or if `sample` is scaled already.
        """
        scaled: ArrayOrTensor = self._scaled_input(sample, timestep)
        return scaled

    def _scaled_input(self, sample: Any, timestep: float | torch.Tensor) -> Any:
        kind = self._kind
        if self._seen() is not sample or sample is None:
            if isinstance(sample, _ARRAY):
                return self._scaled_input(from_array("sample", sample), timestep).numpy()
            kind = self._checked(sample)
        stage = self._stage(timestep)
        scaled = sample.mul(self._scales[kind[1]][stage])
        if not kind[0]:  # of two tensors without dimensions, the wider dtype is the product's
            scaled = scaled.to(kind[1])
        self._step_index = stage
        self._scaled = weakref.ref(scaled)
        # In mid-run that is the one that step returned; what is scaled may be another, doubled for guidance.
        if self._run_kind is None and kind is not self._kind:
            self._kind, self._seen = kind, weakref.ref(sample)
        return scaled

    def _checked(self, sample: object) -> Kind:
        """The kind of a sample that is not the one seen last, and so is checked."""
        kind = kind_of("sample", sample)
        if self._scaled() is sample and not self._schedule.flow:
            raise ValueError("sample must be the one before scaling, got what scale_model_input returned")
        if kind[1] not in self._scales:
            self._scales[kind[1]] = update.input_scales(self._table, kind[1])
        return kind

    def _stage(self, timestep: float | torch.Tensor) -> int:
        """The stage that a call is about: where a run begins, or where it stands."""
        stage = self._step_index
        if stage is None:
            return self._beginning(timestep)
        try:
            # Where a view begins in memory is its stage. A tensor from elsewhere would have to be copied from its
            # device to tell more of it.
            if timestep.data_ptr() == self._address + 4 * stage:  # type: ignore[union-attr]
                return stage
        except AttributeError:  # a number
            pass
        except RuntimeError:  # sparse and nested tensors have no one place
            raise _no_timestep(timestep) from None
        if isinstance(timestep, torch.Tensor):
            if timestep.dtype is torch.bool or timestep.is_complex():
                raise _no_timestep(timestep)
            out_of_order = 0 <= timestep.data_ptr() - self._address <= 4 * self._last_stage
        else:
            # A number may have been rounded on its way.
            out_of_order = not np.all(np.abs(_values(timestep) - self._table.stage_timesteps[stage]) < 1)
        if out_of_order:
            raise ValueError(
                f"timestep must be that of stage {stage}, {self._table.stage_timesteps[stage]:g}, at which this run "
                f"stands, got {_check.shown(timestep)}: stages have to be made in order, and set_timesteps begins anew"
            )
        return stage

    def _advance(
        self, model_output: Any, timestep: float | torch.Tensor, sample: Any, generator: Generators, at_once: bool
    ) -> tuple[Any, Any]:
        """One stage: the sample after it, and the clean sample that the network sees, worked out now or later."""
        kind = self._kind
        if self._seen() is not sample or sample is None:
            if isinstance(model_output, _ARRAY) and isinstance(sample, _ARRAY):
                output, read = from_array("model_output", model_output), from_array("sample", sample)
                advanced, denoised = self._advance(output, timestep, read, generator, True)
                return advanced.numpy(), denoised.numpy()
            kind = self._checked(sample)
            if self._run_kind is not None and kind != self._run_kind:
                raise ValueError(
                    f"sample must keep the shape, dtype and device that it had when this run began, {self._run_kind}, "
                    f"got {kind}"
                )
        check_like("model_output", model_output, "sample", kind)
        stage, anchor = self._stage(timestep), self._anchor
        row = self._table.row(stage, anchor is not None)
        noise = self._noise(stage, model_output, generator) if row.noise else None
        result: tuple[torch.Tensor, torch.Tensor]
        if (
            at_once
            # Later, torch would record no gradients, or not tell whether there were changes.
            or sample.requires_grad
            or model_output.requires_grad
            or sample.is_inference()
            or model_output.is_inference()
        ):
            result = update.apply(row, sample, model_output, anchor, noise, into=noise)
        else:
            advanced = update.advance(row, sample, model_output, anchor, noise, into=noise)
            result = Pair.of(advanced, row, sample, model_output)
        if stage == self._last_stage:
            self._forget_run()
        else:
            self._step_index = stage + 1
            self._run_kind = self._kind = kind
            self._anchor = None if self._ends_step[stage] else sample
            self._seen = weakref.ref(result[0])
        return result

    def add_noise(
        self, original_samples: ArrayOrTensor, noise: ArrayOrTensor, timesteps: torch.Tensor
    ) -> ArrayOrTensor:
        """Noisy samples: original_samples + σ · noise, each at its own noise level; (1-σ) times those for a flow.

        Args:
            original_samples: Shape (B, ...), floating point.
            noise: A shape that broadcasts with it: standard normal noise.
            timesteps: Shape (B,) or (1,): timesteps of the schedule. Once a `begin_index` is set their values play no
                part, as in diffusers: the noise is that of the stage at which the run stands, or will begin.

        Returns:
            A new tensor or array like `original_samples`.

        Raises:
            TypeError: If a sample is not a floating-point tensor or array.
            ValueError: If a timestep is not in the schedule, or shapes do not fit.
        """
        if isinstance(original_samples, _ARRAY) and isinstance(noise, _ARRAY):
            clean = from_array("original_samples", original_samples)
            return self.add_noise(clean, from_array("noise", noise), timesteps).numpy()
        shape: tuple[int, ...] = _broadcast(floating("original_samples", original_samples), floating("noise", noise))
        count = timesteps.numel() if isinstance(timesteps, torch.Tensor) else len(_values(timesteps))
        if count not in (1, *shape[:1]):
            raise ValueError(
                f"timesteps must hold one timestep, or one a sample for samples of shape {shape}, got {count}"
            )
        if self._begin_index is None:
            stages = self._indices(timesteps)
        else:
            stages = [self._begin_index if self._step_index is None else self._step_index]
        level = self._noise_levels(stages).reshape([-1, *[1] * (len(shape) - 1)][: len(shape)])
        sigma, alpha = torch.from_numpy(level), torch.from_numpy(self._schedule.alpha(level))
        return update.noised(original_samples, noise, sigma, alpha if self._schedule.flow else None)

    def scale_noise(self, sample: ArrayOrTensor, timestep: torch.Tensor, noise: ArrayOrTensor) -> ArrayOrTensor:
        """The same as `add_noise`, as the pipelines of flow-matching models call it.

        Args:
            sample: Shape (B, ...), floating point: clean samples.
            timestep: Shape (B,) or (1,), or one number: as `timesteps` of `add_noise`.
            noise: A shape that broadcasts with the sample: standard normal noise.

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


def held(per_step: NDArray[np.float64]) -> torch.Tensor:
    """Values of the steps in the layout in which diffusers holds them for its stages."""
    doubled = np.concatenate([per_step[:1], np.repeat(per_step[1:], 2), per_step[-1:]])
    return torch.from_numpy(doubled.astype(np.float32))


def _share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    try:
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    except RuntimeError:  # sparse tensors have no storage
        return False


def _values(timesteps: object) -> NDArray[np.float64]:
    """Timesteps of any shape as a flat array."""
    flat: Any = timesteps if isinstance(timesteps, (list, tuple)) else [timesteps]
    try:
        if isinstance(timesteps, (torch.Tensor, np.ndarray)):
            flat = timesteps.reshape(-1)
        return _check.numbers("timestep", flat, most=2**40)  # as many as there are samples, which are there already
    except (TypeError, RuntimeError):
        raise _no_timestep(timesteps) from None


def _no_timestep(timestep: object) -> TypeError:
    return TypeError(f"timestep must be a number or a tensor of numbers, got {_check.shown(timestep)}")


def _found(timesteps: float | torch.Tensor, schedule: Any) -> list[int]:
    """Where each timestep stands in the schedule, by value."""
    wanted, known = _values(timesteps).astype(np.float32), _values(schedule).astype(np.float32)
    # Steps first, then midpoints: of equal ones the first in that order.
    order = np.concatenate([np.arange(0, len(known), 2), np.arange(1, len(known), 2)])
    order = order[np.argsort(known[order], kind="stable")]
    found = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    if not np.array_equal(known[found], wanted):
        unknown = wanted[known[found] != wanted][0]
        raise ValueError(
            f"timestep must be one of the {len(known)} in scheduler.timesteps, "
            f"from {known.max():g} to {known.min():g}, got {unknown:g}"
        )
    return [int(i) for i in found]


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
