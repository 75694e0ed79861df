"""Whatever is done, in whatever order: requests are as many as they should be, and each sample is its own."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kdpm2.batching import BatchedSolver
from tests.batching.requests import SHAPE, Wanted, advanced, network, wanted


class Solving(RuleBasedStateMachine):
    """A solver beside a list of what it should know."""

    @initialize(capacity=st.sampled_from([None, 1, 3]), noise=st.sampled_from(["gaussian", "philox"]))
    def begin(self, capacity: int | None, noise: str) -> None:
        self.noise = noise
        self.solver = BatchedSolver(SHAPE, capacity=capacity, dtype=torch.float64, noise=noise)
        self.requests: dict[int, Wanted] = {}
        self.live: dict[int, int] = {}  # how many stages each has left
        self.asked: Any = None
        self.took_part: list[int] = []

    @precondition(lambda self: self.solver.room != 0)
    @rule(drawn=st.integers(0, 2**32))
    def admit(self, drawn: int) -> None:
        each = wanted(np.random.default_rng(drawn), most_steps=5)
        id = self.solver.admit(each.table, each.x, each.seed)
        assert id not in self.requests
        self.requests[id], self.live[id] = each, len(each.table)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        id = list(self.live)[which % len(self.live)]
        self.solver.cancel(id)
        del self.live[id]

    @rule()
    def ask(self) -> None:
        self.asked = self.solver.next_inputs()
        self.took_part = list(self.live)

    @precondition(lambda self: self.asked is not None)
    @rule()
    def answer(self) -> None:
        ids, x, _, timestep = self.asked
        by = [torch.zeros_like(x[0]) if id is None else self.requests[id].by for id in ids]
        output = network(x, timestep, torch.stack(by)) if ids else x
        output[[place for place, id in enumerate(ids) if id not in self.live]] = torch.nan
        self._check(self.solver.advance(output), [id for id in self.took_part if id in self.live])
        self.asked = None

    @rule(stages=st.integers(1, 4))
    def advance(self, stages: int) -> None:
        for _ in range(stages):
            self._check(advanced(self.solver, self.requests), list(self.live))
        self.asked = None

    def _check(self, finished: Any, took_part: list[int]) -> None:
        for id in took_part:
            self.live[id] -= 1
        assert sorted(id for id, _ in finished) == sorted(id for id in took_part if not self.live[id])
        for id, sample in finished:
            del self.live[id]
            torch.testing.assert_close(sample, self.requests[id].alone(self.noise), rtol=1e-9, atol=1e-9)

    @rule()
    def restore(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.solver.snapshot(Path(folder))
            self.solver = BatchedSolver.restore(folder)
        self.asked = None

    @invariant()
    def they_are_as_many_as_they_should_be(self) -> None:
        assert self.solver.ids == list(self.live)
        assert len(self.solver) == len(self.live)
        if self.solver.capacity is not None:
            assert self.solver.room == self.solver.capacity - len(self.live)


TestSolving = Solving.TestCase
# A busy machine is slow to put snapshots on its disk.
TestSolving.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
