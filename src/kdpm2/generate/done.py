"""What is done is what is on the disk.

A part is done if its file is there, since it is there whole or not at all, or if every row of it is among the failures.
The failures of a part are in a file of their own, which is written before the part. Where a row is in both, as a crash
may leave it while failed rows are tried again, it has its picture.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kdpm2.generate import files
from kdpm2.generate.parts import FORMATS, Kept
from kdpm2.generate.plan import FAILURES, PICTURES, Plan
from kdpm2.generate.wanted import Wanted


class Failure(NamedTuple):
    """A row that could not be drawn, and why."""

    number: int
    id: int | str
    seed: int
    error: str


class Done:
    """What of a plan is done, as the disk has it at the moment of each call.

    Args:
        plan: What is to be made.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts = FORMATS[plan.settings.format](plan.folder / PICTURES, plan.columns)

    def has(self, part: int) -> bool:
        """Whether a part is done."""
        return self._parts.is_there(part) or len(self._listed(part)) == self._plan.size(part)

    def missing(self) -> Iterator[int]:
        """The parts that are not done."""
        return (part for part in range(self._plan.parts) if not self.has(part))

    def failed(self) -> Iterator[int]:
        """The parts that are done, with failures."""
        names = sorted((self._plan.folder / FAILURES).glob("part-*.jsonl"))
        parts = (int(name.stem.removeprefix("part-")) for name in names)
        return (part for part in parts if self.has(part) and self.failures(part))

    def failures(self, part: int) -> list[Failure]:
        """The rows of a part that have failed."""
        listed = self._listed(part)
        if not listed or not self._parts.is_there(part):
            return listed
        made = {picture.number for picture in self._parts.read(part)}
        return [failure for failure in listed if failure.number not in made]

    def counts(self) -> tuple[int, int]:
        """How many rows have a picture, and how many have failed."""
        ended = sum(self._plan.size(part) for part in range(self._plan.parts) if self.has(part))
        failed = sum(len(self.failures(part)) for part in self.failed())
        return ended - failed, failed

    def put(self, part: int, pictures: Sequence[Kept], failures: Sequence[Failure]) -> None:
        """Write a part that was drawn: its failures, and then itself.

        Raises:
            OSError: If it cannot be written. The part is then not done.
        """
        self._put_failures(part, failures)
        if pictures:
            self._parts.write(part, sorted(pictures, key=lambda picture: picture.number))

    def add(self, part: int, pictures: Sequence[Kept], failures: Sequence[Failure]) -> None:
        """Add pictures of rows that had failed to a part, and then write which rows still fail.

        Raises:
            OSError: If it cannot be written. What was there before is then still there.
        """
        if pictures:
            held = self._parts.read(part) if self._parts.is_there(part) else []
            self._parts.write(part, sorted([*held, *pictures], key=lambda picture: picture.number))
        self._put_failures(part, failures)

    def bytes(self) -> int:
        """How much room the pictures take so far."""
        found = (self._plan.folder / PICTURES).rglob("*")
        return sum(file.stat().st_size for file in found if file.is_file())

    def _file(self, part: int) -> Path:
        return self._plan.folder / FAILURES / f"part-{part:06}.jsonl"

    def _listed(self, part: int) -> list[Failure]:
        try:
            lines = self._file(part).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        said = [json.loads(line) for line in lines]
        return [Failure(each["row"], each["id"], each["seed"], each["error"]) for each in said]

    def _put_failures(self, part: int, failures: Sequence[Failure]) -> None:
        if not failures:
            self._file(part).unlink(missing_ok=True)
            return
        said = [dict(zip(("row", "id", "seed", "error"), failure, strict=True)) for failure in sorted(failures)]
        text = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in said)
        files.put(self._file(part), lambda path: path.write_text(text, encoding="utf-8"))


def failure(wanted: Wanted, error: str) -> Failure:
    """That a row could not be drawn."""
    return Failure(wanted.number, wanted.id, wanted.seed, error)
