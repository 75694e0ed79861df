r"""`BatchedSolver`: requests at different stages, advanced together.

A request is its rows, the row at which it stands, and two samples: what this stage reads, and what the stage before
read. Samples lie next to one another, in the order of their admission. A stage makes

.. math:: \mathrm{output} = a_i\,x_i + b_i\,m_i + c_i\,\mathrm{previous}_i + e_i\,\mathrm{noise}_i

of each sample i, with the coefficients of its own row. Places change only in `next_inputs`. Until then, new requests
wait, and finished ones keep their places.

The host knows at which stage each request stands, because no stage depends on what a network says. So nothing is read
back from the device. A call that fails changes nothing: a stage makes new tensors, and its noise, once drawn, is kept
until the stage is done.
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
from kdpm2.noise import LARGEST_SEED, LONGEST_SIDE, Noise, drawn_seeds, generator_of, kind_named
from kdpm2.philox import Draw
from kdpm2.table import StageTable
from kdpm2.update import COLUMNS

MODES = ("eager", "compile")
LARGEST_CAPACITY = 2**14

_MOST_STAGES = 2 * _check.MOST_STEPS
_DRAW_OF_THE_START = 2**32 - 1  # no step has this number

Called = TypeVar("Called", bound=Callable[..., Any])


def _without_gradients(method: Called) -> Called:
    """`method` without gradients and outside inference mode, so the samples that are kept may be written to."""

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
        ids: The id of the request in each place. None for an empty place, which only a fixed capacity has.
        x: Shape (B, ...): the scaled samples; 0 in an empty place.
        sigma: Shape (B,), float32 or float64: their noise levels; 1 in an empty place.
        timestep: Shape (B,), same dtype: what the network is conditioned on; 0 in an empty place.
    """

    ids: list[int | None]
    x: torch.Tensor
    sigma: torch.Tensor
    timestep: torch.Tensor


class Finished(NamedTuple):
    """A request that is done, and its sample, which shares no memory with others."""

    id: int
    sample: torch.Tensor


class BatchedSolver:
    """Advances requests at different stages together. Use it from one thread only.

    Args:
        shape: Shape of one sample, without the batch dimension.
        capacity: The number of places in every batch. CUDA graphs and compilers need it. Samples in empty places are 0.
            None for as many places as there are requests.
        most_stages: The longest table that a request may have: 199 stages are 100 steps.
        dtype: Dtype of the samples: float16, bfloat16, float32 or float64.
        device: Device of the samples.
        noise: A name of `kdpm2.noise.NOISES`. A request gets the noise that `kdpm2.sample` draws with `seeds=[seed]`
            and this name.
        mode: "eager" or "compile". With "compile", one compiled graph makes the next samples. It needs a capacity.

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
        self._kind_of_noise = kind_named(noise)
        self._noise = noise
        self._mode = _check.choice("mode", mode, MODES)
        if mode == "compile" and capacity is None:
            raise ValueError("capacity must be an integer with mode='compile', whose graph is for one shape, got None")
        self._requests: dict[int, Live] = {}
        self._next_id = 0
        # In the last inputs, or since they last were arranged; the tensors are as long as the batch.
        self._places: list[Live] = []
        self._sample = torch.zeros(capacity or 0, *self._shape, dtype=self._dtype, device=self._device)
        self._previous = torch.zeros_like(self._sample)
        self._asked: tuple[torch.Tensor, torch.Tensor] | None = None

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
        """Add a request, at any time. The next inputs include it.

        Args:
            table: The sampler of the request, with its own length, eta, spacing and prediction type.
            x: The sample at the first noise level, of the solver's shape, floating point. It is copied. None to make it
                from the seed: standard normal noise of `kdpm2.noise.generator_of(seed)`, drawn on the CPU in the
                solver's dtype, times `table.start`.
            seed: Seed of the noise, from 0 to 2^64 - 1. None for a new one from torch's global generator.

        Returns:
            The request's id. No other request of this solver ever has the same id.

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
        noise = self._kind_of_noise.of([chosen], table, like)
        start = self._started(table, chosen) if x is None else self._churned(table, chosen, noise, x)
        request = Live(self._next_id, chosen, Rows.of(table, self._dtype), noise, (start, torch.zeros_like(start)))
        self._requests[request.id] = request
        self._next_id += 1
        return request.id

    def check(self, table: StageTable, x: torch.Tensor | None = None, seed: int | None = None) -> None:
        """Raise what `admit` would raise, except if there is no room. Any thread may call it.

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
        self._kind_of_noise.check(table)

    def _started(self, table: StageTable, seed: int) -> torch.Tensor:
        """Noise from the seed, at the first noise level, including churn."""
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
            start = update.begun(table, start, noise[0])
        return start

    def cancel(self, id: int) -> None:
        """Drop a request, at any time.

        Raises:
            TypeError: If `id` is no integer.
            ValueError: If there is no such request, or it is done already.
        """
        if _check.integer("id", id, 0) not in self._requests:
            raise ValueError(f"id must be that of one of the {len(self)} requests there are, got {id}")
        del self._requests[id]

    @_without_gradients
    def next_inputs(self) -> Inputs:
        """What the network reads next, for all present requests: new tensors at every call.

        Places may change when requests come or go.
        """
        self._arrange()
        count = len(self._places)
        size = count if self._capacity is None else self._capacity
        coefficients, conditions = at_hand(self._places, size, self._working)
        rows = self._moved(coefficients)
        scale = rows[:, COLUMNS.index("scale")].reshape(-1, *[1] * len(self._shape))
        x = (self._sample * scale).to(self._dtype)
        sigma, timestep, starts = self._moved(conditions).unbind()
        self._asked = rows, starts
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
    def advance(self, model_output: torch.Tensor, unguided: torch.Tensor | None = None) -> list[Finished]:
        """Make one stage of every request in the last inputs.

        Requests that were admitted since then stay at their stage. The network's output for cancelled requests and for
        empty places is not used.

        Args:
            model_output: The network's output for the last inputs, of the shape of their `x`.
            unguided: For CFG++: the network's output without the condition, of the same shape.

        Returns:
            The requests that are done. The solver forgets them.

        Raises:
            TypeError: If `model_output` is not a floating-point tensor.
            ValueError: If it has another shape or device, or if `next_inputs` was not called since the last `advance`.
                After any error nothing has changed, and the call may be repeated.
        """
        if self._asked is None:
            raise ValueError("model_output must be made of next_inputs, which was not called since the last advance")
        kind = (self._sample.shape, self._dtype, self._device)
        check_like("model_output", model_output, "the inputs", kind)
        (rows, starts), sample, model_output = self._asked, self._sample, model_output.detach()
        if unguided is not None:
            check_like("unguided", unguided, "the inputs", kind)
            sample, model_output = update.renoised_by(rows, starts, sample, model_output, unguided.detach())
        after = self._stage_made(rows, sample, model_output)
        done = [
            Finished(request.id, after[place].clone())
            for place, request in enumerate(self._places)
            if request.stage + 1 == len(request.rows) and request.id in self._requests
        ]
        kept = self._kept(rows, sample, model_output)
        self._sample, self._previous, self._asked = after, kept, None
        for request in self._places:
            request.stage += 1
            request.drawn = None
        for id, _ in done:
            del self._requests[id]
        return done

    def _stage_made(self, rows: torch.Tensor, sample: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
        """The samples after the stage, a new tensor, in empty places 0."""
        count, size = len(self._places), len(sample)
        noise = self._drawn(size if self._mode == "compile" else count)
        if self._mode == "compile":
            drawn = noise.like(sample) if isinstance(noise, Draw) else noise
            return _compiled_stage()(rows, sample, model_output, self._previous, drawn)
        own = slice(0, count)
        after = update.each(rows[own], sample[own], model_output[own], self._previous[own], noise)
        return after if count == size else torch.cat([after, after.new_zeros(size - count, *self._shape)])

    def _kept(self, rows: torch.Tensor, sample: torch.Tensor, model_output: torch.Tensor) -> torch.Tensor:
        """What the next stages have for an anchor: what these read, or the clean samples that they saw."""
        places = [place for place, request in enumerate(self._places) if request.rows.keeps_estimate]
        if not places:
            return sample
        index = self._moved(torch.tensor(places, dtype=torch.int64, device="cpu"))
        own, *parts = (each.index_select(0, index) for each in (rows, sample, model_output))
        return sample.index_copy(0, index, update.denoised_by(own, *parts))

    def _drawn(self, size: int) -> torch.Tensor | Draw | None:
        """The noise of a batch of `size`. None if no stage adds any."""
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
        """Write everything to a folder, from which `restore` continues bit for bit. Nothing changes here.

        A safetensors file and a JSON file hold the requests, their samples, their rows and the state of their noise. An
        older snapshot in the folder is replaced as a whole. After a crash the folder holds the older or the newer one.

        Args:
            folder: The folder to write to. It is made if it does not exist.

        Raises:
            OSError: If it cannot be written.
        """
        files.write(folder, *snapshot.taken(self))

    @classmethod
    @_without_gradients
    def restore(cls, folder: str | os.PathLike[str], device: str | torch.device | None = None) -> "BatchedSolver":
        """The solver that `snapshot` wrote to a folder. It continues, from `next_inputs`, as the first one would have.

        Args:
            folder: The folder that was given to `snapshot`.
            device: Device of the samples. None for the one that they were on.

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
