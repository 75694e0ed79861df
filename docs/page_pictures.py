"""Take the pictures of `kdpm2 ui` and `kdpm2 grid`. It needs a Chromium, for instance that of Debian's packages."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

FIGURES = Path(__file__).parent / "figures"
GRIDS = {
    "choosing_grid.png": [
        *["--x", "eta=0,0.3,0.6,1", "--y", "steps=4,6,10"],
        *["--labels", "face,vehicle,heart,flag", "--sigmas", "plain"],
    ],
    "choosing_levels.png": [
        *["--x", "sigmas=plain,karras,exponential,beta", "--y", "discard_next_to_last_sigma=false,true"],
        *["--steps", "5", "--eta", "0.5", "--labels", "face,person,plant,heart"],
    ],
}


def grids() -> None:
    """The grids of choosing.md, by the commands that stand there."""
    for name, arguments in GRIDS.items():
        command = [sys.executable, "-m", "kdpm2", "grid", *arguments, "--output", str(FIGURES / name), "--force"]
        subprocess.run(command, check=True)


def drawn(page: Any) -> None:
    """Two configurations, one of them drawn."""
    page.locator("#set-steps input[type=number]").fill("8")
    page.click("#pin")
    page.get_by_label("Noise curve", exact=True).click()
    page.get_by_role("option", name="exponential", exact=True).click()
    page.wait_for_selector("#levels-plot[aria-label*='before']")
    page.click("#draw")
    page.locator("#status").filter(has_text="pictures in").wait_for()


def grid(page: Any) -> None:
    """A grid of nine cells."""
    page.get_by_role("tab", name="Grid").click()
    page.click("#draw-grid")
    page.locator("#grid-status").filter(has_text="Network calls").wait_for()
    page.locator("#grid-status").scroll_into_view_if_needed()


def screens(address: str) -> None:
    """The page, wide and narrow."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, size, scheme, use in (
            ("ui_draw.png", (1280, 860), "light", drawn),
            ("ui_narrow.png", (400, 900), "dark", grid),
        ):
            width, height = size
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            context.set_default_timeout(300_000)
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("#levels-plot")
            use(page)
            page.wait_for_timeout(2000)  # pictures fade in
            if use is grid:
                page.evaluate("document.querySelector('#x').scrollIntoView()")
            page.screenshot(path=FIGURES / name)
            few_colours(FIGURES / name)
        browser.close()


def few_colours(path: Path) -> None:
    """Write a picture again in 64 colours, which a page has no need of more than."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(64).save(path, optimize=True)


def main() -> None:
    """Write them all."""
    grids()
    command = [sys.executable, "-m", "kdpm2", "ui", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        screens(server.stdout.readline().strip())
        server.terminate()


if __name__ == "__main__":
    main()
