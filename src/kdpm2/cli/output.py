"""Where the command writes: to a file that is not there yet, unless told to overwrite it, and whole or not at all."""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from kdpm2.cli.options import refuse


def check(option: str, path: Path, suffixes: Collection[str], force: bool) -> None:
    """End the command if `path` has another suffix, no folder to be in, or is there and not to be overwritten."""
    if path.suffix.lower() not in suffixes:
        refuse(option, f"must end in {' or '.join(suffixes)}, got {path}")
    if not path.parent.is_dir():
        refuse(option, f"the folder {path.parent} does not exist")
    if path.is_dir() or (path.exists() and not force):
        refuse(option, f"{path} is there already; --force overwrites it" if path.is_file() else f"{path} is no file")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A name to write to, next to `path`, which takes its place once complete: a killed run leaves what there was."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
