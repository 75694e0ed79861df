"""A few seconds of the soak, and a few kills: `make soak` has half an hour, and a hundred."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak import rounds
from tests.soak.__main__ import soak, table
from tests.soak.ticket import VERDICTS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("kdpm2", "concurrent.futures")]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL + 1)
    yield
    for each, level in zip(loggers, before, strict=True):
        each.setLevel(level)


def test_faults_at_random(tmp_path: Path, quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "EACH", 25)
    report, faults, _ = soak(0.5, 5, False, tmp_path)
    assert report.told == []
    assert not any(report.found[verdict] for verdict in VERDICTS)
    assert report.made > 0.5 * report.asked > 0
    assert faults.injected.total() > 10
    assert "| all of them |" in table(report, faults)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_killed() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.soak.kill", "--times", "3"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "lost: 0\ndoubled: 0\nwrong: 0\n" in run.stdout
