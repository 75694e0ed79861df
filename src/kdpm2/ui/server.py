"""The page's server: for this machine alone unless told otherwise, and for nothing that is elsewhere."""

import os
import socket
from pathlib import Path
from typing import Any

from kdpm2.ui import files

# gradio asks for news of itself, and keeps copies of what it shows.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_TEMP_DIR"] = str(files.home() / "shown")

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from kdpm2.ui.models import Models
from kdpm2.ui.page import page

_HERE = Path(__file__).parent
_FONTS = ["system-ui", "sans-serif"]
_MONO = ["ui-monospace", "monospace"]

# What a browser may load for the page: from its server, and what the page itself holds.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)


class _Guarded:
    """An app whose answers tell the browser the policy."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message["headers"] if pair[0].lower() != b"link"]
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*kept, policy, (b"referrer-policy", b"no-referrer")]
            await send(message)

        await self._app(scope, receive, told)


def app(models: Models, names: list[str]) -> Any:
    """The page as an ASGI app.

    Args:
        models: What it offers.
        names: The hosts that a browser may ask it by; another site that has a name lead here is not answered.
    """
    theme = gr.themes.Default(primary_hue="blue", font=_FONTS, font_mono=_MONO).set(
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300"
    )
    mounted = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page(models),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size="32mb",
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=(_HERE / "style.css").read_text(encoding="utf-8"),
        head=f"<script>{(_HERE / 'keys.js').read_text(encoding='utf-8')}</script>",
    )
    mounted.add_middleware(TrustedHostMiddleware, allowed_hosts=names)
    return _Guarded(mounted)


def serve(asgi: Any, listening: socket.socket) -> None:
    """Serve until the process is told to end."""
    config = uvicorn.Config(asgi, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])
