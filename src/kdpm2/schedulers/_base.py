"""What the drop-in schedulers share: configuration, and the state of a run. The mathematics is in `kdpm2.table`.

A run's state is one integer, the stage, and one tensor, the anchor, which is present only between the two stages of a
step. A run begins at `begin_index` if one was set, else at the timestep given to the first call; from then on the
stage counts up by itself. After the last stage both are dropped, and the next call begins a new run.

A timestep tensor taken from `timesteps` is a view of it, and its storage offset is its index: nothing is compared and
nothing copied from the device, and equal timesteps are told apart. Only a number, or a tensor from elsewhere, is looked
up by value, among the stages that start a step before the midpoints: at eta = 1 each midpoint has the sigma of the step
that follows it, mostly its timestep too, and a run that continues an image starts with a step.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils import BaseOutput
from numpy.typing import NDArray

from kdpm2 import _check, noise_schedule, spacing, update
from kdpm2.noise import Generators, gaussian
from kdpm2.table import dpm2

ArrayOrTensor = TypeVar("ArrayOrTensor", torch.Tensor, NDArray[Any])

# NumPy makes scalars of its own of what arrays without dimensions are computed to.
_ARRAY = (np.ndarray, np.generic)
_CURVE_FLAGS = {f"use_{curve}_sigmas": curve for curve in spacing.SIGMA_CURVES}


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
    """Configuration and state of both schedulers; what differs between them is `_eta`."""

    _compatibles: ClassVar = [scheduler.name for scheduler in KarrasDiffusionSchedulers]
    order = 2

    _eta: float

    timesteps: torch.Tensor
    """Shape (2N-1,), float32: what the network is conditioned on at each stage."""
    num_inference_steps: int

    @register_to_config
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
    ) -> None:
        """Set up the schedule of the trained model, and the run that visits every timestep of it.

        Args:
            num_train_timesteps: How many timesteps the model was trained with.
            beta_start: First beta, in (0, 1).
            beta_end: Last beta, in (0, 1).
            beta_schedule: "linear", "scaled_linear" or "squaredcos_cap_v2".
            trained_betas: At least `num_train_timesteps` betas, to be used instead of a formula.
            use_karras_sigmas: Join the first and last sigma by Karras' curve.
            use_exponential_sigmas: Join them evenly in log sigma.
            use_beta_sigmas: Join them by quantiles of a Beta distribution. At most one of the three.
            prediction_type: What the network predicts: "epsilon", "sample" or "v_prediction".
            timestep_spacing: "linspace", "leading" or "trailing".
            steps_offset: Added to every "leading" timestep.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, or contradicts another.
        """
        self._schedule = noise_schedule.discrete(
            num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas
        )
        self.set_timesteps(num_train_timesteps)

    def set_timesteps(
        self,
        num_inference_steps: int,
        device: str | torch.device | None = None,
        num_train_timesteps: int | None = None,
    ) -> None:
        """Set the schedule of the runs to come, of 2N-1 stages, and forget the run in progress.

        Args:
            num_inference_steps: N, at least 1.
            device: Where `timesteps` is to be.
            num_train_timesteps: Use only the first so many trained timesteps; all if None.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range. The scheduler is then unchanged.
        """
        config = self.config
        steps = spacing.steps(
            self._schedule,
            num_inference_steps,
            config.timestep_spacing,
            config.steps_offset,
            _sigma_curve(config),
            config.num_train_timesteps if num_train_timesteps is None else num_train_timesteps,
        )
        table = dpm2(self._schedule, steps, config.prediction_type, self._eta)
        self.timesteps = _on_device(torch.from_numpy(table.stage_timesteps.astype(np.float32)), device)
        self._table = table
        self._last_stage = len(table) - 1
        self._input_scaling = update.InputScaling(table)
        self.num_inference_steps = len(steps.sigmas)
        self._begin_index: int | None = None
        self._forget_run()

    def _forget_run(self) -> None:
        self._step_index: int | None = None
        self._anchor: torch.Tensor | None = None

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
        return stage is None or stage % 2 == 0

    @property
    def init_noise_sigma(self) -> torch.Tensor:
        """Standard deviation of the sample that a run starts from, a float32 tensor of shape ()."""
        top = self._table.sigmas[0]
        as_trained = self.config.timestep_spacing == "leading"
        return torch.tensor(np.hypot(top, 1) if as_trained else top, dtype=torch.float32)

    @property
    def sigmas(self) -> torch.Tensor:
        """Shape (2N+2,), float32: σ₀, then σ₁ to σ_{N-1} and 0 twice each, and a last 0."""
        return held(self._table.sigmas)

    @property
    def betas(self) -> torch.Tensor:
        """Shape (T,), float32: variance added by each training timestep."""
        return torch.tensor(self._schedule.betas)

    @property
    def alphas(self) -> torch.Tensor:
        """Shape (T,), float32: 1 - betas."""
        return 1 - self.betas

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """Shape (T,), float32: running product of `alphas`."""
        return torch.tensor(self._schedule.alphas_cumprod)

    @property
    def log_sigmas(self) -> torch.Tensor:
        """Shape (T,), float32: logarithm of the noise level at each training timestep."""
        return torch.tensor(self._schedule.log_sigmas, dtype=torch.float32)

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
        return indices.pop()

    def scale_model_input(self, sample: ArrayOrTensor, timestep: float | torch.Tensor) -> ArrayOrTensor:
        """`sample` as the network was trained to read it, divided by √(σ² + 1).

        Args:
            sample: Any shape, floating point: a tensor or an array.
            timestep: The current timestep; decides where a run begins if no `begin_index` was set.

        Returns:
            A new tensor or array like `sample`.

        Raises:
            TypeError: If `sample` is not a floating-point tensor or array.
            ValueError: If a run begins and `timestep` is not in the schedule.
        """
        if isinstance(sample, _ARRAY):
            return self.scale_model_input(_tensor(sample), timestep).numpy()
        _floating("sample", sample)
        stage = self._step_index
        if stage is None:
            stage = self._beginning(timestep)
        scaled = self._input_scaling(stage, sample)
        self._step_index = stage
        return scaled

    def _advance(
        self,
        model_output: ArrayOrTensor,
        timestep: float | torch.Tensor,
        sample: ArrayOrTensor,
        generator: Generators = None,
    ) -> tuple[ArrayOrTensor, ArrayOrTensor]:
        """One stage: the sample after it, and the clean sample that the network sees."""
        if isinstance(sample, _ARRAY) and isinstance(model_output, _ARRAY):
            advanced, denoised = self._advance(_tensor(model_output), timestep, _tensor(sample), generator)
            return advanced.numpy(), denoised.numpy()
        _check_alike("model_output", model_output, "sample", sample)
        anchor, stage = self._anchor, self._step_index
        if stage is None:
            stage = self._beginning(timestep)
        elif anchor is not None and _kind(sample) != _kind(anchor):
            raise ValueError(
                f"sample must keep the shape, dtype and device that it had when this step started, {_kind(anchor)}, "
                f"got {_kind(sample)}"
            )
        row = self._table.row(stage, anchored=anchor is not None)
        noise = None
        if row.noise:
            noise = gaussian(model_output.shape, model_output.dtype, model_output.device, generator)
        result = update.apply(row, sample, model_output, anchor, noise)
        if stage == self._last_stage:
            self._forget_run()
        else:
            self._step_index = stage + 1
            self._anchor = sample if stage % 2 == 0 else None
        return result

    def add_noise(
        self, original_samples: ArrayOrTensor, noise: ArrayOrTensor, timesteps: torch.Tensor
    ) -> ArrayOrTensor:
        """Noisy samples: original_samples + σ · noise, each at its own noise level.

        The level of a midpoint is that of the step after it, as in diffusers: inpainting, which adds noise in mid-run,
        gives the same pictures.

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
            return self.add_noise(_tensor(original_samples), _tensor(noise), timesteps).numpy()
        shape: tuple[int, ...] = _broadcast(_floating("original_samples", original_samples), _floating("noise", noise))
        count = timesteps.numel() if isinstance(timesteps, torch.Tensor) else np.size(timesteps)
        if count not in (1, *shape[:1]):
            raise ValueError(
                f"timesteps must hold one timestep, or one a sample for samples of shape {shape}, got {count}"
            )
        if self._begin_index is None:
            stages = self._indices(timesteps)
        else:
            stages = [self._begin_index if self._step_index is None else self._step_index]
        sigma = torch.from_numpy(self._table.sigmas[[(stage + 1) // 2 for stage in stages]])
        return update.noised(original_samples, noise, sigma.reshape([-1, *[1] * (len(shape) - 1)][: len(shape)]))


def _sigma_curve(config: Any) -> str | None:
    chosen = [flag for flag in _CURVE_FLAGS if config[flag] is not None and _check.flag(flag, config[flag])]
    if len(chosen) > 1:
        raise ValueError(f"only one of {', '.join(_CURVE_FLAGS)} may be True, got {', '.join(chosen)}")
    return _CURVE_FLAGS[chosen[0]] if chosen else None


def _on_device(tensor: torch.Tensor, device: str | torch.device | None) -> torch.Tensor:
    try:
        return tensor.to(device=device)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device must be one that torch can use here, got {_check.shown(device)}: {reason}") from error


def held(per_step: NDArray[np.float64]) -> torch.Tensor:
    """Values of the steps in the layout in which diffusers holds them for its stages."""
    doubled = np.concatenate([per_step[:1], np.repeat(per_step[1:], 2), per_step[-1:]])
    return torch.from_numpy(doubled.astype(np.float32))


def _share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _found(timesteps: float | torch.Tensor, schedule: torch.Tensor) -> list[int]:
    """Where each timestep stands in the schedule, by value."""
    values = timesteps.detach().cpu() if isinstance(timesteps, torch.Tensor) else timesteps
    wanted = np.asarray(values).reshape(-1)
    if wanted.dtype.kind not in "iuf":
        raise TypeError(f"timestep must be a number or a tensor of numbers, got {_check.shown(timesteps)}")
    wanted = wanted.astype(np.float32)
    known = schedule.cpu().numpy()
    # Steps first, then midpoints; argmax finds the first match in that order.
    order = np.concatenate([np.arange(0, len(known), 2), np.arange(1, len(known), 2)])
    matches = wanted[:, None] == known[order].astype(np.float32)
    if not matches.any(axis=1).all():
        unknown = wanted[~matches.any(axis=1)][0]
        raise ValueError(
            f"timestep must be one of the {len(known)} in scheduler.timesteps, "
            f"from {known.max():g} to {known.min():g}, got {unknown:g}"
        )
    return [int(i) for i in order[matches.argmax(axis=1)]]


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """A tensor that shares the array's memory, where torch can."""
    native = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    readable = native.flags.writeable and min(native.strides, default=0) >= 0
    return torch.from_numpy(native if readable else native.copy())


def _floating(name: str, value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, or all samples NumPy arrays, got {_check.shown(value)}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}")
    return value


def _kind(tensor: torch.Tensor) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _check_alike(name: str, value: object, other_name: str, other: object) -> None:
    """Both are floating-point tensors of one shape on one device: the one check that every stage pays for."""
    if (
        isinstance(value, torch.Tensor)
        and isinstance(other, torch.Tensor)
        and value.shape == other.shape
        and value.device == other.device
        and value.is_floating_point()
        and other.is_floating_point()
    ):
        return
    value, other = _floating(name, value), _floating(other_name, other)
    if value.shape != other.shape:
        raise ValueError(f"{name} must have the shape of {other_name}, {tuple(other.shape)}, got {tuple(value.shape)}")
    raise ValueError(f"{name} must be on the device of {other_name}, {other.device}, got {value.device}")


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
