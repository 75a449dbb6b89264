"""Draw docs/architecture.svg: ``python tools/draw_architecture.py``.

Above the signal path, below the layers out of ``[tool.importlinter]`` in pyproject.toml; a test compares the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from sketchfusion_workbook.viz.svg import Box, draw, label, link

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
SIDES = {  # leaving, and entered, by the direction
    (1, 0): ("right", "left"),
    (-1, 0): ("left", "right"),
    (0, 1): ("bottom", "top"),
    (0, -1): ("top", "bottom"),
}


def layers() -> list[str]:
    """From the command line down to the errors, the workbook on top of all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    workbook, codec = project["tool"]["importlinter"]["contracts"]
    return [workbook["layers"][0], *codec["layers"]]


def drawing() -> str:
    """The picture as text."""
    top, step, boxes = 436, 25, {}
    for (column, row), (name, module) in BOXES.items():
        kind, below = ("box", f"{module}.py") if module else ("file", "the bytes")
        x, y = LEFT + column * COLUMN, 48 + row * ROW
        boxes[column, row] = Box(x, y, name, [below], kind, *BOX, "code")
    parts = [
        label((LEFT, 30), "Sender", "title"),
        label((LEFT, 30 + 2 * ROW), "Receiver", "title"),
        label((LEFT, top - 14), "Who imports whom: only downwards", "title"),
        *map(str, boxes.values()),
    ]
    for start, end in ARROWS:
        sides = SIDES[end[0] - start[0], end[1] - start[1]]
        parts.append(link(boxes[start], sides[0], boxes[end], sides[1]))
    for number, layer in enumerate(layers()):
        kind, y = "box" if number else "file", top + number * step
        words = layer.replace("|", "·")
        parts.append(str(Box(LEFT, y, words, kind=kind, width=WIDTH - 2 * LEFT, height=21)))
    alt = "The signal path, and the layers of imports"
    return draw(parts, top + len(layers()) * step + 14, alt, WIDTH, 1).svg


if __name__ == "__main__":
    TARGET.write_text(drawing(), encoding="utf-8")
