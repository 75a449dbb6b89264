"""What the book adds to Sphinx: pictures side by side, literal drawings in docstrings, no links to nowhere."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PICTURES = Path(__file__).parent / "_static" / "compare" / "pictures.json"
_DRAWN = re.compile(r"-->|<--|--+\+|\+--|[┌├│└─]|^\S.* -> |: .* -> ")
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Examples?|Note|Warns):$")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx, once."""
    app.add_directive("before-after", BeforeAfter)
    app.connect("doctree-read", _links_inside)
    app.connect("autodoc-process-docstring", _process_docstring, priority=400)  # before napoleon
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}


class BeforeAfter(SphinxDirective):
    """``{before-after} NAME``: one photo's pictures side by side; a script puts a divider between two of them."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        photo = json.loads(PICTURES.read_text("utf-8"))["photos"][self.arguments[0]]
        size = f'width="{photo["width"]}" height="{photo["height"]}" loading="lazy"'
        figures = "".join(
            f'<figure><img src="_static/compare/{p["file"]}" alt="{escape(p["alt"])}" {size}>'
            f"<figcaption><strong>{escape(p['label'])}</strong><br>{escape(p['numbers'])}</figcaption></figure>\n"
            for p in photo["pictures"]
        )
        html = (
            f'<div class="ba" data-name="{photo["name"]}" style="--ratio:{photo["width"]}/{photo["height"]}">\n'
            f'<div class="ba-all">{figures}</div>\n<p class="ba-credit">{escape(photo["credit"])}</p>\n</div>'
        )
        return [nodes.raw("", html, format="html")]


def _links_inside(app: Sphinx, doctree: nodes.document) -> None:
    """Links to files that are no pages (source code, data, tests) become plain text."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        target = link.get("reftarget", "")
        is_page = target in app.env.found_docs if link["refdomain"] == "doc" else "#" in target
        if link["reftype"] == "myst" and not is_page:
            link.replace_self(link.children)


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
        drawn = [bool(_DRAWN.search(row)) for row in rows]
        drawing = not rows[0].startswith(("*", "..", ">>>")) and (
            2 * sum(drawn) >= len(rows) or (drawn[0] and any(row[:4] == "    " for row in rows))
        )
        if rows[0] == "References":
            items = " ".join(row.strip() for row in rows[1:])
            result += [".. rubric:: References", "", re.sub(r" (?=\[\d)", "\n* ", f" {items}")[1:]]
        elif not in_section and (indented or drawing):
            result += [".. code-block:: text", "", *(f"    {row}" for row in rows)]
        else:
            result += rows
        result.append("")
    return "\n".join(result).split("\n")
