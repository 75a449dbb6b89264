"""What a part buys: the difference a switch makes, and whether it is more than luck.

    runs of all variants --+-- spread of the seeds, pooled over the variants --+
                           +-- mean of a variant - mean of the base -----------+--> effect, 95 % interval, p

With two seeds a variant's own spread says next to nothing. Pooled over all variants it has a degree of freedom for
each further run; and since every variant is compared with the same base, the intervals are Dunnett's [1], which hold
for all comparisons at once.

References
    [1] Dunnett, "A Multiple Comparison Procedure for Comparing Several Treatments with a Control", JASA 1955.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import SweepError
from ..files import warn_left_out

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["effects", "ranks"]

LOWER_IS_BETTER = ("lpips", "dists", "bpp", "seconds", "loss", "mse")


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
    import numpy as np
    import pandas as pd
    from scipy.stats import dunnett

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
        test = dunnett(
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


def ranks(runs: pd.DataFrame, metrics: Sequence[str], variant: str = "variant") -> pd.DataFrame:
    """Places of the variants by the mean of each metric, 1 for the best, and their mean place.

    Args:
        runs: one row a run.
        metrics: columns; names with ``lpips``, ``dists`` and the like are better when lower.
        variant: column of the variants' names.

    Returns:
        A row a variant, best mean place first; a variant that lacks a metric has no place there and comes last.

    Raises:
        SweepError: no such column.
    """
    import pandas as pd

    places = {}
    for metric in metrics:
        means = pd.Series({name: s.mean() for name, s in _samples(runs, metric, variant).items()})
        places[metric] = means.rank(ascending=is_distance(metric), method="min")
    table = pd.DataFrame(places).reindex(list(dict.fromkeys(runs[variant])))
    table["mean place"] = table.mean(axis=1, skipna=False)
    return table.sort_values("mean place", kind="stable")


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
