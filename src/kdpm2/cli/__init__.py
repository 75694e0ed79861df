"""The `kdpm2` command: `sample` draws pictures, `schedule` shows noise levels."""

import signal
import sys
from typing import NoReturn

import typer

from kdpm2.cli.sample import sample
from kdpm2.cli.schedule import schedule

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
app.command()(sample)
app.command()(schedule)


@app.callback()
def _kdpm2() -> None:
    """Sample diffusion models with KDPM2, the sampler also known as "DPM2 a"."""


def main() -> None:
    """Run the command. On SIGTERM, as on Ctrl-C, it removes unfinished files."""
    signal.signal(signal.SIGTERM, _end)
    app()


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)
