"""The page of `kdpm2 ui`, served by a process of its own, and a browser to look at it with."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def address(text_to_image: Path) -> Iterator[str]:
    if "gradio" in MISSING:
        pytest.skip("the page needs gradio: pip install 'kdpm2[ui]'")
    # Whatever the environment says of proxies, nothing is to be asked of them.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    command = [sys.executable, "-m", "kdpm2", "ui", "--port", "0", "--pipeline", str(text_to_image)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("http://127.0.0.1:"), line
        yield line
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if "playwright" in MISSING or BROWSER is None:
        pytest.skip("no browser to test the page in: apt-get install chromium, pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # As root there is no sandbox to be had.
        launched = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def window(browser: Any, address: str, tmp_path: Path) -> Iterator[Any]:
    """A function that opens a window of its own: another visitor."""
    opened = []

    def new(width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(300_000)  # the machine may have other things to do
        opened.append(context)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(f"error: {error}"))
        page.goto(address)
        page.wait_for_selector("#levels-plot")
        page.asked = asked
        return page

    yield new
    for context in opened:
        context.close()
