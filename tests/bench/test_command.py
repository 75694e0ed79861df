"""`python -m benchmarks`, run as users run it, with few repeats and small sizes."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from benchmarks import cases
from benchmarks.__main__ import app
from PIL import Image
from typer.testing import CliRunner, Result

SCHEDULERS = ["diffusers", "kdpm2"]
ALL = ["diffusers", "k-diffusion", "kdpm2", "kdpm2.sample"]
CASES = {
    "construct ancestral": SCHEDULERS,
    "construct discrete": SCHEDULERS,
    "set_timesteps(10) discrete, plain sigmas": SCHEDULERS,
    "set_timesteps(10) discrete, Karras sigmas": SCHEDULERS,
    "set_timesteps(10) discrete, beta sigmas": SCHEDULERS,
    "pair 1x4x64x64 float32, with its noise": [*ALL, "copy_"],
    "pair 1x4x64x64 float32, without its noise": [*ALL, "copy_"],
    "pair 1x4x64x64 float32, discrete": [*ALL, "copy_"],
    **{f"elements {elements}": [*ALL, "copy_"] for elements in (1000, 3000, 10000, 30000)},
    "memory of a 10-step loop": ALL,
    "import the package": ["kdpm2"],
}
CHOSEN = ["construct", "set_timesteps(10) disc", "pair 1x4x64x64 float32", "elements", "memory", "import the package"]


def bench(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(app, arguments)


class Run(NamedTuple):
    output: str
    results: dict[str, Any]
    page: str
    folder: Path

    def record(self, case: str, project: str) -> dict[str, Any]:
        (found,) = (r for r in self.results["records"] if (r["case"], r["project"]) == (case, project))
        return dict(found)

    def value(self, case: str, project: str) -> float:
        record = self.record(case, project)
        return float(record.get("seconds", record.get("samples", math.nan)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("bench")
    files = {
        option: folder / f"out.{suffix}" for option, suffix in {"json": "json", "plot": "png", "markdown": "md"}.items()
    }
    arguments = [word for option, path in files.items() for word in (f"--{option}", str(path))]
    arguments += [word for prefix in CHOSEN for word in ("--only", prefix)]
    result = bench("--quick", *arguments)
    assert result.exit_code == 0, result.output
    results = json.loads(files["json"].read_text(encoding="utf-8"))
    return Run(result.output, results, files["markdown"].read_text(encoding="utf-8"), folder)


@pytest.mark.slow
def test_every_case_is_there_with_every_project(run: Run) -> None:
    found: dict[str, set[str]] = {}
    for record in run.results["records"]:
        found.setdefault(record["case"], set()).add(record["project"])
    assert found == {case: set(projects) for case, projects in CASES.items()}
    assert all(f"\n{case}: " in f"\n{run.output}" for case in CASES)


@pytest.mark.slow
def test_every_number_is_positive_and_finite(run: Run) -> None:
    for record in run.results["records"]:
        value = run.value(record["case"], record["project"])
        assert 0 < value < math.inf
        if "seconds" in record:
            low, high = record["quartiles"]
            assert 0 < low <= value <= high < math.inf
            assert record["repeats"] == 2


@pytest.mark.slow
def test_the_header_says_on_what_and_with_what(run: Run) -> None:
    import diffusers
    import torch

    assert run.results["versions"]["torch"] == torch.__version__
    assert run.results["versions"]["diffusers"] == diffusers.__version__
    assert run.results["threads"] == torch.get_num_threads()
    assert all(run.results["machine"][name] in run.page for name in ("CPU", "cores", "memory"))
    assert run.results["command"].startswith("python -m benchmarks --json ")
    assert run.results["command"] in run.page


def tables(page: str) -> dict[str, dict[str, str]]:
    """The cells of every row of the page's tables, by the names of their columns."""
    rows, head = {}, [""]
    for line in page.partition("## On a GPU")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| case"):
            head = cells
        elif line.startswith("| ") and not line.startswith("| ---"):
            rows[cells[0]] = dict(zip(head[1:], cells[1:], strict=True))
    return rows


@pytest.mark.slow
def test_the_tables_say_what_the_json_says(run: Run) -> None:
    rows = tables(run.page)
    assert set(rows) == {case for case in CASES if not case.startswith("elements")}
    compared = 0
    for case, cells in rows.items():
        units = 1.0 if case.startswith("memory") else 1e3 if case.startswith("import") else 1e6
        for project in CASES[case]:
            value, _, ratio = cells[project].replace(",", "").rstrip(")").partition(" (")
            assert float(value) == pytest.approx(run.value(case, project) * units, rel=6e-3)
            assert bool(ratio) == (project in ("diffusers", "k-diffusion", "kdpm2.sample"))
            if ratio:
                assert float(ratio) == pytest.approx(run.value(case, project) / run.value(case, "kdpm2"), rel=6e-3)
                compared += 1
    assert compared == 5 + 3 * 3 + 3


@pytest.mark.slow
def test_what_a_project_does_not_have_is_an_empty_cell(run: Run) -> None:
    cells = tables(run.page)["pair 1x4x64x64 float32, with its noise"]
    assert cells["kdpm2 / bound"] == cells["kdpm2.sample / bound"] == ""


@pytest.mark.slow
@pytest.mark.parametrize(("project", "tensors"), [("kdpm2", 12), ("kdpm2.sample", 9)])
def test_the_bound_is_what_must_be_moved_at_the_speed_of_a_copy(run: Run, project: str, tensors: int) -> None:
    case = "pair 1x4x64x64 float32, without its noise"
    size = 1 * 4 * 64 * 64 * 4
    bandwidth = 2 * size / run.value(case, "copy_")
    expected = run.value(case, project) / (tensors * size / bandwidth)
    assert float(tables(run.page)[case][f"{project} / bound"]) == pytest.approx(expected, rel=6e-3)


@pytest.mark.slow
def test_the_plot_has_a_line_for_every_project(run: Run) -> None:
    pixels = np.asarray(Image.open(run.folder / "out.png").convert("RGB")).reshape(-1, 3)
    for color in ((0xD5, 0x5E, 0x00), (0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73)):
        assert np.sum(np.all(pixels == color, axis=1)) > 200
    assert "](out.png)" in run.page


def test_nothing_is_overwritten_unless_told(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_bytes(b"of value")
    arguments = ["--quick", "--only", "memory", "--json", str(there)]
    refused = bench(*arguments)
    assert refused.exit_code == 2
    assert "is there already; --force overwrites it" in refused.output
    assert there.read_bytes() == b"of value"
    assert bench(*arguments, "--force").exit_code == 0
    assert json.loads(there.read_text(encoding="utf-8"))["records"]


def test_what_ran_on_a_gpu_goes_into_the_page(tmp_path: Path) -> None:
    gpu, page = tmp_path / "gpu.json", tmp_path / "page.md"
    header = {"date": "2030-01-03", "machine": {"GPU": "Slide rule"}, "versions": {}}
    waits = [{"case": "kdpm2.sample", "waits": "none"}]
    gpu.write_text(json.dumps(header | {"parts": {"synchronisations": waits}}), encoding="utf-8")
    arguments = ["--quick", "--only", "memory", "--markdown", str(page), "--gpu", str(gpu)]
    assert bench(*arguments).exit_code == 0
    assert "2030-01-03: GPU Slide rule" in page.read_text(encoding="utf-8")
    gpu.write_text(json.dumps(header), encoding="utf-8")
    refused = bench(*arguments, "--force")
    assert refused.exit_code == 2
    assert "must be a file that benchmarks/gpu.sh wrote" in refused.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--json out.txt", "must end in .json, got out.txt"),
        ("--plot out.gif", "must end in .png or .svg or .pdf, got out.gif"),
        ("--markdown out.rst", "must end in .md, got out.rst"),
        ("--markdown no/out.md", "the folder no does not exist"),
        ("--only warp", "must be the beginning of a case's name, pair, elements, construct, set_timesteps"),
        ("--only construct --plot out.png", "draws the cases that begin with 'elements', which --only leaves out"),
        ("--threads 0", "Invalid value for '--threads'"),
        ("--gpu nothing.json", "must be a file that benchmarks/gpu.sh wrote, got nothing.json"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = bench("--quick", *arguments.split())
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_a_quick_run_is_of_cases_that_the_whole_run_has() -> None:
    whole, quick = ([case.name for case in cases.every(quick)] for quick in (False, True))
    assert len(set(whole)) == len(whole)
    assert set(quick) < set(whole)
    for steps in (10, 50, 1000):
        assert f"set_timesteps({steps}) ancestral, Karras sigmas" in whole
    for shape in ("1x4x64x64", "1x4x128x128", "8x4x128x128", "16x16x128x128"):
        for dtype in ("float32", "bfloat16"):
            assert {f"pair {shape} {dtype}, {noise} its noise" for noise in ("with", "without")} <= set(whole)
