"""Many requests that come when they like, and each sample as if it had been alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdpm2.batching import BatchedSolver
from tests.batching.requests import SHAPE, Wanted, advanced, wanted


@pytest.mark.parametrize("count", [150, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("noise", ["gaussian", "philox"])
@pytest.mark.parametrize("capacity", [None, 24])
def test_many_requests(capacity: int | None, noise: str, count: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    options: dict[str, Any] = {"capacity": capacity, "dtype": torch.float64, "noise": noise}
    solver = BatchedSolver(SHAPE, **options)
    arrivals = np.cumsum(random.poisson(2.4, size=count))
    queue: list[Wanted] = []
    requests: dict[int, Wanted] = {}
    samples: dict[int, torch.Tensor] = {}
    cancelled: set[int] = set()
    snapshots = {count // 4, count // 2, 3 * count // 4}
    most, came, now = 0, 0, 0
    while came < count or queue or len(solver):
        while came < count and arrivals[came] <= now:
            queue.append(wanted(random))
            came += 1
        while queue and solver.room != 0:
            each = queue.pop(0)
            requests[solver.admit(each.table, each.x, each.seed)] = each
        most = max(most, len(solver))
        if len(solver) and random.random() < 0.05:
            gone = int(random.choice(solver.ids))
            solver.cancel(gone)
            cancelled.add(gone)
        if snapshots and came >= min(snapshots) and len(solver):
            snapshots.remove(min(snapshots))
            solver.snapshot(tmp_path)
            before = solver.ids
            solver = BatchedSolver.restore(tmp_path)
            assert solver.ids == before
        for id, sample in advanced(solver, requests):
            assert id not in samples
            assert id not in cancelled
            samples[id] = sample
        now += 1
    assert not snapshots
    assert most == 24 if capacity else most > 24
    assert len(requests) == count
    assert len(cancelled) > 20
    assert samples.keys() | cancelled == requests.keys()
    # In float64 1e-5 is far above what the order of additions may do, and far below what a wrong row would.
    for id, sample in samples.items():
        torch.testing.assert_close(sample, requests[id].alone(noise), rtol=0, atol=1e-5)
