"""`kdpm2 ui`: the page in the browser on which one chooses settings by looking."""

import importlib.util
import ipaddress
import os
import socket
from typing import Annotated

import typer

from kdpm2.cli import values
from kdpm2.cli.grouped import option
from kdpm2.cli.options import refuse

_WHERE, _WHAT = "Where it is", "What it offers"
_PORT = 7860


def ui(
    port: Annotated[
        int, option("N", _WHERE, f"Port; 0 for any that is free [{_PORT}]", parser=values.whole(0, 65_535))
    ] = _PORT,
    host: Annotated[str, option("ADDRESS", _WHERE, "Address [127.0.0.1, this machine alone]")] = "127.0.0.1",
    listen: Annotated[
        bool, typer.Option("--listen", help="Let other machines in; needed for their --host", rich_help_panel=_WHERE)
    ] = False,
    pipeline: Annotated[
        list[str] | None,
        option("NAME", _WHAT, "A diffusers pipeline, folder or hub id, beside the built-in models; may be given again"),
    ] = None,
) -> None:
    """Serve a page for the browser on which one chooses settings by looking.

    It loads nothing from elsewhere. Ctrl-C ends it.
    """
    for library in ("gradio", "matplotlib"):
        if importlib.util.find_spec(library) is None:
            raise typer.BadParameter(f"needs {library}: pip install 'kdpm2[ui]'", param_hint="kdpm2 ui")
    address = _address(host)
    if not address.is_loopback and not listen:
        refuse("--host", f"{host} lets other machines in: whoever reaches it can draw here; if so, add --listen")
    listening = _bound(address, port)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from kdpm2.ui.models import Models
    from kdpm2.ui.server import app, serve

    asgi = app(Models(pipeline or []), ["*"] if not address.is_loopback else ["127.0.0.1", "localhost", str(address)])
    typer.echo(f"http://{address}:{listening.getsockname()[1]}")
    serve(asgi, listening)


def _address(host: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        refuse("--host", f"must be an address like 127.0.0.1, got {values.short(host)}")


def _bound(address: ipaddress.IPv4Address, port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((str(address), port))
    except OSError as error:
        refuse("--port", f"{port} of {address} cannot be had: {error.strerror}; --port 0 takes one that is free")
    return listening
