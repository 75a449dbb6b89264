"""The table of a sweep's results: one row per run, in one Parquet or CSV file.

First the columns of ``COLUMNS``, then one ``param.NAME`` for every parameter of the notebooks (the defaults of those
that the grid leaves alone, too) and one ``metric.NAME`` for every value that a notebook wrote. A column of ``param`` or
``metric`` is bool, int, float or str, whichever holds all its values; lists and mappings are JSON text.

The rows also lie in the folders of the runs: the table can be made again from them, and is when a sweep starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import table_files
from ..errors import ResultsError
from ..journal import damaged
from ..table_files import Row

if TYPE_CHECKING:
    from .plan import Run

__all__ = ["COLUMNS", "FAILED", "LOST", "OK", "SCHEMA", "Row", "read_results", "row_of"]

SCHEMA = 1

OK, FAILED, LOST = "ok", "failed", "lost"

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
    return out / f"results.{kind}"


def write_results(path: Path, rows: Iterable[Row]) -> None:
    """Write a table, whole or not at all, in an order that does not depend on which run ended first.

    Raises:
        OutputError: it cannot be written.
    """

    def order(row: Row) -> tuple[str, ...]:
        parameters = {name: value for name, value in row.items() if name.startswith("param.")}
        return row["variant"], json.dumps(parameters, sort_keys=True, default=str), row["run_id"]

    rows = sorted(rows, key=order)
    table_files.write_table(path, aligned(rows), _kinds(rows))


def aligned(rows: list[Row]) -> list[Row]:
    """Rows as a table has them: all with the same columns, and one type in each."""
    kinds = _kinds(rows)
    return [{name: _cast(row.get(name), kind) for name, kind in kinds.items()} for row in rows]


def _kinds(rows: list[Row]) -> dict[str, type]:
    """Column -> type, fixed columns first, the others by name."""
    found: dict[str, set[type]] = {}
    for row in rows:
        for name in row.keys() - COLUMNS.keys():
            found.setdefault(name, set()).add(type(row[name]))
    kinds = dict(COLUMNS)
    for name in sorted(found, key=lambda name: (name.startswith("metric."), name)):
        own = found[name] - {type(None)}
        one = own.pop() if own in ({bool}, {int}, {float}) else str
        kinds[name] = float if own == {int, float} else one
    return kinds


def _cast(value: Any, kind: type) -> Any:
    if isinstance(value, str):  # no file of text can hold half of a surrogate pair
        return value.encode("utf-8", "replace").decode()
    return value if value is None else kind(value)


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
        there = [t for t in (table_path(path, kind) for kind in ("parquet", "csv")) if t.exists()]
        if len(there) != 1:
            raise ResultsError(
                f"{path}: {len(there)} tables of results there. Name one, or run the sweep."
            )
        path = there[0]
    return [check_row(row, path) for row in table_files.read_table(path, COLUMNS)]


def check_row(row: Any, path: Path) -> Row:
    """The row, if it is one of a sweep.

    Raises:
        ResultsError: it is of another schema, or lacks a column, or has a value of another type.
    """
    row = table_files.check_row(row, path, COLUMNS, SCHEMA, _OPTIONAL)
    if row["status"] not in (OK, FAILED, LOST):
        raise damaged(path, f"status is {row['status']!r}")
    return row
