"""What a run says on its way: a bar where there is a terminal, else a line a minute."""

import sys
import time
from datetime import timedelta

from kdpm2._progress import bar

_SECONDS = 60.0


class Progress:
    """Counts rows as they are drawn, and says so on standard error.

    Args:
        total: How many rows there are to draw.
        shown: Whether to say anything.
    """

    def __init__(self, total: int, shown: bool) -> None:
        self._total, self._done, self._failed = total, 0, 0
        self._shown = shown
        on_terminal = shown and sys.stderr.isatty()
        self._bar = bar(total=total, unit="picture", disable=not on_terminal, dynamic_ncols=True)
        self._says_lines = shown and not on_terminal
        self._begun = self._said = time.monotonic()

    def told(self, made: bool, rows: int = 1) -> None:
        """Count rows that have a picture now, or have failed."""
        self._done += rows
        self._failed += 0 if made else rows
        if self._failed and not made:
            self._bar.set_postfix(failed=self._failed, refresh=False)
        self._bar.update(rows)
        now = time.monotonic()
        if self._says_lines and now - self._said >= _SECONDS:
            self._said = now
            self._say(line(self._done, self._total, self._failed, now - self._begun))

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Say no more."""
        self._bar.close()


def line(done: int, total: int, failed: int, seconds: float) -> str:
    """How far a run is."""
    speed = done / max(seconds, 1e-9)
    left = timedelta(seconds=round((total - done) / speed)) if done else "?"
    return f"{done:,} of {total:,} rows, {speed:.2f} a second, {left} left, {failed:,} failed"
