"""Which stage a timestep means.

Loops tell a scheduler where they stand by a timestep. It is read in this order:

1. A tensor that is a view of the schedule's own timesteps says its stage by its place in memory. Nothing is compared,
   and nothing is copied from a device. Equal timesteps can be told apart in this way.
2. A number, or any other tensor on the CPU, is read. It must be the timestep of the stage at which the run stands, or
   that timestep rounded. Any other is an error, because the picture would be wrong.
3. A tensor on another device that is no view is not read in mid-run, because copying it back would make the device
   wait. The run then counts its stages. Such a tensor is read only where a run begins, and in `add_noise` and
   `index_for_timestep`.

Where a run begins, its timestep is searched among the stages that start a step first, and among the midpoints after
that. The reason: at eta = 1 each midpoint has the sigma of the next step, and mostly its timestep, too. A run that
continues an image starts with a step. If timesteps within a run are equal, the one nearest to where the run stands is
meant.
"""

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check

Timestep = Any
_HALF = (torch.float16, torch.bfloat16)
# How many schedules are remembered that a new one took the place of: more pipelines than share a scheduler.
_REPLACED = 8


class WhichStage:
    """The timesteps of a schedule, and the stages they mean.

    Args:
        timesteps: Shape (S,): the timestep of each stage.
        starts_step: Shape (S,), bool: whether each stage of the whole schedule starts a step.
        first: The stage of the first timestep. It is not 0 if a program keeps only the end of a schedule.
    """

    def __init__(self, timesteps: torch.Tensor, starts_step: NDArray[np.bool_], first: int = 0) -> None:
        self.timesteps = timesteps
        self.starts_step = starts_step
        self.first = first
        self._values: list[float] | None = None
        self._version = -1
        # Schedules that this one took the place of, and the place at which a run of theirs stood.
        self._replaced: deque[tuple[torch.Tensor, int | None]] = deque(maxlen=_REPLACED)
        self._find()

    def _find(self) -> None:
        """Note where the timesteps lie in memory."""
        self._stride = self.timesteps.stride(0) * self.timesteps.element_size()
        self._address = self.timesteps.data_ptr() - self.first * self._stride
        self._began_in = _memory(self.timesteps)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._find()  # a copy's memory is elsewhere

    def continues(self, before: "WhichStage") -> None:
        """Say that these are the same timesteps in another form, so a run may continue with them."""
        self._replaced.extend(before._replaced)

    def replaces(self, before: "WhichStage", stood: int | None) -> None:
        """Replace another schedule. Its run stood at this stage; None if there was no run."""
        self._replaced.extend(before._replaced)
        self._replaced.append((before.timesteps, None if stood is None else stood - before.first))

    def place_of(self, part: torch.Tensor) -> int | None:
        """The stage of the first of `part`, a view of these timesteps without gaps; None if it is none."""
        places = _places(part, self.timesteps)
        if places is None or places != list(range(places[0], places[0] + len(places))):
            return None
        return self.first + places[0]

    @property
    def stages(self) -> range:
        """The stages that have a timestep here."""
        return range(self.first, self.first + len(self.timesteps))

    def values(self) -> list[float]:
        """Every timestep as a number."""
        version = -1 if self.timesteps.is_inference() else self.timesteps._version
        if self._values is None or self._version != version:
            self._values, self._version = self.timesteps.tolist(), version
        return self._values

    def begins(self, timestep: Timestep) -> int:
        """The stage at which a run begins if its first call gets `timestep`.

        Raises:
            TypeError: If it is neither a number nor a tensor of numbers.
            ValueError: If it is no timestep of the schedule, or not one.
        """
        self._began_in = _memory(self.timesteps)
        for timesteps, stood in self._replaced:
            places = _places(timestep, timesteps)
            if places is not None:
                if stood in places:
                    raise _replaced()
                self._began_in = _memory(timesteps)
        stages = set(self.all(timestep))
        if len(stages) != 1:
            raise ValueError(f"timestep must be the same for every sample, got {_check.shown(timestep)}")
        stage = stages.pop()
        # By value: the loop whose run was cut off goes on, without the anchor of its step.
        cut = self._replaced[-1][1] if self._replaced else None
        if stage == cut and not self.starts_step[stage] and _places(timestep, self.timesteps) is None:
            raise _replaced()
        if stage not in self.stages:
            raise ValueError(f"timestep must be in scheduler.timesteps, got a view of {stage} places from its start")
        return stage

    def check(self, timestep: Timestep, stage: int) -> None:
        """See that `timestep` is that of `stage`, at which a run stands.

        Raises:
            TypeError: If it is neither a number nor a tensor of numbers.
            ValueError: If it is not, or is of a schedule that was replaced in mid-run.
        """
        try:
            if timestep.data_ptr() == self._address + stage * self._stride:
                return
        except AttributeError:  # a number
            pass
        except RuntimeError:  # sparse and nested tensors have no one place
            raise no_timestep(timestep) from None
        places = _places(timestep, self.timesteps)
        if places is not None:
            if set(places) != {stage - self.first}:
                raise self._out_of_order(timestep, stage)
            return
        if isinstance(timestep, torch.Tensor):
            if timestep.dtype is torch.bool or timestep.is_complex():
                raise no_timestep(timestep)
            memory = _memory(timestep)
            if memory != self._began_in and any(memory == _memory(timesteps) for timesteps, _ in self._replaced):
                raise _replaced()
            if not timestep.is_cpu:
                return
        if not self._is_value_of(timestep, stage):
            raise self._out_of_order(timestep, stage)

    def _is_value_of(self, timestep: Timestep, stage: int) -> bool:
        """Whether this is the timestep of the stage, exact or rounded, and of no other stage."""
        own = self.values()[stage - self.first]
        if type(timestep) in (int, float) and timestep == own:
            return True
        given = np.unique(flat(timestep).astype(np.float32))
        if len(given) != 1:
            return False
        dtype = timestep.dtype if isinstance(timestep, torch.Tensor) else np.asarray(timestep).dtype
        if given[0] == np.float32(own) or given[0] in _rounded(own, dtype):
            return True
        return bool(abs(given[0] - own) < 1 and given[0] not in np.asarray(self.values(), dtype=np.float32))

    def _out_of_order(self, timestep: Timestep, stage: int) -> ValueError:
        return ValueError(
            f"timestep must be that of stage {stage}, {self.values()[stage - self.first]:g}, at which this run stands, "
            f"got {_check.shown(timestep)}: stages have to be made in order, and set_timesteps begins anew"
        )

    def all(self, timesteps: Timestep, stands: int | None = None) -> list[int]:
        """The stage of each timestep, of any shape. Of equal timesteps, the one nearest to where a run `stands`.

        Raises:
            TypeError: If they are neither numbers nor tensors of numbers.
            ValueError: If one is not in the schedule.
        """
        places = _places(timesteps, self.timesteps)
        if places is not None:
            return [self.first + place for place in places]
        starts = self.starts_step[self.first : self.first + len(self.timesteps)]
        return [self.first + place for place in found(timesteps, self.values(), starts, stands, self.first)]


def found(
    timesteps: Timestep, schedule: Any, starts_step: NDArray[np.bool_], stands: int | None = None, first: int = 0
) -> list[int]:
    """Where each timestep stands in the schedule, by value.

    Raises:
        TypeError: If they are neither numbers nor tensors of numbers.
        ValueError: If one is not in the schedule.
    """
    wanted, known = flat(timesteps).astype(np.float32), flat(schedule).astype(np.float32)
    # Steps first, then midpoints: of equal ones the first in that order.
    order = np.argsort(~np.resize(starts_step, len(known)), kind="stable")
    if stands is not None:
        order = np.argsort(np.abs(np.arange(first, first + len(known)) - stands), kind="stable")
    order = order[np.argsort(known[order], kind="stable")]
    places = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    if not np.array_equal(known[places], wanted):
        unknown = wanted[known[places] != wanted][0]
        raise ValueError(
            f"timestep must be one of the {len(known)} in scheduler.timesteps, "
            f"from {known.max():g} to {known.min():g}, got {unknown:g}"
        )
    return [int(i) for i in places]


def flat(timesteps: object) -> NDArray[np.float64]:
    """Timesteps of any shape as a flat array; TypeError if they are none."""
    values: Any = timesteps if isinstance(timesteps, (list, tuple)) else [timesteps]
    try:
        if isinstance(timesteps, (torch.Tensor, np.ndarray)):
            values = timesteps.reshape(-1)
        return _check.numbers("timestep", values, most=2**40)  # as many as there are samples, which are there already
    except (TypeError, RuntimeError):
        raise no_timestep(timesteps) from None


def no_timestep(timestep: object) -> TypeError:
    """The error for what is no timestep."""
    return TypeError(f"timestep must be a number or a tensor of numbers, got {_check.shown(timestep)}")


def _replaced() -> ValueError:
    return ValueError(
        "timestep must be one of scheduler.timesteps, got one of a schedule that another call of set_timesteps took "
        "the place of in mid-run: give each pipeline or thread a scheduler of its own"
    )


def _rounded(value: float, dtype: Any) -> tuple[float, ...]:
    """The values that a timestep may have in a loop that uses whole numbers or half precision."""
    if isinstance(dtype, torch.dtype):
        if dtype in _HALF:
            return (float(torch.tensor(value, device="cpu").to(dtype)),)
        whole = not dtype.is_floating_point
    else:
        if dtype == np.float16:
            return (float(np.float16(value)),)
        whole = dtype is not None and dtype.kind in "iu"
    return (float(np.floor(value)), float(np.ceil(value))) if whole else ()


def _memory(tensor: torch.Tensor) -> int:
    """The address of the memory that a tensor and its views share; 0 where there is none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse tensors have no storage
        return 0


def _places(timesteps: Timestep, schedule: torch.Tensor) -> list[int] | None:
    """Where views of a schedule lie in it; None for anything else."""
    if not isinstance(timesteps, torch.Tensor) or timesteps.ndim > 1 or timesteps.dtype != schedule.dtype:
        return None
    memory = _memory(timesteps)
    if not memory or memory != _memory(schedule):
        return None
    stride, step = schedule.stride(0), (*timesteps.stride(), 0)[0]
    first = timesteps.storage_offset() - schedule.storage_offset()
    return [(first + i * step) // stride for i in range(timesteps.numel())]
