"""The files of a window: sheets, grids and single pictures with their settings inside."""

import atexit
import shlex
import shutil
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from PIL import Image

from kdpm2.cli import contact_sheet, said
from kdpm2.cli.pictures import Drawn, Picture
from kdpm2.cli.plan import Plan
from kdpm2.ui.settings import WrongSettingError


@cache
def home() -> Path:
    """The folder of all that is drawn; it goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="kdpm2-ui-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def new_folder() -> Path:
    """A folder for one result."""
    return Path(tempfile.mkdtemp(dir=home()))


def sheet(plan: Plan, drawn: list[Drawn]) -> Path:
    """All pictures on one PNG."""
    path = new_folder() / "samples.png"
    texts = said.chunks(plan.given, plan.stages, drawn[0].image.size)
    contact_sheet.save(contact_sheet.tiled([each.image for each in drawn]), path, texts)
    return path


def singles(plan: Plan, drawn: list[Drawn]) -> Path:
    """A .zip with a PNG of each picture."""
    folder = new_folder()
    path = folder / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for each in drawn:
            one = said.of_one(plan.given, Picture(each.seed, each.label))
            file = folder / f"{each.seed:05}.png"
            contact_sheet.save(each.image, file, said.chunks(one, plan.stages, each.image.size))
            archive.write(file, file.name)
    return path


def kept(image: Image.Image, name: str, texts: dict[str, str]) -> Path:
    """A PNG with texts."""
    path = new_folder() / name
    contact_sheet.save(image, path, texts)
    return path


def words_in(path: Path) -> list[str]:
    """The words of the command by which a PNG was made; `WrongSettingError` for a file that says none."""
    command = contact_sheet.command_in(path)
    if command is None:
        raise WrongSettingError("this file holds no settings of kdpm2: drop a PNG that it has written")
    try:
        return shlex.split(command)
    except ValueError as error:
        raise WrongSettingError("the settings in this file cannot be read") from error
