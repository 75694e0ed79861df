"""What a child of the kill test does until it is killed: requests, snapshots every few stages, and a log.

A sample is written to the log in the callback of its future, which runs before the next snapshot can be written: what
is in no snapshot any more is in the log.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

import torch

from kdpm2.asked_for import asked_for
from kdpm2.batching import BatchedSolver, Server
from kdpm2.batching.folder import STATE_FILE
from kdpm2.denoiser import as_denoiser
from tests.soak.asked import SHAPE, asked, batched, clean

REQUESTS = 40
STEPS = 16
BATCH = 4
NETWORK = 0.001
"""Seconds of a network call."""


def lines(folder: Path) -> list[list[str]]:
    """The log's whole lines, as words."""
    file = folder / "log"
    text = file.read_text() if file.exists() else ""
    return [line.split() for line in text.split("\n")[:-1] if line]


class Log:
    """Lines that are on the disk before anything else happens. A half line of a life before is ended."""

    def __init__(self, folder: Path) -> None:
        self._stream = (folder / "log").open("a")
        self._lock = threading.Lock()
        text = (folder / "log").read_text()
        if text and not text.endswith("\n"):
            self._stream.write(" cut\n")

    def write(self, *words: object) -> None:
        """A line."""
        with self._lock:
            self._stream.write(" ".join(map(str, words)) + "\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())


def done(folder: Path) -> set[int]:
    """The requests whose samples are in the log."""
    return {int(line[1]) for line in lines(folder) if line[0] == "done" and len(line) == 3}


def hexed(sample: torch.Tensor) -> str:
    """All bits of a sample."""
    return sample.contiguous().numpy().tobytes().hex()


def network(x: torch.Tensor, sigma: torch.Tensor, **given: Any) -> torch.Tensor:
    """A small network that takes a while."""
    time.sleep(NETWORK)
    return clean(x, sigma, **given)


def _restored(folder: Path, log: Log, seeds: set[int]) -> None:
    """Say what a life goes on with, and what should be there and is not."""
    log.write("restored", *sorted(seeds))
    (folder / "restored").touch()
    there = seeds | done(folder)
    for line in lines(folder):
        if line[0] == "covered":
            for seed in set(map(int, line[1:])) - there:
                log.write("lost", seed)


def serve(first: int, folder: Path) -> None:
    """A life of a server."""
    log, at = Log(folder), folder / "snapshot"
    futures: dict[Any, Any] = {}
    if (at / STATE_FILE).exists():
        server, futures = Server.restore(at, network)
        _restored(folder, log, {int(key) for key in futures})
    else:
        server = Server(network, BATCH, shape=SHAPE, queue_size=REQUESTS)

    def watch(seed: int, future: Any) -> None:
        future.add_done_callback(lambda future: log.write("done", seed, hexed(future.result())))

    for seed, future in futures.items():
        watch(int(seed), future)
    for seed in sorted(set(range(first, first + REQUESTS)) - done(folder) - {int(key) for key in futures}):
        futures[seed] = server.submit(asked(seed, STEPS).request(key=seed))
        watch(seed, futures[seed])
    while not all(future.done() for future in futures.values()):
        there = {int(seed) for seed, future in futures.items() if not future.done()}
        server.snapshot(at)
        log.write("covered", *sorted(there - done(folder)))
        time.sleep(0.1)
    server.snapshot(at)
    server.close()
    (folder / "over").touch()


def solve(first: int, folder: Path) -> None:
    """A life of a solver, whose ids are the requests' seeds but for the first one."""
    log, at, denoiser = Log(folder), folder / "snapshot", as_denoiser(network)
    solver = BatchedSolver(SHAPE)
    if (at / STATE_FILE).exists():
        solver = BatchedSolver.restore(at)
        _restored(folder, log, {first + id for id in solver.ids})
    stage = 0
    while len(done(folder)) < REQUESTS:
        while len(solver) < BATCH and solver._next_id < REQUESTS:
            one = asked(first + solver._next_id, STEPS)
            table = asked_for(denoiser.schedule, one.sigmas, denoiser.prediction_type, one.eta, 1.0)
            solver.admit(table, one.x, one.seed)
        ids, x, _, timestep = solver.next_inputs()
        each = [asked(first + id, STEPS).conditioning for id in ids if id is not None]
        outputs = [clean(x[i : i + 1], timestep[i : i + 1], **batched(given)) for i, given in enumerate(each)]
        time.sleep(NETWORK)
        for id, sample in solver.advance(torch.cat(outputs)):
            log.write("done", first + id, hexed(sample))
        stage += 1
        if stage % 20 == 0:
            solver.snapshot(at)
            log.write("covered", *sorted(first + id for id in solver.ids))
    solver.snapshot(at)
    (folder / "over").touch()
