"""Charts about the refiner: curves, and maps of where it helps.

Same manners as :mod:`.figures`: a title that states the finding, alt text as the figure's label, and no meaning that
rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from .figures import AXES, PALETTE, WIDTH, _bare, _figure, _styled

__all__ = [
    "Curve",
    "dial",
    "lines",
    "local_error",
    "plane",
    "power_spectrum",
    "restored_or_invented",
]

Curve = tuple[Sequence[float], Sequence[float]]

_MARKERS = "osD^vP"


@_styled
def lines(
    curves: Mapping[str, Curve],
    labels: tuple[str, str],
    title: str,
    log: str = "",
    markers: bool = True,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """Curves over a common axis.

    Args:
        curves: name -> (x, y).
        labels: of the two axes, with units.
        title: the finding.
        log: axes on a logarithmic scale, out of ``"x"``, ``"y"``, ``"xy"``.
        markers: mark every point; for curves of few points.
        marks: name -> height of a horizontal line to compare with.
    """
    ends = "; ".join(f"{name} from {y[0]:.3g} to {y[-1]:.3g}" for name, (_, y) in curves.items())
    figure = _figure(2.9, title, f"Curves of {labels[1]} over {labels[0]}: {ends}.")
    axes = figure.subplots()
    for index, (name, (x, y)) in enumerate(curves.items()):
        style = {"color": PALETTE[index % 10], "linestyle": ("-", "--", "-.", ":")[index % 4]}
        axes.plot(x, y, label=name, marker=_MARKERS[index % 6] if markers else None, **style)
    for name, height in (marks or {}).items():
        axes.axhline(height, color="0.35", linestyle=(0, (1, 2)), linewidth=1.4)
        note: dict[str, Any] = {
            "xytext": (3, 2),
            "textcoords": "offset points",
            "fontsize": 8,
            "color": "0.25",
        }
        axes.annotate(name, (0, height), xycoords=("axes fraction", "data"), **note)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.legend(frameon=True, fontsize="small")
    sns.despine(ax=axes)
    return figure


@_styled
def plane(points: Mapping[str, tuple[float, float]], labels: tuple[str, str], title: str) -> Figure:
    """Single points in a plane, each with its name beside it.

    Args:
        points: name -> (x, y).
        labels: of the two axes, with units.
        title: the finding.
    """
    places = "; ".join(f"{name} at {x:.3g}, {y:.3g}" for name, (x, y) in points.items())
    figure = _figure(3.2, title, f"Points of {labels[1]} over {labels[0]}: {places}.")
    axes = figure.subplots()
    for index, (x, y) in enumerate(points.values()):
        axes.plot([x], [y], color=PALETTE[index % 10], marker=_MARKERS[index % 6], markersize=8)
    axes.margins(0.08, 0.15)
    box = figure.get_size_inches() * 72 * (0.9, 0.72)  # about the size of the axes, in points
    spans = [np.subtract(*limits[::-1]) for limits in (axes.get_xlim(), axes.get_ylim())]
    places = np.array(list(points.values())) / spans * box  # (N, 2) in points
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for name, place, point in zip(points, places, points.values(), strict=True):
        left, low = _free_spot(place, 5.4 * len(name), 11.0, taken)
        note: dict[str, Any] = {"xytext": (left, low), "textcoords": "offset points", "fontsize": 9}
        line = {"arrowstyle": "-", "color": "0.6", "lw": 0.7, "shrinkA": 0, "shrinkB": 5}
        axes.annotate(name, point, ha="left", va="bottom", arrowprops=line, **note)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    sns.despine(ax=axes)
    return figure


def _free_spot(
    place: np.ndarray, width: float, height: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Offset of a label from its point, in points, where it covers no other; its box joins the taken ones."""
    candidates = [
        (left, side * distance)
        for distance in (4, 16, 28, 40)
        for side in (1, -1)
        for left in (8, -8 - width, -width / 2)
    ]
    for left, offset in candidates:
        low = offset if offset > 0 else offset - height
        x, y = place[0] + left, place[1] + low
        box = (x, y, x + width, y + height)
        if not any(_overlap(box, other) for other in taken):
            break
    taken.append(box)
    return left, low


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@_styled
def dial(
    points: Sequence[tuple[float, Mapping[str, float]]],
    title: str,
    x: str,
    y: str,
    spans: tuple[float, float] = (0.0, 0.0),
) -> Figure:
    """One metric against another while a dial turns.

    Args:
        points: (setting of the dial, metric -> value).
        title: the finding.
        x, y: metrics out of ``AXES``.
        spans: least extent of the two axes, so that next to nothing does not look like much.
    """
    first, last = points[0][1], points[-1][1]
    alt = f"A path from {first[x]:.3g}, {first[y]:.3g} to {last[x]:.3g}, {last[y]:.3g} in {AXES[x]} and {AXES[y]}."
    figure = _figure(3.0, title, alt)
    axes = figure.subplots()
    axes.plot([p[x] for _, p in points], [p[y] for _, p in points], color=PALETTE[0], marker="o")
    for setting, p in points:
        axes.annotate(f"{setting:g}", (p[x], p[y]), xytext=(5, 5), textcoords="offset points")
    limits: list[Callable[..., Any]] = [axes.set_xlim, axes.set_ylim]
    for (low, high), span, limit in zip(
        (axes.get_xlim(), axes.get_ylim()), spans, limits, strict=True
    ):
        more = max(0.0, span - (high - low)) / 2
        limit(low - more, high + more)
    axes.set_xlabel(AXES[x])
    axes.set_ylabel(AXES[y])
    sns.despine(ax=axes)
    return figure


@_styled
def restored_or_invented(
    original: Image.Image, before: Image.Image, after: Image.Image, title: str, reach: int = 8
) -> Figure:
    """Where a second picture is nearer to the original than a first, and where it is further away.

    Args:
        original: the photo.
        before, after: two decodes of it.
        title: the finding.
        reach: pixels over which squared errors are averaged.
    """
    change = np.abs(_grey(after) - _grey(before))  # (H, W)
    gain = local_error(original, before, reach) - local_error(original, after, reach)  # (H, W)
    better = float((gain > 0).mean())
    alt = (
        f"Left: how much the refiner changed. Right: squared error before minus after; on {better:.0%} of the "
        "pixels (purple) it is nearer to the original, elsewhere (orange) further away."
    )
    figure = _figure(WIDTH / 2 * original.height / original.width + 0.8, title, alt)
    left, right = figure.subplots(1, 2)
    _bare(left, "changed by (levels of 255)")
    top = max(float(np.quantile(change, 0.995)), 1e-6)
    figure.colorbar(left.imshow(change, cmap="gray", vmin=0, vmax=top), ax=left, fraction=0.04)
    limit = max(float(np.quantile(np.abs(gain), 0.99)), 1e-6)
    shown = right.imshow(gain, cmap="PuOr", vmin=-limit, vmax=limit)
    _bare(right, "nearer to the photo (purple, +) or further (orange, -)")
    bar = figure.colorbar(shown, ax=right, fraction=0.04, extend="both")
    bar.set_label("fall of the squared error (levels²)", fontsize=8)
    return figure


def local_error(original: Image.Image, picture: Image.Image, reach: int = 8) -> np.ndarray:
    """Squared error ``(H, W)`` of pixel values 0..255, averaged over a window of ``2 * reach + 1`` pixels."""
    squared = np.square(_rgb(original) - _rgb(picture)).mean(axis=2)
    padded = np.pad(squared, reach, mode="edge")
    sums = np.pad(padded.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    side = 2 * reach + 1
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return boxes / side**2


def power_spectrum(picture: Image.Image, bins: int = 40) -> Curve:
    """Radial power spectrum of the luma.

    Returns:
        frequencies in cycles per pixel (up to 0.5) and the mean power at each, both ``bins`` long.
    """
    grey = _grey(picture)
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / grey.size
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    index = np.clip((radius / 0.5 * bins).astype(int), 0, bins)  # corners beyond 0.5 fall out
    sums = np.bincount(index.ravel(), power.ravel(), bins + 1)[:bins]
    counts = np.bincount(index.ravel(), minlength=bins + 1)[:bins]
    return ((np.arange(bins) + 0.5) * 0.5 / bins).tolist(), (sums / counts.clip(1)).tolist()


def _rgb(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float64)


def _grey(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L"), dtype=np.float64)
