"""Where rows come from: Parquet, CSV or JSON lines, a file or a folder of them, read one row at a time.

A row is a mapping of column names to plain values. What a cell holds is judged by `kdpm2.generate.wanted`, and not
here: a CSV file has texts only, and an empty cell is None, as is a missing value of Parquet.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdpm2 import _check

Row = Mapping[str, Any]

_PARQUET_ROWS = 1024  # at a time
_LONGEST_CELL = 2**20


def read(path: Path) -> Iterator[Row]:
    """The rows of a file, or of every file in a folder in the order of their names.

    Raises:
        ValueError: If there is no such file, or something in it is no row. The message says where.
        ImportError: If it is Parquet and pyarrow is not installed.
    """
    for file in files(path):
        try:
            yield from READERS[file.suffix.lower()](file)
        except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
            raise ValueError(f"rows cannot be read from {file}: {error}") from error


def files(path: Path) -> list[Path]:
    """The files of rows at a path; ValueError if there are none."""
    known = " or ".join(READERS)
    if path.is_dir():
        held = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS and file.name[0] not in "._")
        if not held:
            raise ValueError(f"rows must be a folder with files that end in {known}, got {path} with none")
        return held
    if path.suffix.lower() not in READERS:
        raise ValueError(f"rows must be a file or a folder of files that end in {known}, got {path}")
    if not path.is_file():
        raise ValueError(f"rows must be a file that is there, got {path}")
    return [path]


def numbered(number: int, labels: Sequence[int | str] | None) -> Iterator[Row]:
    """Rows for a model without a table: ids from 0, and labels in turn."""
    _check.integer("number", number, 1)
    for id in range(number):
        yield {"id": id} if not labels else {"id": id, "label": labels[id % len(labels)]}


def _parquet(file: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'kdpm2[cluster]'") from error
    try:
        with pq.ParquetFile(file) as held:
            for batch in held.iter_batches(_PARQUET_ROWS):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"rows cannot be read from {file}: {error}") from error


def _csv(file: Path) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, restkey="")
        names = reader.fieldnames or []
        if not names or "" in names or len(set(names)) < len(names):
            raise ValueError(
                f"rows must have a name for each column, each another, got {_check.shown(names)} in {file}"
            )
        for row in reader:
            if "" in row or None in row.values():
                raise ValueError(
                    f"rows must have {len(names)} cells, as the first line of {file}; line {reader.line_num} does not"
                )
            yield {name: cell if cell else None for name, cell in row.items()}


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except RecursionError:
                row = None
            if not isinstance(row, dict):
                raise ValueError(f"rows must be a JSON object a line; line {number} of {file} is none")
            yield row


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
