"""Faults put in on purpose: how often each comes, and how often it has come."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from kdpm2 import update
from kdpm2.batching import BatchedSolver
from kdpm2.noise import Gaussian
from tests.soak.asked import POISON, clean

CHANCES = {
    "callback raises": 0.04,
    "future ended from outside": 0.03,
    "network fails for a batch": 0.01,
    "network fails for one request": 0.02,
    "network hangs for 50 ms": 0.001,
    "network spoils its input, then fails": 0.01,
    "network spoils its input": 0.02,
    "no memory: a sample is copied": 0.002,
    "no memory: a request is admitted": 0.01,
    "no memory: noise is drawn": 0.001,
    "no memory: a stage is made": 0.001,
    "cancelled": 0.05,
    "bad request": 0.03,
    "deadline": 0.03,
}
"""Of each time that it could come: for a request, a call of the network, a draw, a stage."""
OTHERS = (
    "snapshot by two threads at once",
    "server dropped without close",
    "server thrown away, and restored",
    "snapshots of two servers into one folder",
)
"""Faults of a whole server, which the soak deals out itself."""
CALLBACK_ERRORS = (SystemExit, KeyboardInterrupt, asyncio.CancelledError, RuntimeError)

_OUT_OF_MEMORY: Any = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
_INJECTED = "injected: "


def injected(kind: type[BaseException], fault: str, requests: int = 0) -> BaseException:
    """An error that says which fault it is of, and for how many requests a network call was."""
    return kind(_INJECTED + fault, requests)


def fault_of(error: BaseException) -> tuple[str, int] | None:
    """What `injected` was given; None for an error that nobody put in."""
    if len(error.args) == 2 and isinstance(error.args[0], str) and error.args[0].startswith(_INJECTED):
        return error.args[0].removeprefix(_INJECTED), int(error.args[1])
    return None


class Faults:
    """Chance, and what it has done. From any thread.

    Attributes:
        injected: How often each fault came.
    """

    def __init__(self, seed: int) -> None:
        self.injected: Counter[str] = Counter()
        self._chance, self._lock = random.Random(seed), threading.Lock()

    def strikes(self, fault: str) -> bool:
        """Whether a fault comes now; it is counted."""
        with self._lock:
            if self._chance.random() >= CHANCES[fault]:
                return False
            self.injected[fault] += 1
            return True

    def count(self, fault: str) -> None:
        """Count a fault that comes now."""
        with self._lock:
            self.injected[fault] += 1

    def below(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        with self._lock:
            return self._chance.randrange(count)

    def number(self) -> float:
        """A number from 0 to 1."""
        with self._lock:
            return self._chance.random()

    def no_memory(self, fault: str) -> BaseException:
        """An error of memory, the host's or a device's."""
        return injected((MemoryError, _OUT_OF_MEMORY)[self.below(2)], fault)


class FaultyNetwork:
    """`asked.clean`, but that it fails, hangs, and writes to what it is given."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **given: Any) -> torch.Tensor:
        faults, requests = self._faults, int(x.flatten(1).any(1).sum())
        if faults.strikes("network hangs for 50 ms"):
            time.sleep(0.05)
        if "label" in given and bool((given["label"] == POISON).any()):
            raise injected(ValueError, "network fails for one request", requests)
        if faults.strikes("network spoils its input, then fails"):
            _spoil({"x": x, "sigma": sigma, **given})
            raise injected(RuntimeError, "network spoils its input, then fails", requests)
        if faults.strikes("network fails for a batch"):
            raise injected(RuntimeError, "network fails for a batch", requests)
        output = clean(x, sigma, **given)
        if faults.strikes("network spoils its input"):
            _spoil({"x": x, "sigma": sigma, **given})
        return output


def _spoil(given: dict[str, Any]) -> None:
    for each in given.values():
        if isinstance(each, dict):
            _spoil(each)
        else:
            each.fill_(99)


@contextmanager
def memory_runs_out(faults: Faults) -> Iterator[None]:
    """Within, memory runs out now and then in the threads of servers, and nowhere else."""
    admit, advance, draw, each = BatchedSolver.admit, BatchedSolver.advance, Gaussian.draw, update.each
    clone, here = torch.Tensor.clone, threading.local()

    def strikes(fault: str) -> bool:
        return threading.current_thread().name == "kdpm2 server" and faults.strikes(fault)

    def admitting(solver: BatchedSolver, *wanted: Any) -> int:
        fails = strikes(fault := "no memory: a request is admitted")
        if fails and faults.below(2):
            raise faults.no_memory(fault)
        id = admit(solver, *wanted)
        if fails:
            raise faults.no_memory(fault)
        return id

    def advancing(solver: BatchedSolver, *said: Any) -> Any:
        here.copies = 0
        try:
            return advance(solver, *said)
        finally:
            here.copies = None

    def copying(tensor: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        if getattr(here, "copies", None) is not None and strikes(fault := "no memory: a sample is copied"):
            raise faults.no_memory(fault)
        return clone(tensor, *arguments, **named)

    def drawing(noise: Gaussian, step: int, like: torch.Tensor) -> torch.Tensor:
        if strikes(fault := "no memory: noise is drawn"):
            raise faults.no_memory(fault)
        return draw(noise, step, like)

    def making(*arguments: Any) -> torch.Tensor:
        if not torch.compiler.is_compiling() and strikes(fault := "no memory: a stage is made"):
            raise faults.no_memory(fault)
        return each(*arguments)

    with ExitStack() as stack:
        patched: tuple[tuple[Any, str, Any], ...] = (
            (BatchedSolver, "admit", admitting),
            (BatchedSolver, "advance", advancing),
            (torch.Tensor, "clone", copying),
            (Gaussian, "draw", drawing),
            (update, "each", making),
        )
        for owner, name, value in patched:
            stack.enter_context(patch.object(owner, name, value))
        yield
