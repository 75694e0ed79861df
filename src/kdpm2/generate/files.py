"""Files that are there whole or not at all, also after a crash of the machine.

Each is written under a hidden name beside its own, brought to the disk, and renamed. A name that can be seen is that
of a whole file.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".kdpm2-"
"""Of the names of what is not finished."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A hidden file to write to. It takes its place at the end, instead of what was there; on an error it is removed.

    Raises:
        OSError: If it cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())
        _to_disk(unfinished)
        unfinished.replace(path)
        _to_disk(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder of files. Between two versions of it there may be none, and never a part of one.

    Raises:
        OSError: If it cannot be written.
    """
    unfinished = Path(tempfile.mkdtemp(prefix=PREFIX, dir=path.parent))
    try:
        yield unfinished
        unfinished.chmod(0o777 & ~_umask())
        for file in (*unfinished.iterdir(), unfinished):
            _to_disk(file)
        _replace(unfinished, path)
        _to_disk(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _replace(unfinished: Path, path: Path) -> None:
    """Give a folder the name of another that may be there."""
    while True:
        try:
            unfinished.rename(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        old = unfinished.with_name(f"{unfinished.name}-old")
        path.rename(old)
        shutil.rmtree(old, ignore_errors=True)


def put(path: Path, write: Callable[[Path], object]) -> None:
    """A whole file that a function writes."""
    with whole(path) as unfinished:
        write(unfinished)


def remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed has left in a folder, while no other run writes to it."""
    for left in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
