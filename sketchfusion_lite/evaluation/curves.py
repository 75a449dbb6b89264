"""Rate-distortion curves, and the average distance of two of them (Bjontegaard).

    rows --> Curve(bpp, values) --+
                                  +--> BD-rate (%), BD-metric, share of overlap
             Curve of the anchor--+

The logarithm of the rate is interpolated over quality piecewise by cubics (``pchip`` [2]) and the
difference integrated where both curves have points; nothing is extrapolated. Where they share less than half of their
range, a warning says so; where less than a tenth, a table has no number: it would speak of a sliver. Published points
make no curve: photos, colour conversion and metric code differ in ways that published tables do not say.

References
    [1] Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001.
    [2] Herglotz et al., "The Bjontegaard Bible: Why your Way of Comparing Video Codecs May Be Wrong", TIP 2024.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import ArgumentError, DependencyMissing, SketchFusionWarning
from .metrics import METRICS
from .summary import mean_points
from .table import Row

__all__ = ["Curve", "bd_rate", "bd_table", "measured_curve"]

_UP = ("psnr", "ms_ssim")  # of the others, less is better
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
        photos: what a measured curve is the mean of.
        left_out: rates at which not every photo fits.

    Raises:
        ArgumentError: too few points, or not monotone.
    """

    codec: str
    metric: str
    bpp: tuple[float, ...]
    values: tuple[float, ...]
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
    return Curve(codec, metric, bpp, values, photos, tuple(left_out))


def bd_rate(anchor: Curve, test: Curve) -> float:
    """Mean difference in rate at equal quality, in percent: -50 means half the bytes.

    Warns where the curves share less than half of their range of quality.

    Raises:
        ArgumentError: other photos or metrics, or no overlap.
        DependencyMissing: bjontegaard is not installed.
    """
    found, common, doubt = _bd("rate", anchor, test)
    if common < GOOD_OVERLAP:
        line = f"{doubt}; the number speaks of that part alone"
        warnings.warn(line, SketchFusionWarning, stacklevel=2)
    return found


def bd_table(
    rows: Iterable[Row],
    anchor: str,
    codecs: Sequence[str] | None = None,
    metrics: Sequence[str] = ("psnr", "lpips_alex"),
) -> list[dict[str, Any]]:
    """BD-rate and BD-metric of codecs against one of them.

    Args:
        rows: of a table; measured.
        anchor: codec to compare with.
        codecs: None for all others.
        metrics: names out of ``METRICS``.

    Returns:
        Per codec and metric: ``bd_rate`` in percent, ``bd_metric`` (mean difference at equal rate, in the metric's unit
        and with its sign), ``overlap`` of the qualities, ``points`` of the codec's curve, and ``note``, which says why
        a number is None: as where the curves overlap in less than a tenth.

    Raises:
        ArgumentError: the anchor has no curve.
        DependencyMissing: bjontegaard is not installed.
    """
    rows = list(rows)
    names = sorted({row["codec"] for row in rows} - {anchor}) if codecs is None else codecs
    table = []
    for metric in metrics:
        base = measured_curve(rows, anchor, metric)
        for name in names:
            line: dict[str, Any] = {"codec": name, "anchor": anchor, "metric": metric}
            line |= dict.fromkeys(("bd_rate", "bd_metric", "overlap", "points")) | {"note": ""}
            table.append(line)
            try:
                curve = measured_curve(rows, name, metric)
            except ArgumentError as error:
                line["note"] = str(error)
                continue
            line |= {"points": len(curve.bpp), "overlap": overlap(base.quality, curve.quality)}
            for kind in ("metric", "rate"):
                try:
                    found, common, doubt = _bd(kind, base, curve)
                except ArgumentError as error:
                    line["note"] = str(error)
                    continue
                if common >= MIN_OVERLAP:
                    line[f"bd_{kind}"] = found
                else:
                    line["note"] = f"{doubt}, too little for a number. Measure both at more rates."
    return table


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Length of the interval that both cover, over that which either covers; 0 to 1."""
    common = min(max(first), max(second)) - max(min(first), min(second))
    return max(common, 0.0) / (max(*first, *second) - min(*first, *second))


def _bd(kind: str, anchor: Curve, test: Curve) -> tuple[float, float, str]:
    """A distance in ``"rate"`` or ``"metric"``, the share that both curves cover, and that in words.

    Raises:
        ArgumentError: the curves do not go together, or do not overlap.
    """
    names = f"{anchor.codec} and {test.codec}"
    if anchor.metric != test.metric or anchor.photos != test.photos:
        raise ArgumentError(f"{names}: of other metrics or other photos. Measure them alike.")
    if kind == "rate":
        function, what, sides = "bd_rate", "quality", (anchor.quality, test.quality)
        common = overlap(*sides)
    else:
        function, what, sides = "bd_psnr", "log-rate", (anchor.values, test.values)
        common = overlap(*([math.log(bpp) for bpp in c.bpp] for c in (anchor, test)))
    if not common:
        raise ArgumentError(f"{names}: the curves do not overlap.")
    try:
        import bjontegaard
    except ImportError as error:
        raise DependencyMissing.for_extra("bjontegaard", "peers", "a BD-rate") from error
    points = (anchor.bpp, sides[0], test.bpp, sides[1])
    # The overlap is checked above.
    found = float(getattr(bjontegaard, function)(*points, "pchip", False, min_overlap=0))
    if not math.isfinite(found):
        raise ArgumentError(f"{names}: their distance is {found}. Look at the points.")
    return found, common, f"{names}: the curves overlap in {common:.2%} of their {what} only"
