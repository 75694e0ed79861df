"""A state in a folder: numbers and words in a file of JSON, tensors in one of safetensors.

The JSON names the file of tensors and holds the digests of both, and it is put in place last, at one stroke: a crash
before leaves the older snapshot, and a crash after at most a file too many, which the next snapshot removes. A file
that does not have its digest is not read any further, and there is nothing in either that could be run.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from kdpm2 import _check

STATE_FILE = "batch.json"

_FORMAT = "kdpm2 batch 1"
_TENSORS = re.compile(r"tensors-[0-9a-f]{64}\.safetensors")
_LARGEST_STATE = 2**28


def write(folder: str | os.PathLike[str], state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Put a state into a folder, instead of the one that is there.

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
    _put(into / name, held)
    _put(into / STATE_FILE, json.dumps({**document, "digest": _digest(document)}, indent=1).encode())
    for other in into.iterdir():
        if _TENSORS.fullmatch(other.name) and other.name != name:
            other.unlink()


def read(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The state in a folder.

    Raises:
        TypeError: If `folder` is no path.
        ValueError: If the folder does not hold what `write` put there.
    """
    into = _path(folder)
    with refusing(folder):
        file = into / STATE_FILE
        if file.stat().st_size > _LARGEST_STATE:
            raise ValueError
        document = json.loads(file.read_bytes())
        if document.pop("digest") != _digest(document) or document["format"] != _FORMAT:
            raise ValueError
        held = (into / f"tensors-{document['tensors']}.safetensors").read_bytes()
        if hashlib.sha256(held).hexdigest() != document["tensors"] or not isinstance(document["state"], dict):
            raise ValueError
        return document["state"], load(held)


@contextmanager
def refusing(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever goes wrong within is what the folder holds, and a ValueError that says so."""
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
    """Put a file in place at one stroke, and see that it is on the disk before anything that refers to it."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with beside.open("wb") as stream:
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
