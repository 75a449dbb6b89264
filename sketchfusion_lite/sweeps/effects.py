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

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import SweepError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["effects", "ranks"]

LOWER_IS_BETTER = ("lpips", "dists", "bpp", "seconds", "loss", "mse")


def effects(
    runs: pd.DataFrame, metric: str, base: str, variant: str = "variant", confidence: float = 0.95
) -> pd.DataFrame:
    """Every variant against the base.

    Args:
        runs: one row a run; rows without the metric are left out.
        metric: column of the measurement.
        base: variant that the others are compared with.
        variant: column of the variants' names.
        confidence: of all intervals together.

    Returns:
        One row a variant but the base, in the order of the runs: ``runs``, ``mean``, ``effect`` (variant minus base),
        ``low`` and ``high`` (of the effect), ``p`` (that luck alone differs as much), ``separated`` (the interval
        leaves out zero) and ``better`` (the direction of the effect is good).

    Raises:
        SweepError: no such column or base, fewer than two variants, or no variant with two runs.
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
    # The interval is found by quasi Monte Carlo: a fixed seed gives the same digits every time.
    test = dunnett(
        *(samples[name] for name in others), control=samples[base], rng=np.random.default_rng(0)
    )
    interval = test.confidence_interval(confidence)
    rows = []
    for i, name in enumerate(others):
        effect = samples[name].mean() - samples[base].mean()
        low, high = interval.low[i], interval.high[i]
        rows.append(
            {
                "variant": name,
                "runs": len(samples[name]),
                "mean": samples[name].mean(),
                "effect": effect,
                "low": low,
                "high": high,
                "p": test.pvalue[i],
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
    """Finite measurements of every variant, in the order of the runs."""
    for column in (metric, variant):
        if column not in runs:
            raise SweepError(f"no column {column!r}; there are: {', '.join(runs.columns)}")
    kept = runs.dropna(subset=[metric])
    names = dict.fromkeys(kept[variant])
    return {name: kept.loc[kept[variant] == name, metric].to_numpy(float) for name in names}
