"""docs/batching.md: its code runs as it stands there, and its figures are those of a run."""

import re
import runpy
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import advance, report, serving
from benchmarks.timing import Served, Time
from PIL import Image

import kdpm2
from kdpm2 import noise_schedule, spacing

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "batching.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def server() -> dict[str, Any]:
    """The names of the page's first block of code, run."""
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[0], "docs/batching.md", "exec"), names)
    return names


def test_the_loop_answers_every_request_with_the_picture_it_has_alone(server: dict[str, Any]) -> None:
    wanted = [(3, 1, 11), (6, 4, 12), (2, 0, 13), (5, 9, 14), (1, 7, 15)]
    futures: list[Future[torch.Tensor]] = [Future() for _ in wanted]
    for request, future in zip(wanted, futures, strict=True):
        server["waiting"].put((*request, future))
    server["waiting"].put(None)
    server["work"](max_batch=2)
    assert len(server["solver"]) == 0
    schedule = noise_schedule.discrete(beta_schedule="scaled_linear")
    denoiser = kdpm2.Denoiser(lambda x, t, labels: server["unet"](x, t, labels).sample, schedule, "v_prediction")
    for (steps, label, seed), future in zip(wanted, futures, strict=True):
        sigmas = spacing.steps(schedule, steps).sigmas
        x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * float(sigmas[0])
        alone = kdpm2.sample(denoiser, x, sigmas, seeds=[seed], conditioning={"labels": torch.tensor([label])})
        torch.testing.assert_close(future.result(timeout=0), alone[0], rtol=1e-4, atol=1e-4)


def test_a_server_that_is_killed_goes_on_from_its_snapshot(
    server: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    solver, schedule = server["solver"], server["schedule"]
    id = solver.admit(server["dpm2"](schedule, spacing.steps(schedule, 3)), seed=5)
    exec(BLOCKS[1], server)
    assert server["solver"] is not solver
    assert server["solver"].ids == [id]
    assert torch.equal(server["solver"].next_inputs().x, solver.next_inputs().x)


def test_what_schedulers_were_set_to_is_drawn_as_each_draws_it(server: dict[str, Any]) -> None:
    exec(BLOCKS[2], server)
    for seed, (steps, eta) in enumerate([(10, 1.0), (25, 0.3)]):
        scheduler = server["KDPM2AncestralDiscreteScheduler"](prediction_type="v_prediction", eta=eta)
        scheduler.set_timesteps(steps)
        scheduler.seed([seed])
        x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t)
            output = server["unet"](scaled, t.reshape(1), torch.zeros(1, dtype=torch.long)).sample
            x = scheduler.step(output.detach(), t, x).prev_sample
        torch.testing.assert_close(server["samples"][seed], x[0], rtol=1e-4, atol=1e-4)


def test_the_page_has_the_code_that_is_tested() -> None:
    assert len(BLOCKS) == 5
    assert len(BLOCKS[0].splitlines()) < 35


@pytest.fixture
def figures() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "batching_figures.py"))


def results() -> report.Results:
    def times(case: str, seconds: dict[str, float]) -> list[Time]:
        return [Time(case, project, each, 3, (each, each)) for project, each in seconds.items()]

    seconds = {"diffusers": 2e-3, "kdpm2": 80e-6, "kdpm2.update": 50e-6, "kdpm2.batching": 100e-6}
    cases = [f"{prefix} of 64 samples, {how} its noise" for prefix in (advance.ADVANCE, advance.STAGE) for how in HOW]
    served = [
        Served("batching load 2.0", name, 48.0, 160, rate, 1000, 0.5, tuple(np.linspace(0.1, 9, 99).tolist()))
        for name, rate in ((serving.CONTINUOUS, 24.0), (serving.NO_WAITING, 16.0), (serving.STATIC, 12.0))
    ]
    records = [record for case in cases for record in times(case, seconds)]
    return report.Results(
        "2030-01-03", "python -m benchmarks --only batching", 1, {"CPU": "Abacus"}, {}, [*records, *served]
    )


HOW = ("without", "with")


def test_the_figures_are_those_of_the_run(figures: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    page, measured = tmp_path / "batching.md", tmp_path / "run.json"
    page.write_text(PAGE, encoding="utf-8")
    measured.write_text(report.as_json(results()), encoding="utf-8")
    for _ in range(2):  # the second run replaces the first's figures
        figures["main"](measured, tmp_path)
        text = page.read_text(encoding="utf-8")
        assert text.count("2030-01-03, CPU Abacus") == 1
        assert text.partition(figures["BEGIN"])[0] == PAGE.partition(figures["BEGIN"])[0]
        assert "20.0 times faster than 64 calls of diffusers" in text
        assert "1.25 times as long as one `step` of the scheduler and 2.00 times as long as one row" in text
        assert "2.00 times as many requests a second as static batching, and 1.50 times as many requests" in text
        assert "| batching load 2.0, continuous | 48.0 | 24.0 | 1,000 | 0.500 | 4.55 |" in text
        pixels = np.asarray(Image.open(tmp_path / figures["PLOT"]).convert("RGB")).reshape(-1, 3)
        for color in ((0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xD5, 0x5E, 0x00)):
            assert np.any(np.all(pixels == color, axis=1))


def test_what_is_no_run_of_batching_changes_nothing(figures: dict[str, Any], tmp_path: Path) -> None:
    page, measured = tmp_path / "batching.md", tmp_path / "run.json"
    page.write_text(PAGE, encoding="utf-8")
    for text, message in (
        ("{}", "must be what python -m benchmarks --json writes"),
        (None, "must have the cases that begin"),
    ):
        whole = results()
        other = report.Results(whole.date, "", 1, {}, {}, [])
        measured.write_text(report.as_json(other) if text is None else text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            figures["main"](measured, tmp_path)
        assert page.read_text(encoding="utf-8") == PAGE
    with pytest.raises(ValueError, match="must have the markers"):
        figures["filled"]("no markers", "")


def test_a_run_reads_as_it_was_written() -> None:
    assert report.read(report.as_json(results())) == results()
