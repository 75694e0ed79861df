"""A request of the soak, all its futures, and the verdict on what came of it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.soak.asked import TOLERANCES, Alone, Asked
from tests.soak.faults import OTHERS, fault_of

OUTSIDE = torch.full((1,), 7.0)
"""What somebody else gives to a future."""
VERDICTS = ("lost", "doubled", "wrong")


@dataclass(eq=False)
class Ticket:
    """A request, and what was done to it.

    Attributes:
        one: What was asked for.
        key: Its key.
        met: The faults that it met.
        futures: That of the server which took it, then those of servers that were restored.
        called: How often the callbacks of each future were called.
        server: The id of the server of the last future.
    """

    one: Asked
    key: str
    met: set[str] = field(default_factory=set)
    futures: list[Any] = field(default_factory=list)
    called: Counter[int] = field(default_factory=Counter)
    server: int = 0

    def watch(self, future: Any, server: object) -> None:
        """Take in a future of this request."""
        number = len(self.futures)
        self.futures.append(future)
        self.server = id(server)
        future.add_done_callback(lambda _: self.called.update([number]))


def verdicts(ticket: Ticket, alone: Alone, dtype: torch.dtype, noise: str) -> dict[str, str]:
    """What is wrong with a request whose server has ended: what of `VERDICTS`, each with a description."""
    found: dict[str, str] = {}
    samples: list[torch.Tensor] = []
    for number, future in enumerate(ticket.futures):
        if ticket.called[number] != 1:
            found["lost" if ticket.called[number] == 0 else "doubled"] = f"{ticket.called[number]} calls of a callback"
        if not future.done():
            found["lost"] = "a future that is not done"
        elif future.cancelled():
            if not ticket.met & {"cancelled", OTHERS[2]}:
                found["lost"] = "cancelled by nobody"
        elif (error := future.exception()) is not None:
            if not _is_explained(error, ticket):
                found["lost"] = f"another's error: {error!r}"
        elif future.result() is not OUTSIDE:
            samples.append(future.result())
        elif "future ended from outside" not in ticket.met:
            found["wrong"] = "a result from outside that nobody gave it"
    if samples and "network fails for one request" in ticket.met:
        found["wrong"] = "a sample where there can be none"
        return found
    for sample in samples:
        expected = alone(ticket.one, dtype, noise).double()
        off = float((sample.double() - expected).abs().max() / expected.abs().max().clamp(min=1))
        if not off <= TOLERANCES[dtype]:
            found["wrong"] = f"a sample that is {off:g} off"
    if any(not torch.equal(samples[0], other) for other in samples[1:]):
        found["doubled"] = "made twice with other bits"
    return found


def _is_explained(error: BaseException, ticket: Ticket) -> bool:
    """Whether an error is this request's own, or of all in its solver."""
    if isinstance(error, TimeoutError):
        return "deadline" in ticket.met
    fault = fault_of(error)
    if fault is None:
        return False
    name, requests = fault
    if name == "network fails for a batch" or name == "network spoils its input, then fails":
        return requests == 1
    return name.startswith("no memory") or name in ticket.met
