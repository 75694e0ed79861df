"""The servers of docs/batching.md run as they stand there."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "batching.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
LOOP, (SERVER, RESTORED) = BLOCKS[0], [block for block in BLOCKS if "Server" in block]


def test_the_servers_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(LOOP, "docs/batching.md", "exec"), names)
    quick = SERVER.replace("steps(schedule, 20)", "steps(schedule, 3)")
    exec(compile(quick, "docs/batching.md", "exec"), names)
    made = names["samples"]
    assert len(made) == 10
    exec(compile(RESTORED, "docs/batching.md", "exec"), names)
    assert names["samples"]
    for key, sample in names["samples"].items():
        assert (sample - made[int(key.removeprefix("picture "))]).abs().max() < 1e-4
