"""Loading what others have made: weights from safetensors alone, and no code but that of installed libraries.

diffusers and transformers take care of most of it when told to. What is checked here is what a folder can name that
they would run or unpickle all the same, some of it only in releases of diffusers before 0.42.
"""

import importlib.util
import inspect
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import kdpm2
from kdpm2._check import shown
from kdpm2.cli.options import checked_folder, refuse
from kdpm2.cli.values import ANY
from kdpm2.zoo.built_in import BuiltIn

DTYPES = ("float32", "float16", "bfloat16")
"""Of the weights."""
_LIBRARIES = ("diffusers", "transformers", "kdpm2")


class Model(NamedTuple):
    """What is known of a model before its weights are read.

    Attributes:
        name: The folder or hub id of its pipeline; None for a built-in model.
        is_folder: Whether that is a folder.
        libraries: That of each component, where a pipeline is named.
        on_pixels: Whether it is a network on pixels and nothing else.
        accepted: What its pipeline may be called with.
        classes: How many labels its network takes, the last of them for no class; None for a network without.
        config: Of its scheduler.
        built_in: Which built-in model it is; None for a pipeline.
    """

    name: str | None
    is_folder: bool
    libraries: dict[str, str]
    on_pixels: bool
    accepted: frozenset[str]
    classes: int | None
    config: Any
    built_in: BuiltIn | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The words for its labels; none where they are numbers."""
        return () if self.built_in is None or self.built_in.kinds[0].isdecimal() else self.built_in.kinds

    def label_of(self, label: int | str) -> int | str | None:
        """A label as pictures have it: a word if there are words, else a number; None if there is no such label."""
        if self.classes is None:
            return None
        if label in (ANY, self.classes - 1):
            return ANY
        if isinstance(label, str):
            return label if label in self.kinds else None
        return None if label >= self.classes else self.kinds[label] if self.kinds else label

    def class_of(self, label: int | str) -> int:
        """The number of a label of its own."""
        if label == ANY:
            return (self.classes or 1) - 1
        return self.kinds.index(label) if isinstance(label, str) else label


def built_in(which: BuiltIn) -> Model:
    """A built-in model."""
    from kdpm2.zoo.pixels import PixelPipeline

    classes = len(which.kinds) + 1
    return Model(None, True, {}, True, _parameters(PixelPipeline), classes, which.scheduler_config, which)


def describe(option: str, name: str) -> Model:
    """What a pipeline in a folder or of a hub id is made of; ends the command if it cannot be loaded without a risk."""
    is_folder = checked_folder(option, name)
    with loading(option, name):
        import diffusers
    from kdpm2.zoo.pixels import PixelPipeline

    with loading(option, name):
        index = diffusers.DiffusionPipeline.load_config(name, local_files_only=is_folder)
    # Before the download, which runs code of the pipeline's own in some releases.
    with loading(option, name, (ValueError, ImportError, RuntimeError)):  # the last two from diffusers' lazy modules
        libraries = _checked_libraries(index)
    parts = {part for part, value in index.items() if isinstance(value, list) and len(value) == 2}
    scheduler = index.get("scheduler")
    if not isinstance(scheduler, list) or scheduler[-1] is None:
        refuse(option, "it has no scheduler to put KDPM2 in the place of")
    known = {cls.__name__ for cls in kdpm2.KDPM2AncestralDiscreteScheduler().compatibles}
    if scheduler[-1] not in known:
        refuse(option, f"its {shown(scheduler[-1]).strip(chr(39))} is for models that KDPM2 cannot sample")
    # The pipelines of diffusers for a network alone do not scale its input, as these samplers have to.
    on_pixels = parts == {"unet", "scheduler"}
    cls = PixelPipeline if on_pixels else getattr(diffusers, index["_class_name"])
    classes = None
    with loading(option, name):
        config = kdpm2.KDPM2AncestralDiscreteScheduler.load_config(
            name, subfolder="scheduler", local_files_only=is_folder
        )
        if on_pixels:
            unet = diffusers.UNet2DModel.load_config(name, subfolder="unet", local_files_only=is_folder)
            classes = unet.get("num_class_embeds")
    return Model(name, is_folder, libraries, on_pixels, _parameters(cls), classes, config)


def load(option: str, model: Model, dtype: Any, scheduler_of: Callable[[Any], Any]) -> Any:
    """The pipeline itself, its weights in `dtype` if that is not None, with our scheduler of its configuration."""
    name = model.name
    if name is None:
        from kdpm2 import zoo

        pipe: Any = getattr(zoo, model.built_in.name)()  # type: ignore[union-attr]
        pipe.scheduler = scheduler_of(pipe.scheduler.config)
        return pipe if dtype is None else pipe.to(dtype)
    from diffusers import DiffusionPipeline

    from kdpm2.zoo.pixels import PixelPipeline

    safe = {"use_safetensors": True, "trust_remote_code": False}
    wanted = {} if dtype is None else {"torch_dtype": dtype}
    with loading(option, name):
        folder = Path(name if model.is_folder else DiffusionPipeline.download(name, **safe))
    with loading(option, name, (ValueError,)):
        _check_files(folder, model.libraries)
    with loading(option, name), _on_its_own():
        pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, **wanted, **safe)
    pipe.scheduler = scheduler_of(pipe.scheduler.config)
    return PixelPipeline(**pipe.components) if model.on_pixels else pipe


def device_of(name: str) -> Any:
    """The device of a name, the fastest for "auto"; ends the command if it cannot be used."""
    import torch  # a second of import time that --help need not wait for

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, ValueError) as error:
        refuse("--device", f"{shown(str(name))} cannot be used here: {str(error).splitlines()[0]}")


def dtype_of(name: str | None) -> Any:
    """The dtype of a name of `DTYPES`."""
    import torch

    return None if name is None else getattr(torch, name)


def _parameters(cls: Any) -> frozenset[str]:
    return frozenset(inspect.signature(cls.__call__).parameters)


@contextmanager
def loading(option: str, name: str, errors: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """End the command with a message about what cannot be loaded.

    In a library a broken file surfaces as anything from a KeyError to a SafetensorError, so that all of its errors
    count, and only its calls belong inside: our own code names the few that it raises on purpose.
    """
    try:
        yield
    except errors as error:
        if _is_offline(error):
            refuse(option, f"{name} cannot be loaded: the hub cannot be reached, and no copy of it is here (offline?)")
        words = (str(error).strip() or "no reason given").splitlines()[0]
        if not isinstance(error, (OSError, ValueError)):  # the others say little without their name
            words = f"{type(error).__name__}: {words}"
        refuse(option, f"{name} cannot be loaded: {words}")


def _is_offline(error: BaseException | None) -> bool:
    """Whether the hub could not be asked, whatever a library has made of that."""
    while error is not None:
        if type(error).__name__ in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
            return True
        error = error.__cause__ or error.__context__
    return False


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
    _check_installed(index)
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


def _check_installed(index: Mapping[str, Any]) -> None:
    """ValueError where the pipeline needs a library that is not there: diffusers then has no class but a stand-in."""
    import diffusers

    name = index.get("_class_name")
    cls = getattr(diffusers, name, None) if isinstance(name, str) else None
    needed = [*getattr(cls, "_backends", [])]
    needed += [value[0] for value in index.values() if isinstance(value, list) and value and value[0] in _LIBRARIES]
    for library in needed:
        if isinstance(library, str) and importlib.util.find_spec(library) is None:
            raise ValueError(f"it needs {library}, which is not installed: pip install 'kdpm2[pipelines]'")


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
