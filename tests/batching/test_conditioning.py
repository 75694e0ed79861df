"""What requests bring along: numbers go with numbers, other kinds take turns, and what is wrong fails alone."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import kdpm2
from kdpm2.batching import Request, Server, conditioning, serve
from tests.batching.asking import DENOISER, MOST, OPTIONS, SCHEDULE, BrokenError, Gate, check, network, request, sigmas
from tests.batching.requests import SHAPE

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([7, 7.5], torch.float32),
        ([7.5, None, 7], torch.float32),
        ([1, 2, None], torch.int64),
        ([True, None], torch.bool),
        ([True, 2], torch.int64),
        ([-(2**63), 2**63 - 1], torch.int64),
    ],
)
def test_numbers_of_one_name_are_of_one_kind(values: list[Any], dtype: torch.dtype) -> None:
    held = [None if value is None else conditioning.taken({"a": {"b": value}}, CPU) for value in values]
    assert len({str(conditioning.kind(each)) for each in held if each is not None}) == 1
    made = conditioning.together(held, CPU)["a"]["b"]
    assert made.dtype == dtype
    assert made.tolist() == [value or 0 for value in values]


def test_tensors_are_put_together_where_shape_and_dtype_are_the_same() -> None:
    kinds = [
        conditioning.kind(conditioning.taken({"a": value}, CPU))
        for value in (torch.zeros(2), torch.zeros(3), torch.zeros(2, dtype=torch.int32), 0, {"b": 0})
    ]
    assert all(one != other for place, one in enumerate(kinds) for other in kinds[:place])
    assert conditioning.kind(conditioning.taken({"a": torch.ones(2)}, CPU)) == kinds[0]


def guided(x: torch.Tensor, timestep: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x * scale.reshape(-1, 1, 1).to(x)


def plain(seed: int, **given: Any) -> Request:
    return Request(sigmas=sigmas(2 + seed % 3), seed=seed, conditioning=given)


def made_alone(one: Request, denoiser: kdpm2.Denoiser) -> torch.Tensor:
    (result,) = serve(denoiser, [one], 1, **OPTIONS)
    return result.sample


def test_an_integer_and_a_float_share_network_calls() -> None:
    batches = []

    def counting(x: torch.Tensor, timestep: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        batches.append(len(x))
        return guided(x, timestep, scale)

    requests = [plain(0, scale=7), plain(3, scale=7.5)]
    results = list(serve(kdpm2.Denoiser(counting, SCHEDULE), requests, 2, **OPTIONS))
    assert batches == [2] * 3
    for one, sample in results:
        torch.testing.assert_close(sample, made_alone(one, kdpm2.Denoiser(guided, SCHEDULE)))


def test_requests_of_other_kinds_take_turns() -> None:
    calls = []

    def counting(x: torch.Tensor, timestep: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        calls.append((len(x), by.shape[1:]))
        return torch.tanh(x + by.sum(dim=-1).reshape(-1, 1, 1))

    denoiser = kdpm2.Denoiser(counting, SCHEDULE)
    requests = [plain(3 * seed, by=torch.full((1 + seed % 2,), 0.1 * seed)) for seed in range(4)]
    results = list(serve(denoiser, requests, 4, **OPTIONS))
    assert calls == [(2, (1,)), (2, (2,))] * 3
    assert [result.request for result in results] == [requests[each] for each in (0, 2, 1, 3)]
    for one, sample in results:
        torch.testing.assert_close(sample, made_alone(one, denoiser))


def breaking(x: torch.Tensor, timestep: torch.Tensor, by: torch.Tensor, **more: Any) -> torch.Tensor:
    if (by == 100).any():
        raise BrokenError("a hundred")
    return network(x, timestep, by, **more)


def bad(seed: int) -> Request:
    return request(seed, 4, conditioning={**request(seed).conditioning, "by": torch.full(SHAPE, 100.0).double()})


@pytest.mark.parametrize("static", [False, True])
def test_one_bad_request_among_good_ones_fails_alone(static: bool, caplog: pytest.LogCaptureFixture) -> None:
    shapes = set()
    submitted = threading.Event()

    def seen(x: torch.Tensor, timestep: torch.Tensor, **given: Any) -> torch.Tensor:
        assert submitted.wait(MOST)
        shapes.add(len(x))
        return breaking(x, timestep, **given)

    with Server(kdpm2.Denoiser(seen, SCHEDULE), 3, static=static, queue_size=50, **OPTIONS) as server:
        futures = [server.submit(bad(seed) if seed in (2, 3, 7) else request(seed)) for seed in range(10)]
        submitted.set()
        for seed, future in enumerate(futures):
            if seed in (2, 3, 7):
                with pytest.raises(BrokenError, match="a hundred"):
                    future.result(MOST)
            else:
                check(future.result(MOST), request(seed))
    assert "requests failed; it is now made for each" in caplog.text
    if static:
        assert shapes == {3}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"by": torch.zeros(1)},
        {"by": "twice", "other": 1.0},
        {"unknown": 1},
    ],
)
def test_a_first_request_that_is_wrong_holds_nobody_up(wrong: dict[str, Any]) -> None:
    with Server(DENOISER, 3, queue_size=10, **OPTIONS) as server:
        for _ in range(3):
            try:
                first = server.submit(Request(sigmas=sigmas(), seed=1, conditioning=wrong))
            except TypeError:
                first = None
            good = [server.submit(request(seed)) for seed in range(2)]
            for seed, future in enumerate(good):
                check(future.result(MOST), request(seed))
            if first is not None:
                assert first.exception(MOST) is not None
        assert server.counters()["done"] == 6


def test_memory_that_runs_out_for_many_may_do_for_each(caplog: pytest.LogCaptureFixture) -> None:
    def narrow(x: torch.Tensor, timestep: torch.Tensor, **given: Any) -> torch.Tensor:
        if len(x) > 1:
            raise MemoryError
        return network(x, timestep, **given)

    for one, sample in serve(kdpm2.Denoiser(narrow, SCHEDULE), [request(seed) for seed in range(3)], 3, **OPTIONS):
        check(sample, one)


def test_an_error_that_is_no_exception_ends_the_batch_and_not_the_server() -> None:
    gate = Gate()
    first = True

    def leaving(x: torch.Tensor, timestep: torch.Tensor, **given: Any) -> torch.Tensor:
        nonlocal first
        output = gate(x, timestep, **given)
        if first and len(x) > 1:
            first = False
            raise SystemExit
        return output

    gate.denoiser = kdpm2.Denoiser(leaving, SCHEDULE)
    with Server(gate.denoiser, 2, queue_size=4, **OPTIONS) as server:
        futures = [server.submit(request(seed, 5)) for seed in range(4)]
        gate.open.set()
        ended = [future.exception(MOST) for future in futures]
        assert [isinstance(error, SystemExit) for error in ended] == [True, True, False, False]


@contextmanager
def meta_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("defaults", [meta_device, lambda: default_dtype(torch.float64)])
def test_torch_defaults_change_nothing(defaults: Callable[[], Any]) -> None:
    held = [conditioning.taken({"a": value}, CPU) for value in (7, 7.5)]
    expected = conditioning.together(held, CPU)["a"]
    with defaults():
        made = conditioning.together([conditioning.taken({"a": value}, CPU) for value in (7, 7.5)], CPU)["a"]
    assert made.device == expected.device
    assert made.dtype == expected.dtype
    assert made.tolist() == [7, 7.5]
    wanted = request(2)
    with Server(DENOISER, 2, **OPTIONS) as server:
        with defaults():
            sample = server.submit(wanted).result(MOST)
        check(sample, wanted)


@pytest.mark.parametrize(
    "defaults",
    [
        meta_device,
        lambda: default_dtype(torch.float64),
    ],
)
def test_torch_defaults_in_the_server_s_thread_change_nothing(defaults: Callable[[], Any]) -> None:
    def changing(x: torch.Tensor, timestep: torch.Tensor, **given: Any) -> torch.Tensor:
        if not entered:
            entered.append(defaults())
            entered[0].__enter__()
        return network(x, timestep, **given)

    entered: list[Any] = []
    requests = [request(seed) for seed in range(4)]
    with Server(kdpm2.Denoiser(changing, SCHEDULE), 2, **OPTIONS) as server:
        futures = [server.submit(one) for one in requests]
        errors = [future.exception(MOST) for future in futures]
        entered[0].__exit__(None, None, None)
        assert errors == [None] * 4
        for one, future in zip(requests, futures, strict=True):
            check(future.result(), one)
