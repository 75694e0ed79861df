"""The memory of this process, looked at now and then."""

import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np


def resident() -> float:
    """MiB that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Memory(NamedTuple):
    """Memory after the start was over.

    Attributes:
        first: MiB, at first.
        last: MiB, in the end.
        most: MiB at most.
        slope: MiB a minute, by least squares.
        drift: What the slope makes of the whole time, divided by `first`.
        looks: How often it was looked at.
    """

    first: float
    last: float
    most: float
    slope: float
    drift: float
    looks: int


class Watch:
    """Looks at the memory every few seconds, once it is started, until `stop`.

    Args:
        every: Seconds.
        warm: Seconds that do not count.
    """

    def __init__(self, every: float, warm: float) -> None:
        self._every, self._warm = every, warm
        self._seen: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> Memory:
        """What was seen."""
        self._over.set()
        self._thread.join()
        times, held = np.array(self._seen).T
        slope = float(np.polyfit(times, held, 1)[0]) if len(times) > 2 else 0.0
        drift = slope * float(times[-1] - times[0]) / float(held[0])
        return Memory(float(held[0]), float(held[-1]), float(held.max()), slope * 60, drift, len(times))

    def _look(self) -> None:
        began = time.monotonic()
        self._over.wait(self._warm)
        while True:
            self._seen.append((time.monotonic() - began, resident()))
            if self._over.wait(self._every):
                return
