"""Tables made of result rows: means per codec and rate, and peers against ours at equal bytes.

A codec that cannot make a file small enough stays in both tables, with what it would need. A mean is over all photos
that it speaks of, or is None: photos too small for a metric do not drop out of it in silence.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from ..errors import ArgumentError
from .metrics import METRICS
from .table import DOES_NOT_FIT, OK, Row, key

__all__ = ["Points", "equal_bytes", "mean_points", "mean_rows"]

Points = list[tuple[float, float, float]]  # rate, bpp, value

RATES = (0.03, 0.045, 0.07, 0.10)
_AVERAGED = ("bytes", "bpp", *METRICS, "encode_s", "decode_s")


def mean_rows(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Means per codec and rate over the photos that fit.

    Returns:
        In the order of the rows: ``codec``, ``rate``, ``photos``, ``fits``, ``status`` (that of most rows), means
        (None where one of these photos has no value; infinite where a PSNR is), ``needed_bpp``: what the photos that
        do not fit would need at most, and ``note``: which metrics only some photos have, else empty.

    Raises:
        ArgumentError: two rows of the same photo, codec and rate.
    """
    groups: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in _unique(rows):
        groups[row["codec"], row["rate"]].append(row)
    table = []
    for (codec, rate), group in sorted(groups.items()):
        fitting = [row for row in group if row["status"] == OK]
        states = [row["status"] for row in group]
        line = {"codec": codec, "rate": rate, "photos": len(group), "fits": len(fitting)}
        line["status"] = OK if fitting else max(set(states), key=states.count)
        line |= {name: _mean(row[name] for row in fitting) for name in _AVERAGED}
        line["needed_bpp"] = _needed(group)
        line["note"] = "; ".join(filter(None, (_partly(fitting, name) for name in METRICS)))
        table.append(line)
    return table


def mean_points(rows: Iterable[Row], codec: str, metric: str) -> Points:
    """Means over the photos, at the rates at which every photo of the rows was measured and fits.

    Returns:
        ``(rate, bpp, value)``, ascending; empty where some photo is always missing.

    Raises:
        ArgumentError: two rows of the same photo, codec and rate, or a value that is not finite: no mean is.
    """
    rows = _unique(rows)
    photos = {row["image"] for row in rows}
    groups: dict[float, list[Row]] = defaultdict(list)
    for row in rows:
        if row["codec"] == codec and row["status"] == OK and row[metric] is not None:
            if not math.isfinite(row[metric]):
                raise ArgumentError(
                    f"{metric} of {codec} at {row['rate']:g} bpp is {row[metric]} for {row['image']}, so its mean says "
                    "nothing. Leave the photo out, or take another metric."
                )
            groups[row["rate"]].append(row)

    def mean(group: list[Row], name: str) -> float:
        return math.fsum(row[name] for row in group) / len(group)

    return [
        (rate, mean(group, "bpp"), mean(group, metric))
        for rate, group in sorted(groups.items())
        if {row["image"] for row in group} == photos
    ]


def equal_bytes(
    rows: Iterable[Row],
    ours: str,
    peers: Sequence[str] | None = None,
    rates: Sequence[float] = RATES,
    metric: str = "lpips_alex",
) -> list[dict[str, Any]]:
    """Compare a codec of ours with peers that had the same budget of bytes for every photo.

    Means are over the photos that both of them fit, so they differ from peer to peer.

    Args:
        rows: of a table.
        ours: codec to compare, e.g. ``"refined"``.
        peers: codecs to compare with; None for all others.
        rates: budgets in bits per pixel; those that ``ours`` was not measured at are left out.
        metric: a distance, whose ratio and wins are given beside those of PSNR.

    Returns:
        Per rate and peer: ``fits`` of ``photos``; ``bytes``, ``metric`` and ``psnr`` of either side; ``ratio`` (ours
        over theirs, below 1 is better); ``d_psnr`` in dB; ``wins`` and ``psnr_wins`` of ours; ``needed_bpp``; and
        ``note``, which is empty when the peer fits every photo. What one of the photos compared has no value for, or
        what divides by zero, is None.

    Raises:
        ArgumentError: there is no row of ``ours``, or of one of ``peers``, or no such distance; or there are two rows
            of the same photo, codec and rate.
    """
    if metric not in METRICS[2:]:
        raise ArgumentError(f"metric {metric!r}: a distance is one of {', '.join(METRICS[2:])}.")
    by_codec: dict[str, dict[tuple[float, str], Row]] = defaultdict(dict)
    for row in _unique(rows):
        by_codec[row["codec"]][row["rate"], row["image"]] = row
    peers = [codec for codec in sorted(by_codec) if codec != ours] if peers is None else peers
    for codec in (ours, *peers):
        if codec not in by_codec:
            raise ArgumentError(
                f"no rows of {codec!r}; the table has: {', '.join(sorted(by_codec))}."
            )
    measured = {rate for rate, _ in by_codec[ours]}
    found = [near for rate in rates for near in measured if math.isclose(rate, near)]
    table = []
    for rate, peer in product(found, peers):
        own, theirs = (
            [row for (at, _), row in by_codec[codec].items() if at == rate]
            for codec in (ours, peer)
        )
        table.append({"rate": rate, "codec": peer} | _against(own, theirs, metric))
    return table


def _against(ours: list[Row], theirs: list[Row], metric: str) -> dict[str, Any]:
    """Two codecs on the photos that both fit."""
    own = {row["image"]: row for row in ours if row["status"] == OK}
    fitting = [row for row in theirs if row["status"] == OK]
    pairs = [(own[row["image"]], row) for row in fitting if row["image"] in own]
    line: dict[str, Any] = {"photos": len(theirs), "fits": len(fitting), "compared": len(pairs)}
    for name in ("bytes", metric, "psnr"):
        line[f"{name}_ours"] = _mean(a[name] for a, _ in pairs)
        line[f"{name}_theirs"] = _mean(b[name] for _, b in pairs)
    line |= dict.fromkeys(("ratio", "d_psnr", "wins", "psnr_wins"))
    one, two = line[f"{metric}_ours"], line[f"{metric}_theirs"]
    if one is not None and two is not None:
        line["ratio"] = one / two if two else None
        line["wins"] = sum(a[metric] < b[metric] for a, b in pairs)
    one, two = line["psnr_ours"], line["psnr_theirs"]
    if one is not None and two is not None:
        line["d_psnr"] = None if one == two == math.inf else one - two
        line["psnr_wins"] = sum(a["psnr"] > b["psnr"] for a, b in pairs)
    line["needed_bpp"] = _needed(theirs)
    line["note"] = _note(theirs, fitting) or _partly([row for p in pairs for row in p], metric)
    return line


def _note(rows: list[Row], fitting: list[Row]) -> str:
    """Why a comparison does not cover all photos."""
    if not rows:
        return "not measured at this rate"
    if len(fitting) == len(rows):
        return ""
    states = sorted({row["status"] for row in rows} - {OK})
    return f"{' / '.join(states)} on {len(rows) - len(fitting)} of {len(rows)} photos"


def _needed(rows: list[Row]) -> float | None:
    """Bits per pixel that the most stubborn photo needs."""
    stubborn = [row for row in rows if row["status"] == DOES_NOT_FIT]
    return max((8 * r["needed_bytes"] / (r["width"] * r["height"]) for r in stubborn), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    """None where one is missing: over the others it would be a mean of other photos."""
    every = list(values)
    known = [value for value in every if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(every) else None


def _partly(rows: list[Row], metric: str) -> str:
    """Says that only some rows have a metric; empty where all have it, or none."""
    known = sum(row[metric] is not None for row in rows)
    return f"{metric} of {known} of {len(rows)} pictures" if 0 < known < len(rows) else ""


def _unique(rows: Iterable[Row]) -> list[Row]:
    """The rows; several of one photo, codec and rate, which would count it twice, are refused."""
    rows = list(rows)
    for (image, codec, rate), count in Counter(map(key, rows)).items():
        if count > 1:
            raise ArgumentError(
                f"two rows of {image} with {codec} at {rate:g} bpp: tables of several runs? Keep one."
            )
    return rows
