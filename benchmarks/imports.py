"""What it costs to import: seconds that the statement takes in a new Python, whose own start is a case by itself."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from time import perf_counter

from benchmarks import projects
from benchmarks.timing import Case, Time, summary

PYTHON = "import nothing: Python itself"
_CLASS = projects.CLASS_NAMES["ancestral"]
# Case, project and statement.
STATEMENTS = [
    (PYTHON, "Python", ""),
    ("import torch", "torch", "import torch"),
    ("import the package", "kdpm2", "import kdpm2"),
    ("import the ancestral class", "diffusers", f"from diffusers import {_CLASS}"),
    ("import the ancestral class", "kdpm2", f"from kdpm2 import {_CLASS}"),
    ("import the samplers", "k-diffusion", "projects.k_diffusion('sampling')"),
    ("import the samplers", "kdpm2.sample", "import kdpm2.sampling"),
]


def cases(repeats: int) -> Iterator[Case]:
    """One case for each name in `STATEMENTS`."""
    for name in dict.fromkeys(case for case, _, _ in STATEMENTS):
        yield Case(name, partial(_measured, name, repeats))


def _measured(name: str, repeats: int) -> list[Time]:
    statements = {project: statement for case, project, statement in STATEMENTS if case == name}
    if projects.k_diffusion("sampling") is None:
        statements.pop("k-diffusion", None)
    times: dict[str, list[float]] = {project: [] for project in statements}
    for repeat in range(repeats + 1):
        for project, statement in statements.items():
            seconds = _inside(statement) if statement else _outside()
            if repeat:  # the first brings the files into memory
                times[project].append(seconds)
    return [summary(name, project, each) for project, each in times.items()]


def _inside(statement: str) -> float:
    # k-diffusion is imported without its package, whose training code it would import too.
    ready = "from benchmarks import projects" if "projects" in statement else "pass"
    code = f"import time; {ready}; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def _outside() -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return perf_counter() - start
