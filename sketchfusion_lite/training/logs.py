"""Logs of a run: CSV files of one row every few steps, whose columns may grow while it goes on.

step, numbers --> append --> log.csv     a discriminator that joins late brings columns of its own
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files import atomic_write_bytes
from ..journal import append_line

__all__ = ["append", "forget_after"]


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row; columns that the file lacks are added to it, empty in the rows above.

    Args:
        path: created if it is absent.
        row: column -> value.

    Raises:
        OutputError: it cannot be written; the rows above are as they were.
    """
    columns, rows = _read(path)
    if new := [name for name in row if name not in columns]:
        columns = [*columns, *new]
        _write(path, columns, rows)
    line = io.StringIO(newline="")
    csv.DictWriter(line, columns, lineterminator="\n").writerow(row)
    append_line(path, line.getvalue())


def forget_after(path: Path, step: int) -> None:
    """Drop the rows of later steps, which a resumed run will do again, and what a kill cut off.

    A file that is absent stays so.

    Raises:
        OutputError: it cannot be read or written.
    """
    if path.exists():
        columns, rows = _read(path)
        _write(path, columns, [row for row in rows if int(row["step"]) <= step])


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows; a line without its end, or of another length than the columns, is no row."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror}).") from error
    columns, *rows = list(csv.reader(text.split("\n")[:-1])) or [[]]
    whole = [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]
    return columns, [row for row in whole if row.get("step", "").isdigit()]


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    if columns:
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    atomic_write_bytes(path, text.getvalue().encode())
