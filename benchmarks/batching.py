"""What continuous batching is worth: the digits model under load, each policy of `benchmarks.serving` in turn.

Real time, and real calls of the network. The load is a share of what continuous batching can do at most, which is
measured first: as many samples a call as a batch holds, in as many calls as requests have stages on average.
"""

from collections.abc import Iterator
from functools import cache, partial
from statistics import fmean

import torch

from benchmarks import advance, load, loops
from benchmarks.load import Request
from benchmarks.serving import CONTINUOUS, POLICIES, Network, Policy, serve
from benchmarks.timing import Case, Served, percentiles
from kdpm2 import noise_schedule, spacing
from kdpm2.table import StageTable, dpm2

LOAD_PREFIX = "batching load "
LOADS = (0.4, 0.7, 2.0)
"""Below what any policy can do; above what static batching can; above what any can, so that requests wait in a row that
grows to the end."""
MOST = 8
"""The largest batch."""

_REQUESTS, _REQUESTS_OF_A_QUICK_RUN = 160, 8


def cases(repeats: int, quick: bool) -> Iterator[Case]:
    """What a stage costs, and each load, of few requests in a `quick` run."""
    yield from advance.cases(repeats)
    for share in LOADS:
        yield Case(f"{LOAD_PREFIX}{share}", partial(_measured, share, _REQUESTS_OF_A_QUICK_RUN if quick else _REQUESTS))


def _measured(share: float, count: int) -> list[Served]:
    rate = share * capacity()
    return [
        measured(f"{LOAD_PREFIX}{share}", name, policy, load.requests(count, rate), rate)
        for name, policy in POLICIES.items()
    ]


def measured(case: str, name: str, policy: Policy, requests: list[Request], rate: float) -> Served:
    """What comes of requests of which `rate` come in a second.

    Raises:
        RuntimeError: If a sample is not finite.
    """
    outcome = serve(requests, network(), tables(), policy, MOST)
    if not all(bool(answer.sample.isfinite().all()) for answer in outcome.answers):
        raise RuntimeError(f"samples must be finite, got others from {name} batching")
    return Served(
        case=case,
        project=name,
        offered=rate,
        requests=len(requests),
        throughput=len(outcome.answers) / outcome.seconds,
        calls=len(outcome.members),
        occupancy=fmean(outcome.members) / MOST,
        latencies=percentiles([answer.latency for answer in outcome.answers]),
    )


@cache
def capacity() -> float:
    """Requests a second that full batches answer, where every place is taken again at once."""
    most_steps = max(load.STEPS)
    backlog = [Request(0.0, most_steps, 0, seed) for seed in range(MOST)]
    for size in range(1, MOST + 1):  # the first calls of each shape are slow
        for _ in range(3):
            network()(torch.zeros(size, 1, 8, 8), torch.zeros(size), torch.zeros(size, dtype=torch.int64))
    outcome = serve(backlog, network(), tables(), POLICIES[CONTINUOUS], MOST)
    return MOST * len(outcome.members) / (outcome.seconds * fmean(len(tables()[steps]) for steps in load.STEPS))


@cache
def tables() -> dict[int, StageTable]:
    """The table for each number of steps that requests have."""
    return {steps: table(steps) for steps in load.STEPS}


def table(steps: int) -> StageTable:
    """A table for the digits model, on its pipeline's Karras sigmas."""
    schedule = noise_schedule.discrete(beta_schedule="scaled_linear")
    return dpm2(schedule, spacing.steps(schedule, steps, sigma_curve="karras"), "v_prediction")


@cache
def network() -> Network:
    """The digits model."""
    return loops.digits(1).network
