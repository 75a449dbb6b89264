"""The book: complete, described, whole by itself, and alive in a browser that opens it from disk.

It is built once for all of these tests. Those at the end need an installed Chromium, as tests/test_browser.py does.
"""

from __future__ import annotations

import json
import re
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.notebook_book import load_tool

for needed in ("sphinx", "myst_nb", "furo", "sphinx_copybutton"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: make install")

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "book"))

import book_extension  # noqa: E402

COMPARE = ROOT / "book" / "_static" / "compare"
VOID = {"a": "href", "img": "src", "script": "src", "link": "href", "source": "src"}

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What the tests ask of a page: its elements with their attributes, and its ids."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.text = path, path.read_text("utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(self.text)
        self.ids = {attributes.get("id") for _, attributes in self.elements}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None]]]:
        return [element for element in self.elements if element[0] in tags]


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh build, which had nothing to complain of; a page that was built goes with it."""
    out, web = (tmp_path_factory.mktemp(name) for name in ("book", "web"))
    (web / "index.html").write_text("<title>a photo in a link</title>")
    arguments = ["-o", str(out / "html"), "--web", str(web)]
    assert load_tool("make_book").main(arguments) == 0, "Sphinx warned, see above"
    assert (out / "html" / "web" / "index.html").is_file()
    return out / "html"


@pytest.fixture(scope="session")
def pages(book: Path) -> dict[str, Page]:
    """Path below the book's folder -> page."""
    return {str(p.relative_to(book)): Page(p) for p in sorted(book.rglob("*.html"))}


# The pages as built -------------------------------------------------------------------------------


def test_everything_has_its_page(pages: dict[str, Page]) -> None:
    notebooks = [f"notebooks/{p.stem}.html" for p in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    documents = [f"docs/{p.stem}.html" for p in (ROOT / "docs").glob("*.md")]
    others = ["index.html", "compare.html", "using.html", "search.html", "CHANGELOG.html"]
    card = "sketchfusion_lite/weights/MODEL_CARD.html"
    assert {*notebooks, *documents, *others, card} <= set(pages)
    index = pages["index.html"].text
    shown = re.findall(r'href="(notebooks/[^"#]+)"', index)
    assert list(dict.fromkeys(shown)) == notebooks, "not all, or out of order"
    text = re.sub(r"<[^>]+>", "", index)
    assert "00 · Tour" in text and ": Take the codec" in text and "list of notebooks" not in text


def test_pages_ask_for_nothing_from_elsewhere(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for tag, attributes in page.all("script", "link", "img", "source", "iframe", "video"):
            address = attributes.get(VOID.get(tag, "src")) or ""
            assert urlsplit(address).scheme in ("", "data"), f"{name}: <{tag}> {address}"
            assert not address.startswith("//"), f"{name}: <{tag}> {address}"
        assert not re.search(r"cdnjs|jsdelivr|unpkg|googleapis|require\.min\.js|thebe", page.text)
    for sheet in pages["index.html"].path.parent.rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import )\s*[\"']?([^\"')\s]+)", sheet.read_text()):
            assert urlsplit(address).scheme in ("", "data"), f"{sheet.name}: {address}"


def test_links_lead_somewhere(book: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for tag, attributes in page.all(*VOID):
            address, anchor = urldefrag(attributes.get(VOID[tag]) or "")
            if urlsplit(address).scheme or name in ("search.html", "genindex.html"):
                continue
            address = unquote(address.partition("?")[0])
            target = (page.path.parent / (address or page.path.name)).resolve()
            assert target.is_file() and target.is_relative_to(book), f"{name}: {address}"
            if tag == "a" and anchor:
                there = pages[str(target.relative_to(book))]
                assert unquote(anchor) in there.ids, f"{name}: {address}#{anchor}"


def test_pictures_are_described(pages: dict[str, Page]) -> None:
    """With the alt texts of the notebooks' outputs; of a widget its static twin stays."""
    alts = {n: {a.get("alt") or "" for _, a in page.all("img")} for n, page in pages.items()}
    assert all(len(alt.strip()) > 3 for shown in alts.values() for alt in shown)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        kinds = [kind for output in outputs for kind in output.get("metadata", {}).items()]
        wanted = {about["alt"] for kind, about in kinds if kind.startswith("image/")}
        assert wanted and wanted <= alts[f"notebooks/{path.stem}.html"]
    page = pages["notebooks/10_explorer.html"]
    assert "widget-view" not in page.text and "Explorer(" not in page.text.split("static_view")[1]
    assert page.text.count('class="skf-ba"') >= 2


def test_formulas_have_their_script(book: Path, pages: dict[str, Page]) -> None:
    script = re.compile(r'src="([./]*_static/tex-svg\.js)')
    with_formulas = [p for p in pages.values() if "math notranslate" in p.text]
    assert len(with_formulas) >= len(list((ROOT / "notebooks").glob("*.ipynb")))
    for page in with_formulas:
        found = script.search(page.text)
        assert found and (page.path.parent / found[1]).is_file()
    assert not (book / "_static" / "mathjax").exists(), "24 MB of which one file is used"


def test_reference_has_every_module(pages: dict[str, Page]) -> None:
    shown = {i for name, page in pages.items() if name.startswith("api/") for i in page.ids if i}
    packages = ("sketchfusion_lite", "sketchfusion_workbook")
    for path in (path for name in packages for path in (ROOT / name).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if any(part.startswith("_") for part in parts[1:]) or "cli" in parts:
            continue
        assert f"module-{'.'.join(parts)}" in shown, path
    names = ("codec.load_codec", "codec.SketchFusionCodec.encode", "results.Encoded.save")
    assert {f"sketchfusion_lite.{name}" for name in names} <= shown
    assert "sketchfusion_lite.codec.Encoded" not in shown, "described twice"
    assert not [i for i in shown if re.search(r"\._[a-z]", i)], "private names"
    order = re.findall(
        r'href="sketchfusion_lite/[\w.]+#module-sketchfusion_lite\.(\w+)"',
        pages["api/index.html"].text,
    )
    assert order[:4] == ["images", "cues", "sketch", "entropy"] and order[-1] == "codec"
    names = ("sketchfusion_lite/sketchfusion_lite.codec", "commands")
    codec, commands = (re.sub(r"<[^>]+>", "", pages[f"api/{name}.html"].text) for name in names)
    assert "max_bytes: int | None" in codec and "Compress a photo" in codec
    assert "BudgetTooSmall" in codec
    for command in ("encode", "decode", "info", "evaluate", "train", "explore"):
        assert f"sketchfusion {command}" in commands


def test_search_index_knows_notebooks_and_names(book: Path) -> None:
    text = (book / "searchindex.js").read_text("utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    where = [index[terms].get("checkerboard", []) for terms in ("terms", "titleterms")]
    numbers = [n for found in where for n in ([found] if isinstance(found, int) else found)]
    documents = {index["docnames"][n] for n in numbers}
    assert "notebooks/03_entropy_coding" in documents
    assert "load_codec" in json.dumps(index["objects"])


def test_the_dividers_compare_the_shipped_model(shipped_codec, pages: dict[str, Page]) -> None:
    page, manifest = pages["compare.html"], json.loads((COMPARE / "pictures.json").read_text())
    assert page.text.count('class="ba-all"') == len(manifest["photos"]) >= 2
    for photo in manifest["photos"].values():
        assert {"Photo", "Preview", "Refined", "Sketch"} <= {p["label"] for p in photo["pictures"]}
        for picture in photo["pictures"]:
            assert (COMPARE / picture["file"]).is_file() and picture["file"] in page.text
            assert picture["alt"] in unescape(page.text)
    assert manifest["model_id"] == f"{shipped_codec.model_id:#06x}", (
        "made with other weights; run: python tools/make_book_pictures.py"
    )
    assert sum(path.stat().st_size for path in COMPARE.iterdir()) < 400_000


# Its parts ----------------------------------------------------------------------------------------


def test_drawings_become_literal_and_references_a_list() -> None:
    drawn = "Sum.||    a --> b|     (1)||More.||References|    [1] A,|        B."
    wanted = "Sum.||.. code-block:: text||        a --> b|         (1)||More.||"
    wanted += ".. rubric:: References||* [1] A, B.|"
    assert book_extension.marked_up(drawn.split("|")) == wanted.split("|")
    other = ["Sum.", "", "Args:", "    a: one", "", "    of two paragraphs", "", ">>> f(1)", ""]
    assert book_extension.marked_up(other) == other


# In a browser -------------------------------------------------------------------------------------


@pytest.fixture
def tab(browser):
    """A page of the browser, which at the end must have asked for files only, and met no error."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(120_000)
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    yield page
    context.close()
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:"))]
    assert not errors


def test_formulas_are_drawn(tab, book: Path) -> None:
    tab.goto((book / "notebooks" / "03_entropy_coding.html").as_uri())
    tab.wait_for_selector("mjx-container svg")
    tab.evaluate("() => MathJax.startup.promise")
    assert tab.locator("mjx-container").count() == tab.locator(".math").count() > 20
    assert tab.locator("[data-mjx-error]").count() == 0
    broken = "() => [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert tab.evaluate(broken) == 0


def test_search_answers_from_disk(tab, book: Path) -> None:
    tab.goto((book / "index.html").as_uri())
    tab.locator(".sidebar-search").fill("checkerboard")
    tab.keyboard.press("Enter")
    # While the list grows, it moves: a click can miss.
    tab.get_by_text("Search finished, found").wait_for()
    found = tab.locator("#search-results li a").evaluate_all("links => links.map(a => a.href)")
    assert any("03_entropy_coding.html" in link for link in found)
    tab.locator("#search-results li a").first.click()
    tab.wait_for_selector("article h1")


def test_divider_moves_by_keyboard(tab, book: Path) -> None:
    tab.goto((book / "compare.html").as_uri())
    frame = tab.locator(".ba").first
    assert frame.locator(".ba-all").is_hidden() and frame.locator(".ba-stage").is_visible()
    divider = frame.get_by_role("slider", name="Divider of the photo coffee")
    divider.scroll_into_view_if_needed()
    before = frame.locator(".ba-stage").screenshot()
    divider.focus()
    for _ in range(20):
        tab.keyboard.press("ArrowRight")
    clip = "e => getComputedStyle(e).clipPath"
    assert "70%" in frame.locator(".ba-over").evaluate(clip)
    assert divider.get_attribute("aria-valuetext").startswith("70 % AVIF")
    assert frame.locator(".ba-stage").screenshot() != before, "the same picture as before"
    frame.locator("select.ba-left").select_option(label="Photo")
    assert "coffee-photo" in frame.locator(".ba-under img").get_attribute("src")
    assert "70%" in frame.locator(".ba-over").evaluate(clip), "the divider jumped"
    box = frame.locator(".ba-stage").bounding_box()
    tab.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    assert 20 <= int(divider.input_value()) <= 30
    context = tab.context.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((book / "compare.html").as_uri())
    assert page.locator(".ba-all img").first.is_visible(), "side by side without scripts"
    assert page.locator(".ba-stage").count() == 0
    context.close()


@pytest.mark.parametrize(
    "name", ["index", "compare", "notebooks/06_diffusion_refinement", "api/*/*lite.codec"]
)
def test_pages_fit_a_phone(tab, book: Path, name: str) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    (page,) = book.glob(f"{name}.html")
    tab.goto(page.as_uri())
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.evaluate(wide) <= 0, "it scrolls sideways"
