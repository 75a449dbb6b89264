"""Draw docs/architecture.svg: ``python tools/draw_architecture.py``.

Above the signal path, below the layers out of ``[tool.importlinter]`` in pyproject.toml; a test compares the file.
"""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "architecture.svg"
WIDTH, LEFT, COLUMN, ROW, BOX = 900, 26, 146, 92, (118, 50)

# (column, row): what is there, and the module that makes it.
BOXES = {
    (0, 0): ("photo", "images"),
    (1, 0): ("boundaries", "cues"),
    (2, 0): ("latent y", "sketch"),
    (3, 0): ("symbols", "coding"),
    (4, 0): ("words", "rans"),
    (5, 0): ("pack", "bitstream"),
    (2, 1): ("quality", "rate_search"),
    (3, 1): ("likelihoods", "integer"),
    (5, 1): ("photo.skf", ""),
    (0, 2): ("refined", "refiner"),
    (1, 2): ("preview", "preview"),
    (2, 2): ("latent y_hat", "signal_path"),
    (3, 2): ("symbols", "coding"),
    (4, 2): ("words", "rans"),
    (5, 2): ("parse", "bitstream"),
    (2, 3): ("line sketch", "sketch"),
}
ARROWS = [((c, 0), (c + 1, 0)) for c in range(5)] + [((c + 1, 2), (c, 2)) for c in range(5)]
ARROWS += [((5, 0), (5, 1)), ((5, 1), (5, 2)), ((2, 1), (2, 0)), ((2, 2), (2, 3))]
ARROWS += [((3, 1), (3, 0)), ((3, 1), (3, 2))]

STYLE = """
:root { --paper: #fff; --ink: #1f2328; --soft: #656d76; --fill: #eef4fb; --line: #4a78b0; --file: #f6e3c5 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16191d; --ink: #e6edf3; --soft: #9aa4ae; --fill: #1d2a3a; --line: #6ea3dd; --file: #4d3a1c }
}
text { font: 14px sans-serif; fill: var(--ink); text-anchor: middle }
.module { font: 12px monospace; fill: var(--soft) }
.title { font-weight: bold; text-anchor: start }
.paper { fill: var(--paper) }
.box { fill: var(--fill); stroke: var(--line) }
.file { fill: var(--file); stroke: var(--line) }
.arrow { stroke: var(--line); stroke-width: 1.5; marker-end: url(#head) }
#head path { fill: var(--line) }
"""


def layers() -> list[str]:
    """From the command line down to the errors, the workbook on top of all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    workbook, codec = project["tool"]["importlinter"]["contracts"]
    return [workbook["layers"][0], *codec["layers"]]


def box(place: tuple[int, int], name: str, module: str) -> str:
    x, y = LEFT + place[0] * COLUMN, 48 + place[1] * ROW
    kind, middle = "box" if module else "file", x + BOX[0] / 2
    below = f"{module}.py" if module else "the bytes"
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="5"/>'
        f'<text x="{middle}" y="{y + 21}">{name}</text>'
        f'<text class="module" x="{middle}" y="{y + 39}">{below}</text>'
    )


def arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """From the edge of one box to the edge of a neighbour."""
    right, down = end[0] - start[0], end[1] - start[1]
    ends = []
    for (column, row), side in ((start, 1), (end, -1)):
        x = LEFT + column * COLUMN + BOX[0] / 2 + side * right * (BOX[0] / 2 + 3)
        y = 48 + row * ROW + BOX[1] / 2 + side * down * (BOX[1] / 2 + 3)
        ends.append((x, y))
    (x1, y1), (x2, y2) = ends
    return f'<line class="arrow" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def drawing() -> str:
    """The picture as text."""
    top, step, width = 436, 25, WIDTH - 2 * LEFT
    height = top + len(layers()) * step + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>The signal path, and the layers of imports</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="{LEFT}" y="30">Sender</text>',
        f'<text class="title" x="{LEFT}" y="{30 + 2 * ROW}">Receiver</text>',
        f'<text class="title" x="{LEFT}" y="{top - 14}">Who imports whom: only downwards</text>',
        *(box(place, *labels) for place, labels in BOXES.items()),
        *(arrow(*ends) for ends in ARROWS),
    ]
    for number, layer in enumerate(layers()):
        y = top + number * step
        parts.append(
            f'<rect class="{"box" if number else "file"}" x="{LEFT}" y="{y}" width="{width}" height="21" rx="4"/>'
            f'<text x="{WIDTH / 2}" y="{y + 15}">{escape(layer.replace("|", "·"))}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    TARGET.write_text(drawing(), encoding="utf-8")
