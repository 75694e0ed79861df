"""Requests in, samples out: in order, no more at once than there is room for, and none lost by another's fault."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import kdpm2
from kdpm2 import spacing
from kdpm2.batching import Request, Server, serve
from kdpm2.table import dpm2
from tests.batching.asking import DENOISER, MOST, OPTIONS, SCHEDULE, check, network, request, sigmas
from tests.batching.requests import SHAPE


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
    (lambda: None, TypeError, "requests must hold kdpm2.batching.Request, got None"),
    (lambda: Request(), ValueError, "table must be given without sigmas, or sigmas without a table, got neither"),
    (lambda: request(0, table=dpm2(SCHEDULE, spacing.steps(SCHEDULE, 2))), ValueError, "without a table, got both"),
    (
        lambda: Request(dpm2(SCHEDULE, spacing.steps(SCHEDULE, 2)), eta=0.5),
        ValueError,
        "eta and s_noise must be 1, and s_churn 0, with a table",
    ),
    (lambda: request(0, sigmas="abc"), TypeError, "sigmas must be a flat list or array of numbers, got 'abc'"),
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


@pytest.mark.parametrize("place", [0, 1, 5])
def test_none_among_requests_is_no_end(place: int) -> None:
    requests: list[Any] = [request(seed) for seed in range(6)]
    requests[place] = None
    with pytest.raises(TypeError, match=r"requests must hold kdpm2\.batching\.Request, got None"):
        list(serve(DENOISER, requests, 2, **OPTIONS))


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
        ({"noise": "pink"}, ValueError, "noise must be one of"),
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
