"""Who has which place: kinds together, and nobody moved without need."""

from hypothesis import given
from hypothesis import strategies as st

from kdpm2.batching.places import planned


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12), st.randoms(use_true_random=False))
def test_any_plan(requests: list[tuple[bool, bool]], random: object) -> None:
    kinds = [kind for kind, _ in requests]
    numbers = iter(random.sample(range(20), 20))  # type: ignore[attr-defined]
    places = [next(numbers) if has_place else None for _, has_place in requests]
    plan = planned(kinds, places)
    assert sorted(plan.order) == list(range(len(requests)))
    told = [kinds[number] for number in plan.order]
    assert told == sorted(told) or told == sorted(told, reverse=True)
    moved = {(places[number], target) for target, number in enumerate(plan.order) if places[number] is not None}
    assert {pair for pair in moved if pair[0] != pair[1]} == set(zip(plan.sources, plan.targets, strict=True))


def test_those_that_fit_stay() -> None:
    assert planned([True, True, False], [0, 1, 2]) == ([0, 1, 2], [], [])
    # The last takes the place of one that went, and one that came is put behind.
    assert planned([False, False, True], [0, 3, 2]) == ([0, 1, 2], [3], [1])
    assert planned([True, False], [0, None]) == ([0, 1], [], [])
