"""What a row asks for: its id, its seed, and every option, its own or that of all rows.

A row without a seed has one that is made of its id: an id that is a number n has the seed S + n, for the S of the run,
and any other has 64 bits of its SHA-256. So a picture depends on its row alone, and not on the place of the row.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdpm2 import _check
from kdpm2.cli.loading import Model
from kdpm2.cli.options import SCHEDULER_OPTIONS, WORDS, Sampler, Sigmas, Spacing, scheduler_class
from kdpm2.generate import cells
from kdpm2.noise.seeds import LARGEST_SEED

DEFAULT_STEPS = 25
RESERVED = ("row", "picture", "file_name", "model", "version")
"""Names that stand beside a picture, and that no column may have."""

_ALIASES = {"guidance": "guidance_scale"}
_IN_THE_CALL = {"label": "labels", "steps": "num_inference_steps"}


@dataclass(frozen=True)
class Wanted:
    """A picture that a row asks for.

    Attributes:
        number: Of the row, from 0.
        id: Of the row: a text or an integer.
        seed: Of its noise.
        options: By name, all that are given; `steps` always is.
        kept: Columns that are no options, as texts.
    """

    number: int
    id: int | str
    seed: int
    options: Mapping[str, Any]
    kept: Mapping[str, str]

    @property
    def scheduled(self) -> dict[str, Any]:
        """The options of its scheduler, as the command has them."""
        given = {name: value for name, value in self.options.items() if name not in cells.CALLED}
        options: dict[str, Any] = {"sampler": Sampler(given.pop("sampler", Sampler.ancestral.value))}
        for name, kind in (("sigmas", Sigmas), ("spacing", Spacing)):
            if name in given:
                options[name] = kind(given.pop(name))
        for name in [name for name in given if name in cells.SCHEDULED]:
            value = given.pop(name)
            reader = WORDS.get(SCHEDULER_OPTIONS[name])
            options[name] = reader(value) if reader and isinstance(value, str) else value
        return options | ({"set_": [f"{name}={value}" for name, value in given.items()]} if given else {})

    @property
    def called(self) -> dict[str, Any]:
        """What its pipeline is called with, besides the label."""
        taken = {name: value for name, value in self.options.items() if name in cells.CALLED and name != "label"}
        return {_IN_THE_CALL.get(name, name): value for name, value in taken.items()}


class Reader:
    """Reads rows for one model, with the options that all rows share.

    Args:
        model: What is to draw.
        shared: Options of rows that say nothing of their own.
        keep: Columns to write beside the picture that are no options.
        seed: S, for rows without one.
        tried: Called with what each row asks for; raises a ValueError if that cannot be.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If it is unknown or out of range, or `keep` names what cannot be kept.
    """

    def __init__(
        self,
        model: Model,
        shared: Mapping[str, Any],
        keep: Sequence[str],
        seed: int,
        tried: Callable[[Wanted], object] = lambda wanted: None,
    ) -> None:
        self._tried = tried
        self._model, self._seed = model, cells.SEED.read("seed", seed)
        self._cells = _known_cells()
        self._keep = [str(name) for name in keep]
        for name in self._keep:
            if name in self._cells or name in RESERVED or name in _ALIASES:
                raise ValueError(f"keep must name columns that are no options, got {_check.shown(name)}")
        self.shared = self._options(shared, "options")

    def read(self, number: int, row: Mapping[str, Any]) -> tuple[Wanted, dict[str, Any]]:
        """What a row asks for, and the row itself: what it says of its own, as JSON has it.

        Raises:
            ValueError: If it cannot be drawn. The message names the row.
        """
        try:
            return self._read(number, row)
        except (TypeError, ValueError) as error:
            named = f" (id {_check.shown(row['id'])})" if not cells.is_empty(row.get("id")) else ""
            raise ValueError(f"row {number}{named}: {error}") from None

    def _read(self, number: int, row: Mapping[str, Any]) -> tuple[Wanted, dict[str, Any]]:
        row = {_ALIASES.get(name, name): value for name, value in row.items()}
        id = cells.ID.read("id", row.pop("id")) if "id" in row else number
        seed = cells.SEED.read("seed", row.pop("seed")) if "seed" in row else seed_of(id, self._seed)
        kept = {name: _as_text(row.pop(name)) for name in self._keep if not cells.is_empty(row.get(name))}
        own = self._options({name: value for name, value in row.items() if name not in self._keep}, "columns")
        options = {"steps": DEFAULT_STEPS, **self.shared, **own}
        self._check_fits(options)
        wanted = Wanted(number, id, seed, options, kept)
        self._tried(wanted)
        return wanted, {"id": id, "seed": seed, **own, **kept}

    def _options(self, given: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The options that are given, each as its cell reads it."""
        read = {}
        for name, value in given.items():
            cell = self._cells.get(name)
            if cell is None:
                hint = _check.meant(name, self._cells) or "; --keep keeps columns that are none"
                raise ValueError(
                    f"{what} must be options of the model or its scheduler, got {_check.shown(name)}{hint}"
                )
            if not cells.is_empty(value):
                result = cell.read(name, value)
                if result is not None:
                    read[name] = result
        return read

    def kind(self, name: str) -> type:
        """What a column of a name holds."""
        return self._cells[name].kind if name in self._cells else str

    def _check_fits(self, options: Mapping[str, Any]) -> None:
        """The model takes these options."""
        model = self._model
        for name, value in options.items():
            if name in cells.CALLED and _IN_THE_CALL.get(name, name) not in model.accepted:
                raise ValueError(f"{name} must be left out, as this pipeline takes none, got {_check.shown(value)}")
        if "prompt" in model.accepted and "prompt" not in options:
            raise ValueError("prompt must be a column of the rows, or an option for all of them, for this pipeline")
        if not model.on_pixels:
            return
        if model.classes is None and "label" in options:
            raise ValueError(f"label must be left out for a network without classes, got {options['label']}")
        scale, plus_plus = options.get("guidance_scale", 1), options.get("guidance_plus_plus", False)
        if model.classes is None and (scale != 1 or plus_plus):
            raise ValueError(f"guidance_scale must be 1 for a network without classes, got {scale:g}")
        if "guidance_scale" not in options and not plus_plus:
            for name in {"guidance_interval", "guidance_rescale"} & options.keys():
                raise ValueError(f"{name} needs a guidance_scale: without it there is no guidance")
        if model.classes is not None and options.get("label", 0) >= model.classes:
            raise ValueError(f"label must be from 0 to {model.classes - 2}, or any, got {options['label']}")


def seed_of(id: int | str, first: int) -> int:
    """The seed of a row that has none."""
    text = str(id)
    if len(text) <= 20 and text.isdecimal():
        return (first + int(text)) % (LARGEST_SEED + 1)
    return int.from_bytes(hashlib.sha256(f"{first} {text}".encode()).digest()[:8], "big")


def _known_cells() -> dict[str, cells.Cell]:
    """Every option that a row may have, of either sampler."""
    entries = [
        name
        for sampler in Sampler
        for name in inspect.signature(scheduler_class({"sampler": sampler}).__init__).parameters
        if name != "self"
    ]
    return {**{name: cells.Cell(str, cells.entry) for name in entries}, **cells.SCHEDULED, **cells.CALLED}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
