"""What the book adds to Sphinx: alt texts, links that stay inside, dividers.

outputs' alt texts  --> <img alt>; MyST-NB drops them
links to the folder --> pages of the book, or plain text
{before-after}      --> pictures side by side; a script puts a divider between two of them
docstrings' drawings and references --> literal blocks and lists
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any, ClassVar

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

PICTURES = Path(__file__).parents[1] / "_static" / "compare" / "pictures.json"
PAGES = {"README": "index", "sketchfusion_lite": "api/index", "notebooks": "index"}


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, once."""
    app.add_config_value("alt_texts", {}, "env")  # sha256 of a picture -> its alt text
    app.add_transform(LinksInside)
    app.add_transform(AltTexts)
    app.add_directive("before-after", BeforeAfter)
    app.connect("autodoc-skip-member", _skip_imported)
    app.connect("autodoc-process-docstring", _process_docstring, priority=400)  # before napoleon
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# Pictures and links -------------------------------------------------------------------------------


class AltTexts(SphinxTransform):
    """Give pictures of outputs the alt texts that the notebooks hold. MyST-NB names files by hash."""

    default_priority = 400

    def apply(self, **_: Any) -> None:
        for image in self.document.findall(nodes.image):
            stem = PurePosixPath(image["uri"]).stem
            image.setdefault("alt", self.config.alt_texts.get(stem, ""))
            if not image["alt"]:
                logger.warning("picture without alt text: %s", image["uri"], location=image)


class LinksInside(SphinxTransform):
    """Links to files: to their page if the book has one, else plain text."""

    default_priority = 400

    def apply(self, **_: Any) -> None:
        for link in list(self.document.findall(self._leads_outside)):
            target, _, anchor = link["reftarget"].partition("#")
            if link.get("refdomain") != "doc":  # else from the top already, without its suffix
                target = normpath(str(PurePosixPath(self.env.docname).parent / target))
            page = PAGES.get(target.removesuffix(".md"))
            if page is None:
                link.replace_self(nodes.inline("", "", *link.children))
                continue
            link["refdomain"], link["reftarget"] = "doc", page
            link["reftargetid"] = anchor or None

    def _leads_outside(self, node: nodes.Node) -> bool:
        if not isinstance(node, addnodes.pending_xref | addnodes.download_reference):
            return False
        if node.get("reftype") != "myst" or node["reftarget"].startswith("#"):
            return False
        return node.get("refdomain") != "doc" or node["reftarget"] not in self.env.found_docs


# Before and after ---------------------------------------------------------------------------------


class BeforeAfter(SphinxDirective):
    """``{before-after} NAME``: one photo's pictures out of ``_static/compare/pictures.json``."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        """The pictures side by side, and a frame with a divider that waits for its script."""
        manifest = json.loads(PICTURES.read_text("utf-8"))
        self.env.note_dependency(str(PICTURES))
        static = relpath("_static/compare", str(PurePosixPath(self.env.docname).parent))
        html = before_after(manifest["photos"][self.arguments[0]], static)
        return [nodes.raw("", html, format="html")]


def before_after(photo: dict[str, Any], folder: str) -> str:
    """HTML of one photo's frame.

    Args:
        photo: ``name``, ``width``, ``height``, ``credit`` and ``pictures``, each of these with ``file``,
            ``label``, ``alt``, ``numbers``.
        folder: where the files lie, seen from the page.
    """
    name, pictures = photo["name"], photo["pictures"]
    size = f'width="{photo["width"]}" height="{photo["height"]}"'
    ratio = f"--ratio:{photo['width']}/{photo['height']}"
    first, last = 1, len(pictures) - 1  # what is compared to begin with
    left, right = pictures[first]["label"], pictures[last]["label"]

    def choice(side: str, chosen: int) -> str:
        options = "".join(
            f'<option value="{n}"{" selected" if n == chosen else ""}>{escape(p["label"])}</option>'
            for n, p in enumerate(pictures)
        )
        label = f"{side.capitalize()} of the divider"
        return f'<label>{label} <select class="ba-{side}">{options}</select></label>'

    figures = "".join(
        f'<figure><img src="{folder}/{p["file"]}" alt="{escape(p["alt"])}" {size} loading="lazy">'
        f"<figcaption><strong>{escape(p['label'])}</strong><br>{escape(p['numbers'])}</figcaption></figure>"
        for p in pictures
    )
    return (
        f'<div class="ba" id="ba-{escape(name)}" style="{ratio}">\n'
        f'<div class="ba-frame" hidden>\n<div class="ba-choices">{choice("left", first)}{choice("right", last)}</div>\n'
        f'<div class="ba-stage"><div class="ba-under"></div><div class="ba-over"></div><span class="ba-line"></span>'
        f'<input class="ba-range" type="range" min="0" max="100" value="50" step="1" '
        f'aria-label="Divider of the photo {escape(name)}" '
        f'aria-valuetext="50 % {escape(left)}, 50 % {escape(right)}"></div>\n'
        f'<p class="ba-numbers" aria-live="polite"></p>\n</div>\n'
        f'<div class="ba-all">{figures}</div>\n<p class="ba-credit">{escape(photo["credit"])}</p>\n</div>\n'
    )


# The library's text -------------------------------------------------------------------------------

_DRAWN = re.compile(r"-->|<--|--+\+|\+--|[┌├│└─]|^\S.* -> |: .* -> ")
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Example|Examples|Note|Warns):$")


def _skip_imported(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """What a module hands on from another one is described there only; None leaves it to autodoc."""
    home = getattr(obj, "__module__", None) if what == "module" else None
    here = app.env.temp_data.get("autodoc:module")
    elsewhere = home and here and home != here and home.startswith("sketchfusion_")
    return True if elsewhere else None


def _process_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = marked_up(lines)


def marked_up(lines: list[str]) -> list[str]:
    """A docstring with its drawings marked as literal, and its ``References`` as a list.

    Text that is indented outside a section (``Args:``) is a drawing, and so is what holds arrows or box lines.
    """
    result: list[str] = []
    in_section = False
    for block in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines).strip("\n")):
        rows = block.split("\n")
        indented = rows[0].startswith(" ")
        in_section = bool(_SECTION.match(rows[0])) or (in_section and indented)
        if rows[0] == "References":
            result += [".. rubric:: References", "", *_references(rows[1:])]
        elif rows[0].startswith(">>>") or in_section:
            result += rows
        elif indented or _is_drawing(rows):
            result += [".. code-block:: text", "", *(f"    {row}" for row in rows)]
        else:
            result += rows
        result.append("")
    return result


def _is_drawing(rows: list[str]) -> bool:
    if rows[0].startswith(("*", "..")):  # a list, a directive
        return False
    drawn = [bool(_DRAWN.search(row)) for row in rows]
    return 2 * sum(drawn) >= len(rows) or (drawn[0] and any(row.startswith("    ") for row in rows))


def _references(rows: list[str]) -> list[str]:
    """``[1] He et al., ...`` with its continuation lines -> one item of a list each."""
    items: list[str] = []
    for row in rows:
        text = row.strip()
        if text.startswith("["):
            items.append(f"* {text}")
        elif items:
            items[-1] += f" {text}"
    return items
