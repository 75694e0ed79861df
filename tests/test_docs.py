"""The code in the documentation runs, and makes samples."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import kdpm2
from tests.cuda_stand_in import graphs_on_the_cpu

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", [pytest.param(0, marks=pytest.mark.slow), 1])  # the first compiles
def test_speed(block: int) -> None:
    names: dict[str, Any] = {"network": lambda x, timestep: 0.1 * x, "x": torch.randn(2, 3, 8, 8)}
    before = names["x"].clone()
    with graphs_on_the_cpu(), torch.no_grad():
        exec(blocks("speed.md")[block], names)
    made = names["samples"] if "samples" in names else names["x"]
    assert made.isfinite().all()
    assert made.shape == before.shape
    assert not torch.equal(made, before)
    assert names.get("kdpm2", kdpm2) is kdpm2
