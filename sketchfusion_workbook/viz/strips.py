"""Figures of files: what a photo looks like within the same bytes, and where the bytes go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..lessons.side_by_side import Side
from . import figures
from .figures import WIDTH, Window
from .naming import label

__all__ = ["section_shares", "strip"]


@figures._styled
def strip(
    photo: Image.Image,
    sides: Sequence[Side],
    windows: Mapping[str, Window],
    title: str = "",
    captions: Mapping[str, str] | None = None,
    budget: int = 0,
) -> Figure:
    """One photo through several codecs within one budget: whole pictures, and below them enlarged crops.

    Args:
        photo: the original.
        sides: from :func:`..lessons.side_by_side.side_by_side`; one that does not fit says what it needs.
        windows: what a window shows -> where it is.
        title: the finding; empty computes it from LPIPS-Alex, where it was measured.
        captions: codec -> name to print; the others get :func:`.naming.label`.
        budget: in bytes, which the title names; 0 for the largest file's size.
    """
    columns = [("the photo", photo, f"raw {3 * photo.width * photo.height:,} B\n")]
    for side in sides:
        name = (captions or {}).get(side.codec) or _name(side)
        picture = side.coded.image if side.coded else Image.new("L", photo.size, 225)
        columns.append((name, picture, _facts(side)))
    heights = [photo.height / photo.width]
    heights += [(bottom - top) / (right - left) for left, top, right, bottom in windows.values()]
    cell = WIDTH / len(columns)
    alt = "Columns: " + "; ".join(
        f"{name}: {facts}".replace("\n", ", ") for name, _, facts in columns
    )
    alt += f". Rows: the whole picture; {'; '.join(windows)}."
    figure = figures._figure(
        (cell - 0.1) * sum(heights) + 0.75 + 0.2 * len(heights),
        title or _strip_title(sides, budget),
        alt,
    )
    grid = figure.subplots(len(heights), len(columns), height_ratios=heights, squeeze=False)
    for column, (name, picture, facts) in enumerate(columns):
        figures._picture(grid[0, column], picture, f"{name}\n{facts}")
        grid[0, column].title.set_fontsize(8.5)
        for row, (what, window) in enumerate(windows.items(), start=1):
            figures._outline(grid[0, column], window, str(row) if len(windows) > 1 else "")
            figures._picture(grid[row, column], picture.crop(window), "" if column else what)
    return figure


@figures._styled
def section_shares(sections: Mapping[float, Mapping[str, int]], title: str = "") -> Figure:
    """Where the bytes of files at several rates go.

    Args:
        sections: rate in bits per pixel -> ``StreamInfo.section_bytes``.
        title: the finding; empty computes it.
    """
    rates = sorted(sections)
    totals = {rate: sum(sections[rate].values()) for rate in rates}
    shares = {r: {n: count / totals[r] for n, count in sections[r].items()} for r in rates}
    first, last = rates[0], rates[-1]
    if not title:
        fixed = [shares[rate]["header"] + shares[rate]["crc"] for rate in (first, last)]
        title = (
            f"Tone: {shares[first]['tone']:.0%} of the file at {first:.3g} bpp, {shares[last]['tone']:.0%} at "
            f"{last:.3g}; header and checksums: {fixed[0]:.1%} and {fixed[1]:.1%}"
        )
    alt = "Stacked bars of bytes: " + "; ".join(
        f"{rate:g} bpp: "
        + ", ".join(f"{figures.MEANING[n]} {c}" for n, c in sections[rate].items())
        for rate in rates
    )
    figure = figures._figure(0.42 * len(rates) + 1.3, title, f"{alt}.")
    axes = figure.subplots()
    left = np.zeros(len(rates))
    for name in sections[first]:
        style = {
            "color": figures.COLOURS[name],
            "hatch": figures.HATCHES[name],
            "edgecolor": "white",
        }
        counts = np.array([sections[rate][name] for rate in rates], dtype=float)
        axes.barh(
            range(len(rates)), counts, left=left, height=0.68, label=figures.MEANING[name], **style
        )
        for place, rate in enumerate(rates):
            if counts[place] > 0.05 * max(totals.values()):
                _note(axes, left[place] + counts[place] / 2, place, f"{shares[rate][name]:.0%}")
        left += counts
    axes.set_yticks(range(len(rates)), [f"{rate:g} bpp" for rate in rates])
    axes.set_xlabel("bytes of the file")
    axes.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    sns.despine(ax=axes, left=True)
    return figure


# --------------------------------------------------------------------------------------------------
# Parts


def _name(side: Side) -> str:
    """The label; where the codec chose a size for the budget, that size."""
    name, scale = label(side.codec), side.coded.scale if side.coded else 1
    chosen = "" if scale == 1 else f" at 1/{round(1 / scale)} size"
    return name.replace(", size chosen", chosen)


def _facts(side: Side) -> str:
    """Bytes and quality below a name, two lines."""
    if side.coded is None:
        return f"does not fit:\nneeds {side.needed_bytes:,} B"
    known = side.metrics.as_dict()
    shown = {"psnr": "{:.2f} dB", "lpips_alex": "LPIPS {:.3f}", "dists": "DISTS {:.3f}"}
    quality = [text.format(known[m]) for m, text in shown.items() if not math.isnan(known[m])]
    return f"{len(side.coded.data):,} B\n{' · '.join(quality[:2])}"


def _strip_title(sides: Sequence[Side], budget: int) -> str:
    budget = budget or max((len(side.coded.data) for side in sides if side.coded), default=0)
    found = {s.codec: s.metrics.lpips_alex for s in sides if not math.isnan(s.metrics.lpips_alex)}
    if not found:
        return "The same photo within the same bytes"
    best = min(found, key=found.__getitem__)
    winner = label(best).replace(", size chosen", "")
    return f"Within {budget:,} bytes {winner} has the lowest LPIPS-Alex, {found[best]:.3f}"


def _note(axes: Axes, x: float, y: float, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 1.5}
    axes.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)
