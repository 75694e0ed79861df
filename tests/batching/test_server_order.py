"""Who is served when: by priority, with a bounded wait for all, or not at all after a deadline; and the counts."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch

import kdpm2
from kdpm2.batching import Request, Server
from tests.batching.asking import MOST, OPTIONS, SCHEDULE, Gate, check, request, sigmas


class Recorder:
    """A network that notes which requests each call is for, by their conditioning, and waits while it is shut."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open, self.reached = threading.Event(), threading.Event()
        self.denoiser = kdpm2.Denoiser(self, SCHEDULE)

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, who: torch.Tensor) -> torch.Tensor:
        self.calls.append(sorted(who.reshape(len(x), -1)[:, 0].int().tolist()))
        self.reached.set()
        assert self.open.wait(MOST)
        return 0.5 * x

    @contextmanager
    def server(self, max_batch: int, **options: Any) -> Iterator[Server]:
        """One that has the request 0, of a single stage, in a first call, which goes on when the block asks."""
        with Server(self.denoiser, max_batch, **OPTIONS, **options) as server:
            server.submit(asked(0, 1))
            assert self.reached.wait(MOST)
            try:
                yield server
            finally:
                self.open.set()


def asked(who: int, steps: int, **more: Any) -> Request:
    return Request(sigmas=sigmas(steps), seed=who, conditioning={"who": who}, **more)


def test_the_highest_priority_first_then_the_first_that_came() -> None:
    network = Recorder()
    with network.server(1, queue_size=20, patience=None) as server:
        for who, priority in enumerate([0, 5, -1, 5, 0, 10**6], start=1):
            server.submit(asked(who, 1, priority=priority))
    assert network.calls == [[0], [6], [2], [4], [1], [5], [3]]


@pytest.mark.parametrize("patience", [0, 1, 7, 20])
def test_a_short_request_behind_long_ones_waits_no_longer_than_is_said(patience: int) -> None:
    network, ended = Recorder(), []

    def note(future: object) -> None:
        ended.append(len(network.calls))

    with network.server(2, queue_size=4, patience=patience) as server:
        for who in (1, 2, 3, 4):
            server.submit(asked(who, 100))
        server.submit(asked(5, 4)).add_done_callback(note)
        before = len(network.calls)
        network.open.set()
    stages, batches = 7, 1 + 4 // 2
    assert ended[0] - before <= patience + batches * stages  # besides the one that was under way
    # Turns cost no stage: all that was asked for was made, in batches that are full where they can be.
    assert sum(map(len, network.calls)) == 1 + 4 * 199 + 7
    assert max(map(len, network.calls)) == 2


def test_without_patience_the_long_ones_come_first() -> None:
    network = Recorder()
    with network.server(2, queue_size=4, patience=None) as server:
        for who in (1, 2):
            server.submit(asked(who, 20))
        server.submit(asked(3, 4))
    assert network.calls == [[0], *[[1, 2]] * 39, *[[3]] * 7]


def test_low_priority_waits_no_longer_than_patience() -> None:
    network = Recorder()
    with network.server(1, queue_size=40, patience=10) as server:
        server.submit(asked(99, 1, priority=-5))
        for who in range(1, 39):
            server.submit(asked(who, 1))
    assert network.calls.index([99]) == 11
    assert len(network.calls) == 40


def test_batches_that_take_turns_make_the_same_samples() -> None:
    gate = Gate()
    with Server(gate.denoiser, 2, queue_size=10, patience=1, **OPTIONS) as server:
        futures = [server.submit(request(seed)) for seed in range(12)]
        gate.open.set()
        for seed, future in enumerate(futures):
            check(future.result(MOST), request(seed))
    assert max(gate.batches) == 2


def test_who_waits_past_a_deadline_is_told() -> None:
    network = Recorder()
    with network.server(1, queue_size=10) as server:
        late = server.submit(asked(1, 1, deadline=0.01))
        patient = server.submit(asked(2, 1, deadline=1000))
        forever = server.submit(asked(3, 1))
        time.sleep(0.02)
        network.open.set()
        assert patient.exception(MOST) is forever.exception(MOST) is None
        with pytest.raises(TimeoutError, match=r"the deadline of 0\.01 seconds passed in the queue"):
            late.result(MOST)
    assert network.calls == [[0], [2], [3]]


def test_a_deadline_is_for_those_that_wait() -> None:
    network = Recorder()
    with network.server(2, queue_size=10) as server:
        future = server.submit(asked(1, 3, deadline=MOST))
        network.open.set()
        future.result(MOST)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"priority": 1.5}, TypeError, "priority must be an integer from -1000000 to 1000000, got 1.5"),
        ({"priority": 10**7}, ValueError, "priority must be an integer from -1000000 to 1000000, got 10000000"),
        ({"deadline": "soon"}, TypeError, "deadline must be a number from 0 to 1e[+]06, got 'soon'"),
        ({"deadline": -1}, ValueError, "deadline must be a number from 0 to 1e[+]06, got -1"),
        ({"key": 1.0}, TypeError, "key must be a text, an integer or None, got 1.0"),
        ({"key": True}, TypeError, "key must be a text, an integer or None, got True"),
        ({"key": 2**63}, ValueError, "key must be an integer from -"),
    ],
)
def test_wrong_requests_for_a_server(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with Server(Recorder().denoiser, 1, **OPTIONS) as server, pytest.raises(error, match=message):
        server.submit(asked(0, 1, **given))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"patience": -1}, ValueError, "patience must be an integer from 0 to"),
        ({"patience": "long"}, TypeError, "patience must be an integer from 0 to"),
        ({"queue_size": 0}, ValueError, "queue_size must be an integer from 1 to"),
    ],
)
def test_wrong_arguments(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Server(Recorder().denoiser, 1, **OPTIONS, **given)


def test_a_key_is_one_request_s_until_it_is_done() -> None:
    network = Recorder()
    with network.server(1, queue_size=3) as server:
        first = server.submit(asked(1, 1, key="a"))
        with pytest.raises(ValueError, match="key must be that of no other request that is not done, got 'a'"):
            server.submit(asked(2, 1, key="a"))
        server.submit(asked(3, 1, key=1))
        first.cancel()
        again = server.submit(asked(4, 1, key="a"))
        network.open.set()
        again.result(MOST)


def test_what_is_cancelled_in_the_queue_makes_room_at_once() -> None:
    network = Recorder()
    with network.server(1, queue_size=2) as server:
        queued = [server.submit(asked(who, 1)) for who in (1, 2)]
        submitted = threading.Event()

        def ask() -> None:
            server.submit(asked(3, 1))
            submitted.set()

        thread = threading.Thread(target=ask)
        thread.start()
        assert not submitted.wait(0.05)
        assert queued[0].cancel()
        assert submitted.wait(MOST)  # though the network has not gone on
        thread.join(MOST)
    assert network.calls == [[0], [2], [3]]


def test_what_is_counted() -> None:
    network = Recorder()
    with network.server(2, queue_size=10) as server:
        futures = [server.submit(asked(who, 2)) for who in (1, 2, 3)]
        late = server.submit(asked(4, 1, deadline=0))
        futures[2].cancel()
        now = server.counters()
        assert (now["queued"], now["running"], now["cancelled"], now["network_calls"]) == (3, 1, 1, 1)
        assert (now["done"], now["failed"]) == (0, 0)
        time.sleep(0.02)
        network.open.set()
        for future in (*futures[:2], late):
            future.exception(MOST)
        server.close()
        after = server.counters()
    expected = {"queued": 0, "running": 0, "done": 3, "failed": 1, "cancelled": 1, "network_calls": 4}
    assert {name: after[name] for name in expected} == expected
    assert after["occupancy"] == 7 / 4 / 2
    assert 0.02 <= after["waiting_seconds_largest"] < MOST
    assert 0.01 < after["waiting_seconds_mean"] <= after["waiting_seconds_largest"]
    assert all(type(value) in (int, float) for value in after.values())


def test_counters_are_explained() -> None:
    with Server(Recorder().denoiser, 1, **OPTIONS) as server:
        names = server.counters()
    assert server.counters.__doc__ is not None
    assert all(f"{name}: " in server.counters.__doc__ for name in names)


def test_those_who_come_while_others_wait_are_all_served() -> None:
    network = Recorder()
    network.open.set()
    done: list[int] = []

    def note(who: int, future: object) -> None:
        done.append(who)

    with Server(network.denoiser, 3, queue_size=5, patience=2, **OPTIONS) as server:
        for who in range(100):
            future = server.submit(asked(who, 1 + who % 7, priority=who % 3), timeout=MOST)
            future.add_done_callback(partial(note, who))
    assert sorted(done) == list(range(100))
