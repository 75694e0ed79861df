"""What the page says while it works, as HTML."""

from html import escape

from kdpm2.cli.grid.picture import lasting


def error(text: str) -> str:
    """A setting that cannot be."""
    return f'<p class="wrong" role="alert">{escape(text)}</p>'


def progress(done: int, of: int, what: str, seconds: float) -> str:
    """How far work is."""
    return (
        f'<div role="status"><progress max="{of}" value="{done}"></progress> '
        f"{done} of {of} {escape(what)}, {lasting(seconds)}</div>"
    )


def counted(number: int, what: str) -> str:
    """A number of things, as in "1 picture" and "2 pictures"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def cost(calls: int, pictures: int) -> str:
    """The calls of the network for pictures that have the same number of them."""
    return f"{counted(calls, 'network call')}{' for each' * (pictures > 1)}"


def told(text: str) -> str:
    """A line."""
    return f'<div role="status">{escape(text)}</div>'
