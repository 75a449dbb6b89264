"""Charts about the refiner: curves, and maps of where it helps.

Same manners as :mod:`.figures`: a title that states the finding, alt text as the figure's label, and no meaning that
rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from .figures import AXES, PALETTE, WIDTH, _bare, _figure, _picture, _styled

__all__ = [
    "Curve",
    "dial",
    "lines",
    "local_error",
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
) -> Figure:
    """Curves over a common axis.

    Args:
        curves: name -> (x, y).
        labels: of the two axes, with units.
        title: the finding.
        log: axes on a logarithmic scale, out of ``"x"``, ``"y"``, ``"xy"``.
        markers: mark every point; for curves of few points.
    """
    ends = "; ".join(f"{name} from {y[0]:.3g} to {y[-1]:.3g}" for name, (_, y) in curves.items())
    figure = _figure(2.9, title, f"Curves of {labels[1]} over {labels[0]}: {ends}.")
    axes = figure.subplots()
    for index, (name, (x, y)) in enumerate(curves.items()):
        style = {"color": PALETTE[index % 10], "linestyle": ("-", "--", "-.", ":")[index % 4]}
        axes.plot(x, y, label=name, marker=_MARKERS[index % 6] if markers else None, **style)
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
def dial(points: Sequence[tuple[float, Mapping[str, float]]], title: str, x: str, y: str) -> Figure:
    """One metric against another while a dial turns.

    Args:
        points: (setting of the dial, metric -> value).
        title: the finding.
        x, y: metrics out of ``AXES``.
    """
    first, last = points[0][1], points[-1][1]
    alt = f"A path from {first[x]:.3g}, {first[y]:.3g} to {last[x]:.3g}, {last[y]:.3g} in {AXES[x]} and {AXES[y]}."
    figure = _figure(3.0, title, alt)
    axes = figure.subplots()
    axes.plot([p[x] for _, p in points], [p[y] for _, p in points], color=PALETTE[0], marker="o")
    for setting, p in points:
        axes.annotate(f"{setting:g}", (p[x], p[y]), xytext=(5, 5), textcoords="offset points")
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
    _picture(
        left,
        Image.fromarray(
            np.uint8((255 * change / max(np.quantile(change, 0.995), 1e-6)).clip(0, 255))
        ),
        "changed: bright = much",
    )
    limit = max(float(np.quantile(np.abs(gain), 0.99)), 1e-6)
    shown = right.imshow(gain, cmap="PuOr", vmin=-limit, vmax=limit)
    _bare(right, "nearer to the photo (purple, +) or further away (orange, -)")
    bar = figure.colorbar(shown, ax=right, fraction=0.04, ticks=[-limit, 0, limit])
    bar.ax.set_yticklabels(["further", "0", "nearer"], fontsize=8)
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
