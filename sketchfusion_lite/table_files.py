"""Files of results: rows of plain values in one table, CSV or Parquet, whole or not at all.

    rows, column -> type --write_table--> OUT.csv or OUT.parquet --read_table--> the same rows

What a row does not have is None, and an empty field in CSV. CSV keeps no types: columns that the reader does not know
get the narrowest one that would write the same texts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import DependencyMissing, ResultsError
from .files import atomic_write_bytes
from .journal import damaged

__all__ = ["Row", "check_row", "is_csv", "read_table", "require_pyarrow", "write_table"]

Row = dict[str, Any]


def require_pyarrow(extra: str = "sweep") -> Any:
    """The package that reads and writes Parquet, asked for before the work whose table it makes.

    Raises:
        DependencyMissing: it is not installed; ``extra`` brings it.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DependencyMissing.for_extra(
            "pyarrow", extra, "a table in Parquet (one named .csv needs nothing)"
        ) from error
    return pyarrow


def is_csv(path: Path) -> bool:
    """Whether a table of this name is CSV; all others are Parquet."""
    return path.suffix.lower() == ".csv"


def write_table(path: Path, rows: Iterable[Row], kinds: Mapping[str, type]) -> None:
    """Write rows in their order.

    Args:
        path: ``.csv``, else Parquet.
        rows: each with values of these columns alone.
        kinds: column -> bool, int, float or str.

    Raises:
        OutputError: it cannot be written.
        DependencyMissing: Parquet without pyarrow.
    """
    if is_csv(path):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(kinds), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)  # None becomes empty; floats keep every digit
        data = text.getvalue().encode("utf-8", "replace")
    else:
        pa = require_pyarrow()
        arrow = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        schema = pa.schema([(name, arrow[kind]) for name, kind in kinds.items()])
        buffer = io.BytesIO()
        pa.parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer)
        data = buffer.getvalue()
    atomic_write_bytes(path, data)


def read_table(path: Path, kinds: Mapping[str, type]) -> list[Row]:
    """Rows of a table; see :func:`check_row` for whether they are what they should be.

    Args:
        path: ``.csv``, else Parquet.
        kinds: column -> type, of the columns that are known.

    Raises:
        ResultsError: it cannot be read, or is damaged.
        DependencyMissing: Parquet without pyarrow.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}).") from error
    if is_csv(path):
        try:
            columns, rows = _parse_csv(data.decode(), kinds)
        except (csv.Error, ValueError) as error:
            raise damaged(path, str(error)) from error
        if "schema" not in columns:  # there may be no row
            raise _foreign(path)
        return rows
    pa = require_pyarrow()
    try:
        return pa.parquet.read_table(pa.BufferReader(data)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error).splitlines()[0]) from error


def check_row(
    row: Any, path: Path, kinds: Mapping[str, type], schema: int, optional: Collection[str]
) -> Row:
    """The row, if it is one of this schema.

    Args:
        row: from a table or a journal.
        path: where it was.
        kinds: column -> type, of the columns that it must have.
        schema: number in its column ``schema``.
        optional: columns that may be None.

    Raises:
        ResultsError: it is none, of another schema, or has a value of another type.
    """
    if not isinstance(row, dict) or "schema" not in row:
        raise _foreign(path)
    if row["schema"] != schema:
        raise ResultsError(
            f"{path}: schema {row['schema']}, this release reads {schema}. Read it with the release that wrote it, "
            "or choose a new place for the results."
        )
    for name, kind in kinds.items():
        value = row.get(name)
        allowed = (int, float) if kind is float else (kind,)
        if not (value is None and name in optional) and type(value) not in allowed:
            raise damaged(path, f"{name} is {value!r}")
    return row


def _foreign(path: Path) -> ResultsError:
    return ResultsError(f"{path}: holds no results of this kind. Choose another file or folder.")


def _parse_csv(text: str, kinds: Mapping[str, type]) -> tuple[Collection[str], list[Row]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = list(reader)
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has too few or too many fields")
    for name in reader.fieldnames or ():
        values = _values([row[name] for row in rows], kinds.get(name))
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return reader.fieldnames or (), rows


def _values(texts: list[str], kind: type | None) -> list[Any]:
    if kind is str:
        return texts
    for each in [kind] if kind else [bool, int, float]:
        try:
            values = [None if text == "" else _value(text, each) for text in texts]
        except ValueError:
            continue
        if kind or all(v is None or str(v) == t for v, t in zip(values, texts, strict=True)):
            return values
    if kind:
        raise ValueError(f"not all values are {kind.__name__}: {texts[0]!r} ...")
    return [text or None for text in texts]


def _value(text: str, kind: type) -> Any:
    if kind is bool and text not in ("True", "False"):
        raise ValueError(text)
    return text == "True" if kind is bool else kind(text)
