"""A server's snapshot, taken while it works, and another server that goes on from it."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
import torch

import kdpm2
from kdpm2 import spacing
from kdpm2.batching import BatchedSolver, Request, Server, folder, saved
from kdpm2.table import dpm2
from tests.batching.asking import DENOISER, MOST, OPTIONS, SCHEDULE, Gate, check, network, request, sigmas
from tests.batching.requests import SHAPE


class Stopping:
    """A network that has a snapshot taken after a number of calls, and is then switched off."""

    def __init__(self, folder: Path, calls: int) -> None:
        self.folder, self.left = folder, calls
        self.denoiser = kdpm2.Denoiser(self, SCHEDULE)
        self.server: Server | None = None
        self.ready, self.written = threading.Event(), threading.Event()

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, **given: Any) -> torch.Tensor:
        assert self.ready.wait(MOST)
        if self.left == 0:
            raise SystemExit  # the process is gone
        self.left -= 1
        if self.left == 0:
            assert self.server is not None
            threading.Thread(target=self._write).start()
            while not self.server._worker._tasks:
                time.sleep(0.001)
        return network(x, timestep, **given)

    def _write(self) -> None:
        assert self.server is not None
        self.server.snapshot(self.folder)
        self.written.set()


def stopped(folder: Path, requests: list[Request], calls: int, max_batch: int = 3, **options: Any) -> list[Any]:
    """The samples that a server makes of requests in so many calls, or None; what is left to do is in a folder."""
    stopping = Stopping(folder, calls)
    stopping.server = Server(stopping.denoiser, max_batch, queue_size=len(requests), **OPTIONS, **options)
    futures = [stopping.server.submit(one) for one in requests]
    stopping.ready.set()
    assert stopping.written.wait(MOST)
    stopping.server.close(cancel=True)
    return [None if future.cancelled() or future.exception() else future.result() for future in futures]


@pytest.mark.parametrize("options", [{}, {"static": True}, {"patience": 1}, {"noise": "philox"}], ids=str)
@pytest.mark.parametrize("calls", [1, 4, 9])
def test_another_server_goes_on(options: dict[str, Any], calls: int, tmp_path: Path) -> None:
    requests = [request(seed, key=seed if seed % 2 else f"the {seed}th") for seed in range(8)]
    made = stopped(tmp_path, requests, calls, **options)
    server, futures = Server.restore(tmp_path, DENOISER)
    with server:
        assert set(futures) == {one.key for one, sample in zip(requests, made, strict=True) if sample is None}
        for one, sample in zip(requests, made, strict=True):
            assert one.key is not None
            check(futures[one.key].result(MOST) if sample is None else sample, one, options.get("noise", "gaussian"))


def test_all_that_a_request_may_be_is_kept(tmp_path: Path) -> None:
    given = {"i": 7, "f": float("inf"), "b": True, "t": torch.arange(3), "empty": {}, "deep": {"é\n": {"n": -0.5}}}

    def seen(x: torch.Tensor, timestep: torch.Tensor, **given: Any) -> torch.Tensor:
        calls.append(given)
        return 0.5 * x

    calls: list[dict[str, Any]] = []
    table = dpm2(SCHEDULE, spacing.steps(SCHEDULE, 4), eta=0.5)
    requests = [
        Request(table, seed=3, conditioning=given, key="sé", priority=3, deadline=1000.0),
        Request(sigmas=sigmas(), x=torch.ones(SHAPE).half(), conditioning=given, key=-(2**63), seed=2**64 - 1),
    ]
    gate = Gate()
    with Server(gate.denoiser, 1, queue_size=3, **OPTIONS) as server:
        first = server.submit(request(1, 1, key="first"))
        assert gate.reached.wait(MOST)
        for one in requests:
            server.submit(one)
        writing = threading.Thread(target=server.snapshot, args=(tmp_path,))
        writing.start()
        while not server._worker._tasks:
            time.sleep(0.001)
        gate.open.set()
        first.result(MOST)
        writing.join(MOST)
        server.close(cancel=True)
    before = torch.get_rng_state()
    options, begun, waiting = saved.read(tmp_path, None)
    assert torch.equal(torch.get_rng_state(), before)
    assert begun == []
    assert options["max_batch"] == 1
    assert [(one.key, one.priority, one.seed) for one in waiting] == [("sé", 3, 3), (-(2**63), 0, 2**64 - 1)]
    assert 990 < (waiting[0].deadline or 0) <= 1000
    assert waiting[1].deadline is None
    assert isinstance(waiting[0].table, type(table))
    for name, expected in vars(table).items():
        if name in table.__dataclass_fields__:
            kept = getattr(waiting[0].table, name)
            assert (kept == expected) if isinstance(expected, (bool, float)) else (kept.tolist() == expected.tolist())
            assert getattr(kept, "dtype", None) == getattr(expected, "dtype", None)
    assert torch.equal(waiting[1].x if waiting[1].x is not None else torch.empty(0), torch.ones(SHAPE).half())
    server, futures = Server.restore(tmp_path, kdpm2.Denoiser(seen, SCHEDULE))
    with server:
        for future in futures.values():
            assert future.result(MOST).isfinite().all()
    assert str(calls[0]) == str(
        {
            "i": torch.tensor([7]),
            "f": torch.tensor([torch.inf]),
            "b": torch.tensor([True]),
            "t": torch.arange(3)[None],
            "empty": {},
            "deep": {"é\n": {"n": torch.tensor([-0.5])}},
        }
    )


def test_what_has_no_key_is_left_out(tmp_path: Path) -> None:
    requests = [request(seed, 5, key=seed if seed in (1, 4) else None) for seed in range(6)]
    stopped(tmp_path, requests, 2)
    server, futures = Server.restore(tmp_path, DENOISER)
    with server:
        assert set(futures) == {1, 4}
        for key, future in futures.items():
            assert isinstance(key, int)
            check(future.result(MOST), requests[key])
    assert server.counters()["done"] == 2


def test_a_server_goes_on_while_snapshots_are_taken(tmp_path: Path) -> None:
    gate = Gate()
    gate.open.set()
    with Server(gate.denoiser, 2, queue_size=20, patience=3, **OPTIONS) as server:
        futures = [server.submit(request(seed, 20, key=seed)) for seed in range(8)]
        for _ in range(5):
            server.snapshot(tmp_path, timeout=MOST)
            assert len(list(tmp_path.iterdir())) == 3  # two files and a lock
        for seed, future in enumerate(futures):
            check(future.result(MOST), request(seed, 20))
        server.snapshot(tmp_path)
    empty, none = Server.restore(tmp_path, DENOISER)
    with empty:
        assert none == {}
        check(empty.submit(request(1)).result(MOST), request(1))


def test_a_snapshot_that_fails_leaves_the_one_before_and_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    gate.open.set()
    with Server(gate.denoiser, 2, queue_size=20, **OPTIONS) as server:
        futures = [server.submit(request(seed, 50, key=seed)) for seed in range(2)]
        server.snapshot(tmp_path)

        for writes in range(2):  # the tensors, and the state
            left = iter(range(writes))

            def full(*arguments: Any, left: Iterator[int] = left, put: Any = folder._put) -> None:
                if next(left, None) is None:
                    raise OSError("no space left")
                put(*arguments)

            with monkeypatch.context() as patched:
                patched.setattr(folder, "_put", full)
                with pytest.raises(OSError, match="no space left"):
                    server.snapshot(tmp_path)
        with pytest.raises(TypeError, match="folder must be a path"):
            server.snapshot(3)  # type: ignore[arg-type]
        for seed, future in enumerate(futures):
            check(future.result(MOST), request(seed, 50))
    again, kept = Server.restore(tmp_path, DENOISER)
    with again:
        assert set(kept) <= {0, 1}
        for key, left_over in kept.items():
            check(left_over.result(MOST), request(int(key), 50))


def test_a_snapshot_does_not_wait_for_a_network_that_hangs(tmp_path: Path) -> None:
    gate = Gate()
    with Server(gate.denoiser, 1, **OPTIONS) as server:
        future = server.submit(request(1, key=1))
        assert gate.reached.wait(MOST)
        with pytest.raises(TimeoutError, match=r"network call took longer than 0\.01 seconds"):
            server.snapshot(tmp_path, timeout=0.01)
        gate.open.set()
        future.result(MOST)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="the server is closed"):
        server.snapshot(tmp_path)


def test_a_callback_cannot_take_a_snapshot(tmp_path: Path) -> None:
    errors: list[str] = []

    def take(future: object) -> None:
        try:
            server.snapshot(tmp_path)
        except RuntimeError as error:
            errors.append(str(error))

    gate = Gate()
    with Server(gate.denoiser, 1, **OPTIONS) as server:
        server.submit(request(1)).add_done_callback(take)
        gate.open.set()
    assert errors == ["snapshot must be called from another thread than the server's, got a callback in it"]


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path, [request(seed, 5, key=seed) for seed in range(6)], 3)
    files = [path for path in tmp_path.iterdir() if path.name != ".lock"]
    assert len(files) == 2
    threads = threading.active_count()
    for file in files:
        content = file.read_bytes()
        middle = len(content) // 2
        turned = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for wrong in (content[:-9], turned, b""):
            file.write_bytes(wrong)
            with pytest.raises(ValueError, match=r"folder must hold a snapshot that .* wrote, unchanged"):
                Server.restore(tmp_path, DENOISER)
        file.write_bytes(content)
    assert threading.active_count() == threads
    server, futures = Server.restore(tmp_path, DENOISER)
    server.close(cancel=True)
    with pytest.raises(CancelledError):
        futures[5].result()


CHANGES: list[Any] = [
    lambda state: state.update(format="kdpm2 server 2"),
    lambda state: state.pop("waiting"),
    lambda state: state["options"].update(queue_size=1),
    lambda state: state["options"].update(max_batch=2),
    lambda state: state["options"].update(max_batch="2"),
    lambda state: state["options"].update(dtype="int8"),
    lambda state: state["options"].update(static=True),
    lambda state: state["options"].update(run="something"),
    lambda state: state["begun"].append({"solver": state["begun"][0]["solver"], "requests": []}),
    lambda state: state["begun"][0]["requests"][0].update(key=1.5),
    lambda state: state["begun"][0]["requests"][0].update(key=state["begun"][0]["requests"][1]["key"]),
    lambda state: state["begun"][0]["requests"][0].update(id=state["begun"][0]["requests"][1]["id"]),
    lambda state: state["begun"][0]["requests"][0].update(conditioning={"tensor": "t0"}),
    lambda state: state["begun"][0]["requests"][0].update(conditioning={"mapping": {"by": {"number": "text"}}}),
    lambda state: state["waiting"][0].update(key=state["begun"][0]["requests"][1]["key"]),
    lambda state: state["waiting"][0].update(priority="high"),
    lambda state: state["waiting"][0]["table"].update(up={"number": 1.0}),
    lambda state: state["waiting"][0]["table"].update(step=state["waiting"][0]["table"]["up"]),
    lambda state: state["waiting"][0].update(x={"tensor": "t99"}),
    lambda state: state["waiting"][0].update(unknown=1),
]


def test_a_state_that_no_server_could_have_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path, [request(seed, 5, key=seed) for seed in range(6)], 3)
    state, tensors = folder.read(tmp_path, lambda state: 2**20)
    written = json.dumps(state)
    threads = threading.active_count()
    for change in CHANGES:
        changed = json.loads(written)
        change(changed)
        folder.write(tmp_path, changed, tensors)
        with pytest.raises(ValueError, match=r"folder must hold a snapshot that Server\.snapshot wrote"):
            Server.restore(tmp_path, DENOISER)
    assert threading.active_count() == threads


def test_wrong_arguments_of_restore(tmp_path: Path) -> None:
    BatchedSolver(SHAPE).snapshot(tmp_path)
    for wrong in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ValueError, match="folder must hold a snapshot that"):
            Server.restore(wrong, DENOISER)
    with pytest.raises(TypeError, match="network must be callable, got 1"):
        Server.restore(tmp_path, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="folder must be a path, got 1"):
        Server.restore(1, DENOISER)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device must be one that torch can use here"):
        Server.restore(tmp_path, DENOISER, device="nowhere")
