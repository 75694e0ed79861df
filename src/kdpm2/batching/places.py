"""Which request has which place: those at rows of one kind next to one another, with as few moves as that takes."""

from collections.abc import Sequence
from typing import NamedTuple

Side = list[tuple[int, int | None]]


class Plan(NamedTuple):
    """Who is where, and what has to move for it.

    Attributes:
        order: For each place the number of the request that has it.
        sources: Places from which a request moves to another.
        targets: For each source, where to.
    """

    order: list[int]
    sources: list[int]
    targets: list[int]


def planned(kinds: Sequence[bool], places: Sequence[int | None]) -> Plan:
    """A plan for requests, each with its kind and the place that it has, or None.

    The two kinds lie in the order for which fewer requests move; those that have a place where their kind is to be
    keep it.
    """
    sides: dict[bool, Side] = {False: [], True: []}
    for number, (kind, place) in enumerate(zip(kinds, places, strict=True)):
        sides[bool(kind)].append((number, place))
    plans = [_in_order(first, second) for first, second in ((sides[False], sides[True]), (sides[True], sides[False]))]
    return min(plans, key=lambda plan: len(plan.sources))


def _in_order(*sides: Side) -> Plan:
    order = [-1] * sum(map(len, sides))
    sources, targets, start = [], [], 0
    for side in sides:
        own = range(start, start + len(side))
        start += len(side)
        moving = []
        for number, place in side:
            if place is not None and place in own:
                order[place] = number
            else:
                moving.append((number, place))
        vacant = (place for place in own if order[place] < 0)
        for (number, place), target in zip(moving, vacant, strict=True):
            order[target] = number
            if place is not None:
                sources.append(place)
                targets.append(target)
    return Plan(order, sources, targets)
