"""What pictures are asked for: the options of the commands that draw some."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Any

import typer

from kdpm2.cli import options as shared
from kdpm2.cli import values
from kdpm2.cli.gathered import Parameter, gathered
from kdpm2.cli.guiding import GUIDANCE
from kdpm2.cli.loading import DTYPES
from kdpm2.cli.options import HOW, SPEED, WHAT, scheduler_options
from kdpm2.zoo.built_in import BUILT_IN, DEFAULT

LARGEST_SEED = 2**64 - 1
MOST_TOGETHER = 1000
LONGEST_SIDE = 16_384

# Of strings, so that each is its own name on the command line.
Models = Enum("Models", {name: name for name in BUILT_IN}, type=str)  # type: ignore[misc]

Asked = dict[str, Any]
"""The options that were given, and those that have a default, by name."""


def _option(kind: Any, metavar: str, group: str, text: str, parser: Any = None) -> Any:
    option = typer.Option(metavar=metavar, help=text, rich_help_panel=group, show_default=False, parser=parser)
    return Annotated[kind | None, option]


def drawing_options() -> dict[str, Parameter]:
    """Every option that says what is drawn and how, by name."""
    side = values.whole(8, LONGEST_SIDE, 8)
    whole_steps, seeds = values.whole(1, shared.MOST_STEPS), values.whole(0, LARGEST_SEED)
    own = {
        "labels": _option(values.Labels, "A,B,..", WHAT, "Kinds in turn, as in face,any or 3,1 [every]", values.labels),
        "model": _option(Models, "NAME", WHAT, f"A built-in model: {', '.join(BUILT_IN)} [{DEFAULT.name}]"),
        "pipeline": _option(str, "NAME", WHAT, "A diffusers pipeline, folder or hub id, in its place"),
        "prompt": _option(str, "TEXT", WHAT, "What a text-to-image pipeline draws"),
        "negative_prompt": _option(str, "TEXT", WHAT, "What a text-to-image pipeline must not draw"),
        "height": _option(int, "PIXELS", WHAT, "Of a pipeline's images", side),
        "width": _option(int, "PIXELS", WHAT, "Of a pipeline's images", side),
        "steps": _option(int, "N", HOW, "Steps; the network runs 2N-1 times [25]", whole_steps),
        "seed": _option(int, "S", HOW, "Of the first image; the next count up [0]", seeds),
        **GUIDANCE,
        "at_sigmas": shared.AtSigmas,
        "at_timesteps": shared.AtTimesteps,
        "device": _option(str, "NAME", SPEED, "cpu, cuda, cuda:1, mps, or the fastest [auto]"),
        "dtype": _option(str, "NAME", SPEED, f"Of the weights: {', '.join(DTYPES)}"),
        "batch": _option(int, "N", SPEED, "Images drawn together [60, 200 digits, 1]", values.whole(1, MOST_TOGETHER)),
    }
    defaults = {"seed": 0, "device": "auto"}
    return {name: Parameter(kind, defaults.get(name)) for name, kind in own.items()} | scheduler_options()


def takes_drawing_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every option that says what is drawn and how; it gets them as the mapping `asked`."""
    return gathered(command, "asked", drawing_options())


def read(arguments: Sequence[str], command: str = "sample") -> Asked:
    """What arguments of a command ask for; a click exception for those that no command takes."""

    def returned(asked: Asked) -> Asked:
        return asked

    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(gathered(returned, "asked", drawing_options()))
    asked: Asked = typer.main.get_command(app).main(
        list(arguments), prog_name=f"kdpm2 {command}", standalone_mode=False
    )
    return asked
