"""Going on with a table: what it holds already, whether this run would have measured the same, what is missing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from .. import journal
from ..errors import ArgumentError, ResultsError, SketchFusionError, SketchFusionWarning
from ..files import sha256_of, text_of
from . import table
from .adapters import Workbench
from .measuring import Measuring, PhotoTask
from .metrics import METRICS
from .operating import CodecSpec
from .pictures import holds
from .table import FINAL, OK, Row

__all__ = ["check_same", "known_rows", "missing", "say_others", "with_known_metrics"]


def known_rows(out: Path, report: Callable[[str], None]) -> dict[tuple, Row]:
    """Rows of the table and of a run that was cut off, by their key."""
    rows = table.read_table(out) if out.exists() else []
    recovered = table.read_journal(table.journal_path(out), report)
    if recovered:
        report(f"{out.name}: going on, {len(recovered)} rows of a run that was cut off are kept")
    journal.rewrite(table.journal_path(out), recovered)
    known: dict[tuple, Row] = {}
    for row in [*rows, *recovered]:
        known[table.key(row)] = with_known_metrics(row, known.get(table.key(row)))
    return known


def say_others(rows: dict[tuple, Row], photos: list[Path], out: Path) -> None:
    """Rows of photos that are not in the folder stay in the table, and in its means."""
    others = sorted({row["image"] for row in rows.values()} - {text_of(p.name) for p in photos})
    if others:
        more = f" and {len(others) - 3} more" if others[3:] else ""
        line = (
            f"{out}: has rows of photos that are not in the folder ({', '.join(others[:3])}{more}); they stay in the "
            "table and in its means. Write into a new file to have this folder alone"
        )
        warnings.warn(line, SketchFusionWarning, stacklevel=3)


def check_same(
    rows: dict[tuple, Row],
    seed: int,
    bench: Workbench,
    photos: list[Path],
    specs: tuple[CodecSpec, ...],
    out: Path,
) -> None:
    """Refuse to go on with a table that this run would have measured differently.

    Raises:
        ResultsError: names what differs.
    """
    hashes = {text_of(path.name): _image_hash(path) for path in photos} if rows else {}
    measured = {row["codec"] for row in rows.values() if row["status"] in FINAL}
    models = {spec.text: _model(bench, spec) for spec in specs if spec.text in measured}
    for row in rows.values():
        now = {
            "seed": seed,
            "image_sha256": hashes.get(row["image"]) or row["image_sha256"],  # of what can be read
            "model": models.get(row["codec"]) or row["model"],
        }
        for name, value in now.items():
            if row[name] != value and (name == "seed" or row["status"] in FINAL):
                raise ResultsError(
                    f"{out}: its rows of {row['image']} with {row['codec']} have {name} {row[name]!r}, this run "
                    f"{value!r}. Use the same settings, photos and weights, or write into a new file."
                )


def _image_hash(path: Path) -> str:
    """First digits of a photo's hash, enough to notice that it is another one; empty where it cannot be read."""
    try:
        return sha256_of(path)[:16]
    except OSError:  # the rows say why
        return ""


def _model(bench: Workbench, spec: CodecSpec) -> str:
    """Which weights a codec has; empty where it cannot run here."""
    try:
        return bench.open(spec).model
    except ArgumentError:
        raise
    except SketchFusionError:
        return ""  # the rows say why


def missing(
    rows: dict[tuple, Row],
    photos: list[Path],
    points: list[tuple[CodecSpec, float]],
    how: Measuring,
) -> list[PhotoTask]:
    def done(row: Row | None) -> bool:
        if row is None or row["status"] != OK:
            return row is not None and row["status"] in FINAL
        has_picture = how.pictures is None or holds(how.pictures, row)
        return has_picture and set(how.metrics) <= set(row["metrics"].split("+"))

    tasks = []
    for path in photos:
        keys = [(text_of(path.name), spec.text, rate) for spec, rate in points]
        left = [point for point, key in zip(points, keys, strict=True) if not done(rows.get(key))]
        tasks += [PhotoTask(path, tuple(left))] if left else []
    return tasks


def with_known_metrics(row: Row, old: Row | None) -> Row:
    """A row measured again, for a picture or a metric that was missing, keeps the metrics that it had."""
    same = ("status", "image_sha256", "bytes", "model", "peer", "library", "torch", "seed")
    if old is None or any(row[name] != old[name] for name in same):
        return row
    asked = {*row["metrics"].split("+"), *old["metrics"].split("+")}
    kept = {name: old[name] for name in METRICS if row[name] is None}
    return row | kept | {"metrics": "+".join(name for name in METRICS if name in asked)}
