"""What came of a run, in numbers and in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Report:
    """What came of a run.

    Attributes:
        output: The folder.
        rows: How many rows there are.
        done_before: How many of them had a picture before this run.
        made: How many pictures this run made.
        failed: How many rows have failed and have no picture.
        seconds: How long the run took, with loading the model.
        calls: How often the network was called, or the pipeline where it is called as a whole.
        occupancy: The share of places in these calls that had a row in them, from 0 to 1.
        engine: "local" or "ray".
    """

    output: Path
    rows: int
    done_before: int
    made: int
    failed: int
    seconds: float
    calls: int
    occupancy: float
    engine: str

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [f"{self.output}: {self.done_before + self.made:,} of {self.rows:,} rows have a picture"]
        if self.made:
            lines.append(
                f"made now: {self.made:,} in {self.seconds:,.1f} s, {self.made / self.seconds:.2f} a second "
                f"({self.calls:,} calls, {self.occupancy:.0%} of their places filled)"
            )
        if self.failed:
            lines.append(
                f"failed: {self.failed:,}; why is in {self.output / 'failures'}, --retry-failed tries them again"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Forecast:
    """What a run would do.

    Attributes:
        output: The folder.
        format: Of the files in it.
        reads: The files of rows.
        rows: How many rows there are.
        done: How many of them have a picture.
        failed: How many have failed.
        files: How many files of pictures, or folders of PNGs, there will be.
        bytes_so_far: How much room the pictures take that are there.
        bytes_of_one: Of a picture that is not compressed; None if the size is not known.
        bytes_free: How much room there is.
    """

    output: Path
    format: str
    reads: Sequence[Path]
    rows: int
    done: int
    failed: int
    files: int
    bytes_so_far: int
    bytes_of_one: int | None
    bytes_free: int

    @property
    def bytes_to_come(self) -> int | None:
        """How much room the rest takes: as what is there, or not compressed; None if neither is known."""
        raw = None if self.bytes_of_one is None else self.bytes_of_one + _BESIDE
        each = self.bytes_so_far / self.done if self.done else raw
        return None if each is None else round(each * (self.rows - self.done))

    def __str__(self) -> str:
        """A few lines for people."""
        left = self.rows - self.done - self.failed
        room = "not known" if self.bytes_to_come is None else f"about {_size(self.bytes_to_come)}"
        how = "as those that are there" if self.done else "before they are compressed"
        return "\n".join(
            [
                f"{self.rows:,} rows: {self.done:,} have a picture, {self.failed:,} failed, {left:,} are to be drawn",
                *(f"reads {path}" for path in self.reads[:_MOST_SHOWN]),
                *([f"and {len(self.reads) - _MOST_SHOWN:,} more files"] if len(self.reads) > _MOST_SHOWN else []),
                f"writes {self.files:,} {_NAMES[self.format]} to {self.output}",
                f"room for the rest, {how}: {room}; {_size(self.bytes_free)} are free",
            ]
        )


_NAMES = {"parquet": "Parquet files", "webdataset": "shards", "png": "folders of PNGs"}
_MOST_SHOWN = 5
_BESIDE = 1000
"""Bytes: the frame of a PNG and of its file, and what says how it was made."""


def _size(bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if bytes < 1000:
            return f"{bytes:.3g} {unit}"
        bytes /= 1000
    return f"{bytes:.3g} TB"
