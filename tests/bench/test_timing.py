import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from benchmarks import timing
from benchmarks.timing import Run, Work


def test_projects_take_turns_and_only_runs_are_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    order: list[str] = []

    def passing(seconds: float) -> None:
        nonlocal now
        now += seconds

    def of(name: str, seconds: float, units: int) -> Work:
        @contextmanager
        def work() -> Iterator[Run]:
            def run() -> int:
                assert not gc.isenabled()
                order.append(name)
                passing(seconds)
                return units

            passing(100.0)
            yield run
            passing(1000.0)

        return work

    monkeypatch.setattr(timing, "perf_counter", lambda: now)
    times = timing.side_by_side(
        {"a": of("a", 6.0, 3), "b": of("b", 5.0, 1)}, repeats=2, synchronize=lambda: passing(0.75)
    )
    assert order == ["a", "b"] * 3
    # What is waited for before the clock starts does not count; what a run leaves to be done does.
    assert times == {"a": [2.25, 2.25], "b": [5.75, 5.75]}
    assert gc.isenabled()


def test_garbage_is_collected_again_after_an_error() -> None:
    def fail() -> None:
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        timing.side_by_side({"a": timing.repeated(fail, 1)}, repeats=1)
    assert gc.isenabled()


def test_the_record_of_a_list_of_times() -> None:
    record = timing.summary("case", "project", [5.0, 1.0, 2.0, 4.0, 30.0])
    assert (record.seconds, record.repeats, record.quartiles) == (4.0, 5, (2.0, 5.0))
    assert timing.summary("case", "project", [3.0]).quartiles == (3.0, 3.0)


def test_a_stopwatch_does_not_count_what_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(timing, "perf_counter", lambda: now)

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    watch = timing.Stopwatch()
    start = watch()
    pass_time(2)
    watch.uncounted(lambda: pass_time(30))
    pass_time(1)
    assert watch() - start == 3
