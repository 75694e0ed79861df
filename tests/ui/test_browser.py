"""The page in a real browser, as a person uses it."""

import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kdpm2.cli import app

pytestmark = pytest.mark.slow


def until(page: Any, selector: str, words: str) -> str:
    """What stands there, once it has the words."""
    page.locator(selector).filter(has_text=words).wait_for()
    return str(page.inner_text(selector))


def set_number(page: Any, selector: str, value: float) -> None:
    box = page.locator(f"{selector} input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def choose(page: Any, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=value, exact=True).click()


def levels(page: Any) -> str:
    return str(page.get_attribute("#levels-plot", "aria-label"))


def holds(page: Any, selector: str, text: str) -> None:
    """Wait for what is to be copied: while settings come in one after another, it is made again for each."""
    page.wait_for_function(
        "([place, text]) => document.querySelector(place)?.innerText.replaceAll('\\n', '') === text",
        arg=[f"{selector} .cm-content", text],
    )


def changed(page: Any, before: str) -> str:
    page.wait_for_function(
        "before => document.querySelector('#levels-plot').getAttribute('aria-label') !== before", arg=before
    )
    return levels(page)


def downloaded(page: Any, selector: str, to: Path) -> Path:
    with page.expect_download() as waiting:
        page.click(selector)
    waiting.value.save_as(to)
    return to


def stop(page: Any) -> None:
    """Press Escape, and again if nothing happens, as one does on a busy machine."""
    for _ in range(60):
        page.keyboard.press("Escape")
        page.wait_for_timeout(1000)
        if page.locator("#status").filter(has_text="Stopped after ").count():
            break
    until(page, "#status", "Stopped after ")


def quick(page: Any) -> None:
    """The quicker model, once the page has its settings."""
    choose(page, "Model", "digits")
    page.wait_for_function("document.querySelector('#set-labels textarea, #set-labels input').value.startsWith('0,1')")


def small(page: Any) -> None:
    """Settings that take little time."""
    quick(page)
    set_number(page, "#set-steps", 4)
    set_number(page, "#set-number", 3)
    page.fill("#set-labels textarea, #set-labels input", "3,7,1")
    until(page, "#calls", "3 pictures, 7 network calls for each")


def test_the_plot_follows_the_settings_and_nothing_is_asked_of_others(window: Any, address: str) -> None:
    page = window()
    before = levels(page)
    assert before.startswith("settings: 15 network calls, sigma 14.6, ")
    set_number(page, "#set-steps", 5)
    after = changed(page, before)
    assert after.startswith("settings: 9 network calls, sigma 14.6, ")
    page.click("#pin")
    page.wait_for_selector("#levels-plot[aria-label*='before: 9 network calls']")
    same = levels(page)
    choose(page, "Noise curve", "exponential")
    both = changed(page, same).split("; ")
    assert both[1].removeprefix("before: ") == after.removeprefix("settings: ")
    assert both[0].removeprefix("now: ") != both[1].removeprefix("before: ")
    others = [url for url in page.asked if not url.startswith((address, "data:", "blob:"))]
    assert not others


def test_what_is_drawn_is_what_the_command_draws_and_is_dropped_back(window: Any, tmp_path: Path) -> None:
    page = window()
    small(page)
    page.click("#draw")
    until(page, "#status", "3 pictures in ")
    page.wait_for_selector("#strip img")
    sheet = downloaded(page, "#download", tmp_path / "sheet.png")
    text = Image.open(sheet).text["command"]  # type: ignore[attr-defined]
    program, *words = shlex.split(text)
    assert program == "kdpm2"
    assert CliRunner().invoke(app, [*words, "--output", str(tmp_path / "again.png")]).exit_code == 0
    pictures = [np.asarray(Image.open(tmp_path / name), dtype=float) for name in ("sheet.png", "again.png")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    with zipfile.ZipFile(downloaded(page, "#download-singles", tmp_path / "singles.zip")) as archive:
        assert archive.namelist() == ["00000.png", "00001.png", "00002.png"]
        with archive.open("00001.png") as file:
            assert "--seed 1 --labels 7" in Image.open(file).text["command"]  # type: ignore[attr-defined]

    page.get_by_role("tab", name="Copy").click()
    holds(page, "#command", text)
    program_text = page.inner_text("#python .cm-content")
    names: dict[str, Any] = {}
    exec(program_text, names)
    assert len(names["images"]) == 3
    first = names["images"][0].resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(first, dtype=float) - pictures[0][2:66, 2:66]).max() <= 1

    fresh = window()
    fresh.get_by_role("tab", name="Load").click()
    fresh.set_input_files("#drop input[type=file]", str(sheet))
    fresh.wait_for_function("document.querySelector('#set-steps input[type=number]').value === '4'")
    fresh.get_by_role("tab", name="Draw").click()
    until(fresh, "#calls", "3 pictures, 7 network calls for each")
    fresh.get_by_role("tab", name="Copy").click()
    holds(fresh, "#command", text)
    plain = tmp_path / "plain.png"
    Image.new("L", (8, 8)).save(plain)
    fresh.get_by_role("tab", name="Load").click()
    fresh.get_by_label(re.compile("remove|clear", re.IGNORECASE)).first.click()
    fresh.set_input_files("#drop input[type=file]", str(plain))
    until(fresh, "#drop-error", "this file holds no settings of kdpm2")


def test_what_changes_on_the_way_is_shown_and_dropped_back(window: Any, tmp_path: Path) -> None:
    page = window()
    small(page)
    assert page.locator("#set-eta").is_visible()
    page.fill("#set-eta_by_step textarea, #set-eta_by_step input", "value=1,end=0.5")
    page.wait_for_selector("#set-eta", state="hidden")
    page.get_by_text("More options").click()
    page.fill("#set-restarts textarea, #set-restarts input", "2,1")
    until(page, "#error", "sigma_max of restarts must be above sigma_min=2, got 1")
    page.fill("#set-restarts textarea, #set-restarts input", "0.5,4,3,2")
    until(page, "#calls", "3 pictures, 19 network calls for each")
    assert ", 4, " in levels(page)
    page.click("#draw")
    until(page, "#status", "3 pictures in ")
    sheet = downloaded(page, "#download", tmp_path / "sheet.png")
    fresh = window()
    fresh.get_by_role("tab", name="Load").click()
    fresh.set_input_files("#drop input[type=file]", str(sheet))
    fresh.wait_for_selector("#set-eta", state="hidden")
    assert fresh.locator("#set-eta_by_step textarea, #set-eta_by_step input").input_value() == "value=1,end=0.5"
    fresh.get_by_role("tab", name="Draw").click()
    until(fresh, "#calls", "3 pictures, 19 network calls for each")
    fresh.wait_for_selector(f"#levels-plot[aria-label='{levels(page)}']")


def test_long_work_is_stopped_and_the_page_goes_on(window: Any) -> None:
    page = window()
    quick(page)
    set_number(page, "#set-steps", 100)
    set_number(page, "#set-number", 64)
    until(page, "#calls", "64 pictures, 199 network calls for each")
    page.click("#draw")
    until(page, "#status", "of 199 network calls")
    stop(page)
    small(page)
    page.keyboard.press("Control+Enter")
    until(page, "#status", "3 pictures in ")


def test_a_grid_comes_cell_by_cell(window: Any, tmp_path: Path) -> None:
    page = window()
    small(page)
    page.get_by_role("tab", name="Grid").click()
    page.fill("#x-values textarea, #x-values input", "0,2")
    page.click("#draw-grid")
    until(page, "#grid-status", "eta must be a number from 0 to 1, got 2 (in the cell of eta 2, steps 5)")
    page.fill("#x-values textarea, #x-values input", "0,1")
    page.fill("#y-values textarea, #y-values input", "2,3")
    set_number(page, "#seeds", 1)
    page.click("#draw-grid")
    until(page, "#grid-status", "4 cells. Network calls: 16, ")
    grid = Image.open(downloaded(page, "#download-grid", tmp_path / "grid.png"))
    assert grid.text["command"].startswith("kdpm2 grid --x eta=0,1 --y steps=2,3 --seeds 1 ")  # type: ignore[attr-defined]


def test_a_pipeline_with_prompts(window: Any, text_to_image: Path, tmp_path: Path) -> None:
    page = window()
    assert not page.locator("#set-prompt").is_visible()
    choose(page, "Model", str(text_to_image))
    page.wait_for_function("document.querySelector('#set-number input[type=number]').value === '1'")
    until(page, "#error", "--prompt: this pipeline needs one")
    set_number(page, "#set-steps", 2)
    page.fill("#set-prompt textarea, #set-prompt input", "a cat, at night")
    until(page, "#calls", "1 picture, 3 network calls;")
    page.click("#draw")
    until(page, "#status", "1 picture in ")
    page.wait_for_selector("#strip img")
    sheet = downloaded(page, "#download", tmp_path / "sheet.png")
    words = shlex.split(Image.open(sheet).text["command"])  # type: ignore[attr-defined]
    assert words[words.index("--prompt") + 1] == "a cat, at night"

    page.get_by_role("tab", name="Grid").click()
    choose(page, "Rows: option", "prompt")
    page.fill("#y-values textarea, #y-values input", '"a cat, at night",a dog')
    set_number(page, "#seeds", 1)
    page.click("#draw-grid")
    until(page, "#grid-status", "6 cells. Network calls: 18, ")
    grid = Image.open(downloaded(page, "#download-grid", tmp_path / "grid.png"))
    assert "--y 'prompt=\"a cat, at night\",a dog'" in grid.text["command"]  # type: ignore[attr-defined]

    # What this model alone takes is not asked of another, and is there again later.
    choose(page, "Model", "digits")
    page.wait_for_selector("#set-prompt", state="hidden")
    page.get_by_role("tab", name="Draw").click()
    until(page, "#calls", "8 pictures, 3 network calls for each")
    page.wait_for_selector("#error .wrong", state="detached")
    choose(page, "Model", str(text_to_image))
    until(page, "#calls", "1 picture, 3 network calls;")

    fresh = window()
    fresh.get_by_role("tab", name="Load").click()
    fresh.set_input_files("#drop input[type=file]", str(sheet))
    fresh.wait_for_selector("#set-prompt")
    fresh.get_by_role("tab", name="Copy").click()
    holds(fresh, "#command", shlex.join(words))


def test_a_window_stops_each_of_its_own_works(window: Any) -> None:
    page = window()
    quick(page)
    set_number(page, "#set-steps", 100)
    set_number(page, "#set-number", 100)
    set_number(page, "#set-guidance_scale", 3)  # it may take the machine minutes to get to the stop
    until(page, "#calls", "100 pictures, 199 network calls for each")
    page.click("#draw")
    until(page, "#status", "of 199 network calls")
    page.get_by_role("tab", name="Grid").click()
    page.fill("#x-values textarea, #x-values input", "0,1")
    page.fill("#y-values textarea, #y-values input", "2,3")
    set_number(page, "#seeds", 1)
    page.click("#draw-grid")
    until(page, "#grid-status", "In line")
    page.get_by_role("tab", name="Draw").click()
    stop(page)
    page.get_by_role("tab", name="Grid").click()
    until(page, "#grid-status", "4 cells. ")


def test_two_windows_do_not_mix(window: Any) -> None:
    one, other = window(), window()
    small(one)
    quick(other)
    before = levels(other)
    one.click("#draw")
    until(one, "#status", "3 pictures in ")
    assert levels(other) == before
    assert other.inner_text("#status") == ""
    assert not other.locator("#history img").count()
    # Both at once: each gets its own, and the word to stop reaches that window's work alone.
    set_number(other, "#set-steps", 100)
    set_number(other, "#set-number", 64)
    until(other, "#calls", "64 pictures, 199 network calls for each")
    other.click("#draw")
    until(other, "#status", "of 199 network calls")
    one.click("#draw")
    until(one, "#status", "In line")
    other.click("#stop")
    until(other, "#status", "Stopped after ")
    until(one, "#status", "3 pictures in ")


def test_the_keyboard_passes_by_the_menus(window: Any) -> None:
    page = window()
    page.get_by_label("Model", exact=True).focus()
    page.get_by_role("listbox").wait_for()
    page.keyboard.press("Tab")
    page.get_by_role("listbox").wait_for(state="detached")
    page.get_by_label("Noise curve", exact=True).focus()
    page.get_by_role("option", name="karras", exact=True).wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("listbox").wait_for(state="detached")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Timesteps"
    assert page.get_by_label("Noise curve", exact=True).input_value() == "karras"


def test_the_history_gives_settings_back(window: Any) -> None:
    page = window()
    small(page)
    page.click("#draw")
    until(page, "#status", "3 pictures in ")
    set_number(page, "#set-steps", 6)
    until(page, "#calls", "11 network calls")
    page.locator("#history button:has(img)").first.click()
    until(page, "#calls", "3 pictures, 7 network calls for each")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_nothing_is_wider_than_the_window(window: Any, width: int, scheme: str) -> None:
    page = window(width, 900, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(number) for number in re.findall(r"\d+", background)[:3]]
    assert (sum(channels) < 200) == (scheme == "dark")
    ink = page.evaluate("getComputedStyle(document.querySelector('#levels')).color")
    bright = [int(number) for number in re.findall(r"\d+", ink)[:3]]
    assert (sum(bright) > 400) == (scheme == "dark")


def test_wrong_settings_are_named_and_nothing_is_lost(window: Any) -> None:
    page = window()
    small(page)
    page.fill("#set-labels textarea, #set-labels input", "3,12")
    until(page, "#error", "--labels: each must be from 0 to 9, or any, got '12'")
    assert levels(page).startswith("settings: 7 network calls")
    page.get_by_text("More options").click()
    page.fill("#set-labels textarea, #set-labels input", "3")
    page.fill("#set-others textarea, #set-others input", "--pipeline /etc")
    until(page, "#error", "/etc is not among the models of this page")
    page.fill("#set-others textarea, #set-others input", "--noise brownian")
    page.wait_for_selector("#error .wrong", state="detached")
    page.click("#draw")
    until(page, "#status", "3 pictures in ")
