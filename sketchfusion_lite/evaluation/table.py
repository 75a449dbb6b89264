"""The table of results: one row per photo, codec and rate, safe from the moment it was measured.

    row --> journal  OUT.journal, one JSON line a row, on disk before the next row begins
                |  at the end
                v
            OUT.parquet or OUT.csv, replaced as a whole

Every row says by itself what it is: photo and its hash, codec, rate, what came out, with which weights and versions.
Values that do not exist are None (empty in CSV), never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import journal, table_files
from ..table_files import Row
from .metrics import METRICS

__all__ = [
    "COLUMNS",
    "FINAL",
    "SCHEMA",
    "Row",
    "journal_path",
    "key",
    "read_table",
    "with_known_metrics",
    "write_table",
]

SCHEMA = 1

OK, DOES_NOT_FIT, NOT_INSTALLED, FAILED = "ok", "does not fit", "not installed", "failed"
FINAL = (OK, DOES_NOT_FIT)  # the others are tried again

COLUMNS: dict[str, type] = {
    "image": str,  # file name
    "image_sha256": str,  # first 16 digits
    "width": int,  # pixels
    "height": int,
    "codec": str,  # as operating.CodecSpec.text
    "rate": float,  # the budget, bits per pixel
    "status": str,
    "message": str,  # why there is no result, else empty
    "bytes": int,  # of the whole file
    "bpp": float,
    "needed_bytes": int,  # of the smallest file possible, where it does not fit
    **dict.fromkeys(METRICS, float),
    "encode_s": float,
    "decode_s": float,
    "quality": float,  # on the codec's own scale
    "scale": float,  # share of width and height that was coded
    "model": str,  # model id and hashes of weights
    "library": str,  # versions
    "torch": str,
    "peer": str,
    "metrics": str,  # those that were asked for, joined by +
    "seed": int,
    "schema": int,
}


_OPTIONAL = {n for n, kind in COLUMNS.items() if kind is not str} - {"rate", "seed", "schema"}


def key(row: Mapping[str, Any]) -> tuple[str, str, float]:
    """What makes a row unique."""
    return row["image"], row["codec"], row["rate"]


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write a table, whole or not at all, sorted by photo, codec and rate.

    Raises:
        OutputError: it cannot be written.
        DependencyMissing: Parquet without pyarrow.
    """
    table_files.write_table(path, sorted(rows, key=key), COLUMNS)


def read_table(path: str | Path) -> list[Row]:
    """Read a table that :func:`write_table` wrote.

    Raises:
        ResultsError: missing, damaged, no table of results, or one of another schema.
        DependencyMissing: Parquet without pyarrow.
    """
    path = Path(path)
    return _checked(table_files.read_table(path, COLUMNS), path)


def journal_path(out: Path) -> Path:
    """Where the rows of a run lie until it is over."""
    return out.with_name(f"{out.name}.journal")


def read_journal(path: Path, report: Callable[[str], None]) -> list[Row]:
    """Rows of a run that was cut off, if there are any; a last line that is not whole is dropped, and said so.

    Raises:
        ResultsError: another line is damaged, or of another schema.
    """
    rows, torn = journal.read(path)
    if torn:
        report(f"{path.name}: its last row was cut off; it is measured again")
    return _checked(rows, path)


def _checked(rows: list[Row], path: Path) -> list[Row]:
    """Refuse rows of another schema, with other columns, or with values of another type."""
    for row in rows:
        table_files.check_row(row, path, COLUMNS, SCHEMA, _OPTIONAL)
        if set(row) != set(COLUMNS):
            raise journal.damaged(path, f"columns {sorted(set(row) ^ set(COLUMNS))}")
    return rows


def with_known_metrics(row: Row, old: Row | None) -> Row:
    """A row measured again, for a picture or a metric that was missing, keeps the metrics that it had."""
    same = ("status", "image_sha256", "bytes", "model", "peer", "library", "torch", "seed")
    if old is None or any(row[name] != old[name] for name in same):
        return row
    asked = {*row["metrics"].split("+"), *old["metrics"].split("+")}
    kept = {name: old[name] for name in METRICS if row[name] is None}
    return row | kept | {"metrics": "+".join(name for name in METRICS if name in asked)}
