"""The buttons that draw: pictures as they appear, and grids cell by cell."""

import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from kdpm2.cli.drawing import Held, drawn
from kdpm2.cli.grid import words as grid_words
from kdpm2.cli.grid.axis import Axis, axis
from kdpm2.cli.grid.cells import Grid, grid_of
from kdpm2.cli.grid.kept import Done
from kdpm2.cli.grid.picture import lasting, picture, total
from kdpm2.cli.grid.run import run
from kdpm2.cli.options import Refusal, as_arguments
from kdpm2.cli.pictures import Drawn
from kdpm2.cli.plan import Plan
from kdpm2.cli.watching import Seen
from kdpm2.ui import files, words
from kdpm2.ui.estimates import Strip
from kdpm2.ui.layout import NO_AXIS, Shown
from kdpm2.ui.models import Models
from kdpm2.ui.settings import WrongSettingError, count, in_words
from kdpm2.ui.work import Stopped, Worker

Update = dict[Any, Any]


class Past(NamedTuple):
    """A sheet that was drawn, for the history."""

    path: str
    caption: str


class _News(NamedTuple):
    calls: int
    strip: Image.Image | None
    pictures: list[Drawn]


def draw(
    worker: Worker, models: Models, shown: Shown, said: Mapping[str, Any], past: list[Past], name: str
) -> Iterator[tuple[Update, list[Past]]]:
    """Pictures of the settings, with each step's estimates on the way."""
    try:
        plan = models.plan(said)
    except WrongSettingError as error:
        yield _ready(shown) | {shown.error: words.error(str(error)), shown.status: ""}, past
        return
    started, calls, seen, held_back = time.perf_counter(), _calls(plan), 0, False
    pictures: list[Drawn] = []
    ended: Update = {}
    try:
        for news in worker.streamed(name, _drawing(plan)):
            pictures, seen = [*pictures, *news.pictures], news.calls
            line = words.progress(news.calls, calls, "network calls", time.perf_counter() - started)
            update = {shown.status: line} | (
                {} if news.strip is None else {shown.strip: gr.update(value=news.strip, visible=True)}
            )
            yield update, past
    except Stopped:
        held_back = True
    except Exception as error:
        ended = {shown.error: _failed(error)}
    ended |= _ready(shown)
    seconds = time.perf_counter() - started
    if not pictures:
        yield (
            ended | {shown.status: words.told(f"Stopped after {seen} of {calls} network calls." if held_back else "")},
            past,
        )
        return
    sheet, singles = files.sheet(plan, pictures), files.singles(plan, pictures)
    wanted = words.counted(len(plan.pictures), "picture")
    how_many = f"Stopped: {len(pictures)} of {wanted}" if len(pictures) < len(plan.pictures) else wanted
    line = f"{how_many} in {lasting(seconds)}, {words.cost(plan.stages, len(plan.pictures))}"
    past = [Past(str(sheet), f"{_caption(plan)}, {lasting(seconds)}"), *past][:40]
    yield (
        ended
        | {
            shown.status: words.told(line),
            shown.sheet: gr.update(value=str(sheet), visible=True),
            shown.download: gr.update(value=str(sheet), interactive=True),
            shown.download_singles: gr.update(value=str(singles), interactive=True),
            shown.history: [tuple(each) for each in past],
        },
        past,
    )


def _ready(shown: Shown) -> Update:
    return {shown.draw: gr.update(interactive=True), shown.stop: gr.update(interactive=False)}


def _grid_ready(shown: Shown) -> Update:
    return {shown.draw_grid: gr.update(interactive=True), shown.stop_grid: gr.update(interactive=False)}


def _failed(error: Exception) -> str:
    """What the page says of work that failed; the rest is for whoever runs the server."""
    if isinstance(error, Refusal):
        return words.error(str(in_words(error)))
    traceback.print_exception(error)
    return words.error(f"{type(error).__name__}: {error}")


def _calls(plan: Plan) -> int:
    batches = -(-len(plan.pictures) // plan.together)
    return batches * plan.stages


def _drawing(plan: Plan) -> Callable[[Held, Callable[[_News | None], None]], None]:
    def work(held: Held, tell: Callable[[_News | None], None]) -> None:
        pipe = held.pipeline(plan)
        strip, calls = Strip((plan.stages + 1) // 2), 0

        def watch(seen: Seen) -> None:
            nonlocal calls
            calls += 1
            tell(_News(calls, strip.add(pipe, seen) if calls <= seen.stages else None, []))

        for batch in drawn(pipe, plan, plan.pictures, watch, bars=False):
            tell(_News(calls, None, batch))

    return work


def _caption(plan: Plan) -> str:
    names = ("--steps", "--eta", "--s-churn", "--restarts", "--sigmas", "--seed", "--prompt")
    given = dict(as_arguments(plan.given))
    said = [f"{name.strip('-').replace('-', '_')} {given[name]}" for name in names if name in given]
    return textwrap.shorten(", ".join(said), 120, placeholder=" ...")


def draw_grid(
    worker: Worker,
    models: Models,
    shown: Shown,
    said: Mapping[str, Any],
    axes: tuple[str, str, str, str, float | None],
    name: str,
) -> Iterator[Update]:
    """The grid, with one more cell each time."""
    try:
        grid = _grid(models, said, *axes)
    except WrongSettingError as error:
        yield _grid_ready(shown) | {shown.grid_status: words.error(str(error))}
        return
    started, done = time.perf_counter(), dict[str, Done]()
    ended: Update = {}
    held_back, last = False, 0.0
    try:
        for of, cell in worker.streamed(name, _drawing_grid(grid)):
            done[of] = cell
            line = words.progress(len(done), len(grid.cells), "cells", time.perf_counter() - started)
            update: Update = {shown.grid_status: line}
            if time.perf_counter() - last > 0.5:  # a picture a cell would be more than one can see
                last = time.perf_counter()
                update[shown.grid] = gr.update(value=picture(grid, done), visible=True)
            yield update
    except Stopped:
        held_back = True
    except Exception as error:
        ended = {shown.error: _failed(error)}
    ended |= _grid_ready(shown)
    if not done:
        yield ended | {shown.grid_status: words.told("Stopped." if held_back else "")}
        return
    path = str(files.kept(picture(grid, done), "grid.png", grid_words.chunks(grid, total(grid, done))))
    wanted = words.counted(len(grid.cells), "cell")
    how_many = f"Stopped: {len(done)} of {wanted}" if len(done) < len(grid.cells) else wanted
    yield ended | {
        shown.grid_status: words.told(f"{how_many}. {total(grid, done)}"),
        shown.grid: gr.update(value=path, visible=True),
        shown.download_grid: gr.update(value=path, interactive=True),
    }


def _grid(
    models: Models, said: Mapping[str, Any], x: str, x_values: str, y: str, y_values: str, seeds: float | None
) -> Grid:
    asked, in_cell = models.settings(said).asked, count("pictures in each cell", seeds)
    try:
        columns: Axis = axis("--x", f"{x}={x_values}")
        rows = None if y == NO_AXIS else axis("--y", f"{y}={y_values}")
        return grid_of(asked, columns, rows, in_cell, lambda option, name: models.named(name))
    except Refusal as error:
        raise in_words(error) from error


def _drawing_grid(grid: Grid) -> Callable[[Held, Callable[[tuple[str, Done] | None], None]], None]:
    def work(held: Held, tell: Callable[[tuple[str, Done] | None], None]) -> None:
        for cell, done in run(grid, held, watch=lambda _: tell(None)):
            tell((cell.name, done))

    return work
