"""The engine for Ray: workers as the actors of a Ray Data pipeline, on this machine or on those of a cluster.

The dataset is that of the parts that are missing. `map_batches` gives each to an actor, which has loaded the model once
and writes what it draws. What comes back is a few numbers a part. Ray does what it is good at: it places actors, keeps
each busy, starts those that die anew, and gives what they had to others.

What is done is known from the output folder, as without Ray (`kdpm2.generate.done`). Ray's own checkpoints
(`ray.data.checkpoint`) are not used. They know of a row when the block that it is in has been written at the end of the
pipeline, and Ray makes large blocks: a run of small pictures that was killed had kept none. Ray's sinks write files
under their final names, so that a reader may find half of one. And a row that fails has no place in them.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kdpm2.generate.progress import Progress
from kdpm2.generate.worker import How, Made, Worker

_MOST_BLOCKS = 10_000
_STORE = 128 * 2**20
"""Bytes of shared memory for objects, of which there are a few numbers a part."""


class Cluster(NamedTuple):
    """Where actors run.

    Attributes:
        address: Of a cluster that is there, as Ray takes it; None to start Ray on this machine.
        actors: How many; None for one a GPU, or one.
        gpus: Of each actor; None for one where there are some, and the device is not the CPU.
        cpus: Of each actor; None for an equal share of this machine, and one in a cluster.
    """

    address: str | None = None
    actors: int | None = None
    gpus: float | None = None
    cpus: float | None = None


def make(
    folder: Path, digest: str, parts: Sequence[int], how: How, progress: Progress, cluster: Cluster
) -> Iterator[Made]:
    """Make parts of the plan of a folder, and yield what came of each.

    Raises:
        ValueError: If the cluster has no such resources, or the model cannot be loaded.
        ConnectionError: If Ray does not start, or there is no cluster at the address.
        OSError: If pictures cannot be written.
    """
    with _connected(cluster.address):
        import ray

        actors, gpus, cpus = _resources(cluster, how, ray.cluster_resources())
        actors = min(actors, len(parts))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        dataset = ray.data.from_items(
            [{"part": part} for part in parts], override_num_blocks=min(len(parts), _MOST_BLOCKS)
        ).map_batches(
            _Actor,
            fn_constructor_args=(str(folder.resolve()), digest, tuple(how)),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            num_gpus=gpus,
            num_cpus=cpus,
        )
        for row in dataset.iter_rows():
            if row["kind"]:
                raise _ERRORS[row["kind"]](row["error"])
            made = Made(*(int(row[name]) for name in Made._fields))
            if made.pictures:
                progress.told(True, made.pictures)
            if made.failures:
                progress.told(False, made.failures)
            yield made


_ERRORS: dict[str, type[Exception]] = {"OSError": OSError, "ValueError": ValueError}


class _Actor:
    """A worker as `map_batches` takes it.

    What ends a run comes back as a text. What an actor raises comes back wrapped in Ray's own errors, or as its death.
    """

    def __init__(self, folder: str, digest: str, how: Sequence[Any]) -> None:
        self._kind = self._error = ""
        try:
            self._worker = Worker(Path(folder), digest, How(*how))
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._kind, self._error = "OSError" if isinstance(error, OSError) else "ValueError", str(error)

    def _made(self, part: int) -> Made:
        if not self._kind:
            try:
                return self._worker.make(part)
            except (OSError, ValueError) as error:
                self._fail(error)
        return Made(part, 0, 0, 0, 0, 0)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        made = [self._made(int(part)) for part in batch["part"]]
        told: dict[str, list[Any]] = {name: [getattr(each, name) for each in made] for name in Made._fields}
        return told | {"kind": [self._kind] * len(made), "error": [self._error] * len(made)}


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Ray, which is left as it was found."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of what every pipeline of its own does
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, object_store_memory=_STORE, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray's own has no type, where its processes do not come up in time
        where = "on this machine" if address is None else f"at {address}"
        raise ConnectionError(f"Ray cannot be used {where}: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _resources(cluster: Cluster, how: How, there: dict[str, float]) -> tuple[int, float, float]:
    """How many actors, and how many GPUs and CPUs each has."""
    wants_gpu = there.get("GPU", 0) >= 1 and how.device != "cpu"
    gpus = float(wants_gpu) if cluster.gpus is None else cluster.gpus
    actors = cluster.actors or (max(1, int(there["GPU"] // gpus)) if gpus and wants_gpu else 1)
    own = cluster.address is None
    share = max(1, int(there.get("CPU", 1) // actors)) if own and not gpus else 1
    cpus = share if cluster.cpus is None else cluster.cpus
    for name, each in (("GPU", gpus), ("CPU", cpus)):
        if own and actors * each > there.get(name, 0):
            raise ValueError(
                f"actors must fit this machine: {actors} with {each:g} {name} each are more than its "
                f"{there.get(name, 0):g}"
            )
    return actors, gpus, cpus
