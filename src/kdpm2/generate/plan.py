"""What is to be made, written into the output folder before anything is drawn.

`rows.jsonl` has the rows, a line each, as they were read. `rows.index` says where each part of them begins, so that any
worker of any machine reads its own rows alone. `kdpm2.json` says what all rows share, and the digest of the rows. It is
put in place last: with it, the plan is whole. A folder belongs to one plan.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdpm2 import _check
from kdpm2.generate import files
from kdpm2.generate.wanted import Reader, Wanted

PLAN, ROWS, INDEX = "kdpm2.json", "rows.jsonl", "rows.index"
PICTURES, FAILURES, LOCK = "pictures", "failures", ".lock"

_FORMAT = "kdpm2 generate 1"
_BEFORE = (ROWS, INDEX, LOCK)
"""What a folder may hold before it has a plan: a run that was killed leaves these."""


@dataclass(frozen=True)
class Settings:
    """What all rows of a run share, and what its output folder belongs to.

    Attributes:
        pipeline: Folder or hub id of the model; None for the built-in digits.
        model: A digest of what is known of the model.
        dtype: Of its weights, by name; None for that of its files.
        seed: For rows without one.
        options: Of rows that say nothing of their own.
        keep: Columns that are no options.
        format: A name of `kdpm2.generate.parts.FORMATS`.
        rows_per_file: How many rows a part has.
    """

    pipeline: str | None
    model: str
    dtype: str | None
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: Sequence[str] = ()
    format: str = "parquet"
    rows_per_file: int = 500


@dataclass(frozen=True)
class Plan:
    """What is to be made in a folder.

    Attributes:
        folder: The output folder.
        settings: What all rows share.
        count: How many rows there are.
        digest: Of the rows.
        columns: What stands beside a picture, by name: the type of each.
    """

    folder: Path
    settings: Settings
    count: int
    digest: str
    columns: Mapping[str, type]

    @property
    def parts(self) -> int:
        """How many parts the rows are in."""
        return -(-self.count // self.settings.rows_per_file)

    def size(self, part: int) -> int:
        """How many rows a part has."""
        return min(self.settings.rows_per_file, self.count - part * self.settings.rows_per_file)

    def rows(self, part: int, reader: Reader) -> list[Wanted]:
        """What the rows of a part ask for."""
        first = part * self.settings.rows_per_file
        with (self.folder / ROWS).open("rb") as stream:
            stream.seek(int(np.load(self.folder / INDEX, mmap_mode="r")[part]))
            lines = [stream.readline() for _ in range(self.size(part))]
        return [reader.read(first + i, json.loads(line))[0] for i, line in enumerate(lines)]

    def make_folders(self) -> None:
        """Make the folders that a run writes to."""
        for name in (PICTURES, FAILURES):
            (self.folder / name).mkdir(exist_ok=True)


_KINDS = {kind.__name__: kind for kind in (int, float, str, bool)}


def opened(folder: Path) -> Plan | None:
    """The plan of a folder; None if there is none.

    Raises:
        ValueError: If there is something else.
    """
    file = folder / PLAN
    if not file.exists():
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        others = [name for name in names if name not in _BEFORE and not name.startswith(files.PREFIX)]
        if others or (folder.exists() and not folder.is_dir()):
            raise ValueError(
                f"output must be a new folder, or one of kdpm2 generate, got {folder}"
                + (f", which holds {_check.shown(others[0])}" if others else ", which is no folder")
            )
        return None
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["format"] != _FORMAT:
            raise ValueError(f"it is of the format {_check.shown(held['format'])}")
        columns = {name: _KINDS[kind] for name, kind in held["columns"].items()}
        return Plan(folder, Settings(**held["settings"]), held["count"], held["digest"], columns)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"output must be a folder of kdpm2 generate, but its {PLAN} cannot be read: {error}"
        ) from error


def planned(folder: Path, settings: Settings, reader: Reader, rows: Iterable[Mapping[str, Any]]) -> Plan:
    """The plan of these rows: that of the folder if it is the same, else a new one.

    All rows are read, and none is held: of each, 8 bytes stay, to find ids that come twice.

    Raises:
        ValueError: If a row cannot be drawn, an id comes twice, or the folder belongs to another run.
        OSError: If the folder, which must be there, cannot be written to.
    """
    held = opened(folder)
    if held is not None:
        _check_same(held, settings)
        scan = _Scan(settings.rows_per_file, reader)
        for _ in scan.lines(rows):
            pass
        if scan.digest != held.digest:
            raise ValueError(
                f"output must be a folder of the same rows, but {folder} is of {held.count} rows that are not these "
                f"{scan.count}"
            )
        return held
    return _written(folder, settings, reader, rows)


def _written(folder: Path, settings: Settings, reader: Reader, rows: Iterable[Mapping[str, Any]]) -> Plan:
    scan = _Scan(settings.rows_per_file, reader)
    with files.whole(folder / ROWS) as unfinished:
        with unfinished.open("wb") as stream:
            stream.writelines(scan.lines(rows))
        if not scan.count:
            raise ValueError("rows must hold at least one row, got none")
        for name in set(settings.keep) - set(scan.columns):
            raise ValueError(f"keep must name columns that hold something in some row, got {_check.shown(name)}")
        _check_ids(unfinished, scan.ids)
    with files.whole(folder / INDEX) as unfinished, unfinished.open("wb") as stream:
        np.save(stream, np.array(scan.begins, dtype=np.int64))
    kinds: dict[str, type] = {"id": str if scan.has_texts else int, "seed": int}
    in_words = scan.in_words | {name for name, value in reader.shared.items() if isinstance(value, str)}
    names = dict.fromkeys(("steps", *reader.shared, *scan.columns))
    kinds |= {name: str if name in in_words else reader.kind(name) for name in names}
    kinds |= {"model": str, "version": str}
    document = {
        "format": _FORMAT,
        "count": scan.count,
        "digest": scan.digest,
        "columns": {name: kind.__name__ for name, kind in kinds.items()},
        "settings": asdict(settings),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    files.put(folder / PLAN, lambda path: path.write_text(text, encoding="utf-8"))
    return Plan(folder, settings, scan.count, scan.digest, kinds)


class _Scan:
    """One look at all rows.

    Attributes:
        count: How many there are.
        begins: Where each part begins, in bytes.
        ids: 64 bits of each id's hash.
        has_texts: Whether an id is a text.
        columns: All names of columns besides id and seed.
        in_words: Those of them that hold a text in some row.
    """

    def __init__(self, rows_per_file: int, reader: Reader) -> None:
        self._rows_per_file, self._reader, self._hash = rows_per_file, reader, hashlib.sha256()
        self.count = 0
        self.begins, self.ids = array("q"), array("Q")
        self.has_texts = False
        self.columns: dict[str, None] = {}
        self.in_words: set[str] = set()

    def lines(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        """A line for each row."""
        place = 0
        for row in rows:
            if not isinstance(row, Mapping):
                raise TypeError(f"rows must hold mappings of columns to values, got {_check.shown(row)}")
            if self.count % self._rows_per_file == 0:
                self.begins.append(place)
            _, own = self._reader.read(self.count, row)
            line = json.dumps(own, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass") + b"\n"
            self._hash.update(line)
            self.ids.append(_hashed(own["id"]))
            self.has_texts |= isinstance(own["id"], str)
            self.columns.update(dict.fromkeys(name for name in own if name not in ("id", "seed")))
            self.in_words.update(name for name in self.columns if isinstance(own.get(name), str))
            self.count += 1
            place += len(line)
            yield line

    @property
    def digest(self) -> str:
        """Of the rows so far."""
        return self._hash.hexdigest()


def _hashed(id: int | str) -> int:
    return int.from_bytes(hashlib.blake2b(str(id).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _check_ids(rows: Path, hashes: "array[int]") -> None:
    """Raise a ValueError if an id comes twice."""
    values, counts = np.unique(np.frombuffer(hashes, dtype=np.uint64), return_counts=True)
    suspects = set(values[counts > 1].tolist())
    if not suspects:
        return
    seen: dict[str, int] = {}
    with rows.open("rb") as stream:
        for number, line in enumerate(stream):
            if hashes[number] in suspects:
                id = str(json.loads(line)["id"])
                if id in seen:
                    raise ValueError(
                        f"id must be another in every row, got {_check.shown(id)} in rows {seen[id]} and {number}"
                    )
                seen[id] = number


def _check_same(held: Plan, settings: Settings) -> None:
    """Raise a ValueError if a folder belongs to other settings."""
    then, now = asdict(held.settings), json.loads(json.dumps(asdict(settings)))
    for name in then:
        if then[name] != now[name]:
            raise ValueError(
                f"output must be a folder of the same run, but {held.folder} was begun with {name} "
                f"{_check.shown(then[name])}, and this is {_check.shown(now[name])}"
            )
