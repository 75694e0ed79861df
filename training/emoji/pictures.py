"""The pictures that the emoji model learns from: a dozen kinds of emoji, 24x24 pixels, in the styles of two makers.

Noto Color Emoji (Google, SIL Open Font License 1.1) is the font of Debian's package fonts-noto-color-emoji, Fluent
Emoji Flat (Microsoft, MIT) a file of drawings in the npm package @iconify-json/fluent-emoji-flat, and the list of all
emoji by group the emoji-test.txt of Debian's unicode-data. They are fetched with the clients of their registries, and
nothing of them is in the package.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIZE = 24
FOLDER = Path(__file__).parent / "run"
"""Where `make train-emoji` keeps what is no part of the package."""
NOTO = "fonts-noto-color-emoji"
FLUENT = "@iconify-json/fluent-emoji-flat@1.2.6"
LIST = "unicode-data"
_STRIKE = 109  # the one size that the font's pictures have, of 136x128 pixels
_NOTO_BOX = (4, 0, 132, 128)


class Kind(NamedTuple):
    """One of the labels.

    Attributes:
        name: What its pictures are.
        groups: Of the list of all emoji.
        without: Words of names that are in these groups, and something else.
        hues: How far its colours may be turned and be right still, in turns.
    """

    name: str
    groups: tuple[str, ...]
    without: tuple[str, ...] = ()
    hues: float = 0.0


KINDS = (
    Kind(
        "face",
        (
            "face-smiling",
            "face-affection",
            "face-tongue",
            "face-hand",
            "face-neutral-skeptical",
            "face-sleepy",
            "face-unwell",
            "face-hat",
            "face-glasses",
            "face-concerned",
            "face-negative",
            "cat-face",
        ),
        ("crossbones", "skull"),
    ),
    Kind("person", ("person", "person-role", "person-fantasy"), ("zombie", "mermaid", "merman", "merperson", "genie")),
    Kind(
        "animal",
        ("animal-mammal", "animal-bird", "animal-amphibian", "animal-reptile", "animal-marine", "animal-bug"),
        ("paw prints", "feather", "web", "microbe", "wing"),
        0.03,
    ),
    Kind("plant", ("plant-flower", "plant-other"), ("white flower", "nest"), 0.04),
    Kind("fruit", ("food-fruit", "food-vegetable"), (), 0.04),
    Kind("food", ("food-prepared", "food-asian", "food-sweet", "drink"), ("salt",), 0.02),
    Kind(
        "vehicle",
        ("transport-ground", "transport-water", "transport-air"),
        (
            "stop",
            "light",
            "construction",
            "wheel",
            "motorway",
            "track",
            "fuel",
            "seat",
            "anchor",
            "buoy",
            "oil drum",
            "shoe",
            "chair",
        ),
        0.5,
    ),
    Kind("building", ("place-building", "place-religious"), ("brick", "rock", "wood", "kaaba"), 0.06),
    Kind("sky", ("sky & weather",), ("thermometer", "fog", "wind face", "milky"), 0.0),
    Kind("clothes", ("clothing",), ("prayer", "pin", "razor", "hair pick", "hand fan"), 0.5),
    Kind("heart", ("heart",), ("letter", "exclamation", "decoration", "white"), 0.5),
    Kind("flag", ("country-flag", "subdivision-flag", "flag"), ("crossed", "triangular", "white flag"), 0.5),
)


class Pictures(NamedTuple):
    """Pictures with what they are.

    Attributes:
        pixels: Shape (n, 24, 24, 3), uint8, on white.
        kinds: Shape (n,): their places in `KINDS`.
        names: What each shows, and in whose style.
    """

    pixels: NDArray[np.uint8]
    kinds: NDArray[np.int64]
    names: list[str]


def pictures(folder: Path) -> Pictures:
    """All pictures; fetched and drawn if they are not in the folder, else read from there."""
    kept = folder / "pictures.npz"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(_drawn(folder))
        pixels, kinds, names = (np.array(column) for column in zip(*rows, strict=True))
        np.savez_compressed(kept, pixels=pixels, kinds=kinds, names=names)
    with np.load(kept) as arrays:
        return Pictures(arrays["pixels"], arrays["kinds"].astype(np.int64), arrays["names"].tolist())


def _drawn(folder: Path) -> Iterator[tuple[NDArray[np.uint8], int, str]]:
    import resvg_py  # which is needed here alone

    font_file = next(_of_debian(NOTO, folder).rglob("NotoColorEmoji.ttf"))
    font = ImageFont.truetype(font_file, _STRIKE, layout_engine=ImageFont.Layout.RAQM)
    fluent = _fluent(folder)
    emoji = next(_of_debian(LIST, folder).rglob("emoji-test.txt")).read_text(encoding="utf-8")
    for kind, text, name in _listed(emoji):
        image = Image.new("RGBA", (136, 128), (255, 255, 255, 0))
        if font.getlength(text) <= image.width:  # else the font has no picture of the whole, and shows its parts
            ImageDraw.Draw(image).text((0, 0), text, font=font, embedded_color=True)
            yield _small(image.crop(_NOTO_BOX)), kind, f"{name} (Noto)"
        svg = fluent.get("-".join(f"{ord(letter):x}" for letter in text if letter != "\ufe0f"))
        if svg is not None:
            large = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=128, height=128))
            yield _small(Image.open(io.BytesIO(large))), kind, f"{name} (Fluent)"


def _listed(emoji: str) -> Iterator[tuple[int, str, str]]:
    """The kind, the text and the name of each emoji of a kind in the list."""
    of_group = {group: number for number, kind in enumerate(KINDS) for group in kind.groups}
    number = None
    for line in emoji.splitlines():
        if line.startswith("# subgroup:"):
            number = of_group.get(line.removeprefix("# subgroup:").strip())
        elif number is not None and "; fully-qualified" in line:
            text = "".join(chr(int(code, 16)) for code in line.split(";")[0].split())
            name = line.split("#", 1)[1].split(maxsplit=2)[2]
            if not any(word in name for word in KINDS[number].without):
                yield number, text, name


def _small(image: Image.Image) -> NDArray[np.uint8]:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return np.asarray(white.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def _fluent(folder: Path) -> dict[str, str]:
    """The drawings as SVG, by the code points of their emoji."""
    subprocess.run(["npm", "pack", "--silent", FLUENT], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(folder.glob("iconify-json-fluent-emoji-flat-*.tgz"))) as archive:
        icons, names = (json.load(_member(archive, f"package/{name}.json")) for name in ("icons", "chars"))
    return {
        code: f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{icons["icons"][name]["body"]}</svg>'
        for code, name in names.items()
    }


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"the archive must hold a file {name}, got something else of this name")
    return file


def _of_debian(package: str, folder: Path) -> Path:
    """The files of a Debian package, unpacked and not installed."""
    there = folder / package
    if not there.exists():
        subprocess.run(["apt-get", "download", "--quiet", package], cwd=folder, check=True)
        subprocess.run(["dpkg-deb", "--extract", next(folder.glob(f"{package}_*.deb")), there], check=True)
    return there
