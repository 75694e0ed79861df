"""A worker: it loads the model once and makes parts, the same in this process and on any machine of a cluster.

All that it needs is the output folder, whose plan says the rest. Pictures go from the worker to the disk, and nowhere
else.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import kdpm2
from kdpm2.cli.values import in_words
from kdpm2.generate import model as models
from kdpm2.generate.done import Done, Failure, failure
from kdpm2.generate.drawing import Outcome, Painter
from kdpm2.generate.parts import Kept
from kdpm2.generate.plan import Plan, opened
from kdpm2.generate.wanted import Reader

BUILT_IN = "kdpm2 digits"


class How(NamedTuple):
    """How rows are drawn, which says nothing of what they are.

    Attributes:
        device: "auto", or a name of torch's.
        batch: How many rows share a call at most; None for as many as suit the model.
        retry_failed: Whether rows that failed are tried again.
    """

    device: str = "auto"
    batch: int | None = None
    retry_failed: bool = False


class Made(NamedTuple):
    """What came of a part: rows that now have a picture, rows that failed, and calls, as `Calls` has them."""

    part: int
    pictures: int
    failures: int
    calls: int
    rows: int
    places: int


def reader_of(plan: Plan, model: Any) -> Reader:
    """What reads the rows of a plan."""
    settings = plan.settings
    return Reader(model, settings.options, settings.keep, settings.seed)


class Worker:
    """Makes parts of the plan of a folder.

    Args:
        folder: The output folder, as this machine sees it.
        digest: Of the plan's rows.
        how: How rows are drawn.

    Raises:
        ValueError: If the folder has another plan or none, or the model cannot be loaded.
    """

    def __init__(self, folder: Path, digest: str, how: How) -> None:
        plan = opened(folder)
        if plan is None or plan.digest != digest:
            raise ValueError(
                f"output must be a folder that every machine sees, but on this one {folder} is not that of the run"
            )
        self._plan, self._how = plan, how
        self._done = Done(plan)
        model = models.described(plan.settings.pipeline)
        self._reader = reader_of(plan, model)
        self._painter = Painter(model, plan.settings.dtype, how.device, how.batch, most=plan.size(0))

    def make(self, part: int, told: Callable[[Outcome], object] = lambda outcome: None) -> Made:
        """Make a part, if it is not done.

        Args:
            part: Its number.
            told: Called for each row as it is drawn, before anything is written.

        Raises:
            OSError: If it cannot be written.
        """
        again = self._done.has(part)
        rows = self._plan.rows(part, self._reader)
        if again:
            failed = {each.number for each in self._done.failures(part)} if self._how.retry_failed else set()
            rows = [wanted for wanted in rows if wanted.number in failed]
        before = asdict(self._painter.calls)
        pictures: list[Kept] = []
        failures: list[Failure] = []
        for outcome in self._painter.draw(rows):
            told(outcome)
            if outcome.png is None:
                failures.append(failure(outcome.wanted, outcome.error or ""))
            else:
                pictures.append(Kept(outcome.wanted.number, self._made_of(outcome), outcome.png))
        if rows:
            (self._done.add if again else self._done.put)(part, pictures, failures)
        after = asdict(self._painter.calls)
        return Made(part, len(pictures), len(failures), *(after[name] - before[name] for name in after))

    def _made_of(self, outcome: Outcome) -> dict[str, Any]:
        """What stands beside a picture, in the order of the plan's columns."""
        wanted = outcome.wanted
        said = {
            "id": str(wanted.id) if self._plan.columns["id"] is str else wanted.id,
            "seed": wanted.seed,
            **wanted.options,
            **wanted.kept,
            "model": self._plan.settings.pipeline or BUILT_IN,
            "version": f"kdpm2 {kdpm2.__version__}",
        }
        told = {name: said.get(name) for name in self._plan.columns}
        # A column in which some rows have words holds numbers in words, too.
        written = {name for name, kind in self._plan.columns.items() if kind is str and isinstance(told[name], float)}
        return told | {name: in_words(told[name]) for name in written}
