"""How a picture is led towards its prompt or label: the options of guidance, which several commands take."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from kdpm2.cli import values
from kdpm2.cli.gathered import Parameter, gathered
from kdpm2.cli.grouped import option
from kdpm2.cli.options import HOW, refuse

GUIDANCE: dict[str, Any] = {
    "guidance_scale": Annotated[
        float | None,
        option("X", HOW, "Classifier-free guidance [2 emoji, 1 digits, or the pipeline's]", parser=values.real(0, 100)),
    ],
    "guidance_plus_plus": Annotated[
        bool | None,
        typer.Option(
            "--guidance-plus-plus/--no-guidance-plus-plus",
            help="CFG++, with a scale from 0 to 1",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ],
    "guidance_interval": Annotated[
        values.Numbers | None,
        option("A,B", HOW, "Guidance between noise levels A and B only", parser=values.interval),
    ],
    "guidance_rescale": Annotated[
        float | None,
        option("0..1", HOW, "Takes back contrast that a large scale adds", parser=values.real(0, 1)),
    ],
}


def guidance_options() -> dict[str, Parameter]:
    """Every option of guidance, by name."""
    return {name: Parameter(kind) for name, kind in GUIDANCE.items()}


def takes_guidance_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every option of guidance; it gets them as the mapping `guidance`."""
    return gathered(command, "guidance", guidance_options())


def check_guided(asked: Mapping[str, Any]) -> None:
    """The options play a part: one that changes guidance needs some."""
    if "guidance_scale" not in asked and not asked.get("guidance_plus_plus"):
        for name in ("guidance_interval", "guidance_rescale"):
            if name in asked:
                refuse(f"--{name.replace('_', '-')}", "needs --guidance-scale: without it there is no guidance")
