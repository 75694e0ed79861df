"""How pictures are kept: a part of the rows in one Parquet file, in one shard of WebDataset, or in a folder of PNGs.

Whatever the format, a picture is the bytes of a PNG, beside it stands what made it, and a part is whole or not there.
"""

import io
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdpm2.generate import files


class Kept(NamedTuple):
    """A picture that is kept.

    Attributes:
        number: Of its row, from 0.
        made_of: What made it: `id`, `seed`, and every option by its name. Values that JSON has.
        png: The bytes of its PNG.
    """

    number: int
    made_of: dict[str, Any]
    png: bytes


class Format(ABC):
    """A way to keep parts in a folder.

    Args:
        folder: Where the parts are.
        columns: Of `made_of`, by name: int, float, str or bool. Only Parquet has use for them.
    """

    suffix: str

    def __init__(self, folder: Path, columns: Mapping[str, type]) -> None:
        self.folder, self.columns = folder, columns

    def path(self, part: int) -> Path:
        """Where a part is, or will be."""
        return self.folder / f"part-{part:06}{self.suffix}"

    def is_there(self, part: int) -> bool:
        """Whether a part is there, and so whole."""
        return self.path(part).exists()

    @abstractmethod
    def write(self, part: int, pictures: Sequence[Kept]) -> None:
        """Keep pictures as a part, instead of what was there; OSError if it cannot be written."""

    @abstractmethod
    def read(self, part: int) -> list[Kept]:
        """The pictures of a part that is there."""


class Parquet(Format):
    """A row a picture: `row`, `id`, `seed`, a column for each option, and `picture`, the bytes of the PNG."""

    suffix = ".parquet"

    def write(self, part: int, pictures: Sequence[Kept]) -> None:
        """Keep pictures as a part."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self._schema()
        table = pa.Table.from_pylist(
            [{"row": each.number, **each.made_of, "picture": each.png} for each in pictures], schema=schema
        )
        with files.whole(self.path(part)) as unfinished:
            pq.write_table(table, unfinished)

    def _schema(self) -> Any:
        import pyarrow as pa

        types = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
        named = [(name, pa.uint64() if name == "seed" else types[kind]) for name, kind in self.columns.items()]
        return pa.schema([("row", pa.int64()), *named, ("picture", pa.binary())])

    def read(self, part: int) -> list[Kept]:
        """The pictures of a part that is there."""
        import pyarrow.parquet as pq

        rows = pq.ParquetFile(self.path(part)).read().to_pylist()
        return [Kept(row.pop("row"), row, row.pop("picture")) for row in rows]


class WebDataset(Format):
    """A shard: `NUMBER.png` and `NUMBER.json` of each picture, in a tar file."""

    suffix = ".tar"

    def write(self, part: int, pictures: Sequence[Kept]) -> None:
        """Keep pictures as a part."""
        with files.whole(self.path(part)) as unfinished, tarfile.open(unfinished, "w") as tar:
            for each in pictures:
                for suffix, content in (("png", each.png), ("json", _line(each).encode())):
                    member = tarfile.TarInfo(f"{_name(each)}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))

    def read(self, part: int) -> list[Kept]:
        """The pictures of a part that is there."""
        with tarfile.open(self.path(part)) as tar:
            held = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        return [
            _kept(json.loads(text), held[name.replace(".json", ".png")])
            for name, text in held.items()
            if name.endswith(".json")
        ]


class Png(Format):
    """A folder: `NUMBER.png` of each picture, and `metadata.jsonl`, which says what made it.

    It is a folder of images with metadata as Hugging Face's `datasets` reads it.
    """

    suffix = ""

    def write(self, part: int, pictures: Sequence[Kept]) -> None:
        """Keep pictures as a part."""
        with files.whole_folder(self.path(part)) as unfinished:
            for each in pictures:
                (unfinished / f"{_name(each)}.png").write_bytes(each.png)
            lines = [_line(each, file_name=f"{_name(each)}.png") for each in pictures]
            (unfinished / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def read(self, part: int) -> list[Kept]:
        """The pictures of a part that is there."""
        folder = self.path(part)
        lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        said = [json.loads(line) for line in lines]
        return [_kept(each, (folder / each.pop("file_name")).read_bytes()) for each in said]


FORMATS: dict[str, type[Format]] = {"parquet": Parquet, "webdataset": WebDataset, "png": Png}


def _name(picture: Kept) -> str:
    return f"{picture.number:09}"


def _line(picture: Kept, **more: str) -> str:
    return json.dumps({**more, "row": picture.number, **picture.made_of}, ensure_ascii=False)


def _kept(said: dict[str, Any], png: bytes) -> Kept:
    return Kept(said.pop("row"), said, png)
