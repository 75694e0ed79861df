"""Faults put in on purpose: the server's thread outlives them, or everybody is told that it has not."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import pytest
import torch

import kdpm2
from kdpm2.batching import BatchedSolver, Finished, Server
from kdpm2.batching.jobs import SampleFuture, Waiting
from tests.batching.asking import DENOISER, MOST, OPTIONS, SCHEDULE, BrokenError, Gate, check, network, request


def raising(error: BaseException) -> Callable[[object], None]:
    def callback(future: object) -> None:
        raise error

    return callback


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, BrokenError])
def test_a_callback_that_raises_ends_nothing(error: type[BaseException]) -> None:
    called: list[object] = []
    gate = Gate()
    with Server(gate.denoiser, 2, queue_size=10, **OPTIONS) as server:
        futures = [server.submit(request(seed)) for seed in range(6)]
        for future in futures:
            future.add_done_callback(raising(error()))
            future.add_done_callback(called.append)
        gate.open.set()
        for seed, future in enumerate(futures):
            check(future.result(MOST), request(seed))
        check(server.submit(request(9)).result(MOST), request(9))
    assert set(called) == set(futures)


def test_who_cancels_hears_what_callbacks_raise() -> None:
    gate = Gate()
    server = Server(gate.denoiser, 1, queue_size=5, **OPTIONS)
    futures = [server.submit(request(seed)) for seed in range(4)]
    assert gate.reached.wait(MOST)
    for future in futures:
        future.add_done_callback(raising(SystemExit()))
    with pytest.raises(SystemExit):
        futures[3].cancel()
    gate.open.set()
    with pytest.raises(SystemExit):
        server.close(cancel=True, timeout=MOST)
    assert all(future.cancelled() for future in futures[1:])
    server.close(timeout=MOST)


@pytest.mark.parametrize(
    "outside",
    [
        lambda future: future.set_result(torch.zeros(1)),
        lambda future: future.set_exception(BrokenError()),
        lambda future: future.set_running_or_notify_cancel(),
    ],
)
def test_a_future_may_be_ended_by_somebody_else(outside: Callable[[Any], object]) -> None:
    gate = Gate()
    with Server(gate.denoiser, 1, queue_size=2, **OPTIONS) as server:
        running = server.submit(request(0, 4))
        assert gate.reached.wait(MOST)
        queued = server.submit(request(1))
        outside(running)
        outside(queued)
        gate.open.set()
        check(server.submit(request(2)).result(MOST), request(2))
        assert wait([running, queued], MOST).not_done == set()


def test_a_future_may_be_ended_just_before_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(future: Future[torch.Tensor], sample: torch.Tensor) -> None:
        if not future.done():
            Future.set_exception(future, BrokenError())
        Future.set_result(future, sample)

    monkeypatch.setattr(SampleFuture, "set_result", late)
    with Server(DENOISER, 2, **OPTIONS) as server:
        for _ in range(3):
            assert isinstance(server.submit(request(1)).exception(MOST), BrokenError)


@pytest.mark.parametrize("copied", [0, 1])
def test_memory_that_runs_out_while_samples_are_copied(copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = BatchedSolver.advance
    failed: list[int] = []

    def failing(solver: BatchedSolver, *said: Any) -> list[Finished]:
        done = advance(solver, *said)
        if len(done) > copied and len(failed) < 2:
            failed.append(len(done))
            raise MemoryError("for a copy")
        return done

    monkeypatch.setattr(BatchedSolver, "advance", failing)
    gate = Gate()
    with Server(gate.denoiser, 2, queue_size=10, **OPTIONS) as server:
        first = server.submit(request(9, 1))
        assert gate.reached.wait(MOST)
        futures = [server.submit(request(seed, 3)) for seed in range(6)]
        gate.open.set()
        errors = [future.exception(MOST) for future in futures]
        assert isinstance(first.exception(MOST), MemoryError) == (copied == 0)
        assert failed == [1 + copied, 2]
        assert sum(isinstance(error, MemoryError) for error in errors) == 2 + 2 * copied
        for seed, (future, error) in enumerate(zip(futures, errors, strict=True)):
            if error is None:
                check(future.result(), request(seed, 3))


@pytest.mark.parametrize("static", [False, True])
def test_memory_that_runs_out_while_a_request_is_taken_in(static: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    admit = BatchedSolver.admit
    fails = iter([False, True, True, False, True, False])

    def failing(solver: BatchedSolver, *wanted: Any) -> int:
        id = admit(solver, *wanted)
        if next(fails):
            raise MemoryError("after all was done")
        return id

    monkeypatch.setattr(BatchedSolver, "admit", failing)
    with Server(DENOISER, 2, static=static, queue_size=10, **OPTIONS) as server:
        futures = [server.submit(request(seed, 3)) for seed in range(6)]
        for seed, future in enumerate(futures):
            if seed in (1, 2, 4):
                assert isinstance(future.exception(MOST), MemoryError)
            else:
                check(future.result(MOST), request(seed, 3))


@pytest.mark.parametrize("error", [MemoryError("no more"), SystemExit(1), KeyboardInterrupt(), BrokenError("within")])
def test_if_the_thread_dies_everybody_is_told(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = Gate()
    server = Server(gate.denoiser, 1, queue_size=2, **OPTIONS)
    futures = [server.submit(request(0, 5))]
    assert gate.reached.wait(MOST)
    futures += [server.submit(request(1)), server.submit(request(2))]
    refused: list[BaseException] = []

    def ask(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            refused.append(error)

    calls: list[Callable[[], object]] = [lambda: server.submit(request(3)), lambda: server.snapshot(tmp_path)]
    asking = [threading.Thread(target=ask, args=(call,)) for call in calls]
    for thread in asking:
        thread.start()

    def dying(waiting: object, now: float) -> None:
        raise error

    monkeypatch.setattr(Waiting, "expired", dying)
    futures[1].add_done_callback(raising(SystemExit()))
    gate.open.set()
    for future in futures:
        assert future.exception(MOST) is error
    for thread in asking:
        thread.join(MOST)
        assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="the server has died of") as told:
        server.submit(request(4))
    assert told.value.__cause__ is error
    with pytest.raises(RuntimeError, match="the server has died of"):
        server.snapshot(tmp_path)
    assert [type(each) for each in refused if each is not error] in ([RuntimeError], [RuntimeError] * 2)
    assert server.counters()["failed"] == 3
    server.close(timeout=MOST)


def test_a_callback_that_submits_does_not_wait_for_itself() -> None:
    gate = Gate()
    told: list[Any] = []
    called = threading.Event()

    def again(future: object) -> None:
        for seed in (10, 11):
            try:
                told.append(server.submit(request(seed), timeout=MOST))
            except TimeoutError as error:
                told.append(error)
        called.set()

    server = Server(gate.denoiser, 1, queue_size=1, **OPTIONS)
    first = server.submit(request(0))
    first.add_done_callback(again)
    server.submit(request(1))
    gate.open.set()
    check(first.result(MOST), request(0))
    assert called.wait(MOST / 2)
    server.close(timeout=MOST)
    follower, error = told
    check(follower.result(0), request(10))
    assert isinstance(error, TimeoutError)
    assert "a callback in the server's thread cannot wait" in str(error)


def test_callbacks_run_under_no_lock() -> None:
    gate = Gate()
    server = Server(gate.denoiser, 1, queue_size=3, **OPTIONS)
    futures = [server.submit(request(seed)) for seed in range(3)]
    assert gate.reached.wait(MOST)
    asked: list[float] = []

    def ask_elsewhere(future: object) -> None:
        thread = threading.Thread(target=lambda: asked.append(server.counters()["queued"]))
        thread.start()
        thread.join(MOST)
        assert not thread.is_alive()

    for future in futures:
        future.add_done_callback(ask_elsewhere)
    futures[2].cancel()
    assert asked == [1]
    gate.open.set()
    server.close(cancel=True, timeout=MOST)
    assert len(asked) == 3


@pytest.mark.parametrize("cancel", [False, True])
def test_a_callback_may_close_the_server(cancel: bool) -> None:
    gate = Gate()
    server = Server(gate.denoiser, 1, queue_size=3, **OPTIONS)
    first, second = server.submit(request(0)), server.submit(request(1))
    first.add_done_callback(lambda future: server.close(cancel))
    second.add_done_callback(raising(SystemExit()))
    gate.open.set()
    server._worker.thread.join(MOST)
    assert not server._worker.thread.is_alive()
    assert second.cancelled() == cancel


@pytest.mark.parametrize("cancel", [False, True])
def test_a_network_that_hangs_does_not_hang_close(cancel: bool) -> None:
    gate = Gate()
    server = Server(gate.denoiser, 1, queue_size=1, **OPTIONS)
    running, queued = server.submit(request(0)), server.submit(request(1))
    assert gate.reached.wait(MOST)
    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError, match=f"not done after {timeout:g} seconds; it is closed for new requests"):
            server.close(cancel, timeout)
    with pytest.raises(RuntimeError, match="the server is closed"):
        server.submit(request(2))
    assert running.cancelled() == queued.cancelled() == cancel
    if cancel:  # and those who wait for them know before the network does
        assert wait([running, queued], 0).not_done == set()
        with pytest.raises(CancelledError):
            running.result(0)
    gate.open.set()
    server.close(timeout=MOST)
    if not cancel:
        check(queued.result(0), request(1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cancel": 1}, TypeError, "cancel must be True or False, got 1"),
        ({"timeout": "1"}, TypeError, "timeout must be a number from 0 to 1e"),
        ({"timeout": -1}, ValueError, "timeout must be a number from 0 to 1e"),
    ],
)
def test_wrong_arguments_close_nothing(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with Server(DENOISER, 1, **OPTIONS) as server:
        with pytest.raises(error, match=message):
            server.close(**arguments)
        check(server.submit(request(1)).result(MOST), request(1))


def spoiling(fails: int) -> kdpm2.Denoiser:
    """A network that writes to all that it is given, and then fails for the first calls for several."""
    left = iter(range(fails))

    def called(x: torch.Tensor, timestep: torch.Tensor, **given: Any) -> torch.Tensor:
        output, several = network(x, timestep, **given), int(x.flatten(1).any(1).sum()) > 1
        for each in (x, timestep, given["by"], given["factor"], given["more"]["scale"]):
            each.fill_(torch.nan)
        if several and next(left, None) is not None:
            raise BrokenError("with its input spoilt")
        return output

    return kdpm2.Denoiser(called, SCHEDULE)


@pytest.mark.parametrize("fails", [0, 3])
@pytest.mark.parametrize("static", [False, True])
def test_a_network_may_write_to_its_input_and_fail(fails: int, static: bool) -> None:
    with Server(spoiling(fails), 3, static=static, **OPTIONS) as server:
        futures = [server.submit(request(seed, 4)) for seed in range(3)]
        for seed, future in enumerate(futures):
            check(future.result(MOST), request(seed, 4))


def test_who_says_that_a_future_runs_just_before_the_server_does_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late(future: Future[torch.Tensor]) -> bool:
        Future.set_running_or_notify_cancel(future)
        return Future.set_running_or_notify_cancel(future)

    monkeypatch.setattr(SampleFuture, "set_running_or_notify_cancel", late)
    with Server(DENOISER, 2, **OPTIONS) as server:
        check(server.submit(request(1)).result(MOST), request(1))
