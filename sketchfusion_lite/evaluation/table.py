"""The table of results: one row per photo, codec and rate, safe from the moment it was measured.

    row --> journal  OUT.journal, one JSON line a row, on disk before the next row begins
                |  at the end
                v
            OUT.parquet or OUT.csv, replaced as a whole

Every row says by itself what it is: photo and its hash, codec, rate, what came out, with which weights and versions.
Values that do not exist are None (empty in CSV), never zero.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import journal
from ..errors import DependencyMissing, ResultsError
from ..files import atomic_write_bytes

__all__ = [
    "COLUMNS",
    "FINAL",
    "SCHEMA",
    "Row",
    "journal_path",
    "key",
    "read_table",
    "write_table",
]

Row = dict[str, Any]

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
    "psnr": float,  # dB
    "ms_ssim": float,
    "lpips_alex": float,
    "lpips_vgg": float,
    "dists": float,
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


def key(row: Mapping[str, Any]) -> tuple[str, str, float]:
    """What makes a row unique."""
    return row["image"], row["codec"], row["rate"]


def require_pyarrow() -> ModuleType:
    """The module pyarrow with its Parquet part.

    Raises:
        DependencyMissing: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DependencyMissing.for_extra(
            "pyarrow", "peers", "a table in Parquet (one named .csv needs nothing)"
        ) from error
    return pyarrow


def is_csv(path: Path) -> bool:
    """Whether a table of this name is CSV; all others are Parquet."""
    return path.suffix.lower() == ".csv"


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write a table, whole or not at all, sorted by photo, codec and rate.

    Raises:
        OutputError: it cannot be written.
        DependencyMissing: Parquet without pyarrow.
    """
    rows = sorted(rows, key=key)
    if is_csv(path):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)  # None becomes empty; floats keep every digit
        data = text.getvalue().encode()
    else:
        pa = require_pyarrow()
        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
        buffer = io.BytesIO()
        pa.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
        data = buffer.getvalue()
    atomic_write_bytes(path, data)


def read_table(path: str | Path) -> list[Row]:
    """Read a table that :func:`write_table` wrote.

    Raises:
        ResultsError: missing, damaged, no table of results, or one of another schema.
        DependencyMissing: Parquet without pyarrow.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}).") from error
    if is_csv(path):
        try:
            reader = csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
            rows = [_from_text(row) for row in reader]
        except (csv.Error, ValueError) as error:
            raise journal.damaged(path, str(error)) from error
        if "schema" not in (reader.fieldnames or ()):  # it may have no row
            raise _foreign(path)
        return _checked(rows, path)
    pa = require_pyarrow()
    try:
        rows = pa.parquet.read_table(pa.BufferReader(data)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise journal.damaged(path, str(error).splitlines()[0]) from error
    return _checked(rows, path)


def _from_text(row: dict[str, str]) -> Row:
    if None in row or None in row.values():
        raise ValueError("a row has too few or too many fields")
    kinds = {name: COLUMNS.get(name, str) for name in row}
    return {
        name: text if kinds[name] is str else kinds[name](text) if text else None
        for name, text in row.items()
    }


def _checked(rows: list[Row], path: Path) -> list[Row]:
    """Refuse rows of another schema, or with values of another type.

    Raises:
        ResultsError: see there.
    """
    for row in rows:
        if not isinstance(row, dict) or "schema" not in row:
            raise _foreign(path)
        if row["schema"] != SCHEMA:
            raise ResultsError(
                f"{path}: schema {row['schema']}, this release reads {SCHEMA}. Read it with the release that wrote "
                "it, or measure into a new file."
            )
        if set(row) != set(COLUMNS):
            raise journal.damaged(path, f"columns {sorted(set(row) ^ set(COLUMNS))}")
        for name, kind in COLUMNS.items():
            optional = kind is not str and name not in ("rate", "seed", "schema")
            allowed = (int, float) if kind is float else kind
            if not isinstance(row[name], allowed) and not (row[name] is None and optional):
                raise journal.damaged(path, f"{name} is {row[name]!r}")
    return rows


def _foreign(path: Path) -> ResultsError:
    return ResultsError(f"{path}: no table of results of this library. Choose another file.")


def journal_path(out: Path) -> Path:
    """Where the rows of a run lie until it is over."""
    return out.with_name(f"{out.name}.journal")


def read_journal(path: Path, report: Callable[[str], None]) -> list[Row]:
    """Rows of a run that was cut off; a last line that is not whole is dropped, and said so.

    Args:
        path: may be absent, as after a run that ended well.
        report: receives the note.

    Raises:
        ResultsError: another line is damaged, or of another schema.
    """
    rows, torn = journal.read(path)
    if torn:
        report(f"{path.name}: its last row was cut off; it is measured again")
    return _checked(rows, path)
