"""Rate-distortion curves, and the average distance of two of them (Bjontegaard).

    rows, or published points --> Curve(bpp, values) --+
                                                       +--> BD-rate (%), BD-metric, share of overlap
                                  Curve of the anchor--+

The logarithm of the rate is interpolated over quality piecewise by cubics (``pchip``, or ``akima`` [2]) and the
difference integrated where both curves have points; nothing is extrapolated. Where they share less than half of their
range, a warning says so; where less than a tenth, a table has no number: it would speak of a sliver. Measured and
published points are never put into one number: photos, colour conversion and metric code differ in ways that published
tables do not say.

References
    [1] Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001.
    [2] Herglotz et al., "The Bjontegaard Bible: Why your Way of Comparing Video Codecs May Be Wrong", TIP 2024.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

from ..errors import ArgumentError, DependencyMissing, SketchFusionWarning
from .metrics import METRICS
from .summary import mean_points
from .table import Row

__all__ = ["Curve", "bd_metric", "bd_rate", "bd_table", "measured_curve", "published_curve"]

_UP = ("psnr", "ms_ssim")  # of the others, less is better
METHODS = ("pchip", "akima")
GOOD_OVERLAP = 0.5  # below it a warning says what a number rests on
MIN_OVERLAP = 0.1  # below it a table, where nobody sees warnings, has none


@dataclass(frozen=True)
class Curve:
    """Quality over rate.

    Attributes:
        codec: what drew it.
        metric: name out of ``METRICS``.
        bpp: bits per pixel, ascending; at least two.
        values: of the metric, strictly better with every point.
        source: who published it; empty if measured.
        photos: what a measured curve is the mean of.
        left_out: rates at which not every photo fits.

    Raises:
        ArgumentError: too few points, or not monotone.
    """

    codec: str
    metric: str
    bpp: tuple[float, ...]
    values: tuple[float, ...]
    source: str = ""
    photos: frozenset[str] = frozenset()
    left_out: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        name = f"{self.metric} of {self.codec}"
        if self.metric not in METRICS:
            raise ArgumentError(f"no metric {self.metric!r}; there are: {', '.join(METRICS)}.")
        if len(self.bpp) < 2 or len(self.bpp) != len(self.values):
            left = f"; at {self.left_out} bpp not every photo fits" if self.left_out else ""
            raise ArgumentError(f"{name}: {len(self.bpp)} points, a curve needs two{left}.")
        if not all(math.isfinite(value) for value in (*self.bpp, *self.values)):
            raise ArgumentError(f"{name}: a value is not finite.")
        steps = zip(pairwise(self.bpp), pairwise(self.quality), strict=True)
        if min(self.bpp) <= 0 or not all(r < s and a < b for (r, s), (a, b) in steps):
            raise ArgumentError(f"{name}: not better with every bit; it has no BD-rate.")

    @property
    def quality(self) -> tuple[float, ...]:
        """Values, turned so that more is better."""
        return self.values if self.metric in _UP else tuple(-value for value in self.values)


def measured_curve(rows: Iterable[Row], codec: str, metric: str) -> Curve:
    """Means over the photos at each rate at which all of them fit.

    Raises:
        ArgumentError: no rows of the codec, or they make no curve.
    """
    chosen = [row for row in rows if row["codec"] == codec]
    if any(row.get("source") for row in chosen):
        raise ArgumentError(f"{codec}: published points among measured rows. Keep them apart.")
    points = mean_points(chosen, codec, metric)
    rates, bpp, values = zip(*points, strict=True) if points else ((), (), ())
    photos = frozenset(row["image"] for row in chosen)
    left_out = sorted({row["rate"] for row in chosen} - set(rates))
    return Curve(codec, metric, bpp, values, "", photos, tuple(left_out))


def published_curve(points: Iterable[Mapping[str, Any]], method: str, metric: str) -> Curve:
    """The curve of a method as its authors, or those who compared it, published it.

    Args:
        points: from :func:`.published.load_published`.
        method: as there.
        metric: name out of ``METRICS``.

    Raises:
        ArgumentError: no such points, or of several sources.
    """
    chosen = [p for p in points if p["method"] == method and p.get(metric) is not None]
    sources = {point["source"] for point in chosen}
    if len(sources) > 1 or "" in sources:
        raise ArgumentError(f"{method}: points of several sources: {sorted(sources)}.")
    ordered = sorted((point["bpp"], point[metric]) for point in chosen)
    bpp, values = zip(*ordered, strict=True) if ordered else ((), ())
    return Curve(method, metric, bpp, values, "".join(sources))


def bd_rate(anchor: Curve, test: Curve, method: str = "pchip") -> float:
    """Mean difference in rate at equal quality, in percent: -50 means half the bytes.

    Warns where the curves share less than half of their range of quality.

    Raises:
        ArgumentError: published against measured, other photos or metrics, or no overlap.
        DependencyMissing: bjontegaard is not installed.
    """
    return _bd("rate", anchor, test, method, _warn)


def bd_metric(anchor: Curve, test: Curve, method: str = "pchip") -> float:
    """Mean difference of the metric at equal rate, in its unit and with its sign.

    Warns where the curves share less than half of their range of log-rate.

    Raises:
        ArgumentError: as :func:`bd_rate`.
        DependencyMissing: bjontegaard is not installed.
    """
    return _bd("metric", anchor, test, method, _warn)


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Length of the interval that both cover, over that which either covers; 0 to 1."""
    common = min(max(first), max(second)) - max(min(first), min(second))
    return max(common, 0.0) / (max(*first, *second) - min(*first, *second))


def bd_table(
    rows: Iterable[Row],
    anchor: str,
    codecs: Sequence[str] | None = None,
    metrics: Sequence[str] = ("psnr", "lpips_alex"),
    method: str = "pchip",
) -> list[dict[str, Any]]:
    """BD-rate and BD-metric of codecs against one of them.

    Args:
        rows: of a table; measured.
        anchor: codec to compare with.
        codecs: None for all others.
        metrics: names out of ``METRICS``.
        method: ``"pchip"`` or ``"akima"``.

    Returns:
        Per codec and metric: ``bd_rate`` in percent, ``bd_metric``, ``overlap`` of the qualities, ``points`` of the
        codec's curve, and ``note``, which says why a number is None: as where the curves overlap in less than a tenth.

    Raises:
        ArgumentError: the anchor has no curve.
        DependencyMissing: bjontegaard is not installed.
    """
    rows = list(rows)
    names = sorted({row["codec"] for row in rows} - {anchor}) if codecs is None else codecs
    table = []
    for metric in metrics:
        base = measured_curve(rows, anchor, metric)
        table += [_compare(rows, name, base, method) for name in names]
    return table


def _compare(rows: list[Row], codec: str, base: Curve, method: str) -> dict[str, Any]:
    found: dict[str, Any] = {"codec": codec, "anchor": base.codec, "metric": base.metric}
    found |= dict.fromkeys(("bd_rate", "bd_metric", "overlap", "points")) | {"note": ""}
    try:
        curve = measured_curve(rows, codec, base.metric)
        found["points"] = len(curve.bpp)
        found["overlap"] = overlap(base.quality, curve.quality)
    except ArgumentError as error:
        return found | {"note": str(error)}
    for kind in ("metric", "rate"):
        try:
            found[f"bd_{kind}"] = _bd(kind, base, curve, method, _refuse)
        except ArgumentError as error:
            found["note"] = str(error)
    return found


def _check_pair(anchor: Curve, test: Curve, method: str) -> None:
    names = f"{anchor.codec} and {test.codec}"
    if method not in METHODS:
        raise ArgumentError(f"method {method!r}: choose one of {', '.join(METHODS)}.")
    if bool(anchor.source) != bool(test.source):
        raise ArgumentError(
            f"{names}: one is published ({anchor.source or test.source}), one measured. Draw them apart."
        )
    if anchor.metric != test.metric or anchor.photos != test.photos:
        raise ArgumentError(f"{names}: of other metrics or other photos. Measure them alike.")


def _bd(
    kind: str, anchor: Curve, test: Curve, method: str, doubt: Callable[[float, str], None]
) -> float:
    """A distance in ``"rate"`` or ``"metric"`` over what both curves cover.

    Args:
        doubt: receives the share that they cover and what that means, where it is no good one.

    Raises:
        ArgumentError: the curves do not go together, or do not overlap.
    """
    _check_pair(anchor, test, method)
    names = f"{anchor.codec} and {test.codec}"
    if kind == "rate":
        package, what = "bd_rate", "quality"
        sides, ranges = [c.quality for c in (anchor, test)], (anchor.quality, test.quality)
    else:
        package, what = "bd_psnr", "log-rate"
        sides = [c.values for c in (anchor, test)]
        ranges = [[math.log(bpp) for bpp in c.bpp] for c in (anchor, test)]
    common = overlap(*ranges)
    if not common:
        raise ArgumentError(f"{names}: the curves do not overlap.")
    if common < GOOD_OVERLAP:
        doubt(common, f"{names}: the curves overlap in {common:.2%} of their {what} only")
    measure = getattr(_bjontegaard(), package)
    points = (anchor.bpp, sides[0], test.bpp, sides[1])
    found = float(measure(*points, method, False, min_overlap=0))  # the overlap is checked above
    if not math.isfinite(found):
        raise ArgumentError(f"{names}: their distance is {found}. Look at the points.")
    return found


def _warn(common: float, line: str) -> None:
    line = f"{line}; the number speaks of that part alone"
    warnings.warn(line, SketchFusionWarning, stacklevel=4)


def _refuse(common: float, line: str) -> None:
    if common < MIN_OVERLAP:
        raise ArgumentError(f"{line}, too little for a number. Measure both at more rates.")


def _bjontegaard() -> ModuleType:
    try:
        import bjontegaard
    except ImportError as error:
        raise DependencyMissing.for_extra("bjontegaard", "peers", "a BD-rate") from error
    return bjontegaard
