"""Tests the mutants of a session, in a copy of the repository, each in a fork of one process.

The process has the tools of the tests loaded already, and nothing of the package: to load them for every mutant takes
twice as long as the tests.
"""

import multiprocessing
import os
import shlex
import sys
from difflib import unified_diff
from importlib import import_module
from tempfile import TemporaryFile
from typing import IO, Any

import pytest
from cosmic_ray.config import load_config
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult

_TOOLS = ("numpy.testing", "scipy.interpolate", "scipy.stats", "hypothesis.extra.numpy")


def test(mutation: MutationSpec, arguments: list[str], limit: float) -> WorkResult:
    """Apply a mutation, run pytest with the arguments, in at most `limit` seconds, and take the mutation back."""
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    with (
        use_mutation(mutation.module_path, operator, mutation.occurrence) as (before, after),
        TemporaryFile() as output,
    ):
        process = multiprocessing.get_context("fork").Process(target=_run, args=(arguments, output))
        process.start()
        process.join(limit)
        too_long = process.is_alive()
        process.kill()
        process.join()
        output.seek(0)
        told = "timeout" if too_long else output.read().decode(errors="replace")
    outcome = TestOutcome.KILLED if process.exitcode else TestOutcome.SURVIVED
    diff = "\n".join(unified_diff(before.splitlines(), after.splitlines(), lineterm=""))
    return WorkResult(WorkerOutcome.NORMAL, told, outcome, diff)


def _run(arguments: list[str], output: IO[Any]) -> None:
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    os._exit(pytest.main(arguments))


def main(config_file: str, session_file: str) -> None:
    # Two mutants of one second and one size would share their compiled code.
    sys.dont_write_bytecode = True
    for tool in _TOOLS:
        import_module(tool)
    config = load_config(config_file)
    arguments = shlex.split(config.test_command)[3:]
    with use_db(session_file, WorkDB.Mode.open) as session:
        for item in session.pending_work_items:
            session.set_result(item.job_id, test(item.mutations[0], arguments, config.timeout))


if __name__ == "__main__":
    main(*sys.argv[1:])
