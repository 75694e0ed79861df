"""The page: what stands on it, and what happens there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from kdpm2.cli.plan import Plan
from kdpm2.ui import drawing, exported, files, levels, words
from kdpm2.ui.layout import NO_AXIS, Shown, shown, widgets
from kdpm2.ui.models import Models
from kdpm2.ui.settings import BY_STEP, START, WIDGETS, WrongSettingError, first, has_effect, of_command
from kdpm2.ui.work import Worker
from kdpm2.zoo.built_in import DEFAULT

_NETWORK: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1, "show_progress": "hidden"}
_QUICK: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}


def page(models: Models) -> gr.Blocks:
    """The page, to be served."""
    worker = Worker()
    with gr.Blocks(title="kdpm2", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML("<h1>kdpm2</h1><p>DPM2 a and DPM2: choose settings by looking.</p>", elem_id="title")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300, elem_id="settings"):
                set_ = widgets(models.names, START | first(models.named(DEFAULT.name)))
            with gr.Column(scale=5, min_width=320):
                see = shown()
        pinned, past = gr.State(None), gr.State([])
        _levels(blocks, models, set_, see, pinned)
        _visible(models, set_)
        _draws(blocks, worker, models, set_, see, past)
        _restores(models, set_, see, past)
    return blocks.queue(default_concurrency_limit=None)


def _inputs(set_: dict[str, Any]) -> list[Any]:
    return [set_[name] for name in WIDGETS]


def _said(values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(WIDGETS, values, strict=True))


def _levels(blocks: gr.Blocks, models: Models, set_: dict[str, Any], see: Shown, pinned: Any) -> None:
    """The noise levels and what can be copied follow the settings."""

    def follow(pinned: dict[str, Any] | None, *values: Any) -> dict[Any, Any]:
        try:
            plan = models.plan(_said(values))
            tables = [("now" if pinned else "", plan.table)]
            if pinned:
                tables.append(("before", models.plan(pinned).table))
        except WrongSettingError as error:
            return {see.error: words.error(str(error))}
        return {
            see.error: "",
            see.levels: levels.drawn([(name, table) for name, table in tables if table is not None]),
            see.calls: words.told(_summary(plan)),
            see.command: exported.command(plan),
            see.python: exported.python(plan),
            see.config: exported.scheduler_config(plan),
        }

    followers = [see.error, see.levels, see.calls, see.command, see.python, see.config]
    changes = [widget.change for widget in set_.values()]
    gr.on(
        [blocks.load, pinned.change, *changes],
        follow,
        [pinned, *_inputs(set_)],
        followers,
        trigger_mode="always_last",
        **_QUICK,
    )
    see.pin.click(
        lambda *values: (_said(values), gr.update(interactive=True)), _inputs(set_), [pinned, see.unpin], **_QUICK
    )
    see.unpin.click(lambda: (None, gr.update(interactive=False)), None, [pinned, see.unpin], **_QUICK)


def _summary(plan: Plan) -> str:
    count = len(plan.pictures)
    calls = f"{words.counted(count, 'picture')}, {words.cost(plan.stages, count)}"
    if plan.table is None:
        return f"{calls}; the noise levels follow the size of the image, and are known when it is drawn"
    return f"{calls}; sigma from {plan.table.sigmas[0]:.4g} to {plan.table.sigmas[-1]:.4g}"


def _visible(models: Models, set_: dict[str, Any]) -> None:
    """A setting that has no effect is not shown."""
    choices = [set_[name] for name in ("pipeline", "sampler", *BY_STEP.values())]

    def of_choices(name: str, sampler: str, *words: str) -> dict[Any, Any]:
        by_step = dict(zip(BY_STEP.values(), words, strict=True))
        effects = has_effect(models.named(name), sampler, by_step)
        return {set_[one]: gr.update(visible=has) for one, has in effects.items()}

    def chosen(name: str) -> dict[Any, Any]:
        return {set_[one]: value for one, value in first(models.named(name)).items()}

    names = has_effect(models.named(DEFAULT.name), START["sampler"], START)
    triggers, shown = [each.change for each in choices], [set_[name] for name in names]
    # The choice of a model sets others: each of these changes has to count, also while the one before is seen to.
    gr.on(triggers, of_choices, choices, shown, trigger_mode="always_last", **_QUICK)
    set_["pipeline"].input(chosen, set_["pipeline"], _inputs(set_), **_QUICK)


def _draws(blocks: gr.Blocks, worker: Worker, models: Models, set_: dict[str, Any], see: Shown, past: Any) -> None:
    """The buttons that draw and stop."""

    def draw(request: gr.Request, held: list[Any], *values: Any) -> Iterator[dict[Any, Any]]:
        for update, after in drawing.draw(worker, models, see, _said(values), held, _work(request, see.draw)):
            yield update | {past: after}

    def draw_grid(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        axes, said = values[:5], _said(values[5:])
        yield from drawing.draw_grid(worker, models, see, said, axes, _work(request, see.draw_grid))

    drawn = [see.error, see.draw, see.stop, see.status, see.strip, see.sheet, see.download, see.download_singles]
    _begins(worker, see.draw, see.stop, see.status).then(
        draw, [past, *_inputs(set_)], [*drawn, see.history, past], **_NETWORK
    )
    grid = [see.error, see.draw_grid, see.stop_grid, see.grid_status, see.grid, see.download_grid]
    axes = [see.x, see.x_values, see.y, see.y_values, see.seeds]
    _begins(worker, see.draw_grid, see.stop_grid, see.grid_status).then(
        draw_grid, [*axes, *_inputs(set_)], grid, **_NETWORK
    )

    def gone(request: gr.Request) -> None:
        for button in (see.draw, see.draw_grid):
            worker.stop(_work(request, button))

    blocks.unload(gone)


def _work(request: gr.Request, button: Any) -> str:
    """What a button of a window has begun."""
    return f"{button.elem_id} of {request.session_hash}"


def _begins(worker: Worker, button: Any, stopping: Any, status: Any) -> Any:
    """The event of a button that begins work, which another one stops."""

    def begin(request: gr.Request) -> tuple[Any, Any, str]:
        worker.begin(_work(request, button))
        return gr.update(interactive=False), gr.update(interactive=True), words.told("In line, or loading the model.")

    def stop(request: gr.Request) -> None:
        worker.stop(_work(request, button))

    stopping.click(stop, None, None, queue=False, **_QUICK)
    return button.click(begin, None, [button, stopping, status], queue=False, **_QUICK)


def _restores(models: Models, set_: dict[str, Any], see: Shown, past: Any) -> None:
    """A PNG that is dropped, and a sheet of the history, give back their settings."""
    axes = [see.x, see.x_values, see.y, see.y_values, see.seeds]

    def restored(path: str, error_at: Any) -> dict[Any, Any]:
        try:
            said, grid = of_command(files.words_in(Path(path)), models.named)
        except WrongSettingError as error:
            return {error_at: words.error(str(error))}
        updates: dict[Any, Any] = {set_[widget]: said[widget] for widget in WIDGETS} | {error_at: ""}
        if "--x" in grid:
            x, _, x_values = grid["--x"].partition("=")
            y, _, y_values = grid.get("--y", NO_AXIS).partition("=")
            updates |= dict(zip(axes, (x, x_values, y, y_values, said["number"]), strict=True))
        return updates

    def dropped(path: str | None) -> dict[Any, Any]:
        return {see.drop_error: ""} if path is None else restored(path, see.drop_error)

    def chosen(held: list[Any], event: gr.SelectData) -> dict[Any, Any]:
        return restored(held[event.index][0], see.error)

    # What is wrong with a file stands beside it: other settings that are right do not wipe it out.
    outputs = [*_inputs(set_), *axes]
    see.drop.upload(dropped, see.drop, [*outputs, see.drop_error], trigger_mode="always_last", **_QUICK)
    see.history.select(chosen, past, [*outputs, see.error], **_QUICK)
