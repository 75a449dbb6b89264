"""Each photo against one peer: a mean hides on which we lose.

Manners as in :mod:`.figures`: titles that are computed, alt text, meaning without colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.table import OK, Row

from . import figures
from .figures import PALETTE
from .naming import SHORT, UP, label, plain_label
from .rate_distortion import check_choice

__all__ = ["wins_and_losses"]

_RATIO_TICKS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1, 1.25, 1.5, 2, 3)


@figures._styled
def wins_and_losses(
    rows: Iterable[Row],
    ours: str,
    peer: str,
    rate: float,
    metrics: Sequence[str] = ("lpips_alex", "dists"),
    title: str = "",
) -> Figure:
    """Ratio of distances, ours over the peer's, for each photo; sorted, our worst photo on top.

    Args:
        rows: of a table.
        ours, peer: codecs.
        rate: budget of both in bits per pixel. Photos that either of them does not fit are left out, and counted.
        metrics: distances (less is better); sorted by the first. A photo needs all of them, above 0.
        title: the finding; empty computes it.

    Raises:
        ArgumentError: no photo was measured with both, or a metric is no distance.
    """
    rows = list(rows)
    check_choice(rows, metrics, (ours, peer))
    if up := set(metrics) & set(UP):
        raise ArgumentError(f"{sorted(up)}: more is better; a ratio needs distances.")
    ratios = _ratios(rows, ours, peer, rate, metrics)
    if not ratios:
        raise ArgumentError(
            f"no photo has {', '.join(metrics)} of {ours} and {peer} at {rate:g} bpp."
        )
    ordered = sorted(ratios, key=lambda image: ratios[image][0])
    wins = [sum(values[i] < 1 for values in ratios.values()) for i in range(len(metrics))]
    worst, left_out = ordered[-1], len({row["image"] for row in rows}) - len(ratios)
    counts = ", ".join(f"{n} ({SHORT[m]})" for m, n in zip(metrics, wins, strict=True))
    found = (
        f"{rate:g} bpp, {len(ratios)} photos: {label(ours)} beats {plain_label(peer)} on {counts}"
    )
    listed = "; ".join(
        f"{PurePath(image).stem} {ratios[image][0]:.2f}" for image in reversed(ordered)
    )
    alt = f"{found}. {left_out} photos left out. Ratios of {SHORT[metrics[0]]}, our worst photo first: {listed}."
    figure = figures._figure(0.19 * len(ordered) + 1.3, title or found, alt)
    axes = figure.subplots()
    places = np.arange(len(ordered))
    for index, name in enumerate(metrics):
        values = [ratios[image][index] for image in ordered]
        face: dict[str, Any] = {"markerfacecolor": PALETTE[0] if index == 0 else "none"}
        style: dict[str, Any] = {
            "marker": "oDs^"[index % 4],
            "color": PALETTE[(0, 3, 2, 8)[index % 4]],
            "linestyle": "none",
        }
        axes.plot(values, places, label=SHORT[name], zorder=3, **style, **face)
    axes.hlines(
        places, 1, [ratios[image][0] for image in ordered], color="0.6", linewidth=1, zorder=2
    )
    axes.axvline(1, color="0.2", linewidth=1)
    axes.set_yticks(places, [PurePath(image).stem for image in ordered], fontsize=8)
    axes.annotate(
        f"our worst: {ratios[worst][0]:.2f}", (ratios[worst][0], places[-1]), xytext=(8, 0),
        textcoords="offset points", va="center", fontsize=8,
        bbox={"facecolor": "white", "lw": 0, "pad": 1.5},
    )  # fmt: skip
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xscale("log")
    _plain_ticks(axes, [value for values in ratios.values() for value in values])
    axes.set_xlabel("ours / theirs (log scale): left of 1 ours is better, right of 1 worse")
    axes.legend(frameon=True, fontsize="small")
    axes.grid(False, axis="y")
    sns.despine(ax=axes)
    return figure


def _ratios(
    rows: list[Row], ours: str, peer: str, rate: float, metrics: Sequence[str]
) -> dict[str, list[float]]:
    """Photo -> ratio of each metric, for photos of which both sides have all of them."""
    sides: dict[str, dict[str, Row]] = {}
    for row in rows:
        known = row["status"] == OK and all(row[name] for name in metrics)
        if row["codec"] in (ours, peer) and math.isclose(row["rate"], rate) and known:
            sides.setdefault(row["image"], {})[row["codec"]] = row
    return {
        image: [pair[ours][name] / pair[peer][name] for name in metrics]
        for image, pair in sides.items()
        if len(pair) == len({ours, peer})
    }


def _plain_ticks(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values) / 1.3, max(values) * 1.3
    ticks = [tick for tick in _RATIO_TICKS if low < tick < high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
