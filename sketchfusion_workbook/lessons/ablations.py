"""What a part buys: the difference a switch makes, and whether it is more than luck.

    runs of all variants --+-- spread of the seeds, pooled over the variants --+
                           +-- mean of a variant - mean of the base -----------+--> effect, 95 % interval, p

With two seeds a variant's own spread says next to nothing. Pooled over all variants it has a degree of freedom for
each further run; and since every variant is compared with the same base, the intervals are Dunnett's [1], which hold
for all comparisons at once.

Figures have titles that state the finding, alt text, and meaning without colour.

References
    [1] Dunnett, "A Multiple Comparison Procedure for Comparing Several Treatments with a Control", JASA 1955.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from sketchfusion_lite.errors import SweepError
from sketchfusion_lite.files import warn_left_out

from ..viz import figures
from ..viz.figures import PALETTE

__all__ = ["effect_chart", "effects"]

LOWER_IS_BETTER = ("lpips", "dists", "bpp", "seconds", "loss", "mse")
# Colour and marker say the same: a gain, a loss, or nothing that luck could not do.
_LOOKS = {
    "better": (PALETTE[2], "^"),
    "worse": (PALETTE[3], "v"),
    "not separated": ("0.45", "o"),
}


def effects(
    runs: pd.DataFrame, metric: str, base: str, variant: str = "variant", confidence: float = 0.95
) -> pd.DataFrame:
    """Every variant against the base.

    Args:
        runs: one row a run; those without the metric, such as of a training that failed, are left out with a warning:
            a mean over the others flatters their variant.
        metric: column of the measurement.
        base: variant that the others are compared with.
        variant: column of the variants' names.
        confidence: of all intervals together.

    Returns:
        One row a variant but the base, in the order of the runs: ``runs``, ``mean``, ``effect`` (variant minus base),
        ``low`` and ``high`` (of the effect), ``p`` (that luck alone differs as much), ``separated`` (the interval
        leaves out zero) and ``better`` (the direction of the effect is good). Where no run differs from those of its
        own variant there is no luck to compare with: ``low``, ``high`` and ``p`` are NaN, ``separated`` is False.

    Raises:
        SweepError: no such column or base, fewer than two variants, no variant with two runs, or a value that is
            infinite.
    """
    samples = _samples(runs, metric, variant)
    if base not in samples:
        raise SweepError(f"no run of the base {base!r} has {metric!r}; variants: {list(samples)}")
    others = [name for name in samples if name != base]
    if not others or max(map(len, samples.values())) < 2:
        raise SweepError(
            f"{metric}: {len(others)} variants beside the base, at most "
            f"{max(map(len, samples.values()))} runs of one; luck shows only in two runs of one variant"
        )
    if max(values.max() - values.min() for values in samples.values()) > 0:
        # The interval is found by quasi Monte Carlo: a fixed seed gives the same digits every time.
        test = stats.dunnett(
            *(samples[name] for name in others),
            control=samples[base],
            rng=np.random.default_rng(0),
        )
        interval = test.confidence_interval(confidence)
        spans = list(zip(interval.low, interval.high, test.pvalue, strict=True))
    else:  # the same number in every run of a variant, as where a seed goes nowhere
        spans = [(math.nan, math.nan, math.nan)] * len(others)
    rows = []
    for name, (low, high, p) in zip(others, spans, strict=True):
        effect = samples[name].mean() - samples[base].mean()
        rows.append(
            {
                "variant": name,
                "runs": len(samples[name]),
                "mean": samples[name].mean(),
                "effect": effect,
                "low": low,
                "high": high,
                "p": p,
                "separated": bool(low > 0 or high < 0),
                "better": bool(effect < 0 if is_distance(metric) else effect > 0),
            }
        )
    return pd.DataFrame(rows)


def is_distance(metric: str) -> bool:
    """Whether less of a metric is better, told by its name."""
    return any(word in metric for word in LOWER_IS_BETTER)


def _samples(runs: pd.DataFrame, metric: str, variant: str) -> dict:
    """Finite measurements of every variant, in the order of the runs.

    Raises:
        SweepError: no such column, or an infinite value.
    """
    for column in (metric, variant):
        if column not in runs:
            raise SweepError(f"no column {column!r}; there are: {', '.join(runs.columns)}")
    kept = runs.dropna(subset=[metric])
    lost = runs.loc[runs[metric].isna(), variant].value_counts(sort=False)
    warn_left_out(metric, {"runs without a value": [f"{n} of {name}" for name, n in lost.items()]})
    if endless := list(kept.loc[kept[metric].astype(float).abs() == math.inf, variant]):
        raise SweepError(
            f"{metric}: infinite in a run of {', '.join(map(str, endless))}, so no mean says anything. Leave these "
            "runs out, or take another metric."
        )
    names = dict.fromkeys(kept[variant])
    return {name: kept.loc[kept[variant] == name, metric].to_numpy(float) for name in names}


@figures._styled
def effect_chart(
    runs: pd.DataFrame, metrics: Mapping[str, str], base: str, title: str, variant: str = "variant"
) -> Figure:
    """Effect of every variant with its 95 % interval, a panel a metric, and each single run as a thin mark.

    Args:
        runs: one row a run, see :func:`effects`.
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


def _verdict(row: Any) -> str:
    if not row.separated:
        return "not separated"
    return "better" if row.better else "worse"


def _sentence(label: str, table: pd.DataFrame) -> str:
    parts: Sequence[str] = [
        f"{row.variant} {row.effect:+.3g} ({_verdict(row)})" for row in table.itertuples()
    ]
    return f"{label}: {', '.join(parts)}"
