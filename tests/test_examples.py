"""Each example runs, and shows what it says that it shows."""

import asyncio
import io
import runpy
import socket
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import nbclient
import nbformat
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

import kdpm2
from kdpm2 import zoo

EXAMPLES = Path(__file__).parents[1] / "examples"
SECONDS = 60.0  # for one of them on a machine that has other things to do; they take some 5


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs an example in an empty folder, and returns what it prints."""

    def ran(name: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name])
        monkeypatch.syspath_prepend(str(EXAMPLES))
        before = time.monotonic()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        assert time.monotonic() - before < SECONDS
        return capsys.readouterr().out

    return ran


def test_a_pipeline_swap(run: Any, tmp_path: Path) -> None:
    printed = run("pipeline_swap.py")
    assert "KDPM2AncestralDiscreteScheduler" in printed
    assert Image.open(tmp_path / "swapped.png").size == (64, 64)


def test_a_grid_of_eta(run: Any, tmp_path: Path) -> None:
    run("eta_grid.py")
    grid = np.asarray(Image.open(tmp_path / "eta_grid.png"), dtype=float)
    rows = [grid[16 + 64 * row : 80 + 64 * row, 56:] for row in range(4)]
    assert all(np.abs(one - other).mean() > 1 for one, other in pairwise(rows))
    assert (grid[:16] < 100).any()  # the labels


def test_image_to_image(run: Any, tmp_path: Path) -> None:
    run("image_to_image.py")
    sheet = np.asarray(Image.open(tmp_path / "image_to_image.png"), dtype=float)
    original, *rows = np.split(sheet, 5)
    changes = [np.abs(row - original).mean() for row in rows]
    assert changes == sorted(changes)  # the more noise, the less is left
    assert changes[0] > 1


def test_a_run_that_is_cut_and_resumed(run: Any) -> None:
    assert run("resume.py") == "3 samples, stopped after 4 of 10 steps: the same\n"


def test_the_best_schedule(run: Any) -> None:
    lines = run("which_schedule.py").splitlines()[1:]
    errors = [float(line.split()[1]) for line in lines]
    assert len(errors) == 7
    assert errors == sorted(errors)
    assert 0 < errors[0] < 0.02


def test_a_policy_of_a_robot(run: Any) -> None:
    words = run("robot_policy.py").split()
    assert int(words[0]) + int(words[4]) == 8
    assert float(words[-1]) > 0.3  # no path through the obstacle


def test_the_notebook(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "schedules.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert "eta: 0.5" in outputs[-1]["data"]["text/plain"]
    assert not [output["text"] for output in outputs if "Warning" in output.get("text", "")]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the example's HTTP server listens."""
    app = runpy.run_path(str(EXAMPLES / "http_server.py"))["app"]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_keep_alive=300))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def counters(address: str) -> dict[str, float]:
    lines = httpx.get(f"{address}/metrics", timeout=SECONDS).text.splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}


def test_two_hundred_clients(address: str) -> None:
    before = counters(address)
    refused = 0

    async def ask(client: httpx.AsyncClient, seed: int) -> Any:
        nonlocal refused
        while True:
            answer = await client.get("/generate", params={"digit": seed % 10, "seed": seed, "steps": 2 + seed % 3})
            if answer.status_code == 200:
                return answer.content
            assert answer.status_code == 429
            assert int(answer.headers["Retry-After"]) > 0
            refused += 1
            await asyncio.sleep(0.1)

    async def all_of_them() -> list[Any]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(200)))

    pictures = asyncio.run(all_of_them())
    after = counters(address)
    assert after["kdpm2_done"] - before["kdpm2_done"] == 200
    assert refused > 0  # 200 are more than the 80 that there is room for
    assert after["kdpm2_network_calls"] - before["kdpm2_network_calls"] < 200 * 5 / 4  # they share them
    pipe = zoo.digits()
    for seed in (0, 57, 199):
        denoiser = kdpm2.denoiser_of(pipe, labels=[seed % 10])
        scheduler = kdpm2.KDPM2AncestralDiscreteScheduler.from_config(pipe.scheduler.config)
        scheduler.set_timesteps(2 + seed % 3)
        start = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * scheduler.init_noise_sigma
        alone = kdpm2.sample(denoiser, start, scheduler.table, seeds=[seed])
        expected = (alone[0, 0] / 2 + 0.5).clamp(0, 1).mul(255).numpy()
        assert np.abs(np.asarray(Image.open(io.BytesIO(pictures[seed])), dtype=float) - expected).max() <= 1


def test_a_client_that_leaves_is_forgotten(address: str) -> None:
    before = counters(address)["kdpm2_cancelled"]
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{address}/generate?steps=100", timeout=0.3)
    deadline = time.monotonic() + SECONDS
    while counters(address)["kdpm2_cancelled"] == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert counters(address)["kdpm2_running"] == 0


def test_it_says_what_it_does_not_take(address: str) -> None:
    assert httpx.get(f"{address}/health").json() == "ok"
    for wrong in ("digit=11", "steps=0", "seed=-1", f"seed={2**64}", "eta=2", "eta=nan"):
        assert httpx.get(f"{address}/generate?{wrong}").status_code == 422, wrong
