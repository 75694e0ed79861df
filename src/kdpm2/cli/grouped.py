"""The help of a command: its options in groups, each on as few lines as 80 columns allow."""

from typing import Any

import typer
import typer.core

_WIDEST_NAME = 33


class Grouped(typer.core.TyperCommand):
    """A command whose options are listed under the headings that they have as `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, group after group, in the order in which they were declared."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            heading = getattr(option, "rich_help_panel", None) or "Other"
            groups.setdefault(heading, []).append((_name(option), getattr(option, "help", None) or ""))
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=_WIDEST_NAME, col_spacing=2)


def option(metavar: str | None, group: str, text: str, *names: str, **more: Any) -> Any:
    """An option of a group, whose default its text tells."""
    return typer.Option(*names, metavar=metavar or None, help=text, rich_help_panel=group, show_default=False, **more)


def _name(option: Any) -> str:
    names = ", ".join(option.opts)
    if option.secondary_opts:  # one name for the two of a flag
        return str(names.replace("--", "--[no-]", 1))
    return names if getattr(option, "is_flag", False) else f"{names} {option.metavar or ''}".strip()
