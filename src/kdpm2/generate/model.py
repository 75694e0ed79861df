"""The model of a run: what is known of it before its weights are read, and the pipeline itself.

The command's own code loads it (`kdpm2.cli.loading`). Here its refusals are ValueErrors, for callers from Python.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import typer

import kdpm2
from kdpm2.cli import loading
from kdpm2.cli.loading import Model
from kdpm2.cli.options import changes, scheduler_class
from kdpm2.generate.wanted import Wanted
from kdpm2.zoo.built_in import DIGITS

WEIGHTS = Path(kdpm2.__file__).parent / "zoo" / "weights"
_SCHEDULERS = 256
_MOST_TRIED = 500


@contextmanager
def refusals() -> Iterator[None]:
    """Make ValueErrors of what the command refuses."""
    try:
        yield
    except typer.BadParameter as error:
        option = str(error.param_hint or "").strip("-").replace("-", "_")
        raise ValueError(f"{option}: {error.message}" if option else error.message) from error


def described(pipeline: str | None) -> Model:
    """What a pipeline in a folder or of a hub id is made of, or the built-in model; ValueError if neither serves."""
    with refusals():
        return loading.built_in(DIGITS) if pipeline is None else loading.describe("pipeline", pipeline)


def digest(model: Model) -> str:
    """A digest of what is known of a model: its scheduler's configuration, and the sizes of its files in a folder."""
    sizes: list[tuple[str, int]] = []
    if model.name is not None and model.is_folder:
        folder = Path(model.name)
        sizes = sorted(
            (file.relative_to(folder).as_posix(), file.stat().st_size)
            for file in folder.rglob("*")
            if file.suffix in (".safetensors", ".json")
        )
    known = json.dumps([sorted(dict(model.config).items()), sizes], default=str)
    return hashlib.sha256(known.encode()).hexdigest()


def picture_bytes(model: Model, options: Mapping[str, Any]) -> int | None:
    """How large a picture is that no PNG makes smaller, if the model's files say how many pixels it has."""
    folder = WEIGHTS if model.name is None else Path(model.name)
    network, decoder = (_configuration(folder / name / "config.json") for name in ("unet", "vae"))
    side, channels = network.get("sample_size"), network.get("out_channels") if model.on_pixels else 3
    scale = 2 ** (len(decoder.get("block_out_channels") or [0]) - 1)
    height, width = ((side, side) if isinstance(side, int) else side) or (None, None)
    height = options.get("height", height and height * scale)
    width = options.get("width", width and width * scale)
    return height * width * channels if height and width and channels else None


def _configuration(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return held if isinstance(held, dict) else {}
    except (OSError, ValueError):
        return {}


def loaded(model: Model, dtype: str | None, device: str) -> Any:
    """The pipeline on a device, without its own progress bar; ValueError if it cannot be loaded."""
    with refusals():
        where = loading.device_of(device)
        scheduler: Callable[[Any], Any] = scheduler_class({"sampler": None}).from_config
        pipe = loading.load("pipeline", model, loading.dtype_of(dtype), scheduler).to(where)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class Schedulers:
    """Schedulers of a model's configuration, changed as rows ask for it.

    Args:
        config: Of the model's own scheduler.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._held = lru_cache(_SCHEDULERS)(self.made)

    def of(self, wanted: Wanted) -> Any:
        """The scheduler that a row asks for, after `set_timesteps`; ValueError if there is none.

        Rows that ask for the same get the same one.
        """
        return self._held(key(wanted), wanted.options["steps"])

    def made(self, options: tuple[tuple[str, Any], ...], steps: int) -> Any:
        """A new scheduler for options as `key` returns them."""
        given = {name: list(value) if name == "set_" else value for name, value in options}
        with refusals():
            changed = changes(given)
        try:
            scheduler = scheduler_class(given).from_config(self._config, **changed)
            if not scheduler.config.use_dynamic_shifting:  # where the pipeline knows the shift
                scheduler.set_timesteps(steps)
        except TypeError as error:
            raise ValueError(str(error)) from error
        return scheduler


class Trial:
    """Makes the schedulers that rows ask for, to know before the work whether they can be made.

    Each costs some milliseconds, so there is an end to it: of more settings than 500, a wrong one is found when its row
    is drawn. None is held.

    Args:
        config: Of the model's own scheduler.
    """

    def __init__(self, config: Any) -> None:
        self._made, self._seen = Schedulers(config).made, set[Any]()

    def __call__(self, wanted: Wanted) -> None:
        """Raise a ValueError if a row's scheduler cannot be made."""
        settings = (key(wanted), wanted.options["steps"])
        if settings not in self._seen and len(self._seen) < _MOST_TRIED:
            self._seen.add(settings)
            self._made(*settings)


def key(wanted: Wanted) -> tuple[tuple[str, Any], ...]:
    """A row's options of its scheduler, to compare."""
    return tuple((name, tuple(value) if name == "set_" else value) for name, value in wanted.scheduled.items())
