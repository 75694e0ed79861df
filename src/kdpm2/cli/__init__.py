"""The `kdpm2` command: draws pictures, as a sheet, a grid or by a table, finds noise levels, and serves a page."""

import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

import kdpm2
from kdpm2.cli.generate import generate
from kdpm2.cli.grid.command import draw_grid
from kdpm2.cli.grouped import Grouped
from kdpm2.cli.sample import sample
from kdpm2.cli.schedule import schedule
from kdpm2.cli.tune import tune
from kdpm2.cli.ui import ui

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False, rich_markup_mode=None
)
app.command(cls=Grouped)(sample)
app.command(cls=Grouped)(generate)
app.command("grid", cls=Grouped)(draw_grid)
app.command(cls=Grouped)(schedule)
app.command(cls=Grouped)(tune)
app.command(cls=Grouped)(ui)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kdpm2 {kdpm2.__version__}")
        raise typer.Exit


@app.callback()
def _kdpm2(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Sample diffusion models with KDPM2, the sampler also known as "DPM2 a"."""


def main() -> None:
    """Run the command. On SIGTERM, as on Ctrl-C, it removes unfinished files."""
    signal.signal(signal.SIGTERM, _end)
    _open_what_is_closed()
    app(prog_name="kdpm2")


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


class _Unheard:
    """Standard error, whose reader may go away: a picture is worth more than what is said about it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError):
            self._stream.flush()


def _open_what_is_closed() -> None:
    """Open what a shell has closed on nothing, or the next file to be opened would be taken for standard error."""
    while os.open(os.devnull, os.O_RDWR) <= 2:
        pass
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    heard: Any = _Unheard(open(os.devnull, "w") if sys.stderr is None else sys.stderr)  # noqa: SIM115
    sys.stderr = heard
