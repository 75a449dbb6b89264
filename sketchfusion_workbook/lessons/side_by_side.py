"""Notebook 07: one photo through several codecs within one budget, and each peer at the size that suits it best.

photo, rate, codecs --> Workbench --> bytes <= rate * pixels / 8 --> decoded --> Side(coded, metrics)
                                               |
                                               +--> does not fit: Side(needed_bytes)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sketchfusion_lite.errors import BudgetTooSmall
from sketchfusion_lite.evaluation.adapters import Coded, Picture, Workbench
from sketchfusion_lite.evaluation.metrics import Comparison, Metrics
from sketchfusion_lite.evaluation.operating import parse_codec

__all__ = ["Side", "kindest", "side_by_side"]


@dataclass(frozen=True)
class Side:
    """What a codec makes of a photo within a budget.

    Attributes:
        codec: canonical name, as tables hold it.
        coded: file and picture; None where no file is small enough.
        metrics: of the picture; all ``nan`` where there is none.
        needed_bytes: of the smallest file possible, where it does not fit.
    """

    codec: str
    coded: Coded | None = None
    metrics: Metrics = field(default_factory=Metrics)
    needed_bytes: int | None = None


def side_by_side(
    photo: str | Path | Picture,
    codecs: Iterable[str],
    rate: float,
    *,
    metrics: Iterable[str] = ("psnr", "lpips_alex"),
    bench: Workbench | None = None,
) -> list[Side]:
    """Encode and decode a photo with each codec within the same bytes.

    Args:
        photo: path; of a sample, :func:`sketchfusion_lite.samples.sample_path` knows it. A :class:`.adapters.Picture`
            keeps what was made of it, for the next rate.
        codecs: as in :mod:`.operating`.
        rate: budget in bits per pixel.
        metrics: names out of ``METRICS``.
        bench: loaded networks; None loads the shipped ones.

    Raises:
        ArgumentError: an unknown codec or metric.
        DependencyMissing: the package of a codec is not installed.
        ImageError: no usable picture.
    """
    picture = photo if isinstance(photo, Picture) else Picture(Path(photo))
    bench = bench or Workbench()
    specs = [parse_codec(codec) for codec in codecs]
    comparison = Comparison(picture.image, metrics, bench.device)
    budget, sides = int(rate * picture.pixels / 8), []
    for spec in specs:
        try:
            coded = bench.open(spec).at_most(picture, budget)
        except BudgetTooSmall as error:
            sides.append(Side(spec.text, needed_bytes=error.needed_bytes))
        else:
            sides.append(Side(spec.text, coded, comparison.measure(coded.image)))
    return sides


def kindest(lines: Iterable[dict[str, Any]], metric: str = "lpips_alex") -> list[dict[str, Any]]:
    """For each rate and peer the line of the size that suits the peer best.

    Args:
        lines: of :func:`sketchfusion_lite.evaluation.summary.equal_bytes`, of this metric. Those that leave a photo out
            are no candidates.
        metric: a distance.

    Returns:
        Lines with ``peer``, the name of the codec whatever its size, ascending by rate and peer.
    """
    best: dict[tuple[float, str], dict[str, Any]] = {}
    theirs = f"{metric}_theirs"
    whole = [line for line in lines if line["compared"] == line["photos"]]
    for line in sorted((x for x in whole if x[theirs] is not None), key=lambda x: x[theirs]):
        peer = parse_codec(line["codec"]).name
        best.setdefault((line["rate"], peer), line | {"peer": peer})
    return [best[name] for name in sorted(best)]
