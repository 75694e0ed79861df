"""The load, the policies under it, and what is told of them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import advance, batching, load, report, serving
from benchmarks.__main__ import app
from benchmarks.timing import Served, percentiles
from typer.testing import CliRunner


def test_arrivals_are_poisson() -> None:
    rate, seconds = 50.0, 1500
    times = load.arrivals(int(rate * seconds * 1.1), rate, np.random.default_rng(3))
    gaps = np.diff(times)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.02)
    assert gaps.var() == pytest.approx(1 / rate**2, rel=0.04)
    # What comes in one second says nothing of the next, and has a variance that is its mean.
    counts = np.histogram(times, bins=np.arange(seconds + 1))[0]
    assert counts.mean() == pytest.approx(rate, rel=0.02)
    assert counts.var() == pytest.approx(rate, rel=0.15)
    assert abs(np.corrcoef(counts[:-1], counts[1:])[0, 1]) < 0.1


def test_a_load_is_the_same_at_every_rate_but_for_its_times() -> None:
    slow, fast = load.requests(500, 2.0), load.requests(500, 8.0)
    assert [request[1:] for request in slow] == [request[1:] for request in fast]
    np.testing.assert_allclose([r.arrival for r in slow], [4 * r.arrival for r in fast], rtol=1e-12)
    steps = [request.steps for request in slow]
    assert {*steps} == {*load.STEPS}
    assert all(steps.count(each) > 90 for each in load.STEPS)
    assert len({request.seed for request in slow}) == 500
    assert load.requests(5, 2.0, seed=1) != slow[:5]


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be"):
        load.requests(3, rate)


def test_percentiles_are_numpys() -> None:
    values = np.random.default_rng(0).exponential(size=77)
    np.testing.assert_allclose(percentiles(values.tolist()), np.percentile(values, range(1, 100)), rtol=1e-12)
    record = Served("", "", 1.0, 77, 1.0, 1, 1.0, percentiles(values.tolist()))
    for percent in report.PERCENTS:
        assert record.percentile(percent) == pytest.approx(np.percentile(values, percent), rel=1e-12)


def of_the_sum(x: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A network that sees all that it is told, one sample at a time."""
    return 0.3 * x + 0.1 * x.mean(dim=(1, 2, 3), keepdim=True) + (timestep / 1000 - labels / 10)[:, None, None, None]


def outcomes(requests: list[load.Request], most: int) -> dict[str, serving.Outcome]:
    return {
        name: serving.serve(requests, of_the_sum, batching.tables(), policy, most)
        for name, policy in serving.POLICIES.items()
    }


def test_every_policy_answers_every_request_once_with_the_same_sample() -> None:
    requests = load.requests(21, 400.0)
    alone = serving.serve(requests, of_the_sum, batching.tables(), serving.POLICIES[serving.STATIC], 1)
    expected = {answer.place: answer.sample for answer in alone.answers}
    for outcome in outcomes(requests, 4).values():
        assert sorted(answer.place for answer in outcome.answers) == list(range(21))
        for answer in outcome.answers:
            torch.testing.assert_close(answer.sample, expected[answer.place], rtol=1e-5, atol=1e-5)
            stages = 2 * requests[answer.place].steps - 1
            assert 0 < answer.latency <= outcome.seconds - requests[answer.place].arrival
            assert len(outcome.members) >= stages
        # What a call was needed for, summed over the calls, is every stage of every request.
        assert sum(outcome.members) == sum(2 * request.steps - 1 for request in requests)
        assert max(outcome.members) <= 4


def test_a_static_batch_is_over_with_its_longest_request_and_a_continuous_one_never_waits() -> None:
    steps = (10, 50, 20, 28, 10, 20)
    at_once = [load.Request(0.0, each, i, i) for i, each in enumerate(steps)]
    found = outcomes(at_once, 2)
    assert len(found[serving.STATIC].members) == 99 + 55 + 39
    assert [answer.place for answer in found[serving.STATIC].answers] == [0, 1, 2, 3, 4, 5]
    assert len(found[serving.NO_WAITING].members) == 99 + 55 + 39
    assert [answer.place for answer in found[serving.NO_WAITING].answers] == [0, 1, 2, 3, 4, 5]
    # 0, then 2, then 3 beside 1; 4 and 5 after 1, as places come free.
    assert [answer.place for answer in found[serving.CONTINUOUS].answers] == [0, 2, 1, 3, 4, 5]
    assert len(found[serving.CONTINUOUS].members) == 19 + 39 + 55 + 39
    latest = {name: outcome.members for name, outcome in found.items()}
    assert latest[serving.STATIC][19:99] == [1] * 80
    assert set(latest[serving.CONTINUOUS][: 19 + 39 + 55]) == {2}


def test_static_batching_waits_for_a_full_batch_and_for_no_more_than_there_are() -> None:
    requests = [load.Request(arrival, 10, 0, i) for i, arrival in enumerate((0.0, 0.5, 0.5))]
    found = outcomes(requests, 2)
    assert found[serving.STATIC].answers[0].latency >= 0.5
    assert found[serving.STATIC].members == [2] * 19 + [1] * 19
    assert found[serving.CONTINUOUS].members[0] == found[serving.NO_WAITING].members[0] == 1


def test_the_network_is_called_on_a_full_batch_until_a_static_one_is_over() -> None:
    shapes: dict[str, list[int]] = {}

    def seen(name: str) -> serving.Network:
        def network(x: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            shapes.setdefault(name, []).append(len(x))
            return of_the_sum(x, timestep, labels)

        return network

    requests = [load.Request(0.0, steps, 0, steps) for steps in (10, 20, 10)]
    for name, policy in serving.POLICIES.items():
        serving.serve(requests, seen(name), batching.tables(), policy, 3)
    assert shapes[serving.STATIC] == [3] * 39
    assert shapes[serving.NO_WAITING] == shapes[serving.CONTINUOUS] == [3] * 19 + [1] * 20


def test_samples_that_are_no_numbers_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "network", lambda: lambda x, timestep, labels: x * math.nan)
    with pytest.raises(RuntimeError, match="samples must be finite, got others from static batching"):
        batching.measured("", serving.STATIC, serving.POLICIES[serving.STATIC], load.requests(2, 1000.0), 1000.0)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [False, True])
def test_64_samples_are_at_64_stages_and_make_the_draws_of_a_batch_at_one(noise: bool) -> None:
    works = advance.works(noise, lambda call: call())
    assert list(works)[:4] == ["diffusers", "kdpm2", "kdpm2.update", "kdpm2.batching"]
    assert {*works} <= {*report.PROJECTS}
    for work in works.values():
        with work() as run:  # leaving it counts the draws, where there are to be none
            assert run() == advance._ROUNDS


@pytest.mark.slow
def test_what_the_command_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LOADS", (0.7,))
    files = tmp_path / "out.json", tmp_path / "out.md"
    arguments = ["--quick", "--only", "batching", "--json", str(files[0]), "--markdown", str(files[1])]
    result = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(app, arguments)
    assert result.exit_code == 0, result.output
    records = json.loads(files[0].read_text(encoding="utf-8"))["records"]
    served = [record for record in records if "latencies" in record]
    assert [record["project"] for record in served] == list(serving.POLICIES)
    for record in served:
        assert record["requests"] == 8
        assert 0 < record["occupancy"] <= 1
        assert 0 < record["throughput"] < math.inf
        assert record["calls"] >= 99
        assert 0 < record["latencies"][0] <= record["latencies"][98] < math.inf
        assert record["latencies"] == sorted(record["latencies"])
    times = [record for record in records if "seconds" in record]
    assert len({record["case"] for record in times}) == 4
    assert all(0 < record["seconds"] < math.inf for record in times)
    page = files[1].read_text(encoding="utf-8")
    for record in served:
        assert f"| {record['case']}, {record['project']} | {report.number(record['offered'])} |" in page
