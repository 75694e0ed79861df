"""Each wrong call is refused in words, within a second, and a run goes on undisturbed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.bad_input.absurd import ABSURD
from tests.bad_input.calls import REFUSED, RUNS, STAGES, X, begun, costing_little, ready
from tests.bad_input.catalogue import (
    CATALOGUE,
    CONFIGURATIONS,
    CONSTRUCTOR,
    FUNCTIONS,
    GENERATOR,
    GROUPS,
    IN_STEP,
)
from tests.bad_input.modules import MODULES


@contextmanager
def unchanged(scheduler: Any) -> Iterator[None]:
    """Every attribute is to be the very same object afterwards, and torch's global generator where it was."""
    before, config, random = dict(vars(scheduler)), dict(scheduler.config), torch.get_rng_state()
    timesteps, anchor = scheduler.timesteps.clone(), scheduler._run.anchor.tensor.clone()
    yield
    assert vars(scheduler).keys() == before.keys()
    assert all(vars(scheduler)[name] is value for name, value in before.items())
    assert repr(dict(scheduler.config)) == repr(config)
    assert torch.equal(scheduler.timesteps, timesteps)
    assert torch.equal(scheduler._run.anchor.tensor, anchor)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.fixture(scope="module")
def begun_runs() -> dict[str, Any]:
    """Runs in progress, used again as long as they are unchanged."""
    return {}


# What is of no scheduler is called beside one run, what makes another of its class beside one of each, and the rest in
# the midst of every kind of run.
BESIDE = {id_: ["own sigmas"] for group in (FUNCTIONS, MODULES) for id_ in group} | {
    id_: ["ancestral", "discrete"] for group in (CONSTRUCTOR, CONFIGURATIONS) for id_ in group
}


@pytest.mark.parametrize(
    ("wrong", "message", "runs"),
    [(*case, BESIDE.get(id_, list(RUNS))) for id_, case in CATALOGUE.items()],
    ids=CATALOGUE,
)
def test_a_wrong_call_is_refused_in_words_and_changes_nothing(
    wrong: Callable[[Any], object], message: str, runs: list[str], begun_runs: dict[str, Any]
) -> None:
    for run in runs:
        scheduler = begun_runs.pop(run, None) or begun(run)
        with unchanged(scheduler), pytest.raises(REFUSED, match=message):
            wrong(scheduler)
        begun_runs[run] = scheduler


@pytest.mark.parametrize(("wrong", "message"), ABSURD.values(), ids=[id_[:80] for id_ in ABSURD])
def test_an_absurd_size_is_refused_before_it_costs_anything(wrong: Callable[[Any], object], message: str) -> None:
    scheduler = begun("ancestral")
    with costing_little(), unchanged(scheduler), pytest.raises(REFUSED, match=message):
        wrong(scheduler)


def run_through(run: str, noise: str, interruptions: list[tuple[int, bool, str]]) -> list[torch.Tensor]:
    """The samples of a run into which wrong calls break, before or after its input is scaled."""
    scheduler = ready(run)
    torch.manual_seed(3)
    if noise == "seed":
        scheduler.seed([1, 2])
    generator = torch.Generator().manual_seed(4) if noise == "generator" else None
    x, samples = X, []

    def interrupt(stage: int, scaled: bool) -> None:
        for id_ in (id_ for *place, id_ in interruptions if place == [stage, scaled]):
            if not scheduler.state_in_first_order or not (id_ in GENERATOR or id_ in IN_STEP):
                with pytest.raises(REFUSED):
                    CATALOGUE[id_][0](scheduler)

    for stage, timestep in enumerate(scheduler.timesteps):
        interrupt(stage, False)
        scaled = scheduler.scale_model_input(x, timestep)
        interrupt(stage, True)
        output = oracle.network(scaled, timestep)
        x = scheduler.step(output, timestep, x, generator=generator).prev_sample
        samples.append(x)
    return samples


@settings(max_examples=settings().max_examples * 2 // 5, deadline=None)
@given(
    st.sampled_from(sorted(RUNS)),
    st.sampled_from(["global", "seed", "generator"]),
    # From the second stage on: only then is it a run that stages may be out of order with.
    st.lists(st.tuples(st.integers(1, STAGES - 1), st.booleans(), st.sampled_from(sorted(CATALOGUE))), min_size=1),
)
def test_a_run_goes_on_as_if_no_wrong_call_had_been_made(
    run: str, noise: str, interruptions: list[tuple[int, bool, str]]
) -> None:
    undisturbed = run_through(run, noise, [])
    disturbed = run_through(run, noise, interruptions)
    assert all(torch.equal(a, b) for a, b in zip(undisturbed, disturbed, strict=True))


def test_the_catalogue_is_long_enough_and_names_each_case_once() -> None:
    assert len(CATALOGUE) == sum(map(len, GROUPS))
    assert not CATALOGUE.keys() & ABSURD.keys()
    assert len(CATALOGUE) + len(ABSURD) >= 120
