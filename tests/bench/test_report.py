"""The page, from results that are made up."""

import pytest
from benchmarks.report import Results, line, markdown, number
from benchmarks.timing import Memory, Time

TIMES = [
    Time("construct ancestral", "diffusers", 0.08, 3, (0.07, 0.09)),
    Time("construct ancestral", "kdpm2", 0.0002, 3, (0.0001, 0.0003)),
]
RESULTS = Results("2030-01-02", "python -m benchmarks --quick", 4, {"CPU": "Abacus"}, {"torch": "9.9"}, TIMES)
GPU = {
    "date": "2030-01-03",
    "machine": {"GPU": "Slide rule"},
    "versions": {"triton": "8.8"},
    "parts": {
        "synchronisations": [{"case": "kdpm2.sample", "waits": "none"}],
        "loops": [
            {"case": "loop policy, set_timesteps once", "project": project, "seconds": seconds, "repeats": 1}
            | {"quartiles": [seconds, seconds]}
            for project, seconds in {"kdpm2": 2e-3, "kdpm2.sample graph": 5e-4}.items()
        ],
        "pair": [{"error": "RuntimeError: out of memory"}],
        "bandwidth": [{"elements": 1000000, "fraction": 0.912345}],
    },
}


def test_the_page_says_on_what_it_was_measured() -> None:
    page = markdown(RESULTS)
    for said in ("2030-01-02", "$ python -m benchmarks --quick\n", "on 4 threads", "CPU Abacus", "torch 9.9"):
        assert said in page
    assert "| construct ancestral | 80,000 (400) | 200 |" in page
    assert "No plot was drawn." in page


def test_without_a_run_on_a_gpu_its_cells_are_empty() -> None:
    page = markdown(RESULTS, "a.png").partition("## On a GPU")[2]
    assert "No run on a GPU is on record." in page
    assert "| loop policy, set_timesteps once |  |  |  |  |  |" in page
    assert "| kdpm2.sample compile |  |" in page


def test_a_run_on_a_gpu_fills_them() -> None:
    page = markdown(RESULTS, "a.png", GPU).partition("## On a GPU")[2]
    assert "No run on a GPU" not in page
    assert "2030-01-03: GPU Slide rule; triton 8.8." in page
    assert "| kdpm2.sample | none |" in page
    assert "| loop policy, set_timesteps once |  | 2,000 |  |  | 500 (0.250) |" in page
    assert "Not measured: RuntimeError: out of memory" in page
    assert "| 1000000 | 0.912 |" in page


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.0, "1,234,567"), (123.4, "123"), (12.34, "12.3"), (0.01234, "0.0123"), (0.0, "0")]
)
def test_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_line_says_how_far_from_the_bound_a_time_is() -> None:
    records = [
        Time("pair", "copy_", 1e-6, 1, (1e-6, 1e-6)),
        Time("pair", "kdpm2", 9e-6, 1, (9e-6, 9e-6), bound=6e-6),
        Time("pair", "diffusers", 18e-6, 1, (18e-6, 18e-6)),
    ]
    assert line(records) == "pair: diffusers 18.0 (2.00) µs, kdpm2 9.00 µs [1.50 times its bound], copy_ 1.00 µs"


def test_a_line_of_memory_has_no_unit_of_time() -> None:
    records = [Memory("memory of a loop", "kdpm2", 6.0), Memory("memory of a loop", "diffusers", 9.0)]
    assert line(records) == "memory of a loop: diffusers 9.00 (1.50), kdpm2 6.00"
