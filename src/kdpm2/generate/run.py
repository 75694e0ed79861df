"""`generate`: rows in, pictures out, on one machine or many."""

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kdpm2 import _check
from kdpm2.cli.loading import DTYPES, Model
from kdpm2.generate import files, local, model
from kdpm2.generate import rows as table
from kdpm2.generate.done import Done
from kdpm2.generate.on_ray import Cluster
from kdpm2.generate.on_ray import make as make_on_ray
from kdpm2.generate.parts import FORMATS
from kdpm2.generate.plan import FAILURES, LOCK, PICTURES, Plan, Settings, planned
from kdpm2.generate.progress import Progress
from kdpm2.generate.report import Forecast, Report
from kdpm2.generate.wanted import Reader
from kdpm2.generate.worker import How, Made

ENGINES = ("auto", "local", "ray")
ROWS_PER_FILE = 500
_MOST_ROWS_PER_FILE = 100_000
_MOST_TOGETHER = 10_000

Rows = str | os.PathLike[str] | Iterable[Mapping[str, Any]]


def generate(
    rows: Rows,
    output: str | os.PathLike[str],
    *,
    pipeline: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    keep: Sequence[str] = (),
    format: str = "parquet",
    rows_per_file: int = ROWS_PER_FILE,
    batch: int | None = None,
    device: str = "auto",
    dtype: str | None = None,
    engine: str = "auto",
    cluster: Cluster = Cluster(),  # noqa: B008 - it cannot be changed
    retry_failed: bool = False,
    progress: bool = False,
) -> Report:
    """A picture for each row, in files in a folder. Called again after a crash, it makes what is missing.

    A row's columns are `id`, `seed`, `prompt`, `negative_prompt`, `label`, `steps`, `guidance_scale`, `height`,
    `width`, and any option of the scheduler (docs/options.md), `sampler`, `sigmas` and `spacing` as the command has
    them. Each may be left out. A row's picture depends on the row alone: the noise is bit for bit that of its seed.

    Args:
        rows: A file that ends in .parquet, .csv or .jsonl, a folder of them, or an iterable of rows. They are read one
            by one. Each `id` must be another; without the column it is the row's number.
        output: A folder: new, or of the same run.
        pipeline: Folder or hub id of a diffusers pipeline; None for the built-in digits.
        options: What rows that say nothing of their own share, named as columns are.
        seed: S. A row without a seed has S + id where its id is a number, else one that is made of S and the id.
        keep: Columns that are no options, to be written beside the picture.
        format: "parquet", "webdataset" or "png".
        rows_per_file: How many rows are drawn, written and, after a crash, made again together; 1 to 100,000.
        batch: How many rows share a network call at most; None for 64 of a network on pixels, and 1 of others.
        device: "auto", or a name of torch's.
        dtype: Of the weights: "float32", "float16" or "bfloat16"; None for that of the files.
        engine: "local" for this process, "ray", or "auto" for Ray where it is installed.
        cluster: For Ray: where, and how many actors with how much each.
        retry_failed: Whether rows that failed in an earlier run are tried again.
        progress: Whether to say on standard error how far it is.

    Returns:
        What came of it. Rows that could not be drawn are in files in the folder `failures`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument or a row is wrong, or the folder belongs to another run. Nothing is drawn then.
        ImportError: If what the format, the rows or the engine need is not installed.
        OSError: If pictures cannot be written. What was written stays.
    """
    begun = time.monotonic()
    how = _how(device, batch, retry_failed)
    chosen = _engine(engine, cluster)
    folder = Path(output)
    known, settings = _settings(pipeline, options, seed, keep, format, rows_per_file, dtype)
    with _held(folder):
        plan = _planned(folder, known, settings, rows)
        plan.make_folders()
        for name in ("", PICTURES, FAILURES):
            files.remove_unfinished(folder / name)
        done = Done(plan)
        before, _ = done.counts()
        parts = list(done.missing())
        to_draw = sum(map(plan.size, parts))
        if how.retry_failed:
            failed = list(done.failed())
            parts += failed
            to_draw += sum(len(done.failures(part)) for part in failed)
        shown = Progress(to_draw, progress)
        try:
            made = list(_made(plan, parts, how, chosen, cluster, shown))
        finally:
            shown.close()
        have, failures = done.counts()
    places = sum(each.places for each in made)
    return Report(
        output=folder,
        rows=plan.count,
        done_before=before,
        made=have - before,
        failed=failures,
        seconds=time.monotonic() - begun,
        calls=sum(each.calls for each in made),
        occupancy=sum(each.rows for each in made) / places if places else 0.0,
        engine=chosen,
    )


def _made(plan: Plan, parts: list[int], how: How, engine: str, cluster: Cluster, progress: Progress) -> Iterator[Made]:
    if not parts:
        return iter(())
    if engine == "local":
        return local.make(plan.folder, plan.digest, parts, how, progress)
    return make_on_ray(plan.folder, plan.digest, parts, how, progress, cluster)


def forecast(
    rows: Rows,
    output: str | os.PathLike[str],
    *,
    pipeline: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    keep: Sequence[str] = (),
    format: str = "parquet",
    rows_per_file: int = ROWS_PER_FILE,
    dtype: str | None = None,
) -> Forecast:
    """What `generate` would do with these arguments; all of them are checked, and nothing is written.

    Args:
        rows: As `generate` takes it.
        output: Likewise.
        pipeline: Likewise.
        options: Likewise.
        seed: Likewise.
        keep: Likewise.
        format: Likewise.
        rows_per_file: Likewise.
        dtype: Likewise.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument or a row is wrong, or the folder belongs to another run.
        ImportError: If what the format or the rows need is not installed.
    """
    folder = Path(output)
    known, settings = _settings(pipeline, options, seed, keep, format, rows_per_file, dtype)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output must be a folder, got the file {folder}")
    reads = table.files(Path(rows)) if isinstance(rows, (str, os.PathLike)) else []
    with tempfile.TemporaryDirectory() as elsewhere:
        is_begun = folder.exists() and any(folder.iterdir())
        plan = _planned(folder if is_begun else Path(elsewhere), known, settings, rows)
        done = Done(plan)
        have, failed = done.counts()
        return Forecast(
            output=folder,
            format=format,
            reads=reads,
            rows=plan.count,
            done=have,
            failed=failed,
            files=plan.parts,
            bytes_so_far=done.bytes(),
            bytes_of_one=model.picture_bytes(known, settings.options),
            bytes_free=shutil.disk_usage(_there(folder)).free,
        )


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def _how(device: Any, batch: Any, retry_failed: Any) -> How:
    if not isinstance(device, str):
        raise TypeError(f"device must be a name of torch's or 'auto', got {_check.shown(device)}")
    together = None if batch is None else _check.integer("batch", batch, 1, _MOST_TOGETHER)
    return How(device, together, _check.flag("retry_failed", retry_failed))


def _settings(
    pipeline: Any, options: Any, seed: Any, keep: Any, format: Any, rows_per_file: Any, dtype: Any
) -> tuple[Model, Settings]:
    """The model, and what all rows share."""
    if pipeline is not None and not isinstance(pipeline, str):
        raise TypeError(f"pipeline must be a folder or a hub id, got {_check.shown(pipeline)}")
    _check.choice("format", format, FORMATS)
    _needs("pyarrow", "format 'parquet'", format == "parquet")
    if dtype is not None:
        _check.choice("dtype", dtype, DTYPES)
    if isinstance(keep, str) or not isinstance(keep, Sequence):
        raise TypeError(f"keep must be a list of columns, got {_check.shown(keep)}")
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options must be a mapping of names to values, got {_check.shown(options)}")
    together = _check.integer("rows_per_file", rows_per_file, 1, _MOST_ROWS_PER_FILE)
    known = model.described(pipeline)
    shared = Reader(known, options or {}, keep, seed).shared
    return known, Settings(pipeline, model.digest(known), dtype, int(seed), shared, list(keep), format, together)


def _engine(engine: Any, cluster: Cluster) -> str:
    _check.choice("engine", engine, ENGINES)
    has_ray = importlib.util.find_spec("ray") is not None
    chosen = ("ray" if has_ray else "local") if engine == "auto" else str(engine)
    _needs("ray", "engine 'ray'", chosen == "ray")
    if chosen == "local" and cluster != Cluster():
        raise ValueError("cluster must be left out without Ray, which is not used here: pip install 'kdpm2[cluster]'")
    for name, value, low in (("actors", cluster.actors, 1), ("gpus", cluster.gpus, 0), ("cpus", cluster.cpus, 0)):
        if value is not None:
            _check.number(name, value, low, 1e6)
    return chosen


def _needs(package: str, what: str, wanted: bool) -> None:
    if wanted and importlib.util.find_spec(package) is None:
        raise ImportError(f"{what} needs {package}, which is not installed: pip install 'kdpm2[cluster]'")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The output folder, made if it is not there, and held for this run alone; taken back if nothing came of it."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output must be a folder, got the file {folder}")
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"output must be a folder to which no other run writes, got {folder}") from None
    except OSError as error:
        raise ValueError(f"output must be a folder that can be written to, got {folder}: {error.strerror}") from error
    try:
        yield
    except BaseException:
        if is_new and {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        raise
    finally:
        lock.release()


def _planned(folder: Path, known: Model, settings: Settings, given: Any) -> Plan:
    reader = Reader(known, settings.options, settings.keep, settings.seed, model.Trial(known.config))
    if isinstance(given, (str, os.PathLike)):
        given = table.read(Path(given))
    elif isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"rows must be a path or an iterable of mappings, got {_check.shown(given)}")
    return planned(folder, settings, reader, given)
