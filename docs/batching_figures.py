"""Write the figures of docs/batching.md, between its markers, and draw its plot, from what `make batching` measured."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import advance, report
from benchmarks.plot import draw_latencies
from benchmarks.serving import CONTINUOUS, NO_WAITING, STATIC
from benchmarks.timing import Record, Served, Time

from docs import style

DOCS = Path(__file__).parent
BEGIN, END = "<!-- figures: written by `make batching` -->", "<!-- end of the figures -->"
PLOT = Path("figures", "batching_latency.png")


def block(results: report.Results) -> str:
    """The figures, as Markdown.

    Raises:
        ValueError: If the run has no cases of batching.
    """
    tables = {
        section.title: report.section_table(section, results.records)
        for section in report.SECTIONS
        if section.prefixes[0].startswith("batching")
    }
    if not all(tables.values()):
        raise ValueError("the run must have the cases that begin with 'batching', got one without")
    stage, serving = tables.values()
    return "\n\n".join(
        [
            f"Measured with `{results.command}` on {report.described(results)}.",
            *(_of_stages(results.records, how) for how in ("without", "with")),
            stage,
            _of_serving(results.records),
            serving,
            f"![How many requests were answered within a time, for each load and policy]({PLOT.as_posix()})",
        ]
    )


def _of_stages(records: Sequence[Record], how: str) -> str:
    case = f"{advance.ADVANCE} of {advance.SAMPLES} samples, {how} its noise"
    seconds = {record.project: record.seconds for record in records if isinstance(record, Time) and record.case == case}
    ours = seconds[advance.SOLVER]
    over = " and ".join(
        f"{report.number(ours / seconds[other])} times as long as {name}"
        for other, name in (("kdpm2", "one `step` of the scheduler"), ("kdpm2.update", "one row of `kdpm2.update`"))
        if other in seconds
    )
    calls = f"{report.number(seconds['diffusers'] / ours)} times faster than {advance.SAMPLES} calls of diffusers, and "
    return (
        f"{how.capitalize()} its noise, an advance of {advance.SAMPLES} samples at as many stages is "
        f"{calls if 'diffusers' in seconds else ''}takes {over}, for as many samples at one stage."
    )


def _of_serving(records: Sequence[Record]) -> str:
    served = [record for record in records if isinstance(record, Served)]
    saturated = {record.project: record for record in served if record.case == served[-1].case}
    ratios = {name: saturated[CONTINUOUS].throughput / saturated[name].throughput for name in (STATIC, NO_WAITING)}
    return (
        f"At a load that no policy can keep up with, continuous batching answers {report.number(ratios[STATIC])} times "
        f"as many requests a second as static batching, and {report.number(ratios[NO_WAITING])} times as many requests "
        "a second as static batching without waiting."
    )


def filled(page: str, figures: str) -> str:
    """The page with other figures.

    Raises:
        ValueError: If it does not have the two markers, once each and in this order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"the page must have the markers {BEGIN} and {END}, once each")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def main(measured: Path, docs: Path) -> None:
    """Fill in the page in `docs` and draw its plot."""
    results = report.read(measured.read_text(encoding="utf-8"))
    page = docs / "batching.md"
    written = filled(page.read_text(encoding="utf-8"), block(results))
    with style.styled():
        draw_latencies(results.records, docs / PLOT)
    page.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), DOCS)
