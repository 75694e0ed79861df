"""A state in a folder: numbers and texts in a JSON file, tensors in a safetensors file.

The JSON file names the file of tensors and holds the digests of both. It is put in place last, in one atomic step. A
crash before that leaves the older snapshot. A crash after it leaves at most one file too many, which the next snapshot
removes. One writer at a time holds the folder's lock. A file with a wrong digest is not read any further. Neither file
can run code.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load, save

from kdpm2 import _check

STATE_FILE = "batch.json"

_FORMAT = "kdpm2 batch 1"
_LOCK_FILE = ".lock"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TENSORS = re.compile(r"tensors-[0-9a-f]{64}\.safetensors")
_UNFINISHED = re.compile(r"\.(batch\.json|tensors-[0-9a-f]{64}\.safetensors)\.[0-9]+")
_LARGEST_STATE = 2**28
_LARGEST_HEADER = 2**16
_TRIES = 5


def write(folder: str | os.PathLike[str], state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write a state to a folder, and replace an older one. Other writers wait.

    Raises:
        TypeError: If `folder` is no path.
        OSError: If it cannot be written.
    """
    into = _path(folder)
    into.mkdir(parents=True, exist_ok=True)
    held = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(held).hexdigest()
    document = {"format": _FORMAT, "tensors": digest, "state": state}
    name = f"tensors-{digest}.safetensors"
    with FileLock(into / _LOCK_FILE):
        _put(into / name, held)
        _put(into / STATE_FILE, json.dumps({**document, "digest": _digest(document)}, indent=1).encode())
        for other in into.iterdir():
            # What is unfinished is of a writer that was killed, since who writes has the lock.
            if (_TENSORS.fullmatch(other.name) and other.name != name) or _UNFINISHED.fullmatch(other.name):
                other.unlink()


def read(
    folder: str | os.PathLike[str], most: Callable[[dict[str, Any]], int]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The state in a folder.

    Args:
        folder: What `write` was given.
        most: From the state, the largest number of bytes that its tensors may have. A larger file is not read.

    Raises:
        TypeError: If `folder` is no path.
        ValueError: If the folder does not hold what `write` put there.
    """
    into = _path(folder)
    with refusing(folder):
        for _ in range(_TRIES - 1):
            try:
                return _read(into, most)
            except FileNotFoundError:  # another snapshot may have taken the place of this one between the two files
                continue
        return _read(into, most)


def _read(folder: Path, most: Callable[[dict[str, Any]], int]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    document = json.loads(_content(folder / STATE_FILE, _LARGEST_STATE))
    if document.get("format") != _FORMAT:
        raise ValueError(f"{STATE_FILE} must be of the format {_FORMAT!r}, got {_check.shown(document.get('format'))}")
    if document.pop("digest") != _digest(document):
        raise ValueError(f"{STATE_FILE} does not have its digest")
    state, digest = document["state"], document["tensors"]
    if not isinstance(state, dict) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{STATE_FILE} must hold a state, and the digest of the tensors")
    held = _content(folder / f"tensors-{digest}.safetensors", most(state) + _LARGEST_HEADER)
    if hashlib.sha256(held).hexdigest() != digest:
        raise ValueError(f"tensors-{digest}.safetensors does not have its digest")
    return state, load(held)


def _content(file: Path, most: int) -> bytes:
    """The content of a plain file; ValueError for a link, a device, a pipe, or a file that is too large."""
    # Without waiting for whoever is to write to a pipe.
    opened = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(opened, "rb") as stream:
        known = os.fstat(opened)
        if not stat.S_ISREG(known.st_mode):
            raise ValueError(f"{file.name} must be a plain file")
        if known.st_size > most:
            raise ValueError(f"{file.name} must have at most {most} bytes, got {known.st_size}")
        return stream.read()


@contextmanager
def refusing(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any error inside into a ValueError about the content of the folder."""
    try:
        yield
    except Exception as error:  # what is wrong with a file of another's may be anything
        reason = f": {error}" if str(error) else ""
        raise ValueError(
            f"folder must hold a snapshot that BatchedSolver.snapshot wrote, unchanged, "
            f"got {os.fspath(folder)!r}{reason}"
        ) from error


def _path(folder: str | os.PathLike[str]) -> Path:
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"folder must be a path, got {_check.shown(folder)}")
    return Path(folder)


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _put(file: Path, content: bytes) -> None:
    """Put a file in place in one atomic step, and make sure it is on disk before anything refers to it."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        with beside.open("xb") as stream:  # never through a link that somebody put there
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":
        opened = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
