"""Where the command writes: to a file that is not there yet, unless told to overwrite it, and whole or not at all."""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from kdpm2.cli.options import refuse


def check(option: str, path: Path, suffixes: Collection[str | None], force: bool) -> str | None:
    """The suffix of `path`, None for a folder, if that is one of `suffixes`.

    Ends the command if it is another, cannot be written, or is a file that is there and not to be overwritten. A link
    is there whether or not it leads to a file. To overwrite it is to put a file in its place: what it leads to stays as
    it is.
    """
    suffix = path.suffix.lower() or None
    if suffix not in suffixes and None in suffixes and path.is_dir():
        suffix = None
    if suffix not in suffixes:
        allowed = " or ".join(each for each in suffixes if each is not None)
        refuse(option, f"must end in {allowed}{', or be a folder' * (None in suffixes)}, got {path}")
    with _errors_refused(option, path):
        if not path.parent.is_dir():
            refuse(option, f"the folder {path.parent} does not exist")
        if suffix is None and is_there(path) and not path.is_dir():
            refuse(option, f"{path} is no folder")
        if suffix is not None:
            check_free(option, path, force)
        where = path if suffix is None and path.is_dir() else path.parent
        with tempfile.TemporaryFile(dir=where):  # to know before the run whether the folder can be written to
            pass
    return suffix


def check_free(option: str, path: Path, force: bool) -> None:
    """End the command if a file is there that is not to be overwritten, or something that is no file."""
    with _errors_refused(option, path):
        if is_there(path):
            if path.exists() and not path.is_file():
                refuse(option, f"{path} is no file")
            if not force:
                refuse(option, f"{path} is there already; --force overwrites it")


@contextmanager
def written(option: str, path: Path, force: bool) -> Iterator[Path]:
    """A hidden name to write to, next to `path`, which takes its place once complete.

    A run that is killed leaves what there was; after SIGKILL the hidden file may stay as well. A file that has appeared
    since `check` is overwritten only by `force`.
    """
    with _errors_refused(option, path):
        handle, name = tempfile.mkstemp(prefix=".kdpm2-", suffix=path.suffix, dir=path.parent)
        unfinished = Path(name)
        try:
            os.close(handle)
            yield unfinished
            unfinished.chmod(0o666 & ~_umask())
            if force:
                unfinished.replace(path)
            else:
                _take_free_name(unfinished, path)
        except FileExistsError:
            refuse(option, f"{path} has appeared since the run began, and stays; --force would have overwritten it")
        finally:
            unfinished.unlink(missing_ok=True)


def printable(text: str) -> str:
    """Text with what is no UTF-8, as the command line may hold, spelt out."""
    return text.encode(errors="backslashreplace").decode()


def _take_free_name(unfinished: Path, path: Path) -> None:
    """Give a file a second name, unless that is taken: to rename it would overwrite."""
    try:
        os.link(unfinished, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the name is reserved first, by an empty file
        path.touch(exist_ok=False)
        unfinished.replace(path)


def make_folder(option: str, path: Path) -> None:
    """A folder to write into, if it is not there yet."""
    with _errors_refused(option, path):
        path.mkdir(exist_ok=True)


@contextmanager
def _errors_refused(option: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        refuse(option, f"{path} cannot be written: {error.strerror or error}")


def is_there(path: Path) -> bool:
    """Whether a name is taken, be it by a link that leads nowhere."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
