"""The notebooks as a person meets them: a real Chromium opens JupyterLab and Voilà, moves sliders and looks.

Needs an installed Chromium (on Debian: ``apt-get install chromium``); Playwright drives it and downloads nothing.
Screenshots are left in ``build/screenshots``. A busy machine may take minutes over what an idle one does in seconds:
the limits below are there to end a test that hangs, not to measure.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sketchfusion_lite.links import link

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: make install")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install")
pytest.importorskip("jupyterlab", reason="jupyterlab is not installed: make install")

from nbconvert.preprocessors import ClearOutputPreprocessor  # noqa: E402

ROOT = Path(__file__).parents[1]
SCREENSHOTS = ROOT / "build" / "screenshots"
PATIENCE = float(os.environ.get("SKETCHFUSION_BROWSER_PATIENCE", "900"))  # seconds for one thing

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser, request: pytest.FixtureRequest):
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(PATIENCE * 1000)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    hosts: set[str | None] = set()  # also those that the page's own policy would then refuse
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    yield page
    assert hosts <= {None, "", "127.0.0.1"}, "the page asked another machine for something"
    shoot(page, f"last-of-{request.node.name}")  # after a failure, what was on the screen
    print(*complaints[-20:], sep="\n")
    context.close()


@contextmanager
def served(command: list[str], cwd: Path, address: str) -> Iterator[str]:
    """Run a server until the block ends; yields the address that it printed, found by a pattern."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    more = {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd, env=os.environ | more, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [*map(lines.put, process.stdout)], daemon=True).start()
    said = ""
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(address, said)):
            assert process.poll() is None and time.monotonic() < deadline, said
            with suppress(queue.Empty):
                said += lines.get(timeout=1)
        while True:  # JupyterLab may print its address a moment before it listens
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", urlsplit(found[0]).port), 5).close()
                break
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.1)
        yield found[0]
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def shoot(page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def picture(page) -> str:
    """The address of the right-hand picture: another one whenever it has changed."""
    return page.locator(".widget-vbox.skf-explorer .skf-ba .skf-after img").get_attribute("src")


def until(page, condition: str, *arguments: object) -> None:
    """Wait for a condition in the page, written in JavaScript."""
    page.wait_for_function(condition, arg=list(arguments), timeout=PATIENCE * 1000)


EXPLORER = ".widget-vbox.skf-explorer"
CHANGED = f"([old]) => document.querySelector('{EXPLORER} .skf-ba .skf-after img')?.src !== old"
SAYS = "([words]) => document.querySelector('.skf-status')?.textContent.includes(words)"
DONE = (
    "() => {const t = document.querySelector('.skf-status')?.textContent ?? '';"
    " return t.includes('bytes') && !t.includes('...')}"
)
SPLIT = "e => getComputedStyle(e).getPropertyValue('--split')"
SCROLLED = (
    "() => {const v = document.querySelector('.skf-view');"
    " return [v.scrollWidth - v.clientWidth, v.scrollLeft]}"
)


def drive_the_explorer(page, name: str, folder: Path) -> None:
    """What a visitor does, by mouse and by keyboard; the picture must follow every time."""
    page.wait_for_selector(f"{EXPLORER} .skf-ba .skf-after img")
    until(page, SAYS, "bits per pixel")
    page.locator(EXPLORER).evaluate("element => element.scrollIntoView()")
    shoot(page, f"{name}-1-preview")
    until(page, DONE)
    assert page.locator(".skf-progress").is_hidden(), "a bar of work that has ended"
    shoot(page, f"{name}-2-refined")

    before, status = picture(page), page.locator(".skf-status").text_content()
    page.locator(".skf-rate [role=slider], .skf-rate .noUi-handle").first.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    until(page, CHANGED, before)
    until(page, DONE)
    assert page.locator(".skf-status").text_content() != status, "the rate did not change"
    shoot(page, f"{name}-3-finer")

    before = picture(page)
    page.get_by_role("button", name="sketch", exact=True).click()
    until(page, CHANGED, before)
    frame = page.locator(f"{EXPLORER} .skf-ba")
    page.locator(".skf-divider [role=slider], .skf-divider .noUi-handle").first.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    until(page, "([s]) => eval(s)(document.querySelector('.widget-vbox .skf-ba')) === '30%'", SPLIT)
    shoot(page, f"{name}-4-sketch")

    page.get_by_role("button", name="refined", exact=True).click()
    before = picture(page)
    page.locator(".skf-realism [role=slider], .skf-realism .noUi-handle").first.focus()
    page.keyboard.press("Home")
    until(page, CHANGED, before)
    assert frame.evaluate(SPLIT) == "30%", "the divider jumped"
    box = frame.bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    until(page, "([s]) => eval(s)(document.querySelector('.widget-vbox .skf-ba')) >= '74%'", SPLIT)
    page.mouse.move(2, 2)

    for budget, words in (("20", "needs at least"), ("-5", "-5")):
        page.locator(".skf-bytes input").fill(budget)
        page.keyboard.press("Tab")
        page.locator(".skf-error [role=alert]", has_text=words).wait_for()
    assert page.locator(".skf-bytes input").input_value() == "-5"
    shoot(page, f"{name}-5-error")
    page.locator(".skf-bytes input").fill("2000")
    page.keyboard.press("Tab")
    until(page, SAYS, "of 2,000 bytes")
    until(page, DONE)

    with page.expect_download() as download:
        page.locator("a.skf-save").click()
    assert download.value.suggested_filename == "coffee-2000.skf"
    data = Path(download.value.path()).read_bytes()
    assert data[:1] == b"S" and len(data) <= 2000
    assert not list(folder.glob("*.skf")), "the page wrote a file of its own"
    field = page.get_by_role("textbox", name="Copy link")
    field.click()
    chosen = field.evaluate("e => e.value.slice(e.selectionStart, e.selectionEnd)")
    assert chosen == link(data), "a click does not select the link"
    page.get_by_role("button", name="4:1", exact=True).click()
    until(page, f"() => ({SCROLLED})()[0] > 500")
    page.locator(".skf-stage button").last.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    until(page, f"() => ({SCROLLED})()[1] > 0")
    shoot(page, f"{name}-6-magnified")
    page.get_by_role("button", name="fit", exact=True).click()
    until(page, f"() => ({SCROLLED})()[0] === 0")
    upload_a_photo(page, name)


def fits_its_window(page, name: str) -> None:
    """Nothing to scroll on a laptop or a large screen; on a phone all can be reached, in one column."""
    reach = "e => [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight]"
    for width, height in ((1366, 768), (1920, 1080), (420, 900)):
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            shoot(page, f"{name}-8-{width}-{scheme}")
        for part in ("html", "#rendered_cells", ".skf-side"):
            over = page.locator(part).first.evaluate(reach)
            assert over[0] <= 0 and (width < 800 or over[1] <= 0), (width, part, over)
    last = page.locator(".skf-table").last
    last.scroll_into_view_if_needed()
    box = last.bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900


def upload_a_photo(page, name: str) -> None:
    from sketchfusion_lite.samples import sample_path

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=re.compile("Upload a photo")).click()
    chooser.value.set_files({"name": "mine.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.locator(".skf-error [role=alert]", has_text="mine.png").wait_for()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=re.compile("Upload a photo")).click()
    chooser.value.set_files(sample_path("rocket"))
    until(page, SAYS, "rocket")
    until(page, DONE)
    shoot(page, f"{name}-7-upload")


def test_explorer_in_voila(page, tmp_path: Path):
    pytest.importorskip("voila", reason="voila is not installed: make install")
    command = ["-m", "sketchfusion_lite.cli", "explore", "--no-browser"]
    with served(command, tmp_path, r"http://127\.0\.0\.1:\d+/\?token=\S+") as address:
        page.goto(address.partition("?")[0])
        assert page.locator(EXPLORER).count() == 0, "the page opened without the token"
        page.goto(address)
        drive_the_explorer(page, "voila", tmp_path)
        fits_its_window(page, "voila")


INDICATOR = ".jp-Notebook-ExecutionIndicator"


@pytest.mark.notebook
def test_explorer_in_lab(page, tmp_path: Path):
    """All cells of a copy are run and saved, without outputs to begin with; then its widget is driven."""
    copy = tmp_path / "10_explorer.ipynb"
    notebook = nbformat.read(ROOT / "notebooks" / copy.name, as_version=4)
    ClearOutputPreprocessor().preprocess(notebook, {})
    nbformat.write(notebook, copy)
    last = sum(cell.cell_type == "code" for cell in notebook.cells)
    command = ["-m", "jupyterlab", "--no-browser", "--port=0", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={tmp_path}"]
    with served(command, tmp_path, r"http://127\.0\.0\.1:\d+/lab\?token=\S+") as address:
        page.goto(address.replace("/lab?", f"/lab/tree/{copy.name}?"))
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.get_by_text("| Idle").wait_for()  # cells run before the kernel is there get lost
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_selector(f"{INDICATOR}[data-status=busy]")
        page.wait_for_selector(f"{INDICATOR}[data-status=idle]")
        shoot(page, "lab-0-run")
        page.keyboard.press("Control+s")
        deadline = time.monotonic() + PATIENCE
        while f'"execution_count": {last},' not in (text := copy.read_text("utf-8")):
            assert time.monotonic() < deadline, "not saved"
            time.sleep(1)
        assert '"output_type": "error"' not in text
        drive_the_explorer(page, "lab", tmp_path)
