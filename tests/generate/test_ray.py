"""`kdpm2.generate` on Ray, where it is installed: the pictures of the local engine, and errors of actors in words."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdpm2.generate import Cluster, Report, generate
from tests.generate.made import Difference, pictures, rows

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

FEW = rows(24, steps=(3, 6))


@pytest.fixture(scope="module", autouse=True)
def _on_this_machine() -> Iterator[None]:
    """One Ray for all of the tests, with workers that find the tests."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


def made(output: Path, engine: str, actors: int = 2, **more: Any) -> Report:
    cluster = Cluster(actors=actors, cpus=1) if engine == "ray" else Cluster()
    arguments: dict[str, Any] = {"format": "webdataset", "rows_per_file": 8, "batch": 8, **more}
    return generate(FEW, output, engine=engine, cluster=cluster, **arguments)


def test_actors_draw_what_one_process_draws(tmp_path: Path) -> None:
    report = made(tmp_path / "ray", "ray")
    assert (report.made, report.failed, report.engine) == (24, 0, "ray")
    assert report.calls > 0
    assert 0.3 < report.occupancy <= 1
    made(tmp_path / "local", "local")
    difference = Difference(pictures(tmp_path / "local"), pictures(tmp_path / "ray"))
    assert difference.none, difference


def test_one_engine_goes_on_with_what_another_began(tmp_path: Path) -> None:
    made(tmp_path / "output", "local")
    (tmp_path / "output" / "pictures" / "part-000001.tar").unlink()
    report = made(tmp_path / "output", "ray")
    assert (report.done_before, report.made) == (16, 8)
    assert made(tmp_path / "output", "ray").calls == 0


def test_actors_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="actors must fit this machine: 3 with 1 CPU each are more than its 2"):
        made(tmp_path / "output", "ray", actors=3)


def test_a_model_that_does_not_load(unconditional: Path, tmp_path: Path) -> None:
    """Only an actor reads the weights, and what it says of them is said here."""
    model, output = tmp_path / "model", tmp_path / "output"
    shutil.copytree(unconditional, model)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="model cannot be loaded"):
        generate([{"id": 1}], output, pipeline=str(model), format="png", engine="ray", cluster=Cluster(cpus=1))
    assert not list((output / "pictures").iterdir())


def test_what_an_actor_cannot_read_ends_the_run_with_its_error(tmp_path: Path) -> None:
    output = tmp_path / "output"
    made(output, "local")
    (output / "pictures" / "part-000001.tar").unlink()
    (output / "rows.index").rename(tmp_path / "kept")
    with pytest.raises(OSError, match=r"rows\.index"):
        made(output, "ray")
    (tmp_path / "kept").rename(output / "rows.index")
    assert made(output, "ray").made == 8
