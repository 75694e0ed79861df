"""The running requests, in batches that take turns, and the network that is called for them.

Requests whose conditioning cannot be stacked cannot share a network call. So each `Batch` holds requests of one kind,
and has its own solver. `Batches` holds as many batches as are needed. Each network call serves the batch whose turn it
is.

No request fails because of another one. If a call for several requests fails, the network is called for each of them
alone. Only requests that also fail alone get the error. If a solver fails, its batch ends with that error, and the
other batches go on.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

import torch

from kdpm2 import _check
from kdpm2.batching import conditioning
from kdpm2.batching.request import Checked, checked
from kdpm2.batching.solver import BatchedSolver, Inputs
from kdpm2.denoiser import Denoiser, Network, Outputs, as_denoiser

Owner = TypeVar("Owner")
"""Whoever is to be told of a sample: the request itself, or what stands for it."""
Outcome = torch.Tensor | BaseException

logger = logging.getLogger(__name__)


class Calls:
    """The network, and counts of its calls.

    Attributes:
        made: Network calls, including those that failed.
        requests: The number of requests of each call, added up.
    """

    def __init__(self, denoiser: Denoiser, device: torch.device) -> None:
        self._denoiser, self._device = denoiser, device
        self.made = self.requests = 0

    def together(self, values: list[dict[str, Any] | None]) -> dict[str, Any]:
        """The stacked conditioning, with zeros for None."""
        joined: dict[str, Any] = conditioning.together(values, self._device)
        return joined

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, given: dict[str, Any], requests: int) -> Outputs:
        """What the network says of x (B, ...) and timestep (B,), of which `requests` places are not empty."""
        self.made += 1
        self.requests += requests
        return self._denoiser.outputs(x, timestep, **given)


class Batch(Generic[Owner]):
    """Requests whose conditioning is of one kind, in one solver.

    Attributes:
        solver: It holds these requests and no others.
        kind: As `conditioning.kind` returns it.
        owners: The owner of each request, by the solver's ids.
    """

    def __init__(self, solver: BatchedSolver, kind: Any) -> None:
        self.solver, self.kind = solver, kind
        self.owners: dict[int, Owner] = {}
        self._conditioning: dict[int, dict[str, Any]] = {}

    def admit(self, wanted: Checked, owner: Owner) -> None:
        """Take in a request. Nothing has changed if that fails."""
        try:
            id = self.solver.admit(wanted.table, wanted.x, wanted.seed)
        except BaseException:
            for half in set(self.solver.ids) - set(self.owners):  # memory may run out halfway
                with suppress(ValueError):
                    self.solver.cancel(half)
            raise
        self.hold(id, wanted.conditioning, owner)

    def hold(self, id: int, given: dict[str, Any], owner: Owner) -> None:
        """Note the owner of a request of the solver, and its conditioning."""
        self.owners[id] = owner
        self._conditioning[id] = given

    def conditioning_of(self, id: int) -> dict[str, Any]:
        """What came with a request."""
        return self._conditioning[id]

    def cancel(self, id: int) -> None:
        """Drop a request."""
        self.solver.cancel(id)
        del self.owners[id], self._conditioning[id]

    def advance(self, network: Calls) -> list[tuple[Owner, Outcome]]:
        """One stage for all: samples of requests that are done, then errors of those whose network calls fail.

        Raises:
            BaseException: An error that is no fault of a single request. The batch cannot be used any more.
        """
        inputs = self.solver.next_inputs()
        output, failed = self._output(network, inputs)
        for id in failed:
            self.solver.cancel(id)
        ended: dict[int, Outcome] = {}
        if len(failed) < len(self.owners):
            ended.update(self.solver.advance(*output))
        ended.update(failed)
        for id in ended:
            del self._conditioning[id]
        return [(self.owners.pop(id), outcome) for id, outcome in ended.items()]

    def _output(self, network: Calls, inputs: Inputs) -> tuple[Outputs, dict[int, Exception]]:
        """What the network says, and the requests for which it raised an error; their places are 0."""
        places = [(place, id) for place, id in enumerate(inputs.ids) if id is not None]
        try:
            # Put together anew for each call: the network may write to what it is given.
            given = network.together([None if id is None else self._conditioning[id] for id in inputs.ids])
            return network(inputs.x, inputs.timestep, given, len(places)), {}
        except Exception as error:
            if len(places) == 1:
                return Outputs(inputs.x), {places[0][1]: error}
            logger.warning("a network call for %d requests failed; it is now made for each", len(places), exc_info=True)
        inputs = self.solver.next_inputs()  # those may be spoilt
        output, failed = Outputs(torch.zeros_like(inputs.x)), {}
        for place, id in places:
            try:
                said = self._alone(network, inputs, place, id)
            except Exception as error:
                failed[id] = error
                continue
            output.followed[place] = said.followed
            if said.unguided is not None:
                unguided = torch.zeros_like(inputs.x) if output.unguided is None else output.unguided
                unguided[place] = said.unguided
                output = output._replace(unguided=unguided)
        return output, failed

    def _alone(self, network: Calls, inputs: Inputs, place: int, id: int) -> Outputs:
        """What the network says of one place: in a batch of one, or of the fixed capacity with empty places."""
        given = self._conditioning[id]
        if self.solver.capacity is None:
            own = slice(place, place + 1)
            return network(inputs.x[own], inputs.timestep[own], network.together([given]), 1).of(0)
        x, timestep = torch.zeros_like(inputs.x), torch.zeros_like(inputs.timestep)
        x[place], timestep[place] = inputs.x[place], inputs.timestep[place]
        alone = [given if id == each else None for each in inputs.ids]
        return network(x, timestep, network.together(alone), 1).of(place)


class Batches(Generic[Owner]):
    """All running requests. `checked` may be called from any thread, everything else from one only.

    Attributes:
        most: Largest number of requests in one network call.
        network: The network, and counts of its calls.
        turns: The batches. None is empty. The first one is next.

    Args:
        denoiser: As `serve` takes it.
        max_batch: As `serve` takes it.
        shape: As `serve` takes it.
        static: As `serve` takes it.
        options: Other arguments of `BatchedSolver`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range, or contradicts another.
    """

    def __init__(
        self, denoiser: Network, max_batch: int, shape: Sequence[int], static: bool, options: dict[str, Any]
    ) -> None:
        self._denoiser = as_denoiser(denoiser)
        self.most = _check.integer("max_batch", max_batch, 1)
        fixed = _check.flag("static", static) or options["mode"] == "compile"
        self._shape, self._options = shape, {**options, "capacity": self.most if fixed else None}
        self._checks = self._solver()
        self._spare: BatchedSolver | None = self._checks
        self._device = torch.device(options["device"])
        self.network = Calls(self._denoiser, self._device)
        self.turns: deque[Batch[Owner]] = deque()

    def _solver(self) -> BatchedSolver:
        return BatchedSolver(self._shape, **self._options)

    def __len__(self) -> int:
        """How many requests there are."""
        return sum(len(batch.owners) for batch in self.turns)

    def checked(self, request: Any) -> Checked:
        """The request after its check; TypeError or ValueError if it cannot be served."""
        return checked(request, self._denoiser, self._checks, self._device)

    def admit(self, wanted: Checked, owner: Owner) -> None:
        """Add a request to a batch of its kind that has room, or to a new one. Nothing changes if that fails."""
        kind = conditioning.kind(wanted.conditioning)
        for batch in self.turns:
            if batch.kind == kind and len(batch.owners) < self.most:
                batch.admit(wanted, owner)
                return
        spare, self._spare = self._spare, None
        batch = Batch(self._solver() if spare is None else spare, kind)
        batch.admit(wanted, owner)
        self.turns.append(batch)

    def taken_over(self, solver: BatchedSolver, given: list[dict[str, Any]]) -> Batch[Owner]:
        """A batch around a restored solver, with the conditioning of its requests. Their owners come later, by `hold`.

        Raises:
            ValueError: If the solver does not fit these batches.
        """
        kinds = [conditioning.kind(each) for each in given]
        if solver.capacity != self._options["capacity"] or len(solver) > self.most or kinds != kinds[:1] * len(solver):
            raise ValueError("a batch of another server")
        batch: Batch[Owner] = Batch(solver, kinds[0])
        self.turns.append(batch)
        return batch

    def drop(self, gone: Callable[[Owner], bool]) -> None:
        """Drop the requests of those owners."""
        for batch in list(self.turns):
            for id in [id for id, owner in batch.owners.items() if gone(owner)]:
                batch.cancel(id)
            if not batch.owners:
                self.turns.remove(batch)
                self._spare = batch.solver

    def next_owners(self) -> list[Owner]:
        """The owners of the requests in the next call."""
        return list(self.turns[0].owners.values()) if self.turns else []

    @torch.no_grad()
    def advance(self) -> list[tuple[Owner, Outcome]]:
        """One stage for the batch whose turn it is: the samples of requests that are done, and errors of others."""
        batch = self.turns.popleft()
        try:
            ended = batch.advance(self.network)
        except BaseException as error:  # in what state the solver is then nobody knows: it goes with its batch
            return [(owner, error) for owner in batch.owners.values()]
        if batch.owners:
            self.turns.append(batch)
        else:
            self._spare = batch.solver
        return ended
