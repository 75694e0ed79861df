"""Many threads ask one server: all are answered, in order, and what is cancelled or closed holds nobody up."""

import gc
import itertools
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import kdpm2
from kdpm2.batching import Server, serve
from tests.batching.asking import DENOISER, MOST, OPTIONS, SCHEDULE, BrokenError, Gate, check, network, request
from tests.batching.requests import SHAPE


def test_many_threads_are_served() -> None:
    made: dict[int, torch.Tensor] = {}
    with Server(DENOISER, 5, queue_size=2, **OPTIONS) as server:

        def ask(own: range) -> None:
            for seed, future in [(seed, server.submit(request(seed))) for seed in own]:
                made[seed] = future.result(MOST)

        threads = [threading.Thread(target=ask, args=(range(start, 40, 8),)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(MOST)
    assert sorted(made) == list(range(40))
    for seed, sample in made.items():
        check(sample, request(seed))


def test_first_submitted_first_made() -> None:
    order: list[int] = []
    gate = Gate()

    def note(seed: int, future: object) -> None:
        order.append(seed)

    with Server(gate.denoiser, 2, queue_size=10, **OPTIONS) as server:
        for seed in range(6):
            server.submit(request(seed, 3)).add_done_callback(partial(note, seed))
        gate.open.set()
    assert order == sorted(order)
    assert len(order) == 6


def test_a_full_queue_makes_those_wait_who_submit() -> None:
    gate = Gate()
    server = Server(gate.denoiser, 1, queue_size=1, **OPTIONS)
    futures = [server.submit(request(0))]
    assert gate.reached.wait(MOST)
    futures.append(server.submit(request(1), timeout=MOST))
    with pytest.raises(TimeoutError, match="the server's queue stayed full for 0 seconds"):
        server.submit(request(2), timeout=0)
    waiting = threading.Thread(target=lambda: futures.append(server.submit(request(3))))
    waiting.start()
    gate.open.set()
    waiting.join(MOST)
    server.close()
    for future, seed in zip(futures, (0, 1, 3), strict=True):
        check(future.result(MOST), request(seed))
    assert set(gate.batches) == {1}


def test_what_is_cancelled_makes_room() -> None:
    gate = Gate()
    server = Server(gate.denoiser, 2, queue_size=3, **OPTIONS)
    first, second = server.submit(request(0, 40)), server.submit(request(1, 3))
    assert gate.reached.wait(MOST)
    queued, last = server.submit(request(2, 3), MOST), server.submit(request(3, 3), MOST)
    assert first.cancel()
    assert queued.cancel()
    gate.open.set()
    check(last.result(MOST), request(3, 3))
    check(second.result(MOST), request(1, 3))
    server.close()
    assert wait([first, queued], MOST).not_done == set()
    with pytest.raises(CancelledError):
        first.result(MOST)
    assert len(gate.batches) < 20  # of the 79 that the first would have taken


def test_errors_of_the_network_go_to_the_futures_and_the_server_goes_on() -> None:
    def breaking(x: torch.Tensor, timestep: torch.Tensor, by: torch.Tensor, **more: Any) -> torch.Tensor:
        if (by == 100).any():
            raise BrokenError("a hundred")
        return network(x, timestep, by, **more)

    bad = request(0, conditioning={**request(0).conditioning, "by": torch.full(SHAPE, 100.0, dtype=torch.float64)})
    denoiser = kdpm2.Denoiser(breaking, SCHEDULE)
    with Server(denoiser, 2, **OPTIONS) as server:
        with pytest.raises(BrokenError, match="a hundred"):
            server.submit(bad).result(MOST)
        check(server.submit(request(1)).result(MOST), request(1))
    with pytest.raises(BrokenError, match="a hundred"):
        list(serve(denoiser, [bad], 2, **OPTIONS))


@pytest.mark.parametrize("wrong", [lambda x: None, lambda x: x[:, :1], lambda x: x.int()])
def test_a_wrong_output_is_an_error_of_the_network(wrong: Any) -> None:
    with Server(kdpm2.Denoiser(lambda x, t, **more: wrong(x), SCHEDULE), 2, **OPTIONS) as server:
        for _ in range(2):
            with pytest.raises((TypeError, ValueError), match=r"the model (must|returns)"):
                server.submit(request(1)).result(MOST)


def test_close_waits_for_what_was_submitted() -> None:
    server = Server(DENOISER, 2, queue_size=10, **OPTIONS)
    futures = [server.submit(request(seed)) for seed in range(7)]
    server.close()
    for seed, future in enumerate(futures):
        check(future.result(0), request(seed))
    server.close()
    with pytest.raises(RuntimeError, match="the server is closed"):
        server.submit(request(0))


def test_close_may_cancel_what_is_not_done() -> None:
    gate = Gate()
    server = Server(gate.denoiser, 1, queue_size=1, **OPTIONS)
    live = server.submit(request(0))
    assert gate.reached.wait(MOST)
    queued = server.submit(request(1), MOST)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            server.submit(request(2))
        except RuntimeError as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    closing = threading.Thread(target=lambda: server.close(cancel=True))
    closing.start()
    asking.join(MOST)
    gate.open.set()
    closing.join(MOST)
    assert not closing.is_alive()
    assert live.cancelled()
    assert queued.cancelled()
    assert [str(error) for error in errors] == ["the server is closed"]


def test_an_error_within_cancels_the_rest() -> None:
    gate = Gate()
    gate.open.set()
    futures: list[Future[torch.Tensor]] = []

    def failing() -> None:
        with Server(gate.denoiser, 1, queue_size=50, **OPTIONS) as server:
            futures.extend(server.submit(request(seed, 50)) for seed in range(50))
            raise BrokenError

    with pytest.raises(BrokenError):
        failing()
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()


def test_a_future_may_close_the_server_that_made_it() -> None:
    server = Server(DENOISER, 2, **OPTIONS)
    server.submit(request(1)).add_done_callback(lambda future: server.close())
    server._worker.thread.join(MOST)
    assert not server._worker.thread.is_alive()


def test_what_is_submitted_may_be_changed_afterwards() -> None:
    gate = Gate()
    one, same = request(1), request(1)
    with Server(gate.denoiser, 1, queue_size=2, **OPTIONS) as server:
        server.submit(request(0))
        assert gate.reached.wait(MOST)
        future = server.submit(one)
        assert one.x is not None
        one.x.zero_()
        one.conditioning["by"].zero_()
        gate.open.set()
        check(future.result(MOST), same)


def test_nothing_of_a_request_is_kept_when_it_is_done() -> None:
    server = Server(DENOISER, 2, **OPTIONS)
    future = server.submit(request(1))
    future.result(MOST)
    gone = weakref.ref(future)
    del future
    server.submit(request(2)).result(MOST)
    deadline = time.monotonic() + MOST
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None
    server.close()


@pytest.mark.parametrize("patience", [1, None])
def test_whatever_happens_every_future_ends_and_is_counted(patience: int | None, tmp_path: Path) -> None:
    """Threads that ask, cancel, leave and raise, conditioning of two kinds, a network that fails now and then."""
    calls = itertools.count()

    def failing(x: torch.Tensor, timestep: torch.Tensor, by: torch.Tensor, **more: Any) -> torch.Tensor:
        if next(calls) % 31 == 30:
            raise BrokenError
        return network(x, timestep, by.to(x), **more)

    server = Server(kdpm2.Denoiser(failing, SCHEDULE), 4, queue_size=3, patience=patience, **OPTIONS)
    made: dict[int, Future[torch.Tensor]] = {}

    def ask(own: range) -> None:
        for seed in own:
            one = request(seed)
            if seed % 5 == 0:
                given = {**one.conditioning, "by": one.conditioning["by"].float()}
                one = replace(one, conditioning=given, priority=seed % 3, deadline=MOST)
            made[seed] = server.submit(one, MOST)
            if seed % 7 == 0:
                made[seed].add_done_callback(lambda future: sys.exit())
            if seed % 11 == 0:
                with suppress(SystemExit):
                    made[seed].cancel()
            if seed % 50 == 0:
                server.snapshot(tmp_path, MOST)

    threads = [threading.Thread(target=ask, args=(range(start, 160, 8),)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * MOST)
        assert not thread.is_alive()
    server.close(timeout=2 * MOST)
    assert sorted(made) == list(range(160))
    for seed, future in made.items():
        assert future.done()
        if seed % 5 and not future.cancelled() and future.exception() is None:
            check(future.result(), request(seed))
    counted = server.counters()
    assert counted["done"] + counted["failed"] + counted["cancelled"] == 160
    assert counted["done"] >= 120
    assert counted["queued"] == counted["running"] == 0
