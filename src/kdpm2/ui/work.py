"""Long work for a browser window: in a thread of its own, told as it goes, and stopped by a word.

There is one network, so that one window's work is done at a time; gradio keeps the others in line. The lock is for a
call of the network that is still going on when the next in line begins.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kdpm2.cli.drawing import Held

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - no error
    """Work was told to stop."""


class Worker:
    """What the windows share: the model that is loaded, and who is at work."""

    def __init__(self) -> None:
        self._held, self._lock = Held(), threading.Lock()
        self._stops: dict[str, threading.Event] = {}

    def begin(self, name: str) -> None:
        """Have the next work of a name be one that can be stopped from now on, also while it is in line."""
        self._stops[name] = threading.Event()

    def stop(self, name: str) -> None:
        """Stop the work of a name, if there is some."""
        stop = self._stops.get(name)
        if stop is not None:
            stop.set()

    def streamed(self, name: str, work: Callable[[Held, Callable[[T | None], None]], None]) -> Iterator[T]:
        """What work tells, as it tells it.

        Args:
            name: What the work is stopped by.
            work: Called with what holds models, and with a function that it is to call often, with news or None. That
                raises `Stopped` once the work is to stop, or its window is gone.

        Raises:
            Exception: What the work raises, `Stopped` too.
        """
        stop, news = self._stops.setdefault(name, threading.Event()), queue.Queue[tuple[str, Any]]()

        def tell(what: T | None) -> None:
            if stop.is_set():
                raise Stopped
            if what is not None:
                news.put(("news", what))

        def at_work() -> None:
            try:
                with self._lock:
                    tell(None)
                    work(self._held, tell)
                news.put(("end", None))
            except BaseException as error:
                news.put(("error", error))

        thread = threading.Thread(target=at_work, daemon=True)
        thread.start()
        try:
            while True:
                kind, what = news.get()
                if kind == "error":
                    raise what
                if kind == "end":
                    return
                yield what
        finally:
            stop.set()
            thread.join()
            if self._stops.get(name) is stop:
                del self._stops[name]
