"""The tables of a run: CSV files whose columns may grow while it goes on, as a discriminator joins late."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files import atomic_write_bytes


class Log:
    """One table, written anew with every row: a few hundred of them in a run.

    Args:
        path: what it holds already is kept up to ``step``. Later rows go, as a resumed run makes them again, and so
            does what a kill has torn.
        step: the run's.

    Raises:
        OutputError: it cannot be read or written.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.rows = path, []
        if path.exists():
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                raise OutputError(f"{path}: cannot be read ({error.strerror}).") from error
            found = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
            whole = [row for row in found if None not in row and None not in row.values()]
            self.rows = [r for r in whole if r["step"].isdigit() and int(r["step"]) <= step]
            self._write()

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row, ``step`` among its columns; columns that are new stay empty in the rows above."""
        self.rows.append(dict(row))
        self._write()

    def _write(self) -> None:
        columns = dict.fromkeys(name for row in self.rows for name in row)
        text = io.StringIO(newline="")
        if columns:
            table = csv.DictWriter(text, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)
        atomic_write_bytes(self.path, text.getvalue().encode())
