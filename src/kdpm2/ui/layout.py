"""What stands on the page, before anything happens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from kdpm2.cli.asked import drawing_options
from kdpm2.curves import SIGMA_CURVES
from kdpm2.timestep_spacing import TIMESTEP_SPACINGS
from kdpm2.ui.settings import MOST_PICTURES, OWN

NO_AXIS = "none"
_TEXT: dict[str, Any] = {"lines": 1, "max_lines": 20, "wrap_lines": True, "show_line_numbers": False}
_NOT_AXES = ("set_", "device", "batch")


@dataclass(frozen=True)
class Shown:
    """Components that show something, or make something happen."""

    error: Any
    levels: Any
    calls: Any
    pin: Any
    unpin: Any
    draw: Any
    stop: Any
    status: Any
    strip: Any
    sheet: Any
    download: Any
    download_singles: Any
    history: Any
    command: Any
    python: Any
    config: Any
    drop: Any
    drop_error: Any
    x: Any
    x_values: Any
    y: Any
    y_values: Any
    seeds: Any
    draw_grid: Any
    stop_grid: Any
    grid_status: Any
    grid: Any
    download_grid: Any


def widgets(models: list[str], start: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their first values, by the names of `kdpm2.ui.settings.WIDGETS`."""
    made: dict[str, Any] = {}
    made["pipeline"] = gr.Dropdown(models, value=start["pipeline"], label="Model")
    made["labels"] = gr.Textbox(start["labels"], label="Labels", info="In turn, as in 3,1 or face,any")
    made["prompt"] = gr.Textbox("", label="Prompt", visible=False)
    made["negative_prompt"] = gr.Textbox("", label="Negative prompt", visible=False)
    made["sampler"] = gr.Radio(
        [("DPM2 a (ancestral)", "ancestral"), ("DPM2 (discrete)", "discrete")], value="ancestral", label="Sampler"
    )
    made["steps"] = gr.Slider(1, 100, start["steps"], step=1, label="Steps", info="N steps call the network 2N-1 times")
    made["eta"] = gr.Slider(0, 1, 1, step=0.05, label="eta", info="Share of a step's noise that is new")
    made["eta_by_step"] = gr.Textbox(
        "", label="eta by step", info="In the slider's place: 1,0 for a fall, or value=1,end=0.5 for the first half"
    )
    made["s_churn"] = gr.Slider(0, 40, 0, step=0.5, label="s_churn", info="Noise added on the way", visible=False)
    with gr.Row():
        made["sigmas"] = gr.Dropdown([OWN, "plain", *SIGMA_CURVES], value=OWN, label="Noise curve")
        made["spacing"] = gr.Dropdown([OWN, *TIMESTEP_SPACINGS], value=OWN, label="Timesteps")
    made["discard_next_to_last_sigma"] = gr.Checkbox(False, label="Leave out the sigma before the last")
    with gr.Row():
        made["seed"] = gr.Number(0, label="First seed", precision=0, minimum=0, min_width=90)
        made["number"] = gr.Number(
            start["number"], label="Pictures", precision=0, minimum=1, maximum=MOST_PICTURES, min_width=90
        )
        made["guidance_scale"] = gr.Number(
            start["guidance_scale"], label="Guidance", minimum=0, maximum=100, min_width=90
        )
    with gr.Accordion("More options", open=False):
        made["s_noise"] = gr.Slider(0.9, 1.1, 1, step=0.005, label="s_noise", info="Scale of the noise of steps")
        made["s_noise_by_step"] = gr.Textbox("", label="s_noise by step", info="In the slider's place, as eta by step")
        made["restarts"] = gr.Textbox(
            "",
            label="Restarts",
            info="0.3,2,3,2: at sigma 0.3 up to 2 by noise, and down in 3 steps, twice; more after a semicolon",
        )
        made["others"] = gr.Textbox(
            "",
            label="Other options of kdpm2 sample",
            info="As on the command line, such as --noise brownian --rho 5",
            elem_id="others",
        )
    for name, widget in made.items():
        widget.elem_id = f"set-{name}"
    return made


def shown() -> Shown:
    """All that is beside the settings."""
    made: dict[str, Any] = {}
    made["error"] = gr.HTML("", elem_id="error")
    with gr.Tabs():
        with gr.Tab("Draw", id="draw-tab"):
            _draw_tab(made)
        with gr.Tab("Grid", id="grid-tab"):
            _grid_tab(made)
        with gr.Tab("Copy", id="copy-tab"):
            gr.Markdown("The same configuration to take away. Each box has a button that copies it.")
            made["command"] = gr.Code(label="Command", elem_id="command", **_TEXT)
            made["python"] = gr.Code(label="Python", language="python", elem_id="python", **_TEXT)
            made["config"] = gr.Code(label="scheduler_config.json", language="json", elem_id="config", **_TEXT)
        with gr.Tab("Load", id="load-tab"):
            gr.Markdown("Drop a PNG that kdpm2 has made, and the page has its settings.")
            made["drop"] = gr.File(label="A PNG with settings", file_types=[".png"], elem_id="drop", height=140)
            made["drop_error"] = gr.HTML("", elem_id="drop-error")
    return Shown(**made)


def _draw_tab(made: dict[str, Any]) -> None:
    with gr.Row():
        made["draw"] = gr.Button("Draw", variant="primary", elem_id="draw")
        made["stop"] = gr.Button("Stop", elem_id="stop", interactive=False)
    made["status"] = gr.HTML("", elem_id="status")
    made["sheet"] = gr.Image(
        label="Pictures",
        type="filepath",
        interactive=False,
        elem_id="sheet",
        show_label=False,
        visible=False,
        buttons=[],
    )
    with gr.Row():
        made["download"] = gr.DownloadButton("Download the sheet", interactive=False, elem_id="download", size="sm")
        made["download_singles"] = gr.DownloadButton(
            "Download single pictures", interactive=False, elem_id="download-singles", size="sm"
        )
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            gr.HTML("<h2>Noise levels</h2>")
            made["calls"] = gr.HTML("", elem_id="calls")
            made["levels"] = gr.HTML("", elem_id="levels")
            with gr.Row():
                made["pin"] = gr.Button("Compare with these", size="sm", elem_id="pin")
                made["unpin"] = gr.Button("Compare no more", size="sm", elem_id="unpin", interactive=False)
        with gr.Column(min_width=320):
            gr.HTML("<h2>Step by step</h2><p>What the network takes the clean pictures for.</p>")
            made["strip"] = gr.Image(
                label="Each step's estimate of the clean pictures",
                interactive=False,
                elem_id="strip",
                format="png",
                show_label=False,
                visible=False,
                buttons=[],
            )
    with gr.Accordion("History: choose one to have its settings back", open=True):
        made["history"] = gr.Gallery(
            label="Choose one to have its settings back",
            show_label=False,
            columns=4,
            fit_columns=False,
            height="auto",
            buttons=[],
            allow_preview=False,
            interactive=False,
            elem_id="history",
            object_fit="contain",
        )


def _grid_tab(made: dict[str, Any]) -> None:
    names = [name for name in drawing_options() if name not in _NOT_AXES]
    own = {"allow_custom_value": True}  # the other options of the scheduler
    gr.Markdown("The same seeds side by side. The settings say what all cells share; values stand between commas.")
    with gr.Row():
        made["x"] = gr.Dropdown(names, value="eta", label="Columns: option", elem_id="x", **own)
        made["x_values"] = gr.Textbox("0,0.5,1", label="Columns: values", elem_id="x-values")
    with gr.Row():
        made["y"] = gr.Dropdown([NO_AXIS, *names], value="steps", label="Rows: option", elem_id="y", **own)
        made["y_values"] = gr.Textbox("5,8,12", label="Rows: values", elem_id="y-values")
    made["seeds"] = gr.Number(
        4, label="Pictures in each cell", precision=0, minimum=1, maximum=MOST_PICTURES, elem_id="seeds"
    )
    with gr.Row():
        made["draw_grid"] = gr.Button("Draw the grid", variant="primary", elem_id="draw-grid")
        made["stop_grid"] = gr.Button("Stop", elem_id="stop-grid", interactive=False)
    made["grid_status"] = gr.HTML("", elem_id="grid-status")
    made["grid"] = gr.Image(
        label="Grid",
        type="filepath",
        interactive=False,
        elem_id="grid",
        format="png",
        show_label=False,
        visible=False,
        buttons=["fullscreen"],
    )
    made["download_grid"] = gr.DownloadButton("Download the grid", interactive=False, elem_id="download-grid")
