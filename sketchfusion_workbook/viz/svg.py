"""Drawings of boxes and arrows, as SVG text: the engine of :mod:`.drawings` and of ``docs/architecture.svg``.

    Box(...), link(...), label(...) --> parts --> Drawing --show(...)--> a picture that is dark where the page is

Text stays text. All lengths are in units of the drawing, a little less than pixels; :data:`WIDTH` is small, so that the
text can be read on a phone, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["WIDTH", "Box", "Drawing", "Point", "arrow", "draw", "grid", "label", "link"]

WIDTH = 440
Point = tuple[float, float]

STYLE = """
.drawing {
  --paper: #fff; --ink: #1f2328; --soft: #59636e; --fill: #eef4fb; --line: #3f6ea6; --file: #f6e3c5;
  --here: #ffd76a
}
@media (prefers-color-scheme: dark) {
  .drawing {
    --paper: #16191d; --ink: #e6edf3; --soft: #b3bcc5; --fill: #1d2a3a; --line: #6ea3dd; --file: #4d3a1c;
    --here: #6b5200
  }
}
.drawing text { font: 13px sans-serif; fill: var(--soft); text-anchor: middle }
.drawing .name { font-size: 14px; fill: var(--ink) }
.drawing .title { font-size: 14px; font-weight: bold; fill: var(--ink); text-anchor: start }
.drawing .left { text-anchor: start }
.drawing .tag { font-size: 11px; font-weight: bold; fill: var(--ink) }
.drawing .code { font: 12px monospace }
.drawing .paper { fill: var(--paper) }
.drawing .box { fill: var(--fill); stroke: var(--line) }
.drawing .file { fill: var(--file); stroke: var(--line) }
.drawing .here { fill: var(--here); stroke: var(--ink); stroke-width: 2.5 }
.drawing .pill { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5 }
.drawing .empty { fill: var(--paper); stroke: var(--soft) }
.drawing .known { fill: var(--line); stroke: var(--soft); fill-opacity: 0.45 }
.drawing .dot { fill: var(--ink) }
.drawing .arrow { fill: none; stroke: var(--line); stroke-width: 1.5; marker-end: url(#head) }
.drawing .plain { fill: none; stroke: var(--line); stroke-width: 1.5 }
.drawing marker path { fill: var(--line) }
"""
HEAD = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z"/></marker></defs>'
)


@dataclass(frozen=True)
class Drawing:
    """A finished drawing; a notebook shows it.

    Attributes:
        svg: the picture, a whole ``<svg>`` element.
        alt: what a reader who cannot see it should know.
    """

    svg: str
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/svg+xml": self.svg, "text/plain": self.alt}
        return data, {"image/svg+xml": {"alt": self.alt}}


def draw(
    parts: Iterable[str], height: float, alt: str, width: float = WIDTH, scale: float = 1.15
) -> Drawing:
    """Put parts on paper; later ones lie above.

    Args:
        parts: what the other functions here return.
        height, width: of the paper.
        alt: see :class:`Drawing`; also the title within the picture.
        scale: pixels a unit where there is room for them.
    """
    size = f'width="{width * scale:g}" height="{height * scale:g}"'
    top = f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 {width:g} {height:g}" {size}'
    paper = f'<rect class="paper" width="{width:g}" height="{height:g}"/>'
    lines = [
        f'{top} role="img" aria-label="{escape(alt)}">',
        f"<style>{STYLE}</style>",
        HEAD,
        paper,
    ]
    return Drawing("\n".join([*lines, *parts, "</svg>", ""]), alt)


def label(at: Point, text: str, kind: str = "") -> str:
    """A line of text, centred at ``at`` unless its kind, a class of ``STYLE``, says otherwise."""
    return f'<text class="{kind}" x="{at[0]:g}" y="{at[1]:g}">{escape(text, quote=False)}</text>'


@dataclass(frozen=True)
class Box:
    """A box with its name and, below, small notes.

    Attributes:
        x, y: its left upper corner.
        name: at most about 15 letters for the usual width.
        notes: lines of at most about 18 letters.
        kind: class of the box: ``"box"``, ``"file"`` or ``"here"``.
        width, height: of the frame.
        letters: class of the notes.
    """

    x: float
    y: float
    name: str
    notes: Sequence[str] = ()
    kind: str = "box"
    width: float = 128
    height: float = 62
    letters: str = ""

    def __str__(self) -> str:
        middle, first = self.x + self.width / 2, self.y + self.height / 2 + 5 - 8 * len(self.notes)
        frame = f'x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{self.height:g}"'
        texts = [label((middle, first), self.name, "name")]
        for line, note in enumerate(self.notes, 1):
            texts.append(label((middle, first + 1 + 16 * line), note, self.letters))
        return f'<rect class="{self.kind}" {frame} rx="5"/>{"".join(texts)}'

    def side(self, which: str, shift: float = 0) -> Point:
        """The middle of the ``"left"``, ``"right"``, ``"top"`` or ``"bottom"`` side, or ``shift`` beside it."""
        if which in ("left", "right"):
            x = self.x - 1 if which == "left" else self.x + self.width + 1
            return x, self.y + self.height / 2 + shift
        y = self.y - 1 if which == "top" else self.y + self.height + 1
        return self.x + self.width / 2 + shift, y


def link(start: Box, out: str, end: Box, into: str, shift: float = 0) -> str:
    """An arrow from one side of a box to a side of another one, straight or round a corner.

    Args:
        start, end: the boxes.
        out, into: their sides, see :meth:`Box.side`.
        shift: of its end along that side, and of a straight arrow as a whole.
    """
    flat, turns = (
        out in ("left", "right"),
        (out in ("left", "right")) != (into in ("left", "right")),
    )
    first, last = start.side(out, 0 if turns else shift), end.side(into, shift)
    corner = (last[0], first[1]) if flat else (first[0], last[1])
    return arrow(first, *([corner] if turns else []), last)


def arrow(*points: Point, kind: str = "arrow") -> str:
    """A line through points, with a head at the last one unless ``kind`` is ``"plain"``."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def grid(at: Point, side: float, rows: Sequence[str]) -> str:
    """Squares in rows, one for each letter: ``"#"`` known, ``"o"`` filled with a dot, any other empty.

    Args:
        at: left upper corner.
        side: of a square.
        rows: words of one length.
    """
    parts = []
    for row, letters in enumerate(rows):
        for column, letter in enumerate(letters):
            x, y = at[0] + column * side, at[1] + row * side
            kind = {"#": "known", "o": "here"}.get(letter, "empty")
            frame = f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}"/>'
            dot = f'<circle class="dot" cx="{x + side / 2:g}" cy="{y + side / 2:g}" r="{side / 7:g}"/>'
            parts.append(frame + (dot if letter == "o" else ""))
    return "".join(parts)
