"""Charts of result tables: quality over rate, codecs at equal bytes.

    rows of a table --> curves     metrics over rate, published points apart
    two curves      --> bd_area    what a BD-rate integrates

Single photos are in :mod:`.wins`, the pictures themselves in :mod:`.strips`.

A mean is drawn only where *all* photos of the table were measured and fit, else easy photos would be compared with
hard ones. Manners as in :mod:`.figures`: titles that are computed, alt text, meaning without colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.curves import Curve
from sketchfusion_lite.evaluation.summary import Points, mean_points
from sketchfusion_lite.evaluation.table import Row

from . import figures
from .figures import AXES, PALETTE
from .naming import SHORT, UP, is_ours, label, plain_label, shown_codecs, styles

__all__ = ["SHOWN_PUBLISHED", "bd_area", "curves"]

BPP_RANGE = (0.015, 0.3)
SHOWN_PUBLISHED = (  # of the perceptual table: one of each kind, so that they can be named in the chart
    "DiffEIC",
    "MS-ILLM (official)",
    "PerCo",
    "StableCodec (official)",
    "Text-Sketch",
)

_BPP_TICKS = (0.02, 0.03, 0.045, 0.07, 0.1, 0.15, 0.3)
_PUBLISHED_MARKERS = "sDo^vP"
_UNIT = {"psnr": " dB"}

# --------------------------------------------------------------------------------------------------
# Quality over rate


@figures._styled
def curves(
    rows: Iterable[Row],
    metric: str | Sequence[str] = ("psnr", "lpips_alex"),
    codecs: Sequence[str] | None = None,
    published: Iterable[Mapping[str, Any]] = (),
    rate: float = 0.045,
    title: str = "",
    ours: str = "",
) -> Figure:
    """Metrics over rate, one panel a metric: means over the photos, where *all* of them fit.

    Args:
        rows: of a table; measured.
        metric: one or several, out of ``AXES``.
        codecs: of the table; None for :func:`.naming.shown_codecs`.
        published: points of :func:`..evaluation.published.load_published`, drawn apart: open markers, named in the
            chart. Those without a panel's metric, or far from what was measured, are left out.
        rate: at which the title compares ours with the best of the others.
        title: the finding; empty computes it.
        ours: codec that the title speaks of; empty for the best of ours in each metric.

    Raises:
        ArgumentError: an unknown metric, or a codec that the table lacks.
    """
    rows, metrics = list(rows), [metric] if isinstance(metric, str) else list(metric)
    chosen = check_choice(rows, metrics, codecs)
    points = {m: {c: mean_points(rows, c, m) for c in chosen} for m in metrics}
    published = list(published)
    photos = len({row["image"] for row in rows})
    leads = [_lead(points[m], m, rate, ours) for m in metrics]
    if len(speakers := {who for who, _ in leads}) == 1:  # said once
        leads = [("", lead) for _, lead in leads]
    who = speakers.pop() if len(speakers) == 1 else ""
    found = ", ".join(f"{name} {lead}".strip() for name, lead in leads)
    title = title or f"{photos} photos at {rate:g} bpp: {who} {found}".replace("  ", " ")
    figure = figures._figure(4.5, title, _curves_alt(points, published))
    grid = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, name in zip(grid, metrics, strict=True):
        for codec, style in styles(chosen).items():
            drawn = [(bpp, value) for _, bpp, value in points[name][codec]]
            axes.plot(*_columns(drawn), label=plain_label(codec), **style)
        axes.set_ylim(*_room(axes.get_ylim(), published, name))
        _draw_published(axes, published, name)
        _rate_axis(axes)
        axes.set_ylabel(AXES[name])
        sns.despine(ax=axes)
    handles, names = grid[0].get_legend_handles_labels()
    place: dict[str, Any] = {
        "loc": "outside lower center",
        "ncols": 4,
        "frameon": False,
        "fontsize": "small",
    }
    note = "measured here at equal bytes, other codecs at the largest size that fits"
    note += "; open markers: published by others" if published else ""
    figure.legend(handles, names, title=note, title_fontsize="small", **place)
    return figure


@figures._styled
def bd_area(anchor: Curve, test: Curve, title: str) -> Figure:
    """What a BD-rate integrates: the distance of two curves in log-rate, over the qualities that both reach.

    Args:
        anchor, test: measured curves of one metric.
        title: the finding.

    Raises:
        ArgumentError: the curves do not overlap.
    """
    from scipy.interpolate import PchipInterpolator

    low, high = (
        max(min(c.quality) for c in (anchor, test)),
        min(max(c.quality) for c in (anchor, test)),
    )
    if low >= high:
        raise ArgumentError(f"{anchor.codec} and {test.codec}: the curves do not overlap.")
    common = np.linspace(low, high, 200)
    sign = 1 if anchor.metric in UP else -1
    alt = (
        f"{AXES[anchor.metric]} over bits per pixel of {label(anchor.codec)} and {label(test.codec)}; the area "
        f"between them is shaded from {abs(low):.3g} to {abs(high):.3g}."
    )
    figure = figures._figure(3.0, title, alt)
    axes = figure.subplots()
    sides = []
    for curve, colour, marker in ((anchor, "0.3", "v"), (test, PALETTE[0], "o")):
        axes.plot(curve.bpp, curve.values, label=label(curve.codec), color=colour, marker=marker)
        sides.append(np.exp(PchipInterpolator(curve.quality, np.log(curve.bpp))(common)))
    shade = {"color": PALETTE[0], "alpha": 0.2, "hatch": "//", "linewidth": 0}
    axes.fill_betweenx(sign * common, *sides, label="common qualities", **shade)
    _rate_axis(axes)
    axes.set_xlim(0.8 * min(*anchor.bpp, *test.bpp), 1.25 * max(*anchor.bpp, *test.bpp))
    axes.set_ylabel(AXES[anchor.metric])
    axes.legend(frameon=True, fontsize="small")
    sns.despine(ax=axes)
    return figure


# --------------------------------------------------------------------------------------------------
# Parts


def check_choice(
    rows: list[Row], metrics: Sequence[str], codecs: Sequence[str] | None
) -> list[str]:
    """The codecs to draw.

    Raises:
        ArgumentError: an unknown metric, or a codec that the table lacks.
    """
    if unknown := set(metrics) - set(AXES):
        raise ArgumentError(f"no metrics {sorted(unknown)}; there are: {', '.join(AXES)}.")
    known = {row["codec"] for row in rows}
    chosen = shown_codecs(rows) if codecs is None else list(codecs)
    if missing := [codec for codec in chosen if codec not in known]:
        raise ArgumentError(f"no rows of {missing}; the table has: {', '.join(sorted(known))}.")
    return chosen


def _columns(points: Sequence[tuple[float, ...]]) -> Sequence[Sequence[float]]:
    return list(zip(*points, strict=True)) or ((), ())


def _at(points: Points, rate: float) -> float | None:
    return next((value for each, _, value in points if math.isclose(each, rate)), None)


def _best(metric: str, values: Mapping[str, float]) -> str:
    return (max if metric in UP else min)(values, key=values.__getitem__)


def _lead(points: Mapping[str, Points], metric: str, rate: float, ours: str) -> tuple[str, str]:
    """Ours, or the best of ours, against the best of the others: "preview", "0.62 x the LPIPS-Alex of VVC"."""
    at = {codec: _at(found, rate) for codec, found in points.items()}
    groups = [
        {c: v for c, v in at.items() if v is not None and is_ours(c) == own}
        for own in (True, False)
    ]
    if ours:
        groups[0] = {codec: value for codec, value in groups[0].items() if codec == ours}
    if not all(groups):
        return "", f"{SHORT[metric]} is not compared"
    own, theirs = (_best(metric, group) for group in groups)
    mine, other = groups[0][own], groups[1][theirs]
    if metric not in UP and not other:
        return "", f"{SHORT[metric]} of {plain_label(theirs)} is 0"
    who, whom = plain_label(own).removeprefix("ours, "), plain_label(theirs)
    if metric in UP:
        unit = _UNIT.get(metric, "")
        return who, f"{mine - other:+.2g}{unit} {SHORT[metric]} against {whom}"
    return who, f"{mine / other:.2f} x the {SHORT[metric]} of {whom}"


def _curves_alt(points: Mapping[str, Mapping[str, Points]], published: list) -> str:
    parts = []
    for metric, drawn in points.items():
        ends = "; ".join(
            f"{label(c)} {f[0][2]:.3g} at {f[0][1]:.3f} to {f[-1][2]:.3g} at {f[-1][1]:.3f}"
            for c, f in drawn.items()
            if f
        )
        parts.append(f"{SHORT[metric]}: {ends}.")
    methods = ", ".join(dict.fromkeys(point["method"] for point in published))
    note = f" Published points, drawn apart: {methods}." if published else ""
    return f"Curves over bits per pixel. {' '.join(parts)}{note}"


def _draw_published(axes: Axes, published: list[Mapping[str, Any]], metric: str) -> None:
    """Open markers on dotted lines, each method named beside its leftmost point."""
    low, high = BPP_RANGE
    for index, method in enumerate(dict.fromkeys(p["method"] for p in published)):
        own = [(p["bpp"], p[metric]) for p in published if p["method"] == method and p.get(metric)]
        bottom, top = axes.get_ylim()
        inside = sorted((x, y) for x, y in own if low <= x <= high and bottom <= y <= top)
        if not inside:
            continue
        style: dict[str, Any] = {
            "marker": _PUBLISHED_MARKERS[index % 6],
            "markersize": 4.5,
            "linewidth": 0.8,
        }
        axes.plot(*_columns(inside), color=PALETTE[4], linestyle=":", mfc="none", zorder=2, **style)
        axes.annotate(
            method.removesuffix(" (official)"), inside[0], xytext=(2, -10), fontsize=7,
            textcoords="offset points", color="0.2", style="italic", zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip


def _room(
    measured: tuple[float, float], published: list[Mapping[str, Any]], metric: str
) -> tuple[float, float]:
    """Limits that hold published points too, as far as they are not much further off than measured ones."""
    bottom, top = measured
    reach = 0.6 * (top - bottom)
    values = [
        p[metric] for p in published if p.get(metric) and BPP_RANGE[0] <= p["bpp"] <= BPP_RANGE[1]
    ]
    near = [value for value in values if bottom - reach <= value <= top + reach]
    margin = 0.05 * (top - bottom) if near else 0
    return min([bottom, *near]) - margin, max([top, *near]) + margin


def _rate_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*BPP_RANGE)
    axes.xaxis.set_major_locator(FixedLocator(_BPP_TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("bits per pixel of the whole file (log scale)")
