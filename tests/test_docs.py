"""Every block of Python in README.md and docs/ runs, page by page, in order, as it stands there.

Three things are not as they are for a reader. The pipelines of the hub are small ones (`tests.stand_ins`), and stay on
the CPU. A CUDA graph is played by a stand-in on the CPU. Files are written to a temporary folder.
"""

import linecache
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from PIL import Image

from tests.cuda_stand_in import graphs_on_the_cpu

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^\$ (?:\S*/)?kdpm2 ((?:sample|generate|grid|schedule|tune|ui)\b[^\n]*)$", re.MULTILINE)
ON_ITS_OWN = ROOT / "docs" / "extending.md"  # `test_docs_extending` runs it, and takes back what it adds to the package
WITH_CODE = [page for page in PAGES if page != ON_ITS_OWN and PYTHON.search(page.read_text(encoding="utf-8"))]
SLOW = ("docs/speed.md",)  # a page on which torch compiles


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def _small_pipelines(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`DiffusionPipeline.from_pretrained` gives a small pipeline of random weights, whatever it is asked for."""
    from tests import stand_ins

    def from_pretrained(cls: Any, _: str, /, **__: Any) -> Any:
        flux = issubclass(cls, diffusers.FluxPipeline)
        pipe = stand_ins.small_flux() if flux else stand_ins.small_stable_diffusion(tmp_path_factory)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", classmethod(from_pretrained))
    monkeypatch.setattr(diffusers.DiffusionPipeline, "to", lambda self, device: self)


@pytest.mark.usefixtures("_small_pipelines")
@pytest.mark.parametrize(
    "page", [pytest.param(page, id=name(page), marks=[pytest.mark.slow] * (name(page) in SLOW)) for page in WITH_CODE]
)
def test_the_code_of_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "page"}
    with graphs_on_the_cpu():
        for block in PYTHON.finditer(text):
            line = text.count("\n", 0, block.start(1))
            source = "\n" * line + block[1]  # so that an error says the line of the page
            linecache.cache[str(page)] = (len(source), None, source.splitlines(keepends=True), str(page))
            exec(compile(source, str(page), "exec"), names)
    CHECKS.get(name(page), lambda names: None)(names)


def tutorial(names: dict[str, Any]) -> None:
    assert names["again"].config.eta == 0.5
    sheets = [np.asarray(Image.open(each)) for each in ("steps.png", "eta.png", "levels.png")]
    assert all(sheet.std() > 30 for sheet in sheets)


def generating(names: dict[str, Any]) -> None:
    assert (names["report"].made, names["report"].failed) == (40, 0)
    assert len(list(Path("digits/pictures").iterdir())) == 2


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "docs/tutorial.md": tutorial,
    "docs/generating.md": generating,
}


def test_every_command_of_the_pages_is_one() -> None:
    import typer

    from kdpm2.cli import app

    group: Any = typer.main.get_command(app)
    seen = 0
    for page in PAGES:
        for line in CONSOLE.findall(page.read_text(encoding="utf-8")):
            command, *arguments = shlex.split(line, comments=True)
            if "--help" not in arguments:
                group.commands[command].make_context(command, list(arguments))
            seen += 1
    assert seen >= 8
