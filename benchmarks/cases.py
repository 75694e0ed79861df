"""Every case there is, in the order in which they are measured and shown."""

from collections.abc import Iterator, Sequence
from itertools import chain

from benchmarks import batching, imports, loops, memory, pairs, schedulers
from benchmarks.timing import Case

REPEATS = 11
_REPEATS_OF_IMPORTS = 5
_QUICK = 2


def every(quick: bool) -> Iterator[Case]:
    """All cases; those of a `quick` run are the small ones, repeated twice."""
    repeats = _QUICK if quick else REPEATS
    return chain(
        # First: what an allocation costs depends on what the process has allocated before.
        pairs.cases(repeats, quick),
        schedulers.cases(repeats, quick),
        loops.cases(repeats, quick),
        memory.cases(),
        imports.cases(_QUICK if quick else _REPEATS_OF_IMPORTS),
        batching.cases(repeats, quick),
    )


def chosen(prefixes: Sequence[str], quick: bool) -> list[Case]:
    """The cases whose names begin with one of `prefixes`, all if there are none.

    Raises:
        ValueError: If no name begins with one of them.
    """
    held = list(every(quick))
    for prefix in prefixes:
        if not any(case.name.startswith(prefix) for case in held):
            kinds = dict.fromkeys(case.name.split()[0].partition("(")[0] for case in held)
            raise ValueError(f"must be the beginning of a case's name, {', '.join(kinds)} or more, got {prefix!r}")
    return [case for case in held if not prefixes or case.name.startswith(tuple(prefixes))]
