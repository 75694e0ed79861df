"""Requests in, samples out: in order, no more at once than there is room for, and none lost by another's fault."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import kdpm2
from kdpm2 import noise_schedule, spacing
from kdpm2.batching import Request, Server, serve
from kdpm2.table import dpm2
from tests.batching.requests import SHAPE

SCHEDULE = noise_schedule.discrete()
MOST = 20  # seconds, after which a thread that should have gone on is taken to hang


def network(x: torch.Tensor, timestep: torch.Tensor, by: torch.Tensor, more: Any, factor: torch.Tensor) -> torch.Tensor:
    each = [-1, *[1] * (x.ndim - 1)]
    assert by.shape == x.shape
    assert factor.shape == (len(x),)
    output: torch.Tensor = torch.tanh(x + by) * more["scale"].reshape(each) + (factor * torch.cos(timestep)).reshape(
        each
    )
    return output


DENOISER = kdpm2.Denoiser(network, SCHEDULE)


def sigmas(steps: int = 3) -> np.ndarray[Any, Any]:
    return spacing.steps(SCHEDULE, steps).sigmas


def request(seed: int, steps: int | None = None, **changes: Any) -> Request:
    levels = sigmas(2 + seed % 5 if steps is None else steps)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64) * float(levels[0])
    conditioning = {
        "by": torch.randn(SHAPE, generator=generator, dtype=torch.float64),
        "more": {"scale": torch.tensor(1.0 + seed / 10)},
        "factor": 0.1 * seed,
    }
    return Request(**{"sigmas": levels, "x": x, "seed": seed, "conditioning": conditioning, **changes})


def alone(one: Request, noise: str = "gaussian", denoiser: Any = DENOISER) -> torch.Tensor:
    given = one.conditioning
    conditioning = {
        "by": given["by"][None],
        "more": {"scale": given["more"]["scale"][None]},
        "factor": torch.tensor([given["factor"]]),
    }
    assert one.x is not None
    assert one.sigmas is not None
    kwargs: dict[str, Any] = {"eta": one.eta, "s_noise": one.s_noise, "noise": noise, "conditioning": conditioning}
    return kdpm2.sample(denoiser, one.x[None], one.sigmas, seeds=[one.seed or 0], **kwargs)[0]


def check(made: torch.Tensor, one: Request, noise: str = "gaussian") -> None:
    torch.testing.assert_close(made, alone(one, noise), rtol=1e-9, atol=1e-9)


OPTIONS: dict[str, Any] = {"shape": SHAPE, "dtype": torch.float64}


@pytest.mark.parametrize("noise", ["gaussian", "philox"])
@pytest.mark.parametrize("static", [False, True])
def test_samples_are_those_made_alone(static: bool, noise: str) -> None:
    requests = [request(seed, eta=seed % 3 / 2, s_noise=0.9) for seed in range(12)]
    results = list(serve(DENOISER, requests, 4, static=static, noise=noise, **OPTIONS))
    assert sorted(requests.index(result.request) for result in results) == list(range(12))
    for one, sample in results:
        check(sample, one, noise)


def test_a_table_says_the_same_as_its_sigmas() -> None:
    by_sigmas = request(3, eta=0.5)
    table = dpm2(SCHEDULE, spacing.Steps(sigmas(5), SCHEDULE.timestep(sigmas(5)[:-1])), eta=0.5)
    by_table = Request(table, x=by_sigmas.x, seed=3, conditioning=by_sigmas.conditioning)
    results = {result.request: result.sample for result in serve(DENOISER, [by_sigmas, by_table], 2, **OPTIONS)}
    torch.testing.assert_close(results[by_sigmas], results[by_table])


def test_a_function_of_sigma_is_a_denoiser() -> None:
    levels = [2.0, 1.0, 0.0]
    x = torch.randn(3)
    (result,) = serve(
        lambda x, sigma: x / (1 + sigma[:, None] ** 2), [Request(sigmas=levels, x=x, seed=1)], 2, shape=(3,)
    )
    expected = kdpm2.sample(lambda x, sigma: x / (1 + sigma[:, None] ** 2), x[None], levels, seeds=[1])
    torch.testing.assert_close(result.sample, expected[0])


def test_first_come_first_served_and_no_more_than_there_is_room_for() -> None:
    taken = 0
    batches: list[int] = []
    done: list[int | None] = []

    def source() -> Iterator[Request]:
        nonlocal taken
        for seed in range(9):
            taken += 1
            assert taken - len(done) <= 3
            yield request(seed, 2)

    def counting(x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        batches.append(len(x))
        return network(x, timestep, **conditioning)

    results = serve(kdpm2.Denoiser(counting, SCHEDULE), source(), 3, **OPTIONS)
    assert taken == 0
    for result in results:
        done.append(result.request.seed)
    assert sorted(done, key=lambda seed: (seed or 0) // 3) == done  # of a length, they come and go by threes
    assert sorted(map(int, filter(None, done))) == list(range(1, 9))
    assert batches == [3] * 9


def test_compiled_batches_have_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdpm2.batching import solver as solver_module

    monkeypatch.setattr(solver_module, "_compiled_stage", lambda: solver_module._stage)
    shapes = set()

    def counting(x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        shapes.add(tuple(x.shape))
        return network(x, timestep, **conditioning)

    requests = [request(seed) for seed in range(5)]
    for one, sample in serve(kdpm2.Denoiser(counting, SCHEDULE), requests, 3, mode="compile", **OPTIONS):
        check(sample, one)
    assert shapes == {(3, *SHAPE)}


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: 1, TypeError, "requests must hold kdpm2.batching.Request, got 1"),
    (lambda: Request(), ValueError, "table must be given without sigmas, or sigmas without a table, got neither"),
    (lambda: request(0, table=dpm2(SCHEDULE, spacing.steps(SCHEDULE, 2))), ValueError, "without a table, got both"),
    (
        lambda: Request(dpm2(SCHEDULE, spacing.steps(SCHEDULE, 2)), eta=0.5),
        ValueError,
        "eta and s_noise must be 1 with a table",
    ),
    (lambda: request(0, sigmas="abc"), TypeError, "sigmas must be a flat list or array of numbers, got 'abc'"),
    (lambda: request(0, sigmas=[1.0, 2.0, 0.0]), ValueError, "sigmas must not rise unless eta"),
    (lambda: request(0, sigmas=[1.0, 0.0, 0.0]), ValueError, "sigmas must be finite numbers above 0, from"),
    (lambda: request(0, sigmas=[1.0]), ValueError, "table must have from 1 to most_stages=199 stages, got 0"),
    (lambda: request(0, sigmas=[2.0, float("nan")]), ValueError, "sigmas must be finite numbers above 0, from"),
    (lambda: request(0, eta=-1), ValueError, "eta must be a number from 0 to 1000, got -1"),
    (lambda: request(0, s_noise="1"), TypeError, "s_noise must be a number"),
    (lambda: request(0, x=torch.zeros(2)), ValueError, "x must have the solver's shape"),
    (lambda: Request(sigmas=sigmas(), seed=-1), ValueError, "seed must be an integer from 0"),
    (lambda: request(0, conditioning=[1]), TypeError, r"conditioning must be a mapping .* got \[1\]"),
    (lambda: request(0, conditioning={1: 1}), TypeError, "conditioning must have names of keyword arguments, got 1"),
    (lambda: request(0, conditioning={"by": "words"}), TypeError, "by in the conditioning must be a dense tensor"),
    (lambda: request(0, conditioning={"by": 2**70}), ValueError, "by must be a number of at most 64 bits"),
]


@pytest.mark.parametrize(("made", "error", "message"), REFUSED)
def test_wrong_requests(made: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(serve(DENOISER, [made()], 2, **OPTIONS))
    with Server(DENOISER, 2, **OPTIONS) as server:
        with pytest.raises(error, match=message):
            server.submit(made())
        check(server.submit(request(1)).result(MOST), request(1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"denoiser": 1}, TypeError, "network must be callable, got 1"),
        ({"max_batch": 0}, ValueError, "max_batch must be an integer at least 1, got 0"),
        ({"requests": 1}, TypeError, "requests must be an iterable of Request, got 1"),
        ({"static": 1}, TypeError, "static must be True or False, got 1"),
        ({"shape": 3}, TypeError, "shape must be a tuple of integers"),
        ({"noise": "brownian"}, ValueError, "noise must be one of"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_taken(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"denoiser": DENOISER, "requests": [], "max_batch": 2, **OPTIONS, **arguments}
    with pytest.raises(error, match=message):
        serve(**given)
    if "requests" not in arguments:
        del given["requests"]
        with pytest.raises(error, match=message):
            Server(**given)


def test_conditioning_of_another_kind_is_refused() -> None:
    other = request(2, conditioning={**request(2).conditioning, "by": torch.zeros(1, dtype=torch.float64)})
    with pytest.raises(ValueError, match="conditioning must have the names, shapes and dtypes of the first request's"):
        list(serve(DENOISER, [request(1), other], 2, **OPTIONS))
    with Server(DENOISER, 2, **OPTIONS) as server:
        first, second, third = (server.submit(one) for one in (request(1), other, request(3)))
        with pytest.raises(ValueError, match="conditioning must have the names"):
            second.result(MOST)
        check(first.result(MOST), request(1))
        check(third.result(MOST), request(3))


class Gate:
    """A network that goes on when it is told to."""

    def __init__(self) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.batches: list[int] = []
        self.denoiser = kdpm2.Denoiser(self, SCHEDULE)

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        self.batches.append(len(x))
        self.reached.set()
        assert self.open.wait(MOST)
        return network(x, timestep, **conditioning)


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


class BrokenError(Exception):
    """Of a network."""


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
    server._worker.join(MOST)
    assert not server._worker.is_alive()


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
