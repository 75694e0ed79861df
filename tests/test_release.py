"""What is released: the wheel draws pictures where nothing else is, and the sdist has all that it takes to make it.

Both are built from a copy of the files that git knows, or that this sdist has, among files that must not come along.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from PIL import Image

import kdpm2

ROOT = Path(__file__).parents[1]
STRAY = (
    ".venv/lib/stray.py",
    ".hypothesis/stray",
    "build/stray.py",
    "dist/stray.whl",
    "samples.png",
    "site/index.html",
    "src/kdpm2/__pycache__/stray.cpython-311.pyc",
    "src/kdpm2.egg-info/PKG-INFO",
)
FOR_THE_HOST_ALONE = (".github/",)
WEIGHTS = [f"kdpm2/zoo/weights/{model}unet/diffusion_pytorch_model.safetensors" for model in ("", "emoji/")]


def known() -> list[str]:
    """The files of the repository, or of the sdist that these tests came in."""
    asked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if asked.returncode == 0 and (ROOT / ".git").exists():
        return [name for name in asked.stdout.splitlines() if (ROOT / name).is_file()]
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    hidden = (".venv", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", "__pycache__", "site", "PKG-INFO")
    return [path.as_posix() for path in found if not any(part.startswith(hidden) for part in path.parts)]


def build(source: Path, into: Path, kind: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(into), str(source)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    (file,) = into.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel_and_sdist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("release")
    for name in known():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "source" / name)
    for name in STRAY:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_text("stray", encoding="utf-8")
    return build(folder / "source", folder / "wheel", "wheel"), build(folder / "source", folder / "sdist", "sdist")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_the_package_and_nothing_else(wheel_and_sdist: tuple[Path, Path]) -> None:
    names = set(contents(wheel_and_sdist[0]))
    information = f"kdpm2-{kdpm2.__version__}.dist-info"
    package = {name.removeprefix("src/") for name in known() if name.startswith("src/kdpm2/")}
    others = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    others.add("licenses/src/kdpm2/zoo/weights/emoji/LICENSES.txt")
    assert names == package | {f"{information}/{name}" for name in others}
    assert {*WEIGHTS, "kdpm2/py.typed"} <= names


def test_the_sdist_has_the_repository_and_nothing_else(wheel_and_sdist: tuple[Path, Path]) -> None:
    with tarfile.open(wheel_and_sdist[1]) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    expected = {name for name in known() if not name.startswith(FOR_THE_HOST_ALONE)}
    assert names - {"PKG-INFO"} == expected - {"PKG-INFO"}
    assert {"tests/test_release.py", "docs/index.md", "benchmarks/batching.json", "Makefile"} <= names


def test_the_sdist_makes_the_same_wheel(wheel_and_sdist: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = wheel_and_sdist
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "wheel", "wheel")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


def required(name: str) -> Iterator[metadata.Distribution]:
    """A package and all that it needs, without extras."""
    waiting, seen = [name], set()
    while waiting:
        each = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if each in seen:
            continue
        seen.add(each)
        try:
            found = metadata.distribution(each)
        except metadata.PackageNotFoundError:  # for another platform or Python
            continue
        yield found
        needed = [line for line in found.requires or () if "extra ==" not in line]
        waiting += [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed]


@pytest.mark.slow
def test_the_wheel_draws_in_a_bare_environment(wheel_and_sdist: tuple[Path, Path], tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    for distribution in required("kdpm2"):
        if distribution.metadata["Name"] == "kdpm2":
            continue
        for top in {Path(file).parts[0] for file in distribution.files or () if ".." not in Path(file).parts}:
            if top != "__pycache__" and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))))
    install = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*install, str(wheel_and_sdist[0])], check=True, env={"PATH": ""})
    outside = tmp_path / "outside"
    outside.mkdir()
    python = [str(environment / "bin" / "python"), "-I", "-c"]
    look = "import importlib.util as u; print([n for n in ('matplotlib', 'transformers', 'pytest') if u.find_spec(n)])"
    assert subprocess.run([*python, look], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    arguments = ["sample", "--number", "4", "--steps", "4", "--output", "four.png"]
    command = [str(environment / "bin" / "kdpm2"), *arguments]
    run = subprocess.run(command, cwd=outside, capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1"})
    assert run.returncode == 0, run.stdout + run.stderr
    assert [path.name for path in outside.iterdir()] == ["four.png"]
    with Image.open(outside / "four.png") as sheet:
        darkest, lightest = sheet.convert("L").getextrema()
    assert darkest < 100  # type: ignore[operator]
    assert lightest == 255


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {kdpm2.__version__}\n" in text
