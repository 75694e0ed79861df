"""Loading what others have made: weights from safetensors alone, and no code but that of installed libraries.

diffusers and transformers take care of most of it when told to. What is checked here is what a folder can name that
they would run or unpickle all the same, some of it only in releases of diffusers before 0.42.
"""

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from kdpm2._check import shown
from kdpm2.cli.options import checked_folder, refuse

_LIBRARIES = ("diffusers", "transformers", "kdpm2")


def load_pipeline(option: str, name: str) -> Any:
    """The diffusers pipeline in a folder or of a hub id; ends the command if it cannot be loaded without a risk."""
    from diffusers import DiffusionPipeline

    safe = {"use_safetensors": True, "trust_remote_code": False}
    is_folder = checked_folder(option, name)
    with loading(option, name):
        index = DiffusionPipeline.load_config(name, local_files_only=is_folder)
    # Before the download, which runs code of the pipeline's own in some releases.
    with loading(option, name, (ValueError, ImportError, RuntimeError)):  # the last two from diffusers' lazy modules
        libraries = _checked_libraries(index)
    with loading(option, name):
        folder = Path(name if is_folder else DiffusionPipeline.download(name, **safe))
    with loading(option, name, (ValueError,)):
        _check_files(folder, libraries)
    with loading(option, name), _on_its_own():
        return DiffusionPipeline.from_pretrained(folder, local_files_only=True, **safe)


@contextmanager
def loading(option: str, name: str, errors: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """End the command with a message about what cannot be loaded.

    In a library a broken file surfaces as anything from a KeyError to a SafetensorError, so that all of its errors
    count, and only its calls belong inside: our own code names the few that it raises on purpose.
    """
    try:
        yield
    except errors as error:
        words = (str(error).strip() or "no reason given").splitlines()[0]
        if not isinstance(error, (OSError, ValueError)):  # the others say little without their name
            words = f"{type(error).__name__}: {words}"
        refuse(option, f"{name} cannot be loaded: {words}")


@contextmanager
def _on_its_own() -> Iterator[None]:
    """Let no library unpickle weights, ask the user for leave to run a model's code, or reach for the network.

    The arguments of `from_pretrained` do not reach everything. The index of a sharded checkpoint may name a pickle.
    transformers takes a "y" on standard input for leave. A configuration that is a string is fetched from the hub.
    """
    import torch
    from huggingface_hub import constants

    def refused(*_: object, **__: object) -> NoReturn:
        raise ValueError("its weights are not safetensors")

    before = torch.load, sys.stdin, constants.HF_HUB_OFFLINE
    torch.load, sys.stdin, constants.HF_HUB_OFFLINE = refused, io.StringIO(), True
    try:
        yield
    finally:
        torch.load, sys.stdin, constants.HF_HUB_OFFLINE = before


def _checked_libraries(index: Any) -> dict[str, str]:
    """The library of each component; a ValueError if one, or the pipeline itself, is not of an installed library."""
    import diffusers

    if not isinstance(index, dict):
        raise ValueError(f"its model_index.json must hold an object, got {shown(index)}")
    if not _is_pipeline(index.get("_class_name")):
        raise ValueError(f"its class must be a pipeline of diffusers, got {shown(index.get('_class_name'))}")
    libraries = {}
    for component, value in index.items():
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
            continue
        library, class_name = value
        # Next to the libraries, the name of one of diffusers' pipelines, for classes that are only that one's.
        if library not in _LIBRARIES and not isinstance(getattr(diffusers.pipelines, library, None), ModuleType):
            raise ValueError(f"its {component} must come from {', '.join(_LIBRARIES)}, got {shown(library)}")
        if class_name == "OnnxRuntimeModel" or _is_pipeline(class_name):  # which load what is not safetensors
            raise ValueError(f"its {component} must be a model with weights in safetensors, got {shown(class_name)}")
        libraries[component] = library
    return libraries


def _is_pipeline(class_name: object) -> bool:
    import diffusers

    cls = getattr(diffusers, class_name, None) if isinstance(class_name, str) else None
    return isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline)


def _check_files(folder: Path, libraries: Mapping[str, str]) -> None:
    """Raise a ValueError for code where diffusers would look for it before it looks into the library."""
    names = [folder / component / f"{library}.py" for component, library in libraries.items()]
    for code in (folder / "None.py", *names):  # None for the custom pipeline that was not asked for
        if code.is_file():
            raise ValueError(f"it brings code of its own, {code.relative_to(folder)}, which is never run")
