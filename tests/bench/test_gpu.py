"""What `benchmarks/gpu.sh` runs, on a CPU."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.gpu import __main__ as parts
from benchmarks.gpu import kernel
from benchmarks.gpu import loops as on_gpu
from benchmarks.report import GPU_CASES, Results, markdown


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A part made as the script makes it: what it exits with, and what the file holds then."""
    output = tmp_path / "gpu.json"

    def made(part: str, device: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["gpu", part, "--output", str(output), "--device", device])
        return parts.main(), json.loads(output.read_text(encoding="utf-8"))

    return made


@pytest.mark.slow
def test_each_part_is_kept_whatever_becomes_of_the_others(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: str) -> None:
        raise RuntimeError("out of memory\nand more of it")

    def bandwidth() -> None:
        raise AttributeError("no such thing")

    right, wrong = (kernel.Checked("one row", "float16", (2, 3), share) for share in (0.5, 1.5))
    monkeypatch.setattr(kernel, "bandwidth", bandwidth)
    monkeypatch.setattr(kernel, "correctness", lambda: [right, wrong])
    assert run("correctness", "cuda")[0] == 1
    monkeypatch.setattr(kernel, "correctness", lambda: [right])
    assert run("correctness", "cuda")[0] == 0
    monkeypatch.setattr(on_gpu, "pair", fail)
    assert run("pair", "cpu")[0] == 1
    assert run("bandwidth", "cuda")[0] == 1
    code, held = run("synchronisations", "cpu")
    assert code == 0
    assert held["parts"]["correctness"] == [
        {"case": "one row", "dtypes": "float16", "shape": [2, 3], "share_of_allowed": 0.5}
    ]
    assert held["parts"]["pair"] == [{"error": "RuntimeError: out of memory"}]
    assert "AttributeError" in held["parts"]["bandwidth"][0]["error"]
    page = markdown(Results("", "", 1, {}, {}, []), gpu=held)
    assert "| one row | float16 | [2, 3] | 0.500 |" in page
    assert "Not measured: RuntimeError: out of memory" in page
    assert f"| {GPU_CASES['synchronisations'][0]} | none |" in page


def test_the_kernel_is_left_out_without_a_gpu(run: Any) -> None:
    code, held = run("bandwidth", "cpu")
    assert code == 0
    assert held["parts"] == {"bandwidth": []}


@pytest.mark.slow
def test_no_loop_is_left_out_where_diffusers_is() -> None:
    waits = {record["case"]: record["waits"] for record in on_gpu.synchronisations("cpu")}
    assert set(GPU_CASES["synchronisations"][:3]) <= waits.keys()
    assert set(waits.values()) == {"none"}


@pytest.mark.slow
def test_the_loops_are_those_that_the_page_has(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "REPEATS", 1)
    _, held = run("loops", "cpu")
    assert {record["case"] for record in held["parts"]["loops"]} == {*GPU_CASES["loops"]}
    assert {record["project"] for record in held["parts"]["loops"]} >= {"diffusers", "kdpm2", "kdpm2.sample"}


def test_a_pair_on_a_cpu_says_how_small_it_is(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "REPEATS", 1)
    monkeypatch.setitem(on_gpu.LARGE, "cpu", (1, 1000))
    _, held = run("pair", "cpu")
    assert {record["case"] for record in held["parts"]["pair"]} == {"pair of 1,000 elements, without its noise"}
    assert {record["project"] for record in held["parts"]["pair"]} == {"diffusers", "kdpm2", "kdpm2.sample", "copy_"}


def test_the_pair_on_a_gpu_has_as_many_elements_as_the_page_says() -> None:
    assert GPU_CASES["pair"] == [f"pair of {on_gpu.LARGE['cuda'][1]:,} elements, without its noise"]
