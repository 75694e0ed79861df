"""`kdpm2 sample`: pictures from a built-in model, or from any diffusers pipeline.

Image i of a run with seed s is drawn from a generator of its own, seeded with s + i on the CPU: it is the same picture
on every device, whatever else is drawn with it. Every option is checked before a model is loaded.
"""

from pathlib import Path
from typing import Annotated

import typer

from kdpm2.cli import values
from kdpm2.cli.asked import Asked, takes_drawing_options
from kdpm2.cli.drawing import Held, drawn
from kdpm2.cli.options import OUTPUT, WHAT, refuse
from kdpm2.cli.output import check, printable
from kdpm2.cli.plan import planned
from kdpm2.cli.stores import MOST, opened


@takes_drawing_options
def sample(
    number: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many images [60 emoji, 100 digits, 1 of a pipeline]",
            rich_help_panel=WHAT,
            parser=values.whole(1, MOST),
        ),
    ] = None,
    *,
    asked: Asked,
    output: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="A sheet .png, an .npz, or a folder of PNGs, of which it skips what is there [samples.png]",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = Path("samples.png"),
    annotate: Annotated[bool, typer.Option("--annotate", help="Label the sheet", rich_help_panel=OUTPUT)] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Draw samples, from a built-in model unless a pipeline is named."""
    kind = check("--output", output, [".png", ".npz", None], force)
    if annotate and kind != ".png":
        refuse("--annotate", f"labels a contact sheet, whose name ends in .png, got --output {output}")
    plan = planned(asked, number)
    store = opened(kind, output, force, plan.given, plan.stages, annotate)
    wanted = store.wanted(plan.pictures)
    if wanted:
        for batch in drawn(Held().pipeline(plan), plan, wanted):
            store.add(batch)
    typer.echo(printable(store.close()))
