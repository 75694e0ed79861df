from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training.emoji.pictures import KINDS
from typer.testing import CliRunner

from kdpm2 import cli, zoo
from kdpm2.zoo.built_in import EMOJI


@pytest.fixture(scope="module")
def pipe() -> Any:
    made: Any = zoo.emoji()
    made.set_progress_bar_config(disable=True)
    return made


def draw(pipe: Any, kind: str, count: int = 8) -> Any:
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    labels = [EMOJI.kinds.index(kind)] * count
    return pipe(labels, None, 8, 2.0, generators, output_type="np").images


def test_the_labels_are_the_kinds_of_the_training(pipe: Any) -> None:
    assert EMOJI.kinds == tuple(kind.name for kind in KINDS)
    assert pipe.unet.config.num_class_embeds == len(KINDS) + 1


def test_pictures_look_like_their_kind(pipe: Any) -> None:
    faces, plants, flags = (draw(pipe, kind) for kind in ("face", "plant", "flag"))
    assert faces.shape == (8, 24, 24, 3)
    red, green, blue = np.median(faces[:, 8:16, 8:16], axis=(0, 1, 2))
    assert red > green > blue + 0.2  # a face is yellow
    shares = plants.mean(axis=(1, 2, 3))
    assert (plants[..., 1].mean(axis=(1, 2)) > shares).mean() > 0.5  # and a plant green
    corners = np.concatenate([each[:, ::23, ::23] for each in (faces, flags)])
    assert np.median(corners) > 0.95  # on white
    filled = (flags.min(axis=3) < 0.9)[:, 8:16, 4:20].mean()
    assert filled > (faces.min(axis=3) < 0.9)[:, :2].mean()  # a flag is wide, and a face round


def test_the_command_takes_kinds_by_their_names(tmp_path: Path) -> None:
    sheets = []
    for name, labels in (("a", "face,any"), ("b", f"0,{len(KINDS)}")):
        output = tmp_path / f"{name}.png"
        arguments = ["sample", "--model", "emoji", "--labels", labels, "--number", "2", "--steps", "2"]
        result = CliRunner().invoke(cli.app, [*arguments, "--output", str(output)])
        assert result.exit_code == 0, result.output
        sheets.append(Image.open(output))
    first, second = sheets
    assert first.mode == "RGB"
    assert first.tobytes() == second.tobytes()
    assert first.text["parameters"].startswith("emoji face,any\n")  # type: ignore[attr-defined]
    refused = CliRunner().invoke(cli.app, ["sample", "--model", "digits", "--labels", "face"])
    assert "each must be from 0 to 9, or any, got 'face'" in refused.output


def test_the_weights_are_small_and_safe() -> None:
    files = [path for path in EMOJI.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".txt"}
    assert sum(path.stat().st_size for path in files) <= 6_000_000
