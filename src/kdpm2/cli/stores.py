"""Where pictures go: on one sheet, into one .npz, or each into a PNG of its own.

A folder is filled as pictures are drawn. What stands in it from a run before that was cut off is not drawn again, if
the same command made it; what another has made is not touched without `--force`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdpm2.cli import contact_sheet, said
from kdpm2.cli.options import refuse
from kdpm2.cli.output import check_free, is_there, make_folder, written
from kdpm2.cli.pictures import Drawn, Picture

MOST = 1_000_000
_MOST_ON_A_SHEET = 10_000
_OPTION = "--output"
_NOT_IN_A_HEADING = ("Seed", "Size", "Version")  # the seeds stand below the pictures, and the rest is in the file


class Sheet:
    """A contact sheet, in a PNG.

    Args:
        path: Of the file.
        force: Whether to overwrite what is there.
        given: What was asked for, as `said.given` has it.
        stages: How many stages a run has.
        annotate: Whether to write below each picture what makes it this one, and above all what they share.
    """

    most = _MOST_ON_A_SHEET

    def __init__(self, path: Path, force: bool, given: Mapping[str, Any], stages: int, annotate: bool) -> None:
        self._path, self._force, self._given, self._stages = path, force, dict(given), stages
        self._annotate = annotate
        if annotate:
            self._given["annotate"] = True
        self._held: list[Drawn] = []
        if given["number"] > self.most:
            refuse("--number", f"must be at most {self.most} in one file, got {given['number']}; a folder takes more")

    def wanted(self, pictures: list[Picture]) -> list[Picture]:
        """Those of the pictures that are to be drawn."""
        return pictures

    def add(self, drawn: list[Drawn]) -> None:
        """Take pictures that were drawn."""
        self._held += drawn

    def close(self) -> str:
        """Write what is to be written; says what there is."""
        with written(_OPTION, self._path, self._force) as unfinished:
            self._write(unfinished, said.chunks(self._given, self._stages, self._held[0].image.size))
        return f"{self._path}: {len(self._held)} images"

    def _write(self, unfinished: Path, texts: dict[str, str]) -> None:
        labels = {drawn.label for drawn in self._held}
        captions = [_caption(drawn, with_label=len(labels) > 1) for drawn in self._held] if self._annotate else None
        shared = ""
        if self._annotate:
            subject = self._given.get("prompt") or (f"label {labels.pop()}" if len(labels) == 1 else "")
            settings = said.settings(self._given, self._stages, self._held[0].image.size)
            same = said.listed({name: value for name, value in settings.items() if name not in _NOT_IN_A_HEADING})
            shared = f"{subject}; {same}" if subject not in ("", "label None") else same
        sheet = contact_sheet.tiled([drawn.image for drawn in self._held], captions, shared)
        contact_sheet.save(sheet, unfinished, texts)


class Arrays(Sheet):
    """One .npz: `images`, (B, H, W) or (B, H, W, C), uint8; `seeds`; `labels`, texts; `parameters`, `command`."""

    most = 100_000

    def _write(self, unfinished: Path, texts: dict[str, str]) -> None:
        import numpy as np

        with unfinished.open("wb") as file:
            np.savez_compressed(
                file,
                images=np.stack([np.asarray(drawn.image) for drawn in self._held]),
                seeds=np.array([drawn.seed for drawn in self._held], dtype=np.uint64),
                labels=np.array(["" if drawn.label is None else str(drawn.label) for drawn in self._held]),
                parameters=np.array(texts["parameters"]),
                command=np.array(texts["command"]),
            )


class Folder:
    """A PNG a picture, named by its seed."""

    def __init__(self, path: Path, force: bool, given: Mapping[str, Any], stages: int) -> None:
        self._path, self._force, self._given, self._stages = path, force, given, stages
        self._count = self._skipped = 0

    def wanted(self, pictures: list[Picture]) -> list[Picture]:
        """Those that are not there yet, or are to be overwritten."""
        wanted = [picture for picture in pictures if self._force or not self._is_made(picture)]
        self._skipped = len(pictures) - len(wanted)
        for picture in wanted if self._force else []:
            check_free(_OPTION, self._file(picture), force=True)
        return wanted

    def _file(self, picture: Picture | Drawn) -> Path:
        return self._path / f"{picture.seed:05}.png"

    def _is_made(self, picture: Picture) -> bool:
        file = self._file(picture)
        if not is_there(file):
            return False
        if contact_sheet.command_in(file) != said.command(said.of_one(self._given, picture)):
            refuse(_OPTION, f"{file} is there already, and another command made it; --force overwrites it")
        return True

    def add(self, drawn: list[Drawn]) -> None:
        """Write pictures that were drawn."""
        make_folder(_OPTION, self._path)
        for each in drawn:
            one = said.of_one(self._given, Picture(each.seed, each.label))
            with written(_OPTION, self._file(each), self._force) as unfinished:
                contact_sheet.save(each.image, unfinished, said.chunks(one, self._stages, each.image.size))
        self._count += len(drawn)

    def close(self) -> str:
        """What there is."""
        skipped = f", {self._skipped} were there already" if self._skipped else ""
        return f"{self._path}: {self._count} images{skipped}"


def opened(
    suffix: str | None, path: Path, force: bool, given: Mapping[str, Any], stages: int, annotate: bool
) -> Sheet | Folder:
    """What keeps pictures under a name with this suffix, None for a folder."""
    if suffix is None:
        return Folder(path, force, given, stages)
    return (Arrays if suffix == ".npz" else Sheet)(path, force, given, stages, annotate)


def _caption(drawn: Drawn, with_label: bool) -> str:
    return f"{drawn.label}\nseed {drawn.seed}" if with_label else f"seed {drawn.seed}"
