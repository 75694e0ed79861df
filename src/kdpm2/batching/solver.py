r"""`BatchedSolver`: requests at different stages, advanced together.

A request is its rows, the one at which it stands, and two samples: what that stage reads, and what the stage before
read. Samples lie next to one another in the order of their admission. A stage makes

.. math:: \mathrm{output} = a_i\,x_i + b_i\,m_i + c_i\,\mathrm{previous}_i + e_i\,\mathrm{noise}_i

of each sample i with the coefficients of its own row. Places change in `next_inputs` alone; before, what has come
waits, and what has gone keeps its place.

Which request stands at which stage is known on the host, as no stage depends on what a network says: nothing is read
back from the device. What fails changes nothing: a stage is made of new tensors, and its noise, once drawn, is kept
until it is done.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, NamedTuple, TypeVar

import torch

from kdpm2 import _check, philox, update
from kdpm2._check_tensor import check_like, floating, floating_dtype, on_device, without_waiting
from kdpm2.batching import folder as files
from kdpm2.batching import snapshot
from kdpm2.batching.live import Live, Rows, at_hand
from kdpm2.noise import LARGEST_SEED, LONGEST_SIDE, NOISES, Noise, drawn_seeds, generator_of
from kdpm2.philox import Draw
from kdpm2.table import StageTable
from kdpm2.update import COLUMNS

MODES = ("eager", "compile")
LARGEST_CAPACITY = 2**14

_MOST_STAGES = 2 * _check.MOST_STEPS
_DRAW_OF_THE_START = 2**32 - 1  # no step has this number

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


class BatchedSolver:
    """Requests at different stages, advanced together; for one thread.

    Args:
        shape: Of one sample, without the batch.
        capacity: So many places, and so many samples in every batch, those in empty places 0, whatever the network
            makes of them: for CUDA graphs and compilers. None for as many places as there are requests.
        most_stages: The longest table that a request may have: 199 stages are 100 steps.
        dtype: Of the samples: float16, bfloat16, float32 or float64.
        device: Where they are.
        noise: A name of `kdpm2.noise.NOISES`: a request's noise is that of `kdpm2.sample` with `seeds=[seed]` and this
            kind.
        mode: "eager", or "compile": one compiled graph makes the next samples. It needs a capacity.

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
        self._device = on_device(torch.empty(0, device="cpu"), device).device
        self._noise = _check.choice("noise", noise, NOISES)
        self._mode = _check.choice("mode", mode, MODES)
        if mode == "compile" and capacity is None:
            raise ValueError("capacity must be an integer with mode='compile', whose graph is for one shape, got None")
        self._requests: dict[int, Live] = {}
        self._next_id = 0
        # In the last inputs, or since they last were arranged; the tensors are as long as the batch.
        self._places: list[Live] = []
        self._sample = torch.zeros(capacity or 0, *self._shape, dtype=self._dtype, device=self._device)
        self._previous = torch.zeros_like(self._sample)
        self._asked: torch.Tensor | None = None

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
                that is made of the seed: the standard normal noise of `kdpm2.noise.generator_of(seed)`, drawn on the
                CPU in the solver's dtype, times the standard deviation of the noise at the first stage.
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
        like = torch.empty((1, *self._shape), dtype=self._dtype, device=self._device)
        noise = NOISES[self._noise].of([chosen], table, like)
        start = self._started(table, chosen) if x is None else self._churned(table, chosen, noise, x)
        request = Live(self._next_id, chosen, Rows.of(table, self._dtype), noise, (start, torch.zeros_like(start)))
        self._requests[request.id] = request
        self._next_id += 1
        return request.id

    def check(self, table: StageTable, x: torch.Tensor | None = None, seed: int | None = None) -> None:
        """Raise what `admit` would for these arguments, except when there is no room; from any thread.

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
        NOISES[self._noise].check(table)

    def _started(self, table: StageTable, seed: int) -> torch.Tensor:
        """Noise of the seed, at the first noise level, churn included."""
        noise = torch.randn((1, *self._shape), generator=generator_of(seed), dtype=self._dtype, device="cpu")[0]
        return self._moved(noise.mul(table.start))

    def _churned(self, table: StageTable, seed: int, source: Noise, x: torch.Tensor) -> torch.Tensor:
        """A copy of the caller's sample, with the noise that churn adds before the first stage."""
        start = x.detach().to(self._device, self._dtype, copy=True).contiguous()
        if table.initial_noise:
            if source.streams is None:
                noise = source.draw(0, start[None])
            else:
                noise = philox.normal(source.streams, _DRAW_OF_THE_START, (1, *self._shape))
            added = torch.tensor(table.initial_noise, dtype=torch.float64, device="cpu")
            start = update.noised(start, noise[0], added)
        return start

    def cancel(self, id: int) -> None:
        """Drop a request, at any time.

        Raises:
            TypeError: If `id` is no integer.
            ValueError: If there is no such request, or none any more.
        """
        if _check.integer("id", id, 0) not in self._requests:
            raise ValueError(f"id must be that of one of the {len(self)} requests there are, got {id}")
        del self._requests[id]

    @_without_gradients
    def next_inputs(self) -> Inputs:
        """What the network reads next, for all requests there are now: new tensors at every call.

        A request's place may be another than before where requests came or went.
        """
        self._arrange()
        count = len(self._places)
        size = count if self._capacity is None else self._capacity
        coefficients, conditions = at_hand(self._places, size, self._working)
        rows = self._moved(coefficients)
        scale = rows[:, COLUMNS.index("scale")].reshape(-1, *[1] * len(self._shape))
        x = (self._sample * scale).to(self._dtype)
        sigma, timestep = self._moved(conditions).unbind()
        self._asked = rows
        ids: list[int | None] = [request.id for request in self._places]
        return Inputs(ids + [None] * (size - count), x, sigma, timestep)

    def _arrange(self) -> None:
        """Give places to requests that came, and take them from those that went."""
        if [request.id for request in self._places] == list(self._requests):
            return
        kept = [place for place, request in enumerate(self._places) if request.id in self._requests]
        came = [(request, request.waiting) for request in self._requests.values() if request.waiting is not None]
        size = len(self._requests) if self._capacity is None else self._capacity
        self._sample, self._previous = (
            self._arranged(batch, kept, [waiting[which] for _, waiting in came], size)
            for which, batch in enumerate((self._sample, self._previous))
        )
        self._places = [self._places[place] for place in kept] + [request for request, _ in came]
        for request, _ in came:
            request.waiting = None

    def _arranged(self, batch: torch.Tensor, kept: list[int], came: list[torch.Tensor], size: int) -> torch.Tensor:
        """Shape (size, ...): the samples kept, those that came, and zeros in empty places."""
        empty = batch.new_zeros(size - len(kept) - len(came), *self._shape)
        index = self._moved(torch.tensor(kept, dtype=torch.int64, device="cpu"))
        return torch.cat([batch.index_select(0, index), *(each[None] for each in came), empty])

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return without_waiting(tensor, self._device)

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
            ValueError: If it has another shape or device, or no inputs were asked for since the last call. Whatever is
                raised, nothing has changed, and the same call may be made again.
        """
        if self._asked is None:
            raise ValueError("model_output must be made of next_inputs, which was not called since the last advance")
        kind = (self._sample.shape, self._dtype, self._device)
        check_like("model_output", model_output, "the inputs", kind)
        after = self._stage_made(self._asked, model_output.detach())
        done = [
            Finished(request.id, after[place].clone())
            for place, request in enumerate(self._places)
            if request.stage + 1 == len(request.rows) and request.id in self._requests
        ]
        self._sample, self._previous, self._asked = after, self._sample, None
        for request in self._places:
            request.stage += 1
            request.drawn = None
        for id, _ in done:
            del self._requests[id]
        return done

    def _stage_made(self, rows: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
        """The samples after the stage, a new tensor, in empty places 0."""
        count, size = len(self._places), len(self._sample)
        noise = self._drawn(size if self._mode == "compile" else count)
        if self._mode == "compile":
            drawn = noise.like(self._sample) if isinstance(noise, Draw) else noise
            return _compiled_stage()(rows, self._sample, model_output, self._previous, drawn)
        own = slice(0, count)
        after = update.each(rows[own], self._sample[own], model_output[own], self._previous[own], noise)
        return after if count == size else torch.cat([after, after.new_zeros(size - count, *self._shape)])

    def _drawn(self, size: int) -> torch.Tensor | Draw | None:
        """The noise of a batch of `size`, whose stages may add none; None if none does."""
        places = [place for place, request in enumerate(self._places) if request.adds_noise]
        if not places and self._mode == "eager":
            return None
        if all(request.noise.streams is not None for request in self._places):
            streams = [request.noise.streams for request in self._places if request.noise.streams is not None]
            empty = [torch.zeros(size - len(streams), dtype=torch.int64, device=self._device)]
            steps = [request.step for request in self._places] + [0] * (size - len(streams))
            numbers = self._moved(torch.tensor(steps, dtype=torch.int64, device="cpu"))
            return Draw(torch.cat(streams + empty), numbers)
        like = self._sample[:1]
        for place in places:
            request = self._places[place]
            if request.drawn is None:
                request.drawn = request.noise.draw(request.step, like)
        drawn = [request.drawn for request in self._places if request.drawn is not None]
        if len(drawn) == size:
            return torch.cat(drawn)
        noise = torch.zeros(size, *self._shape, dtype=self._working, device=self._device)
        if drawn:
            index = self._moved(torch.tensor(places, dtype=torch.int64, device="cpu"))
            noise.index_copy_(0, index, torch.cat(drawn).to(self._working))
        return noise

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
        files.write(folder, *snapshot.taken(self))

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
        state, tensors = files.read(folder, snapshot.most_bytes)
        return snapshot.solver_of(cls, state, tensors, device, folder)


@cache
def _compiled_stage() -> Callable[..., torch.Tensor]:
    """A stage as one graph for all batches of a shape."""
    return torch.compile(_stage, fullgraph=True, dynamic=False)


def _stage(
    rows: torch.Tensor,
    sample: torch.Tensor,
    model_output: torch.Tensor,
    previous: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    # What the network says where a row does not ask for it, as in an empty place, may be anything.
    asked = rows[:, COLUMNS.index("model")].reshape(-1, *[1] * (sample.ndim - 1))
    return update.each(rows, sample, torch.where(asked == 0, 0.0, model_output), previous, noise)
