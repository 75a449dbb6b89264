"""The table of a sweep's results: one row per run, in one Parquet or CSV file.

First the columns of ``COLUMNS``, then one ``param.NAME`` for every parameter of the notebooks (the defaults of those
that the grid leaves alone, too) and one ``metric.NAME`` for every value that a notebook wrote. What a row does not have
is None. A column of ``param`` or ``metric`` is bool, int, float or str, whichever holds all its values; lists and
mappings are JSON text. CSV keeps no types: there, they are read off the texts.

The rows also lie in the folders of the runs: the table can be made again from them, and is when a sweep starts.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DependencyMissing, ResultsError
from ..files import atomic_write_bytes

if TYPE_CHECKING:
    from .plan import Run

__all__ = ["COLUMNS", "FAILED", "LOST", "OK", "SCHEMA", "Row", "read_results", "row_of"]

Row = dict[str, Any]

SCHEMA = 1

OK, FAILED, LOST = "ok", "failed", "lost"
STATUSES = (OK, FAILED, LOST)

COLUMNS: dict[str, type] = {
    "run_id": str,  # 12 hexadecimal digits
    "variant": str,  # name in the grid
    "status": str,  # ok; failed: the notebook raised an error; lost: its workers died
    "error": str,  # what went wrong, else empty
    "seconds": float,  # wall time, start of the kernel included
    "started": str,  # UTC, ISO 8601
    "notebook": str,  # file name
    "worker": str,  # host and process
    "git": str,  # revision of the notebook's repository; empty without one
    "git_dirty": bool,  # whether tracked files differed from it
    "library": str,  # versions
    "python": str,
    "torch": str,
    "papermill": str,
    "schema": int,
}
_OPTIONAL = ("seconds", "git_dirty")  # None in a row of status lost
_STEM = "results"


def row_of(run: Run, metrics: Mapping[str, Any], **columns: Any) -> Row:
    """A row with all of ``COLUMNS``; texts not given are empty."""
    row: Row = {name: "" if kind is str else None for name, kind in COLUMNS.items()}
    row |= {"run_id": run.run_id, "variant": run.variant, "schema": SCHEMA, **columns}
    for name, value in {**run.defaults, **run.parameters}.items():
        is_plain = isinstance(value, str | int | float | bool | None)
        row[f"param.{name}"] = value if is_plain else json.dumps(value, default=repr)
    return row | {f"metric.{name}": value for name, value in metrics.items()}


def table_path(out: Path, kind: str) -> Path:
    """Where the table of a sweep lies."""
    return out / f"{_STEM}.{kind}"


def require_pyarrow() -> None:
    """Fail before the first run, not after it.

    Raises:
        DependencyMissing: it is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise DependencyMissing.for_extra(
            "pyarrow", "sweep", "a table in Parquet (`table: csv` needs nothing)"
        ) from error


# --------------------------------------------------------------------------------------------------
# Writing


def write_results(path: Path, rows: Iterable[Row]) -> None:
    """Write a table, whole or not at all, in an order that does not depend on which run ended first.

    Raises:
        OutputError: it cannot be written.
    """
    rows = sorted(rows, key=_order)
    kinds = _kinds(rows)
    rows = _aligned(rows, kinds)
    if path.suffix == ".csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(kinds), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)  # None becomes empty; floats keep every digit
        data = text.getvalue().encode("utf-8", "replace")
    else:
        import pyarrow as pa
        import pyarrow.parquet

        arrow = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        schema = pa.schema(
            [(name, arrow[kind]) for name, kind in kinds.items()],
            metadata={"sketchfusion_sweep": str(SCHEMA)},
        )
        buffer = io.BytesIO()
        pa.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
        data = buffer.getvalue()
    atomic_write_bytes(path, data)


def aligned(rows: list[Row]) -> list[Row]:
    """Rows as a table has them: all with the same columns, and one type in each."""
    return _aligned(rows, _kinds(rows))


def _aligned(rows: list[Row], kinds: Mapping[str, type]) -> list[Row]:
    return [{name: _cast(row.get(name), kind) for name, kind in kinds.items()} for row in rows]


def _order(row: Row) -> tuple[str, ...]:
    parameters = {name: value for name, value in row.items() if name.startswith("param.")}
    return row["variant"], json.dumps(parameters, sort_keys=True, default=str), row["run_id"]


def _kinds(rows: list[Row]) -> dict[str, type]:
    """Column -> type, fixed columns first, the others by name."""
    found: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in COLUMNS:
                found.setdefault(name, set())
                if value is not None:
                    found[name].add(type(value))
    others = sorted(found, key=lambda name: (name.startswith("metric."), name))
    return COLUMNS | {name: _common(found[name]) for name in others}


def _common(kinds: set[type]) -> type:
    if len(kinds) == 1 and kinds <= {bool, int, float, str}:
        return next(iter(kinds))
    return float if kinds == {int, float} else str


def _cast(value: Any, kind: type) -> Any:
    if value is None or type(value) is kind:
        # No file of text can hold half of a surrogate pair.
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
    return kind(value)


# --------------------------------------------------------------------------------------------------
# Reading


def read_results(path: str | Path) -> list[Row]:
    """Rows of a sweep, sorted by variant and parameters; ``pandas.DataFrame(rows)`` makes a data frame of them.

    Args:
        path: the table, or the folder that it lies in.

    Raises:
        ResultsError: missing, damaged, no table of a sweep, or one of another schema.
        DependencyMissing: Parquet without pyarrow.
    """
    path = Path(path)
    if path.is_dir():
        tables = [table_path(path, kind) for kind in ("parquet", "csv")]
        there = [table for table in tables if table.exists()]
        if len(there) != 1:
            raise ResultsError(
                f"{path}: {len(there)} tables of results there. Name one, or run the sweep."
            )
        path = there[0]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}).") from error
    rows = _parse_csv(data, path) if path.suffix == ".csv" else _parse_parquet(data, path)
    for row in rows:
        check_row(row, path)
    return rows


def check_row(row: Any, path: Path) -> Row:
    """The row, if it is one.

    Raises:
        ResultsError: it is of another schema, or lacks a column, or has a value of another type.
    """
    if not isinstance(row, dict) or "schema" not in row:
        raise ResultsError(f"{path}: holds no results of a sweep. Choose another file or folder.")
    if row["schema"] != SCHEMA:
        raise ResultsError(
            f"{path}: schema {row['schema']}, this release reads {SCHEMA}. Read it with the release that wrote it, "
            "or sweep into a new folder."
        )
    for name, kind in COLUMNS.items():
        value = row.get(name)
        if not (value is None and name in _OPTIONAL) and type(value) is not kind:
            raise _damaged(path, f"{name} is {value!r}")
    if row["status"] not in STATUSES:
        raise _damaged(path, f"status is {row['status']!r}")
    return row


def _parse_parquet(data: bytes, path: Path) -> list[Row]:
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pa.parquet.read_table(pa.BufferReader(data)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error


def _parse_csv(data: bytes, path: Path) -> list[Row]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
        texts = list(reader)
        names = list(reader.fieldnames or ())
        if any(None in row or None in row.values() for row in texts):
            raise ValueError("a row has too few or too many fields")
        columns = {name: _values([row[name] for row in texts], COLUMNS.get(name)) for name in names}
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    return [{name: columns[name][i] for name in names} for i in range(len(texts))]


def _values(texts: list[str], kind: type | None) -> list[Any]:
    """Values of a CSV column: of the type given, else of the narrowest one that writes the same texts."""
    kinds = (bool, int, float) if kind is None else (kind,)
    for each in kinds:
        try:
            values = [_from_text(text, each) for text in texts]
        except ValueError:
            continue
        is_same = all(v is None or str(v) == t for v, t in zip(values, texts, strict=True))
        if kind is not None or is_same:
            return values
    if kind is not None:
        raise ValueError(f"not all values are {kind.__name__}: {texts[0]!r} ...")
    return [text or None for text in texts]


def _from_text(text: str, kind: type) -> Any:
    if kind is str:
        return text
    if text == "":
        return None
    if kind is bool:
        if text not in ("True", "False"):
            raise ValueError(text)
        return text == "True"
    return kind(text)


def _damaged(path: Path, reason: str) -> ResultsError:
    return ResultsError(
        f"{path}: damaged ({reason}). Restore it from a copy, or move it away: the next start of the sweep makes it "
        "again from the folders of the runs."
    )
