"""Rounds of the soak: a server with options of its own, threads that ask, and one that throws servers away."""

import gc
import random
import threading
import time
from collections import Counter
from concurrent.futures import wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kdpm2.batching import Request, Server
from tests.soak.asked import POISON, SEEDS, SHAPE, Alone, asked, clean
from tests.soak.faults import CALLBACK_ERRORS, OTHERS, Faults, FaultyNetwork, injected
from tests.soak.ticket import OUTSIDE, VERDICTS, Ticket, verdicts

MOST = 60.0
"""Seconds, after which what is not done is lost."""
ASKING = 4
EACH = 100
"""Requests of each thread that asks, in a round."""

BAD: tuple[dict[str, Any], ...] = (
    {"x": torch.zeros(3)},
    {"sigmas": None},
    {"sigmas": [1.0, float("nan"), 0.0]},
    {"seed": -1},
    {"seed": 2**64},
    {"priority": "high"},
    {"deadline": -1.0},
    {"key": 1.5},
    {"conditioning": {"label": "seven"}},
    {"conditioning": {"label": 2**64}},
)


@dataclass
class Report:
    """What came of all rounds.

    Attributes:
        made: How many futures had a sample that was compared.
        asked: How many requests were taken.
        rounds: How many rounds there were.
        found: How often each verdict came, by fault.
        told: The first few verdicts in words.
    """

    made: int = 0
    asked: int = 0
    rounds: int = 0
    found: dict[str, Counter[str]] = field(default_factory=lambda: {verdict: Counter() for verdict in VERDICTS})
    told: list[str] = field(default_factory=list)

    def add(self, verdict: str, faults: set[str], words: str) -> None:
        """Count a verdict against each fault that was met."""
        self.found[verdict].update({"any": 1, **dict.fromkeys(faults, 1)})
        if len(self.told) < 20:
            self.told.append(f"{verdict}: {words}, after {sorted(faults)}")


class Round:
    """One server, and those that follow it, until all that was asked for is done.

    Args:
        number: Of the round; it says the options.
        faults: What goes wrong.
        alone: The samples to compare with.
        report: Where the outcome goes.
        folder: For snapshots.
        compiled: Whether some rounds compile.
    """

    def __init__(
        self, number: int, faults: Faults, alone: Alone, report: Report, folder: Path, compiled: bool = False
    ) -> None:
        chance = random.Random(number)
        self.faults, self.alone, self.report, self.folder = faults, alone, report, folder
        self.number, self._before = number, faults.injected.copy()
        self.dtype = chance.choice([torch.float32, torch.float32, torch.bfloat16])
        self.noise = chance.choice(["gaussian", "gaussian", "philox"])
        options: dict[str, Any] = {"static": chance.random() < 0.3, "max_batch": chance.choice([1, 2, 4, 8])}
        if compiled and number % 10 == 9:
            options, self.dtype, self.noise = {"mode": "compile", "max_batch": 4}, torch.float32, "gaussian"
        self.server: Server | None = Server(
            FaultyNetwork(faults),
            shape=SHAPE,
            dtype=self.dtype,
            noise=self.noise,
            queue_size=chance.choice([4, 16, 64]),
            patience=chance.choice([None, 0, 10, 50]),
            **options,
        )
        self.tickets: dict[str, Ticket] = {}
        self.threads, self._lock = [self.server._worker.thread], threading.Lock()

    def run(self) -> None:
        """The whole round."""
        asking = [threading.Thread(target=self._ask, args=(EACH,)) for _ in range(ASKING)]
        for thread in asking:
            thread.start()
        while any(thread.is_alive() for thread in asking):
            time.sleep(0.3 * self.faults.number())
            (self._swap, self._snapshot_twice, self._snapshot_with_another, lambda: None)[self.faults.below(4)]()
        for thread in asking:
            thread.join()
        if self.faults.below(2):
            self._snapshot_twice()
            self._swap()
        self._end()
        self._judge()

    def _ask(self, count: int) -> None:
        own: list[Ticket] = []
        for _ in range(count):
            if self.faults.strikes("bad request"):
                self._ask_badly()
            with self._lock:
                number = len(self.tickets)
                ticket = Ticket(asked((self.number * ASKING * EACH + number) % SEEDS), f"{self.number}-{number}")
                self.tickets[ticket.key] = ticket
            self._submit(ticket, self._request(ticket))
            own.append(ticket)
            self._meddle(own[-1 - self.faults.below(min(len(own), 10))])

    def _request(self, ticket: Ticket) -> Request:
        more: dict[str, Any] = {"key": ticket.key, "priority": self.faults.below(5)}
        if self.faults.strikes("deadline"):
            ticket.met.add("deadline")
            more["deadline"] = 0.02 * self.faults.number()
        if self.faults.strikes("network fails for one request"):
            ticket.met.add("network fails for one request")
            more["conditioning"] = {"label": POISON}
        return ticket.one.request(**more)

    def _submit(self, ticket: Ticket, request: Request) -> None:
        """Until some server takes it."""
        until = time.monotonic() + MOST
        while True:
            server = self.server
            assert server is not None
            try:
                future = server.submit(request, timeout=MOST)
                break
            except RuntimeError:  # it was thrown away
                if time.monotonic() > until:
                    raise
                time.sleep(0.001)
        ticket.watch(future, server)
        if self.faults.strikes("callback raises"):
            ticket.met.add("callback raises")
            future.add_done_callback(self._raise)

    def _raise(self, future: object) -> None:
        raise CALLBACK_ERRORS[self.faults.below(len(CALLBACK_ERRORS))]("of a callback")

    def _ask_badly(self) -> None:
        server = self.server
        assert server is not None
        bad = BAD[self.faults.below(len(BAD))]
        try:
            server.submit(asked(0).request(**bad), timeout=MOST)
        except (TypeError, ValueError):
            return
        except RuntimeError:  # it was thrown away
            return
        self.report.add("wrong", {"bad request"}, f"{bad} was taken")

    def _meddle(self, ticket: Ticket) -> None:
        """Maybe cancel a request, or end its future as only the server should."""
        future = ticket.futures[-1]
        try:
            if self.faults.strikes("cancelled"):
                ticket.met.add("cancelled")
                future.cancel()
            if self.faults.strikes("future ended from outside"):
                ticket.met.add("future ended from outside")
                error = injected(RuntimeError, "future ended from outside")
                (
                    lambda: future.set_result(OUTSIDE),
                    lambda: future.set_exception(error),
                    future.set_running_or_notify_cancel,
                )[self.faults.below(3)]()
        except BaseException:  # of a callback, or because it is done
            pass

    def _snapshot_twice(self) -> None:
        """Two threads that write a snapshot into one folder at once."""
        server = self.server
        assert server is not None
        self.faults.count(OTHERS[0])
        self._write(OTHERS[0], self.folder, server, server)

    def _snapshot_with_another(self) -> None:
        """Two servers that write into one folder at once; what is there then is of one of them, and whole."""
        server, folder = self.server, self.folder / "of two"
        assert server is not None
        self.faults.count(OTHERS[3])
        with Server(clean, 1, shape=SHAPE, queue_size=4) as other:
            futures = [other.submit(asked(seed).request(key=f"other {seed}")) for seed in range(4)]
            self._write(OTHERS[3], folder, server, other)
            wait(futures, MOST)
        try:
            restored, _ = Server.restore(folder, clean)
        except ValueError as error:
            self.report.add("lost", {OTHERS[3]}, repr(error))
        else:
            restored.close(cancel=True, timeout=MOST)

    def _write(self, fault: str, folder: Path, *servers: Server) -> None:
        """Snapshots of some servers, at once."""
        errors: list[BaseException] = []

        def write(server: Server) -> None:
            try:
                server.snapshot(folder, timeout=MOST)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in errors:
            self.report.add("lost", {fault}, f"a snapshot: {error!r}")

    def _swap(self) -> None:
        """Write a snapshot, go on with a server that is restored from it, and throw the other away."""
        old = self.server
        assert old is not None
        with self._lock:
            tickets = list(self.tickets.values())
        there = [ticket for ticket in tickets if ticket.server == id(old) and not ticket.futures[-1].done()]
        old.snapshot(self.folder, timeout=MOST)
        there = [ticket for ticket in there if not ticket.futures[-1].done()]
        self.faults.count(OTHERS[2])
        new, futures = Server.restore(self.folder, FaultyNetwork(self.faults))
        self.threads.append(new._worker.thread)
        for ticket in there:
            if ticket.key not in futures:
                self.report.add("lost", ticket.met | {OTHERS[2]}, f"{ticket.key} is not in the snapshot")
        for key, future in futures.items():
            ticket = self.tickets[str(key)]
            ticket.met.add(OTHERS[2])
            ticket.watch(future, new)
        self.server = new
        self._throw_away(old, self.faults.below(3))

    def _throw_away(self, server: Server, way: int) -> None:
        if way == 0:
            self.faults.count(OTHERS[1])
            return  # nobody but those that are about to submit refer to it
        if way == 1:  # what was submitted since the snapshot was written is cancelled with the rest
            with self._lock:
                for ticket in self.tickets.values():
                    ticket.met.add(OTHERS[2])
        try:
            server.close(cancel=way == 1, timeout=MOST)
        except BaseException as error:  # of a callback, but nothing else
            if isinstance(error, TimeoutError):
                self.report.add("lost", {OTHERS[2]}, "a server that does not close")

    def _end(self) -> None:
        """Close or drop the last server, and wait for all threads."""
        server, self.server = self.server, None
        assert server is not None
        if self.faults.below(2):
            server.close(timeout=MOST)
        else:
            self.faults.count(OTHERS[1])
        del server
        gc.collect(0)
        wait([future for ticket in self.tickets.values() for future in ticket.futures], MOST)
        for thread in self.threads:
            thread.join(MOST)
            if thread.is_alive():
                self.report.add("lost", {OTHERS[1]}, "a thread that does not end")

    def _judge(self) -> None:
        met = {fault for fault, count in self.faults.injected.items() if count > self._before[fault]}
        whole = {fault for fault in met if fault.startswith(("no memory", "network")) or fault in OTHERS}
        for ticket in self.tickets.values():
            for verdict, words in verdicts(ticket, self.alone, self.dtype, self.noise).items():
                self.report.add(verdict, ticket.met | whole, f"{ticket.key}, seed {ticket.one.seed}, {words}")
            self.report.made += sum(
                not future.cancelled() and future.done() and future.exception() is None for future in ticket.futures
            )
        self.report.asked += len(self.tickets)
        self.report.rounds += 1
