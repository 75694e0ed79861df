"""The engine for one process: one worker, which makes one part after another."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from kdpm2.generate.progress import Progress
from kdpm2.generate.worker import How, Made, Worker


def make(folder: Path, digest: str, parts: Iterable[int], how: How, progress: Progress) -> Iterator[Made]:
    """Make parts of the plan of a folder, and yield what came of each."""
    worker = Worker(folder, digest, how)
    for part in parts:
        yield worker.make(part, lambda outcome: progress.told(outcome.png is not None))
