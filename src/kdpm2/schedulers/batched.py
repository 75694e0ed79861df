"""`BatchedSchedulers`: schedulers that stand at different stages, as one: a batch whose samples have one each.

Their tables lie one after the other in one tensor, and behind them a row that leaves a sample as it is, for those that
are done. A stage is one `kdpm2.update.at_stage` of the whole batch.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch

from kdpm2 import _check, update
from kdpm2._check_tensor import Kind, check_like, kind_of
from kdpm2.noise import checked_generators
from kdpm2.schedulers._base import KDPM2Scheduler
from kdpm2.update import COLUMNS, DeviceTable


class BatchedSchedulers:
    """One run of N schedulers, each for one sample of a batch.

    A sample whose scheduler is done stays as it is until all are::

        while not schedulers.done:
            output = network(schedulers.scale_model_input(samples), schedulers.timesteps)
            samples = schedulers.step(output, samples)

    Args:
        schedulers: After `set_timesteps`: the run begins where theirs would, at their `begin_index` or the first stage.
            Their configuration, `seed` and `begin_index` are taken as they are now; they are not changed.

    Raises:
        TypeError: If one of them is no scheduler of kdpm2.
        ValueError: If there is none.
    """

    def __init__(self, schedulers: Sequence[KDPM2Scheduler]) -> None:
        if not isinstance(schedulers, (list, tuple)) or not all(isinstance(s, KDPM2Scheduler) for s in schedulers):
            raise TypeError(f"schedulers must be a list of kdpm2's schedulers, got {_check.shown(schedulers)}")
        if not schedulers:
            raise ValueError("schedulers must hold one at least, got none")
        # Copies, which have a state of their own: where their noise comes from is theirs to know.
        self._own = [copy.copy(scheduler) for scheduler in schedulers]
        self._stages = []
        for scheduler in self._own:
            scheduler._step_index = None
            self._stages.append(scheduler.begin_index or 0)
        self._ends = [len(scheduler.table) for scheduler in self._own]
        self._kind: Kind | None = None
        self._previous: torch.Tensor | None = None
        self._held: DeviceTable | None = None

    def __len__(self) -> int:
        """The number of samples in the batch."""
        return len(self._own)

    @property
    def finished(self) -> list[bool]:
        """Of each sample, whether it is done."""
        return [stage == end for stage, end in zip(self._stages, self._ends, strict=True)]

    @property
    def done(self) -> bool:
        """Whether all samples are."""
        return all(self.finished)

    @property
    def timesteps(self) -> torch.Tensor:
        """Shape (B,), float32: what the network is conditioned on for each sample; 0 for those that are done."""
        device = self._own[0].timesteps.device
        every = zip(self._own, self._stages, self.finished, strict=True)
        return torch.tensor(
            [0.0 if finished else own.table.stage_timesteps[stage] for own, stage, finished in every],
            dtype=torch.float32,
        ).to(device)

    def scale_model_input(self, samples: torch.Tensor) -> torch.Tensor:
        """The samples as the network was trained to read them, each by its own scheduler; a new tensor.

        Args:
            samples: Shape (B, ...), floating point.

        Raises:
            TypeError: If `samples` is no floating-point tensor.
            ValueError: If it has another batch size, or another shape, dtype or device than this run began with.
        """
        held = self._held = self._table(self._checked(samples))
        return update.network_input(held, self._index(held, samples.device), samples)[0]

    def step(
        self,
        model_output: torch.Tensor,
        samples: torch.Tensor,
        generators: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> torch.Tensor:
        """Make one stage of every sample that is not done.

        Args:
            model_output: Shape (B, ...), floating point: the network's output for the scaled samples.
            samples: Same shape: the samples before scaling. They are kept, not copied, until the next call.
            generators: One for each sample, as each scheduler's `step` takes it; one for all, from which they draw in
                turn; None for each scheduler's seed, or torch's global generator.

        Returns:
            The samples after the stage, a new tensor.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If shapes or devices differ, or all samples are done. Nothing has then changed.
        """
        kind = self._checked(samples)
        check_like("model_output", model_output, "samples", kind)
        given: Sequence[torch.Generator | None] = [None] * len(self)
        if generators is not None:
            given = checked_generators(generators, samples.shape)
            given = given * len(self) if len(given) == 1 else given
        if self.done:
            raise ValueError("samples must be those of a run that goes on, got one that is done")
        held = self._table(kind)
        noise = self._noise(model_output, given, held.rows.dtype)
        index = self._index(held, samples.device)
        # What is done is not to depend on what the network says of it.
        idle = torch.tensor(self.finished).to(samples.device).reshape([-1, *[1] * (samples.ndim - 1)])
        output = torch.where(idle, 0.0, model_output)
        previous = torch.zeros_like(samples) if self._previous is None else self._previous
        after = update.at_stage(held, index, samples, output, previous, noise)
        self._stages = [min(stage + 1, end) for stage, end in zip(self._stages, self._ends, strict=True)]
        self._kind, self._previous, self._held = kind, None if self.done else samples, held
        return after

    def _checked(self, samples: Any) -> Kind:
        kind = kind_of("samples", samples)
        if tuple(kind[0][:1]) != (len(self),):
            raise ValueError(f"samples must be one for each of {len(self)} schedulers, got shape {tuple(kind[0])}")
        if self._kind is not None and kind != self._kind:
            raise ValueError(
                f"samples must keep the shape, dtype and device that they had when this run began, {self._kind}, "
                f"got {kind}"
            )
        return kind

    def _noise(
        self, model_output: torch.Tensor, generators: Sequence[torch.Generator | None], working: torch.dtype
    ) -> torch.Tensor | None:
        """The noise that each scheduler would draw, 0 where it would draw none."""
        noise = None
        for number, (own, stage) in enumerate(zip(self._own, self._stages, strict=True)):
            if stage < self._ends[number] and own.table.row(stage).noise:
                if noise is None:
                    noise = torch.zeros_like(model_output, dtype=working)
                noise[number] = own._noise(stage, model_output[number : number + 1], generators[number])[0]
        return noise

    def _table(self, kind: Kind) -> DeviceTable:
        """The tables of all, one after the other, and the row of what is done."""
        _, dtype, device = kind
        like = self._held.rows if self._held is not None else None
        if like is not None and (like.dtype, like.device) == (torch.promote_types(dtype, torch.float32), device):
            assert self._held is not None
            return self._held
        tables = []
        for own, begins in zip(self._own, self._stages, strict=True):
            held = update.on_device(own.table, torch.device("cpu"), dtype)
            if begins:  # maybe on a midpoint, without an anchor
                held.rows[begins, : len(COLUMNS) - 1] = torch.from_numpy(own.table.entry_rows[begins])
            tables.append(held)
        idle = torch.zeros(1, len(COLUMNS), dtype=tables[0].rows.dtype)
        idle[0, [COLUMNS.index(name) for name in ("scale", "x", "next_scale")]] = 1.0
        zero = torch.zeros(1, dtype=torch.int64)
        return DeviceTable(
            torch.cat([*(held.rows for held in tables), idle]).to(device),
            torch.cat([*(held.timesteps for held in tables), zero]).to(device, idle.dtype),
            torch.cat([*(held.step for held in tables), zero]).to(device),
            torch.cat([*(held.stage for held in tables), zero]).to(device),
        )

    def _index(self, held: DeviceTable, device: torch.device) -> torch.Tensor:
        index, start = [], 0
        for stage, end in zip(self._stages, self._ends, strict=True):
            index.append(len(held.rows) - 1 if stage == end else start + stage)
            start += end
        return torch.tensor(index).to(device)
