"""Every link of README.md and docs/ leads to something: a page, an anchor on it, a file of the repository."""

import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest

import kdpm2

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
REPOSITORY = "https://github.com/kdpm2/kdpm2"
IN_REPOSITORY = re.compile(
    rf"(?:{re.escape(REPOSITORY)}/(?:blob|tree)/main|https://raw\.githubusercontent\.com/kdpm2/kdpm2/main)/(.+)"
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    return LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())
        number = 1
        while slug in found:
            slug = f"{slug.rsplit('_', 1)[0]}_{number}"
            number += 1
        found.add(slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        inside = IN_REPOSITORY.fullmatch(target)
        if inside is None and target.startswith(("http://", "https://")):
            continue  # nothing is fetched
        path = (page if not target else ROOT / inside[1] if inside else (page.parent / target)).resolve()
        if inside and inside[1].startswith("examples") and not (ROOT / "examples").exists():
            continue  # a checkout of the documentation alone
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(link)
        elif DOCS in page.parents and not inside and DOCS not in path.parents and path != page:
            broken.append(f"{link} leads out of the site")
    assert not broken


def test_what_a_package_index_shows_is_absolute() -> None:
    found = links(ROOT / "README.md")
    assert all(link.startswith("https://") for link in found)
    assert any(link.endswith(".png") for link in found)


def test_every_page_and_picture_is_used() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.rglob("*.md") if f" {page.relative_to(DOCS).as_posix()}" not in site] == []
    shown = {Path(link).name for page in PAGES for link in links(page)}
    assert {picture.name for picture in (DOCS / "figures").glob("*.png")} <= shown


def test_the_reference_has_every_public_name() -> None:
    entries = set()
    for page in (DOCS / "reference").glob("*.md"):
        entries |= set(re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    text = (DOCS / "reference" / "noise_schedule.md").read_text(encoding="utf-8")
    public = {f"kdpm2.{name}" for name in kdpm2.__all__}
    for package in ("batching", "generate", "noise", "noise_schedule", "schedulers", "update", "zoo"):
        public.discard(f"kdpm2.{package}")
        where = "kdpm2" if package == "schedulers" else f"kdpm2.{package}"
        public |= {f"{where}.{name}" for name in getattr(kdpm2, package).__all__}
    told = {"kdpm2.noise_schedule.ADDED", "kdpm2.noise_schedule.MIXED"}  # two values, in words
    assert all(name.rsplit(".", 1)[1] in text for name in told)
    told.add("kdpm2.noise_schedule.Coordinates")  # in the module `coordinates`
    assert public - told - entries == set()
