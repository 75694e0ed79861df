"""What came out, in JSON and as a page of Markdown with the tables."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from benchmarks.pairs import COPY, ELEMENTS_PREFIX
from benchmarks.timing import Memory, Record, Served, Time

OURS = "kdpm2"
# The columns of a table, in this order.
PROJECTS = [
    "Python",
    "torch",
    "diffusers",
    "k-diffusion",
    OURS,
    "kdpm2.sample",
    "kdpm2.sample compile",
    "kdpm2.sample graph",
    "kdpm2.update",
    "kdpm2.batching",
    "kdpm2.batching compile",
    COPY,
]
UNITS = {"µs": 1e6, "ms": 1e3}


@dataclass(frozen=True)
class Results:
    """A run of the benchmark.

    Attributes:
        date: Of the run, in ISO 8601.
        command: That made it.
        threads: Of torch.
        machine: What it ran on, by name.
        versions: Of what it ran, by name.
        records: What was measured.
    """

    date: str
    command: str
    threads: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    records: Sequence[Record]


class Section(NamedTuple):
    """A table: the cases whose names begin with one of the prefixes, in a unit of time."""

    title: str
    prefixes: tuple[str, ...]
    unit: str


SECTIONS = [
    Section("Schedulers", ("construct", "set_timesteps"), "µs"),
    Section("Stage pairs", ("pair",), "µs"),
    Section("Whole loops", ("loop",), "ms"),
    Section("Imports", ("import",), "ms"),
    Section("Memory", ("memory",), ""),
    Section("Batching: a stage of 64 samples", ("batching stage", "batching advance"), "µs"),
    Section("Batching: serving the digits", ("batching load",), ""),
]
PERCENTS = (50, 90, 95, 99)
_ELEMENTS = Section("Elements", (ELEMENTS_PREFIX,), "µs")  # whose table is a plot

SYNCHRONISATIONS = "synchronisations"
# The parts of a run on a GPU: their titles, and the rows and columns that they have before there is one.
GPU_CASES = {
    SYNCHRONISATIONS: [
        "scheduler, its own timesteps",
        "scheduler, timesteps as Python numbers",
        "kdpm2.sample",
        "kdpm2.sample compile",
    ],
    "loops": ["loop policy, set_timesteps at every call", "loop policy, set_timesteps once"],
    "pair": ["pair of 64,000,000 elements, without its noise"],
}
_GPU_COLUMNS = {
    "loops": ["diffusers", OURS, "kdpm2.sample", "kdpm2.sample compile", "kdpm2.sample graph"],
    "pair": ["diffusers", OURS, "kdpm2.sample", COPY],
}
_GPU_TITLES = {
    SYNCHRONISATIONS: "Waits for the device between the first stage and the last",
    "loops": "Whole loops around the policy",
    "pair": "A stage pair that fills the device",
    "correctness": "The Triton kernel: correctness",
    "bandwidth": "The Triton kernel: bandwidth",
}


def as_json(results: Results) -> str:
    """A header, and `records` as a flat list."""
    return json.dumps(asdict(results) | {"records": [as_dict(record) for record in results.records]}, indent=1) + "\n"


def read(text: str) -> Results:
    """What `as_json` wrote.

    Raises:
        ValueError: If it is something else.
    """
    try:
        held = json.loads(text)
        return Results(**held | {"records": [_record(each) for each in held["records"]]})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the text must be what python -m benchmarks --json writes, got something else: {error}"
        ) from error


def _record(fields: Mapping[str, Any]) -> Record:
    held: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    kind: type[Record] = Served if "latencies" in held else Memory if "samples" in held else Time
    return kind(**held)


def as_dict(record: Record) -> dict[str, Any]:
    """The fields of a record that are known."""
    return {name: value for name, value in asdict(record).items() if value is not None}


def line(records: Sequence[Record]) -> str:
    """One case for the terminal."""
    served = [record for record in records if isinstance(record, Served)]
    if served:
        each = (
            f"{record.project} {number(record.throughput)} requests/s, {record.calls} calls, "
            f"p50 {number(record.percentile(50))} s, p99 {number(record.percentile(99))} s"
            for record in served
        )
        return f"{served[0].case} ({number(served[0].offered)} requests/s): {'; '.join(each)}"
    unit = next(section.unit for section in [*SECTIONS, _ELEMENTS] if records[0].case.startswith(section.prefixes))
    cells = []
    for record in sorted(records, key=lambda record: PROJECTS.index(record.project)):
        over = _over_bound(record)
        shown = f"{record.project} {_cell(record, records, unit)} {unit}".rstrip()
        cells.append(f"{shown} [{over} times its bound]" if over else shown)
    return f"{records[0].case}: {', '.join(cells)}"


def markdown(results: Results, picture: str | None = None, gpu: Mapping[str, Any] | None = None) -> str:
    """The page: what it was measured on, the tables, the plot, and what was measured on a GPU.

    Args:
        results: The run.
        picture: Path of the plot from the page, if there is one.
        gpu: What `benchmarks/gpu.sh` wrote, if it has run.
    """
    tables = []
    for section in SECTIONS:
        table = section_table(section, results.records)
        if table:
            tables.append(f"### {section.title}\n\n{table}")
    template = Template(Path(__file__).with_name("template.md").read_text(encoding="utf-8"))
    return template.substitute(
        date=results.date,
        command=results.command,
        threads=results.threads,
        machine=_listed(results.machine),
        versions=_listed(results.versions),
        tables="\n\n".join(tables),
        picture=f"![Time of a stage pair against its elements]({picture})" if picture else "No plot was drawn.",
        gpu=_gpu(gpu or {}),
    )


def described(results: Results) -> str:
    """On what the run was made, and with what, in a line."""
    threads = f"torch on {results.threads} thread{'s' if results.threads > 1 else ''}"
    return f"{results.date}, {_listed(results.machine)}; {_listed(results.versions)}; {threads}"


def section_table(section: Section, records: Iterable[Record]) -> str:
    """The table of a section, empty if none of its cases is there."""
    found = [record for record in records if record.case.startswith(section.prefixes)]
    served = [record for record in found if isinstance(record, Served)]
    if served:
        return _served_table(served)
    return _table(found, section.unit, f"case, {section.unit or 'samples'}") if found else ""


def number(value: float) -> str:
    """Three digits, or all that are before the point."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits)}f}"


def _cell(record: Record, records: Iterable[Record], unit: str) -> str:
    """A record in a table: its value, and in parentheses how many times that of kdpm2 it is."""
    value = _value(record) * UNITS.get(unit, 1)
    ours = next((_value(other) for other in records if other.case == record.case and other.project == OURS), None)
    if ours is None or record.project in (OURS, COPY):
        return number(value)
    return f"{number(value)} ({number(_value(record) / ours)})"


def _value(record: Record) -> float:
    if isinstance(record, Served):
        raise TypeError("a record of requests served must have a table of its own, got one among times")
    return record.samples if isinstance(record, Memory) else record.seconds


def _served_table(records: Sequence[Served]) -> str:
    """A row for each load and policy."""
    head = ["case", "requests/s offered", "answered", "calls", "occupancy", *(f"p{percent}, s" for percent in PERCENTS)]
    rows = [
        [
            f"{record.case}, {record.project}",
            number(record.offered),
            number(record.throughput),
            f"{record.calls:,}",
            number(record.occupancy),
            *(number(record.percentile(percent)) for percent in PERCENTS),
        ]
        for record in records
    ]
    return _grid(head, rows)


def _table(
    records: Sequence[Record], unit: str, title: str, names: Sequence[str] = (), columns: Sequence[str] = ()
) -> str:
    """A row for each case, a column for each project; what was not measured is empty."""
    names = names or list(dict.fromkeys(record.case for record in records))
    columns = columns or [project for project in PROJECTS if any(record.project == project for record in records)]
    bounded = [
        project
        for project in columns
        if any(isinstance(record, Time) and record.bound and record.project == project for record in records)
    ]
    rows = []
    for name in names:
        of_case = {record.project: record for record in records if record.case == name}
        cells = [_cell(of_case[project], records, unit) if project in of_case else "" for project in columns]
        cells += [_over_bound(of_case.get(project)) for project in bounded]
        rows.append([name, *cells])
    return _grid([title, *columns, *(f"{project} / bound" for project in bounded)], rows)


def _over_bound(record: Record | None) -> str:
    return number(record.seconds / record.bound) if isinstance(record, Time) and record.bound else ""


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _listed(entries: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in entries.items())


def _gpu(gpu: Mapping[str, Any]) -> str:
    parts = gpu.get("parts", {})
    said = (
        f"Measured with `benchmarks/gpu.sh` on {gpu['date']}: {_listed(gpu['machine'])}; {_listed(gpu['versions'])}."
        if gpu
        else "No run on a GPU is on record. `benchmarks/gpu.sh` makes one; until then the cells are empty."
    )
    blocks = [said]
    for part, title in _GPU_TITLES.items():
        blocks += [f"### {title}", _gpu_table(part, parts.get(part, []))]
    return "\n\n".join(blocks)


def _gpu_table(part: str, found: Sequence[Mapping[str, Any]]) -> str:
    failed = [record["error"] for record in found if set(record) == {"error"}]
    if failed:
        return f"Not measured: {failed[0]}"
    if part in _GPU_COLUMNS:
        return _table([Time(**record) for record in found], "µs", "case, µs", GPU_CASES[part], _GPU_COLUMNS[part])
    if not found and part == SYNCHRONISATIONS:
        return _grid(["case", "waits"], [[case, ""] for case in GPU_CASES[part]])
    if not found:
        return _grid(["case", "result"], [["", ""]])
    head = list(dict.fromkeys(name for record in found for name in record))
    return _grid(head, [[_shown(record.get(name, "")) for name in head] for record in found])


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, float) and math.isfinite(value) else str(value)
