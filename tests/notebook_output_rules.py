"""Rules for notebooks as they are committed: executed, described, and fit to be compared."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from typing import Any

from tests.notebook_book import Book, rule, tagged, without_code

CHECK = "nbval-check-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/svg+xml")
ABSOLUTE = re.compile(
    r"(?<![\w.:/~])/(?:home|root|work|tmp|usr|Users|opt|var|mnt)/|[A-Z]:\\\\?Users"
)
ADDRESS = re.compile(r"\bhttps?://(?!www\.w3\.org/)[^\s\"'\\<>)]+")
HOST = re.compile(r"\blocalhost\b|\b(?:\d{1,3}\.){3}\d{1,3}\b")
TAG = re.compile(r"<(?:img|svg)\b[^>]*>")
SHORTEST_ALT = 20


@rule
def executed(book: Book) -> Iterator[str]:
    counts = [cell.execution_count for cell in book.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"run all cells in order from a fresh kernel; counts are {counts}"
    for cell in book.code:
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                shown = output.get("evalue") or output.get("text", "")
                yield f"a cell shows an error or a warning: {shown[:80]!r}"


@rule
def nothing_of_this_machine(book: Book) -> Iterator[str]:
    """No absolute path, no host; no address that code would need a network for."""
    prose = [cell.source for cell in book.node.cells if cell.cell_type != "code"]
    code = [cell.source for cell in book.code]
    for output in book.outputs:
        shown = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
        code.append(json.dumps([output.get("text", ""), shown]))
    code.append(json.dumps(book.node.metadata))
    everything = "\n".join(prose + code)
    if found := ABSOLUTE.search(everything):
        yield f"holds an absolute path: {everything[found.start() : found.start() + 40]!r}"
    names = [platform.node()] if len(platform.node()) >= 8 else []
    if (found := HOST.search(everything)) or any(name in everything for name in names):
        yield f"names a host: {found[0] if found else names[0]}"
    if found := ADDRESS.search("\n".join(code)):
        yield f"code or output has an address, {found[0]}: a notebook must work without a network"


@rule
def alt_texts(book: Book) -> Iterator[str]:
    figures, html = 0, [without_code(book.prose)]
    for output in book.outputs:
        data = output.get("data", {})
        html += [data[kind] for kind in ("text/html", "text/markdown") if kind in data]
        for kind in (k for k in data if k in IMAGES):
            figures += 1
            alt = output.metadata.get(kind, {}).get("alt", "")
            if len(alt) <= SHORTEST_ALT:
                yield f"figure {figures} is not described: alt text {alt!r}"
    for text in html:
        for tag in TAG.findall(text):  # pictures, and drawings that are to be seen
            if not re.search(r"""\b(alt|aria-label)=(["'])(?!\2)|aria-hidden="true\"""", tag):
                yield f"an {tag.split()[0]}> has no alt text"
        if re.search(r"!\[\s*\]\(", without_code(text)):
            yield "a Markdown picture has no alt text"
    if figures < 3:
        yield f"shows {figures} figures, at least 3 are wanted"


@rule
def widgets(book: Book) -> Iterator[str]:
    """A page without a kernel shows the same: in the widget's own cell, or in the next one."""
    for i, cell in enumerate(book.code):
        if any(WIDGET in output.get("data", {}) for output in cell.outputs):
            shown = [o.get("data", {}) for c in book.code[i : i + 2] for o in c.outputs]
            static = [d for d in shown if WIDGET not in d and {"text/html", *IMAGES} & set(d)]
            if not static:
                yield f"the widget of code cell {i + 1} is not followed by a static picture of it"


@rule
def checked_outputs(book: Book) -> Iterator[str]:
    """Cells that nbval compares: what they show is the same on every machine."""
    cells = [cell for cell in book.code if tagged(cell, CHECK)]
    if len(cells) < 2:
        yield f"{len(cells)} cells are tagged {CHECK!r}; tag at least 2 that print the same everywhere"
    for cell in cells:
        if not cell.outputs:
            yield f"a cell tagged {CHECK!r} shows nothing: {first_line(cell)}"
        for output in cell.outputs:
            data = output.get("data", {})
            if output.get("name") != "stdout" and not {*data} <= {"text/plain", "text/markdown"}:
                yield f"a cell tagged {CHECK!r} shows more than text: {first_line(cell)}"
            elif re.search(r" at 0x[0-9a-f]{6,}", json.dumps([output.get("text", ""), data])):
                yield f"a cell tagged {CHECK!r} shows an address in memory: {first_line(cell)}"


def first_line(cell: Any) -> str:
    return repr(cell.source.partition("\n")[0][:60])
