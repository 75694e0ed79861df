"""A server's loop in real time: the network is called, and requests join when they have come and a policy lets them.

*Continuous* batching lets a request in wherever there is room, and out when it is finished. *Static* batching, as calls
of a pipeline are batched, waits until there is a full batch or no more will come, runs that to the end of its longest
request, and lets all of them out; until then the network is called on the full batch, whose shape is always the same.
*Static, no waiting* is the best that can be done without letting anyone in: a batch is what has come when the one
before it is over, and a request that is finished leaves at once, so that the network is called on fewer.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, sleep
from typing import NamedTuple

import torch

from benchmarks.load import Request
from kdpm2.batching import BatchedSolver, Finished
from kdpm2.table import StageTable

SHAPE = (1, 8, 8)
NO_LABEL = 10

Network = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Called as network(x, timestep, labels), with x of shape (B, 1, 8, 8) and the others of shape (B,)."""


class Policy(NamedTuple):
    """Who may join and leave a batch, and when.

    Attributes:
        joins: Whether a request may join a batch that is under way.
        leaves: Whether one that is finished is let out before the others are.
        waits: Whether a batch begins only when it is full, or no more requests will come.
    """

    joins: bool
    leaves: bool
    waits: bool


CONTINUOUS, NO_WAITING, STATIC = "continuous", "static, no waiting", "static"
POLICIES = {
    CONTINUOUS: Policy(joins=True, leaves=True, waits=False),
    NO_WAITING: Policy(joins=False, leaves=True, waits=False),
    STATIC: Policy(joins=False, leaves=False, waits=True),
}


class Answer(NamedTuple):
    """A sample that is let out: that of the request in this place of the list, `latency` seconds after it came."""

    place: int
    sample: torch.Tensor
    latency: float


class Outcome(NamedTuple):
    """What came of the requests.

    Attributes:
        answers: In the order in which they were let out.
        members: For each call of the network, how many requests it was needed for.
        seconds: From the start until the last answer.
    """

    answers: list[Answer]
    members: list[int]
    seconds: float


@torch.no_grad()
def serve(
    requests: Sequence[Request],
    network: Network,
    tables: Mapping[int, StageTable],
    policy: Policy,
    most: int,
) -> Outcome:
    """Answer every request.

    Args:
        requests: As they come.
        network: Of the digits model.
        tables: The table for each number of steps.
        policy: Who may join and leave a batch.
        most: The largest batch.
    """
    solver = BatchedSolver(SHAPE, capacity=None if policy.leaves else most)
    waiting = deque(enumerate(requests))
    running: dict[int, int] = {}
    finished: list[Finished] = []
    answers: list[Answer] = []
    members: list[int] = []
    start = perf_counter()
    while waiting or len(solver):
        if not len(solver):
            _, last = waiting[min(most, len(waiting)) - 1 if policy.waits else 0]
            sleep(max(0.0, start + last.arrival - perf_counter()))
        if policy.joins or not len(solver):
            while waiting and len(solver) < most and start + waiting[0][1].arrival <= perf_counter():
                place, request = waiting.popleft()
                running[solver.admit(tables[request.steps], seed=request.seed)] = place
        inputs = solver.next_inputs()
        members.append(len(solver))
        labels = [NO_LABEL if i is None else requests[running[i]].label for i in inputs.ids]
        finished += solver.advance(network(inputs.x, inputs.timestep, torch.tensor(labels)))
        if policy.leaves or not len(solver):
            now = perf_counter() - start
            for i, sample in finished:
                place = running.pop(i)
                answers.append(Answer(place, sample, now - requests[place].arrival))
            finished.clear()
    return Outcome(answers, members, perf_counter() - start)
