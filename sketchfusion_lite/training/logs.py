"""Logs of a run: CSV files of one row every few steps, whose columns may grow while it goes on.

step, numbers --> append --> log.csv     a discriminator that joins late brings columns of its own
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_write_bytes

__all__ = ["append", "forget_after"]


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row; columns that the file lacks are added to it, empty in the rows above.

    Args:
        path: created if it is absent.
        row: column -> value.
    """
    columns, rows = _read(path)
    if new := [name for name in row if name not in columns]:
        columns = [*columns, *new]
        _write(path, columns, rows)
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, columns, lineterminator="\n").writerow(row)


def forget_after(path: Path, step: int) -> None:
    """Drop the rows of later steps, which a resumed run will do again; a file that is absent stays so."""
    if path.exists():
        columns, rows = _read(path)
        _write(path, columns, [row for row in rows if int(row["step"]) <= step])


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.exists():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [{k: v for k, v in row.items() if k is not None} for row in reader]
        return list(reader.fieldnames or ()), rows


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_bytes(path, text.getvalue().encode())
