"""A text-to-image pipeline with prompts from CSV, through every format, and read back by those who read it.

pandas, webdataset and datasets read it where they are installed.
"""

import csv
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from PIL import Image

from kdpm2 import KDPM2AncestralDiscreteScheduler
from kdpm2.generate import generate
from kdpm2.noise import generator_of
from tests.generate.made import levels, pictures
from tests.stand_ins import small_stable_diffusion

PROMPTS = ["a red fox", "hens, two of them", "der Leuchtturm „Roter Sand“", "a red fox", "rain", "the sea"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    small_stable_diffusion(tmp_path_factory).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "prompts.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "prompt", "seed", "steps", "guidance", "source"])
        for i, prompt in enumerate(PROMPTS):
            writer.writerow([f"p-{i}", prompt, 2**33 + i, 2 + i % 2, "" if i % 2 else 3.5, "web" if i else ""])
    return path


def made(table: Path, saved: Path, output: Path, format: str, **more: Any) -> Path:
    shared = {"pipeline": str(saved), "options": {"guidance_scale": 2.0}, "keep": ["source"], "rows_per_file": 4}
    report = generate(table, output, format=format, engine="local", **{"batch": 2, **shared, **more})
    assert (report.made, report.failed) == (len(PROMPTS), 0)
    return output / "pictures"


def test_the_pictures_are_those_of_the_pipeline(table: Path, saved: Path, tmp_path: Path) -> None:
    made(table, saved, tmp_path / "output", "png")
    pipe = diffusers.DiffusionPipeline.from_pretrained(saved)
    pipe.scheduler = KDPM2AncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    held = pictures(tmp_path / "output")
    assert [kept.made_of["prompt"] for kept in held] == PROMPTS
    for i, kept in enumerate(held):
        alone = pipe(
            PROMPTS[i],
            num_inference_steps=2 + i % 2,
            guidance_scale=2.0 if i % 2 else 3.5,
            generator=generator_of(2**33 + i),
            output_type="np",
        ).images[0]
        assert np.abs(alone - levels(kept)).max() <= 0.5 / 255 + 1e-5


def test_a_folder_of_pngs(table: Path, saved: Path, tmp_path: Path) -> None:
    folder = made(table, saved, tmp_path / "output", "png")
    said = [
        json.loads(line)
        for part in ("part-000000", "part-000001")
        for line in (folder / part / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [each["id"] for each in said] == [f"p-{i}" for i in range(6)]
    assert [each["source"] for each in said] == [None, "web", "web", "web", "web", "web"]
    assert said[0]["guidance_scale"] == 3.5
    assert said[0]["model"] == str(saved)
    assert Image.open(folder / "part-000001" / said[5]["file_name"]).size == (16, 16)


def test_shards(table: Path, saved: Path, tmp_path: Path) -> None:
    folder = made(table, saved, tmp_path / "output", "webdataset")
    with tarfile.open(folder / "part-000001.tar") as tar:
        assert tar.getnames() == ["000000004.png", "000000004.json", "000000005.png", "000000005.json"]


def test_datasets_reads_folders_of_pngs(table: Path, saved: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = made(table, saved, tmp_path / "output", "png")
    held = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(held["id"]) == [f"p-{i}" for i in range(6)]
    assert sorted(held["prompt"]) == sorted(PROMPTS)
    assert held[0]["image"].size == (16, 16)


def test_webdataset_reads_shards(table: Path, saved: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    folder = made(table, saved, tmp_path / "output", "webdataset")
    shards = sorted(map(str, folder.glob("*.tar")))
    held = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil"))
    assert [each["json"]["prompt"] for each in held] == PROMPTS
    assert all(each["png"].size == (16, 16) for each in held)


def test_pandas_and_datasets_read_parquet(table: Path, saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    folder = made(table, saved, tmp_path / "output", "parquet")
    frame = pandas.read_parquet(folder)
    assert list(frame["prompt"]) == PROMPTS
    assert list(frame["seed"]) == [2**33 + i for i in range(6)]
    assert list(frame["guidance_scale"]) == [3.5, 2.0] * 3
    assert Image.open(io.BytesIO(frame["picture"][5])).size == (16, 16)
    held = datasets.load_dataset("parquet", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    held = held.cast_column("picture", datasets.Image())
    assert held[2]["prompt"] == PROMPTS[2]
    assert np.array_equal(np.asarray(held[2]["picture"]) / 255, levels(pictures(tmp_path / "output")[2]))


def test_rows_from_parquet(saved: Path, tmp_path: Path) -> None:
    """As pandas writes them, where a column with gaps holds floats; a folder of files is one table."""
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    (tmp_path / "rows").mkdir()
    for i in range(2):
        frame = pandas.DataFrame({"id": [2 * i, 2 * i + 1], "steps": [2, None], "label": [None, 3]})
        frame.to_parquet(tmp_path / "rows" / f"{i}.parquet")
    report = generate(tmp_path / "rows", tmp_path / "output", options={"steps": 3}, engine="local")
    assert report.made == 4
    said = [kept.made_of for kept in pictures(tmp_path / "output")]
    assert [(each["id"], each["steps"], each["label"]) for each in said] == [
        (0, 2, None), (1, 3, 3), (2, 2, None), (3, 3, 3),
    ]  # fmt: skip


def test_a_model_that_does_not_load(saved: Path, table: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(saved, model)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be loaded"):
        made(table, model, tmp_path / "output", "png")
    assert not list((tmp_path / "output" / "pictures").iterdir())
