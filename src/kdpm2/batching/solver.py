"""`BatchedSolver`: requests at different stages, advanced together.

A request is its rows, the index of the one that it stands at, and two samples: what that stage reads, and what the
stage before read. Samples lie next to one another in memory, first those at rows of one kind, then those of the other
(see `kdpm2.batching.arithmetic`). A stage that reads the anchor is followed by one that does not, and the other way
round, so that the order mostly stays as it is until a request comes or goes. All that moves moves in `next_inputs`;
before, what has come waits, and what has gone leaves its place empty.

Which request stands at which stage is known on the host, as no stage depends on what a network says: nothing is read
back from the device.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from operator import ne
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from kdpm2 import _check, philox, update
from kdpm2._check_tensor import FLOATING, check_like, floating, floating_dtype, on_device, without_waiting
from kdpm2.batching import arithmetic, snapshot
from kdpm2.batching.places import planned
from kdpm2.batching.rows import ANCHORED, NOISE, Rows, SlotRows
from kdpm2.noise import LARGEST_SEED, LONGEST_SIDE, drawn_seeds, seeded
from kdpm2.table import StageTable
from kdpm2.update import DeviceTable, fused

NOISES = ("gaussian", "philox")
MODES = ("eager", "compile")
LARGEST_CAPACITY = 2**14

DTYPE_NAMES = {str(dtype).removeprefix("torch.") for dtype in FLOATING}

_MOST_STAGES = 2 * _check.MOST_STEPS
_DRAW_OF_THE_START = 2**32 - 1  # no step has this number
_FEWEST_PLACES = 4

Called = TypeVar("Called", bound=Callable[..., Any])


def _without_gradients(method: Called) -> Called:
    """`method`, whatever torch was told to record: what is kept is written to, and may be so in any mode."""

    @wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            return method(*args, **kwargs)  # both would cost as much as a pass over memory
        with torch.inference_mode(False), torch.no_grad():
            return method(*args, **kwargs)

    return called  # type: ignore[return-value]


class Inputs(NamedTuple):
    """What the network reads next.

    Attributes:
        ids: The request in each place; None for a place that is empty, which only a fixed capacity has.
        x: Shape (B, ...): the scaled samples; 0 in an empty place.
        sigma: Shape (B,), float32 or float64: their noise levels; 1 in an empty place.
        timestep: Shape (B,), same dtype: what the network is conditioned on; 0 in an empty place.
    """

    ids: list[int | None]
    x: torch.Tensor
    sigma: torch.Tensor
    timestep: torch.Tensor


class Finished(NamedTuple):
    """A request that is done, and its sample, a tensor of its own."""

    id: int
    sample: torch.Tensor


@dataclass(eq=False)
class _Live:
    """A request: where its rows begin, how many there are, and where its noise comes from."""

    id: int
    seed: int
    first: int
    stages: int
    generator: torch.Generator | None
    start: int
    """The row that it comes in at."""
    waiting: tuple[torch.Tensor, torch.Tensor] | None = None
    """What that stage reads, and what the one before read, until it has a place."""


class BatchedSolver:
    """Requests at different stages, advanced together; for one thread.

    Args:
        shape: Of one sample, without the batch.
        capacity: So many places, and so many samples in every batch, those in empty places 0, whatever the network
            makes of them: for CUDA graphs and compilers. None for as many places as there are requests.
        most_stages: The longest table that a request may have: 199 stages are 100 steps.
        dtype: Of the samples: float16, bfloat16, float32 or float64.
        device: Where they are.
        noise: "gaussian" for the noise of `kdpm2.sample` with `seeds=[seed]`, from a generator on the CPU for each
            request; "philox" for that of `kdpm2.sample` with `noise="philox"`, which a GPU makes where it is added.
        mode: "eager", or "compile": one compiled graph makes the next samples and the network's next input of them. It
            needs a capacity.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or contradicts another.
    """

    @_without_gradients
    def __init__(
        self,
        shape: Sequence[int],
        *,
        capacity: int | None = None,
        most_stages: int = 199,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        noise: str = "gaussian",
        mode: str = "eager",
    ) -> None:
        if not isinstance(shape, (tuple, list)):
            raise TypeError(f"shape must be a tuple of integers, that of one sample, got {_check.shown(shape)}")
        self._shape = tuple(_check.integer("each of shape", length, 1, LONGEST_SIDE) for length in shape)
        if capacity is not None:
            capacity = _check.integer("capacity", capacity, 1, LARGEST_CAPACITY)
        self._capacity = capacity
        self._most_stages = _check.integer("most_stages", most_stages, 1, _MOST_STAGES)
        self._dtype, self._working = floating_dtype("dtype", dtype), torch.promote_types(dtype, torch.float32)
        self._device = on_device(torch.empty(0), device).device
        self._noise = _check.choice("noise", noise, NOISES)
        self._mode = _check.choice("mode", mode, MODES)
        if mode == "compile" and capacity is None:
            raise ValueError("capacity must be an integer with mode='compile', whose graph is for one shape, got None")
        self._rows = SlotRows(capacity or _FEWEST_PLACES, self._most_stages, self._working, self._device)
        self._requests: dict[int, _Live] = {}
        self._next_id = 0
        self._places: list[_Live | None] = []
        self._waiting: list[_Live] = []
        self._left = False  # whether a place is empty among those that are not
        self._asked: int | None = None
        self._allocate(capacity or _FEWEST_PLACES)

    def _allocate(self, places: int) -> None:
        """Memory for so many places, none of which is taken."""

        def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(places, *shape, dtype=dtype, device=self._device)

        self._sample = zeros(*self._shape, dtype=self._dtype)
        self._previous = zeros(*self._shape, dtype=self._dtype)
        # Finite always, as it may be read and multiplied by 0.
        self._drawn = zeros(*self._shape, dtype=self._working)
        self._drawn_rows = self._drawn.unbind()
        self._seeds = zeros(dtype=torch.int64)
        # For each place the row that its request stands at, and the one after its last; 0 and 0 where none is.
        self._at: NDArray[np.int64] = np.zeros(places, dtype=np.int64)
        self._end: NDArray[np.int64] = np.zeros(places, dtype=np.int64)
        self._scaled: torch.Tensor | None = None
        self._views: list[arithmetic.Views] = []

    def _reserve(self, count: int) -> None:
        """Room for so many places, those there are kept."""
        if count <= len(self._sample):
            return
        size = len(self._sample)
        sample, previous, at, end = self._sample, self._previous, self._at, self._end
        self._allocate(max(count, 2 * size))
        self._sample[:size], self._previous[:size] = sample, previous
        self._at[:size], self._end[:size] = at, end

    def __len__(self) -> int:
        """How many requests there are."""
        return len(self._requests)

    @property
    def ids(self) -> list[int]:
        """The requests that there are, in the order of their admission."""
        return list(self._requests)

    @property
    def capacity(self) -> int | None:
        """How many requests there may be; None for any number."""
        return self._capacity

    @property
    def room(self) -> int | None:
        """How many more requests may be admitted; None for any number."""
        return None if self._capacity is None else self._capacity - len(self._requests)

    @_without_gradients
    def admit(self, table: StageTable, x: torch.Tensor | None = None, seed: int | None = None) -> int:
        """Take in a request, at any time; it is in the next inputs.

        Args:
            table: What to do; of its own length, eta, spacing and prediction type.
            x: Of the solver's shape, floating point: the sample at the first noise level; it is copied. None for one
                that is made of the seed: the standard normal noise of `torch.Generator().manual_seed(seed)`, drawn on
                the CPU in the solver's dtype, times the standard deviation of the noise at the first stage.
            seed: Of the noise, from 0 to 2^64 - 1. None for a new one, from torch's global generator.

        Returns:
            The request's id, a number that no request of this solver had before.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If it is out of range, or there is no room.
        """
        self.check(table, x, seed)
        if self.room == 0:
            raise ValueError(f"table must wait: all {self._capacity} places of this solver's capacity are taken")
        chosen = drawn_seeds(None) if seed is None else int(seed)
        assert isinstance(chosen, int)
        request = self._new(self._next_id, chosen, Rows.of(table, self._dtype))
        start = self._started(table, request) if x is None else self._churned(table, request, x)
        request.waiting = (start, torch.zeros_like(start))
        self._waiting.append(request)
        self._next_id += 1
        return request.id

    def check(self, table: StageTable, x: torch.Tensor | None = None, seed: int | None = None) -> None:
        """Refuse what `admit` would, but for want of room; from any thread.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If it is out of range.
        """
        if not isinstance(table, StageTable):
            raise TypeError(f"table must be a kdpm2.table.StageTable, got {_check.shown(table)}")
        if not 1 <= len(table) <= self._most_stages:
            raise ValueError(f"table must have from 1 to most_stages={self._most_stages} stages, got {len(table)}")
        if x is not None and floating("x", x).shape != self._shape:
            raise ValueError(f"x must have the solver's shape, {self._shape}, got {tuple(x.shape)}")
        if seed is not None:
            _check.integer("seed", seed, 0, LARGEST_SEED)

    def _new(self, id: int, seed: int, rows: Rows, stage: int = 0) -> _Live:
        generator = _generator(seed) if self._noise == "gaussian" else None
        first = self._rows.take(rows)
        request = _Live(id, seed, first, len(rows.step), generator, first + stage)
        self._requests[id] = request
        return request

    def _started(self, table: StageTable, request: _Live) -> torch.Tensor:
        """Noise of the seed, at the first noise level, churn included."""
        generator = torch.Generator().manual_seed(request.seed)
        noise = torch.randn((1, *self._shape), generator=generator, dtype=self._dtype)[0]
        return self._moved(noise.mul(table.start))

    def _churned(self, table: StageTable, request: _Live, x: torch.Tensor) -> torch.Tensor:
        """A copy of the caller's sample, with the noise that churn adds before the first stage."""
        start = x.detach().to(self._device, self._dtype, copy=True).contiguous()
        if table.initial_noise:
            if request.generator is None:
                noise = philox.normal(
                    torch.tensor([philox.signed(request.seed)]), _DRAW_OF_THE_START, (1, *self._shape)
                )
            else:
                noise = torch.randn((1, *self._shape), generator=request.generator, dtype=self._dtype)
            added = torch.tensor(table.initial_noise, dtype=torch.float64)
            start = update.noised(start, self._moved(noise[0]), added)
        return start

    def cancel(self, id: int) -> None:
        """Drop a request, at any time.

        Raises:
            TypeError: If `id` is no integer.
            ValueError: If there is no such request, or none any more.
        """
        if _check.integer("id", id, 0) not in self._requests:
            raise ValueError(f"id must be that of one of the {len(self)} requests there are, got {id}")
        self._drop(self._requests[id])

    def _drop(self, request: _Live) -> None:
        del self._requests[request.id]
        self._rows.leave(request.first)
        if request.waiting is not None:
            self._waiting.remove(request)
            return
        place = self._places.index(request)
        self._places[place] = None
        self._at[place] = self._end[place] = 0
        self._left = True

    @_without_gradients
    def next_inputs(self) -> Inputs:
        """What the network reads next, for all requests there are now: new tensors.

        A request's place may be another than before where requests came or went.
        """
        self._arrange()
        count = self._asked = len(self._places)
        batch = count if self._capacity is None else self._capacity
        index = self._index(batch)
        if self._scaled is None:
            self._scaled, _ = update.network_input(self._table(), index, self._sample[:batch])
        sigma, timestep = self._rows.conditions.index_select(1, index).unbind()
        ids: list[int | None] = [None if request is None else request.id for request in self._places]
        return Inputs(ids + [None] * (batch - count), self._scaled, sigma, timestep)

    def _index(self, count: int) -> torch.Tensor:
        """The row of each place."""
        # A copy, which the host may change before a device has read it.
        return self._moved(torch.from_numpy(self._at[:count].copy()))

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return without_waiting(tensor, self._device)

    def _table(self) -> DeviceTable:
        rows = self._rows
        return DeviceTable(rows.coefficients, rows.conditions[1], rows.step, rows.step)

    def _arrange(self) -> None:
        """Give places to requests that came, and put those at rows of one kind next to one another."""
        terms, old = self._rows.terms, self._places
        kinds = (terms[self._at[: len(old)]] & ANCHORED).tolist()
        if not self._waiting and not self._left and sum(map(ne, kinds[1:], kinds)) < 2:
            return
        self._scaled = None
        held = [(request, kinds[place], place) for place, request in enumerate(old) if request is not None]
        came = self._waiting
        requests = [request for request, _, _ in held] + came
        plan = planned(
            [bool(kind) for _, kind, _ in held] + [bool(terms[each.start] & ANCHORED) for each in came],
            [*(place for _, _, place in held), *[None] * len(came)],
        )
        count = len(requests)
        self._reserve(count)
        self._move(plan.sources, plan.targets)
        self._sample[count : len(old)].zero_()
        self._previous[count : len(old)].zero_()
        self._at[count:] = self._end[count:] = 0
        self._places = [requests[number] for number in plan.order]
        for place, request in enumerate(self._places):
            if request is not None and request.waiting is not None:
                self._sample[place].copy_(request.waiting[0])
                self._previous[place].copy_(request.waiting[1])
                self._at[place], self._end[place] = request.start, request.first + request.stages
                request.waiting = None
        self._waiting, self._left = [], False
        if self._noise == "philox":
            seeds = torch.tensor([philox.signed(requests[number].seed) for number in plan.order], dtype=torch.int64)
            self._seeds[:count].copy_(seeds, non_blocking=self._device.type == "cuda")

    def _move(self, sources: list[int], targets: list[int]) -> None:
        if not sources:
            return
        self._at[targets], self._end[targets] = self._at[sources], self._end[sources]
        source, target = (self._moved(torch.tensor(places)) for places in (sources, targets))
        for tensor in (self._sample, self._previous):
            tensor.index_copy_(0, target, tensor.index_select(0, source))

    @_without_gradients
    def advance(self, model_output: torch.Tensor) -> list[Finished]:
        """Make one stage of every request in the last inputs.

        Requests that came since then stay where they are; what the network said of those that were cancelled, and in
        empty places, is not read.

        Args:
            model_output: Like the inputs' `x`: what the network makes of them.

        Returns:
            The requests that are done. They are forgotten.

        Raises:
            TypeError: If `model_output` is no floating-point tensor.
            ValueError: If it has another shape or device, or no inputs were asked for since the last call. Nothing has
                then changed.
        """
        if self._asked is None:
            raise ValueError("model_output must be made of next_inputs, which was not called since the last advance")
        count = self._asked
        batch = count if self._capacity is None else self._capacity
        check_like("model_output", model_output, "the inputs", ((batch, *self._shape), self._dtype, self._device))
        self._asked = self._scaled = None
        if count:
            self._make_stage(count, model_output.detach())
        at, end = self._at[:count], self._end[:count]
        at += at != 0
        done: list[Finished] = []
        if not (ended := at == end).any():
            return done
        for place in np.flatnonzero(ended & (at != 0)).tolist():
            request = self._places[place]
            assert request is not None
            done.append(Finished(request.id, self._sample[place].clone()))
            self._drop(request)
        return done

    def _make_stage(self, count: int, model_output: torch.Tensor) -> None:
        terms = self._rows.terms[self._at[:count]]
        index = self._index(len(model_output))
        if self._mode == "compile":
            self._draw(terms)
            after, self._scaled = arithmetic.compiled_stage()(
                self._table(), index, self._sample, model_output, self._previous, self._drawn
            )
            self._sample, self._previous = after, self._sample
            return
        border = int((terms & ANCHORED != terms[0] & ANCHORED).argmax())
        views = self._views_of(border, count)
        output = model_output[:count]
        if update.kernel_serves(views.sample, output, views.previous):
            self._make_stage_by_kernel(terms, index[:count], views.sample, output, views.previous)
        elif self._dtype is self._working:
            self._draw(terms)
            rows = self._rows.coefficients.index_select(0, index[:count])
            for part, own, kind in zip(
                views.parts, output.to(self._dtype).split(views.sizes), views.kinds, strict=True
            ):
                present = int(np.bitwise_or.reduce(terms[part]))
                arithmetic.advance_into_previous(rows, part.start, present, kind.sample, own, kind.previous, kind.drawn)
        else:
            drawn = self._drawn[:count] if self._draw(terms) else None
            after = update.at_stage(self._table(), index[:count], views.sample, output, views.previous, drawn)
            views.previous.copy_(after)
        self._sample, self._previous = self._previous, self._sample

    def _views_of(self, border: int, count: int) -> arithmetic.Views:
        """The batch and its two kinds in the memory of what is kept, made anew only where that is divided otherwise."""
        key = (border, count, self._sample.data_ptr())
        for views in self._views:
            if views.key == key:
                return views
        views = arithmetic.Views.of(key, self._sample, self._previous, self._drawn)
        self._views = [views, *self._views[:1]]  # sample and previous take turns
        return views

    def _make_stage_by_kernel(
        self,
        terms: NDArray[np.uint8],
        index: torch.Tensor,
        sample: torch.Tensor,
        output: torch.Tensor,
        previous: torch.Tensor,
    ) -> None:
        adds = bool((terms & NOISE).any())
        in_registers = adds and self._noise == "philox"
        if not in_registers:
            self._draw(terms)
        _, scaled, _ = fused.stage(
            self._rows.coefficients,
            index,
            sample,
            output,
            previous,
            noise=self._drawn[: len(sample)] if adds and not in_registers else None,
            seeds=self._seeds[: len(sample)] if in_registers else None,
            draw=self._rows.step.index_select(0, index) if in_registers else None,
            want_input=True,
            out=previous,
        )
        if len(sample) == len(self._places) and self._capacity in (None, len(sample)):
            self._scaled = scaled

    def _draw(self, terms: NDArray[np.uint8]) -> bool:
        """Draw the noise of the requests whose stage adds some; whether there are any."""
        adding = np.flatnonzero(terms & NOISE)
        if not len(adding):
            return False
        if self._noise == "philox":
            places = self._moved(torch.from_numpy(adding))
            steps = self._rows.step.index_select(0, self._index(len(terms)).index_select(0, places))
            shape = (len(adding), *self._shape)
            noise = philox.normal(self._seeds.index_select(0, places), steps, shape).to(self._working)
            self._drawn.index_copy_(0, places, noise)
            return True
        rows, in_place = self._drawn_rows, self._device.type == "cpu" and self._dtype is self._working
        for place in adding.tolist():
            request = self._places[place]
            if request is None:
                continue
            if in_place:
                rows[place].normal_(generator=request.generator)
            else:  # on the CPU, for the same numbers everywhere
                noise = torch.randn((1, *self._shape), generator=request.generator, dtype=self._dtype)
                rows[place].copy_(noise[0], non_blocking=self._device.type == "cuda")
        return True

    @_without_gradients
    def snapshot(self, folder: str | os.PathLike[str]) -> None:
        """Write all that there is to a folder, from which `restore` goes on bit for bit; nothing changes here.

        Requests, their samples, their rows and the state of their noise are in a file of safetensors and one of JSON.
        An older snapshot there is replaced as a whole: a crash leaves the one or the other.

        Args:
            folder: Made if it is not there.

        Raises:
            OSError: If it cannot be written.
        """
        requests, starts, before, rows = list(self._requests.values()), [], [], []
        places = {id(request): place for place, request in enumerate(self._places)}
        said = []
        for request in requests:
            if request.waiting is None:
                place = places[id(request)]
                sample, previous = self._sample[place], self._previous[place]
                row = int(self._at[place])
            else:
                (sample, previous), row = request.waiting, request.start
            starts.append(sample)
            before.append(previous)
            rows.append(self._rows.held(request.first, request.stages))
            said.append(
                {"id": request.id, "seed": request.seed, "stage": row - request.first, "stages": request.stages}
            )
        tensors: dict[str, torch.Tensor] = {}
        if requests:
            tensors["sample"], tensors["previous"] = torch.stack(starts).cpu(), torch.stack(before).cpu()
            tensors["coefficients"] = torch.cat([each.coefficients for each in rows])
            tensors["conditions"] = torch.cat([each.conditions for each in rows], dim=1)
            tensors["step"] = torch.cat([each.step for each in rows])
            states = [each.generator.get_state() for each in requests if each.generator is not None]
            if states:
                tensors["generators"] = torch.stack(states)
        state = {
            "shape": list(self._shape),
            "capacity": self._capacity,
            "most_stages": self._most_stages,
            "dtype": str(self._dtype).removeprefix("torch."),
            "device": str(self._device),
            "noise": self._noise,
            "mode": self._mode,
            "next_id": self._next_id,
            "requests": said,
        }
        snapshot.write(folder, state, tensors)

    @classmethod
    @_without_gradients
    def restore(cls, folder: str | os.PathLike[str], device: str | torch.device | None = None) -> "BatchedSolver":
        """The solver that `snapshot` wrote to a folder; it goes on as that one would have, from `next_inputs`.

        Args:
            folder: What `snapshot` was given.
            device: Where the samples are to be; None for where they were.

        Raises:
            ValueError: If `folder` holds anything but what `snapshot` wrote, or torch cannot use the device.
        """
        state, tensors = snapshot.read(folder)
        with snapshot.refusing(folder):
            device = state.pop("device") if device is None else device
            state.pop("device", None)
        place = on_device(torch.empty(0), device).device
        with snapshot.refusing(folder):
            said, next_id = state.pop("requests"), state.pop("next_id")
            state["dtype"] = getattr(torch, _check.choice("dtype", state["dtype"], DTYPE_NAMES))
            solver = cls(**state, device=place)
            solver._take_over(said, tensors)
            solver._next_id = _check.integer("next_id", next_id, max(solver._requests, default=-1) + 1)
        return solver

    def _take_over(self, said: Any, tensors: dict[str, torch.Tensor]) -> None:
        """Take in requests of another solver; any error if they are none."""
        start = 0
        total = sum(each["stages"] for each in said)
        working, samples = self._working, (len(said), *self._shape)
        expected = {
            "sample": (samples, self._dtype),
            "previous": (samples, self._dtype),
            "coefficients": ((total, len(update.COLUMNS)), working),
            "conditions": ((2, total), working),
            "step": ((total,), torch.int64),
        }
        if self._noise == "gaussian":
            expected["generators"] = ((len(said), len(torch.Generator().get_state())), torch.uint8)
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if found != (expected if said else {}) or (self._capacity is not None and len(said) > self._capacity):
            raise ValueError
        for number, each in enumerate(said):
            stages = _check.integer("stages", each["stages"], 1, self._most_stages)
            stage = _check.integer("stage", each["stage"], 0, stages - 1)
            own = slice(start, start + stages)
            start += stages
            number_of, seed = (
                _check.integer("id", each["id"], 0),
                _check.integer("seed", each["seed"], 0, LARGEST_SEED),
            )
            if number_of in self._requests:
                raise ValueError
            rows = Rows(tensors["coefficients"][own], tensors["conditions"][:, own], tensors["step"][own])
            request = self._new(number_of, seed, rows, stage)
            if request.generator is not None:
                # A copy, since torch takes for granted that a state lies in memory as its own would.
                request.generator.set_state(tensors["generators"][number].clone())
            sample, previous = (self._moved(tensors[name][number]) for name in ("sample", "previous"))
            request.waiting = (sample, previous)
            self._waiting.append(request)


def _generator(seed: int) -> torch.Generator:
    made = seeded(seed)
    assert isinstance(made, torch.Generator)
    return made
