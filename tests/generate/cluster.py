"""The same rows on every engine: python -m tests.generate.cluster --rows 5000.

The local engine, Ray with one actor and with two, and a cluster of three raylets on this machine draw the same rows.
What they made is compared in pairs. It needs Ray, and at full size some hours of one core.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

from kdpm2.generate import Cluster, generate
from tests.generate.made import Difference, pictures, rows

_TRIES = 5


@contextmanager
def raylets(count: int, cpus: int = 1) -> Iterator[Any]:
    """A cluster of so many nodes on this machine, the head without a CPU for actors."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as OnThisMachine

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    cluster = OnThisMachine(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=cpus, object_store_memory=100 * 2**20)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def runs(given: Any, folder: Path, **more: Any) -> Iterator[tuple[str, Path]]:
    """Each engine in turn: its name, and what it made."""
    ways: dict[str, dict[str, Any]] = {
        "local": {"engine": "local"},
        "Ray, 1 actor": {"engine": "ray", "cluster": Cluster(actors=1, cpus=1)},
        "Ray, 2 actors": {"engine": "ray", "cluster": Cluster(actors=2, cpus=1)},
    }
    for name, how in ways.items():
        yield name, drawn(name, given, folder, **how, **more)
    with raylets(3) as cluster:
        how = {"engine": "ray", "cluster": Cluster(cluster.address, actors=3)}
        name = "3 raylets"
        yield name, drawn(name, given, folder, **how, **more)


def drawn(name: str, given: Any, folder: Path, **how: Any) -> Path:
    """What a way makes of rows; says how long it took."""
    output = folder / name.replace(" ", "-").replace(",", "")
    begun = time.monotonic()
    for _ in range(_TRIES):
        try:
            report = generate(given, output, format="webdataset", progress=True, **how)
            break
        except ConnectionError as error:  # Ray gives itself half a minute to start, which a busy machine does not
            print(f"{name}: {error}", flush=True)
    else:
        raise SystemExit(f"{name}: Ray does not start")
    print(f"{name}: {time.monotonic() - begun:.0f} s\n{report}", flush=True)
    return output


def main() -> int:
    """The command; 1 if two sets of pictures differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.generate.cluster")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rows-per-file", type=int, default=250)
    parser.add_argument("--batch", type=int, default=64)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        given = rows(asked.rows)
        outputs = list(runs(given, Path(folder), rows_per_file=asked.rows_per_file, batch=asked.batch))
        held = {name: pictures(output) for name, output in outputs}
        differs = False
        for name, those in held.items():
            print(f"{name}: {len(those)} pictures, {len({kept.made_of['id'] for kept in those})} ids")
        for (name, first), (other, second) in combinations(held.items(), 2):
            difference = Difference(first, second)
            differs |= not difference.none
            print(f"{name} / {other}: {difference}")
    return int(differs or any(len(those) != asked.rows for those in held.values()))


if __name__ == "__main__":
    sys.exit(main())
