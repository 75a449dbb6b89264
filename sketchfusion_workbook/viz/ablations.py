"""Figures of an ablation: effects with their intervals, and places.

Manners as in :mod:`.figures`: titles that state the finding, alt text, meaning without colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sketchfusion_lite.sweeps.effects import effects, ranks

from . import figures
from .figures import PALETTE

__all__ = ["effect_chart", "rank_chart"]

# Colour and marker say the same: a gain, a loss, or nothing that luck could not do.
_LOOKS = {
    "better": (PALETTE[2], "^"),
    "worse": (PALETTE[3], "v"),
    "not separated": ("0.45", "o"),
}


@figures._styled
def effect_chart(
    runs: pd.DataFrame, metrics: Mapping[str, str], base: str, title: str, variant: str = "variant"
) -> Figure:
    """Effect of every variant with its 95 % interval, a panel a metric, and each single run as a thin mark.

    Args:
        runs: one row a run, see :func:`.effects`.
        metrics: column -> label of the panel.
        base: variant that is the zero.
        title: the finding.
        variant: column of the variants' names.

    Raises:
        SweepError: no such column or base, or too few runs.
    """
    tables = {metric: effects(runs, metric, base, variant) for metric in metrics}
    names = list(dict.fromkeys(name for t in tables.values() for name in t["variant"]))
    alt = ". ".join(_sentence(metrics[metric], table) for metric, table in tables.items())
    figure = figures._figure(0.9 + 0.3 * len(names), title, alt)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, (metric, table) in zip(panels, tables.items(), strict=True):
        zero = runs.loc[runs[variant] == base, metric].mean()
        single = runs.assign(change=runs[metric] - zero)
        single = single[single[variant].isin(names)]
        kwargs = {"marker": "|", "size": 8, "linewidth": 1.2, "jitter": False, "color": "0.3"}
        sns.stripplot(single, x="change", y=variant, order=names, ax=axes, **kwargs)
        for row in table.itertuples():
            colour, marker = _LOOKS[_verdict(row)]
            span = [[row.effect - row.low], [row.high - row.effect]]
            place = names.index(row.variant)
            style = {"color": colour, "marker": marker, "markersize": 7, "capsize": 3}
            axes.errorbar(row.effect, place, xerr=span, linewidth=1.8, **style)
        axes.axvline(0, color="0.2", linewidth=1)
        axes.set_xlabel(metrics[metric])
        axes.set_ylabel("")
        axes.xaxis.set_major_locator(MaxNLocator(5))
    handles = [
        panels[-1].plot([], [], color=colour, marker=marker, linestyle="-", label=name)[0]
        for name, (colour, marker) in _LOOKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


@figures._styled
def rank_chart(
    runs: pd.DataFrame, metrics: Mapping[str, str], title: str, variant: str = "variant"
) -> Figure:
    """Place of every variant by every metric, best on top.

    Args:
        runs: one row a run.
        metrics: column -> heading.
        title: the finding.
        variant: column of the variants' names.
    """
    table = ranks(runs, list(metrics), variant).rename(columns=dict(metrics))
    alt = "Variants by mean place: " + ", ".join(
        f"{name} {place:.1f}" for name, place in table["mean place"].items()
    )
    figure = figures._figure(0.9 + 0.3 * len(table), title, alt)
    axes = figure.subplots()
    options = {"annot": True, "fmt": ".3g", "cbar": False, "linewidths": 1, "cmap": "Blues_r"}
    sns.heatmap(table, ax=axes, vmin=1, vmax=1.6 * len(table), **options)
    axes.set_ylabel("")
    axes.tick_params(axis="y", rotation=0)
    axes.xaxis.tick_top()
    return figure


def _verdict(row: Any) -> str:
    if not row.separated:
        return "not separated"
    return "better" if row.better else "worse"


def _sentence(label: str, table: pd.DataFrame) -> str:
    parts: Sequence[str] = [
        f"{row.variant} {row.effect:+.3g} ({_verdict(row)})" for row in table.itertuples()
    ]
    return f"{label}: {', '.join(parts)}"
