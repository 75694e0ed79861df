"""Snapshots of two writers, of killed ones, and folders that somebody else has prepared."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdpm2 import noise_schedule, spacing
from kdpm2.batching import BatchedSolver
from kdpm2.batching import folder as files
from kdpm2.table import StageTable, dpm2
from tests.batching.requests import SHAPE

QUICK = 2.0  # seconds


def table(steps: int = 3, eta: float = 1.0) -> StageTable:
    schedule = noise_schedule.discrete()
    return dpm2(schedule, spacing.steps(schedule, steps), eta=eta)


def written(folder: Path) -> BatchedSolver:
    solver = BatchedSolver(SHAPE)
    for seed in range(2):
        solver.admit(table(), seed=seed)
    solver.snapshot(folder)
    return solver


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The JSON with a change, and the digest that it should have."""
    file = folder / files.STATE_FILE
    document = json.loads(file.read_text())
    change(document)
    del document["digest"]
    file.write_text(json.dumps({**document, "digest": files._digest(document)}))


def tensors_of(folder: Path) -> Path:
    return next(folder.glob("tensors-*.safetensors"))


def instead(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink()
    make(file)


def sparse(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(2**40)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "version": (lambda f: changed(f, lambda d: d.update(format="kdpm2 batch 9")), "must be of the format"),
    "digest": (lambda f: tensors_of(f).write_bytes(b"x" + tensors_of(f).read_bytes()[1:]), "does not have its digest"),
    "dots": (lambda f: changed(f, lambda d: d.update(tensors="../../" + "0" * 58)), "the digest of the tensors"),
    "shape": (lambda f: changed(f, lambda d: d["state"].update(shape=[1])), "must be of shape and dtype"),
    "capacity": (
        lambda f: changed(f, lambda d: d["state"].update(capacity=2**14, shape=[2**30])),
        "shape and capacity must be of at most",
    ),
    "negative": (lambda f: changed(f, lambda d: d["state"].update(shape=[-1, 5])), "must be of at most"),
    "device": (lambda f: changed(f, lambda d: d["state"].update(device="meta")), "device must be one that holds"),
    "pipe": (lambda f: instead(tensors_of(f), os.mkfifo), "must be a plain file"),
    "pipe of state": (lambda f: instead(f / files.STATE_FILE, os.mkfifo), "must be a plain file"),
    "device file": (lambda f: instead(tensors_of(f), lambda at: at.symlink_to("/dev/zero")), "symbolic link"),
    "link": (lambda f: instead(f / files.STATE_FILE, lambda at: at.symlink_to("/dev/zero")), "symbolic link"),
    "large": (lambda f: instead(tensors_of(f), sparse), "must have at most"),
    "large state": (lambda f: instead(f / files.STATE_FILE, sparse), "must have at most"),
}


@pytest.mark.parametrize(("prepare", "why"), HOSTILE.values(), ids=HOSTILE)
def test_a_folder_of_another_s_is_refused_at_once(prepare: Callable[[Path], object], why: str, tmp_path: Path) -> None:
    written(tmp_path)
    prepare(tmp_path)
    began = time.monotonic()
    with pytest.raises(ValueError, match=rf"folder must hold a snapshot that BatchedSolver.snapshot wrote.*{why}"):
        BatchedSolver.restore(tmp_path)
    assert time.monotonic() - began < QUICK


def test_no_link_is_followed_where_a_temporary_goes(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f".{files.STATE_FILE}.{os.getpid()}").symlink_to(victim)
    written(folder)
    assert victim.read_text() == "mine"
    assert BatchedSolver.restore(folder).ids == [0, 1]


def test_temporaries_of_killed_writers_go(tmp_path: Path) -> None:
    written(tmp_path)
    for pid in range(3):
        (tmp_path / f".{files.STATE_FILE}.{pid}").write_bytes(b"half")
        (tmp_path / f".tensors-{'0' * 64}.safetensors.{pid}").write_bytes(b"half")
    kept = tmp_path / "notes.txt"
    kept.write_text("somebody's")
    written(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {"", ".json", ".safetensors", ".txt"}
    assert len(list(tmp_path.iterdir())) == 4


def test_two_writers_leave_one_whole_snapshot(tmp_path: Path) -> None:
    solvers = [BatchedSolver(SHAPE) for _ in range(4)]
    for number, solver in enumerate(solvers):
        for seed in range(number + 1):
            solver.admit(table(), seed=seed)
    written(tmp_path)
    errors: list[BaseException] = []
    over = threading.Event()

    def write(solver: BatchedSolver) -> None:
        try:
            for _ in range(10):
                solver.snapshot(tmp_path)
        except BaseException as error:
            errors.append(error)

    def read() -> None:
        try:
            while not over.is_set():
                assert 1 <= len(BatchedSolver.restore(tmp_path)) <= 4
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(solver,)) for solver in solvers]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert errors == []
    assert len(list(tmp_path.glob("tensors-*"))) == 1


def test_what_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdpm2 import update

    def run(fails: bool) -> list[torch.Tensor]:
        samples: dict[int, torch.Tensor] = {}
        solver = BatchedSolver(SHAPE)
        for seed in range(3):
            solver.admit(table(4, eta=1.0), seed=seed)
        each = update.each

        def out_of_memory(*arguments: Any) -> torch.Tensor:
            raise torch.OutOfMemoryError

        while len(solver):
            output = solver.next_inputs().x.sin()
            if fails:
                with monkeypatch.context() as patched:
                    patched.setattr(update, "each", out_of_memory)
                    with pytest.raises(torch.OutOfMemoryError):
                        solver.advance(output)
                assert update.each is each
            samples |= dict(solver.advance(output))
        return [samples[id] for id in sorted(samples)]

    for once, again in zip(run(False), run(True), strict=True):
        assert torch.equal(once, again)


def test_a_request_that_cannot_be_taken_in_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    solver = BatchedSolver(SHAPE)

    def out_of_memory(*arguments: Any, **kwargs: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patched:
        patched.setattr(torch, "randn", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            solver.admit(table(), seed=1)
    assert len(solver) == 0
    assert solver.next_inputs().ids == []
    solver.snapshot(tmp_path)
    assert solver.admit(table(), seed=1) == 0


def test_the_network_gets_new_tensors_each_time() -> None:
    solver = BatchedSolver(SHAPE)
    solver.admit(table(), seed=1)
    first = solver.next_inputs().x
    kept = first.clone()
    first.fill_(51.6)  # a network that works in place, and fails
    assert torch.equal(solver.next_inputs().x, kept)
