"""What the benchmarks share: where results go, and on what they were measured."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from sketchfusion_lite.files import atomic_write_bytes

RESULTS = Path(__file__).parents[1] / "data" / "results"


def processor() -> str:
    """Name of the processor and its widest vectors in use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{names[0] if names else platform.processor()} ({vectors})"


def machine() -> str:
    """One line on the machine: processor, threads, versions."""
    return f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def write_rows(name: str, rows: Sequence[dict]) -> Path:
    """Write rows of equal keys to ``data/results/NAME.csv``, and beside it where they were measured."""
    path = RESULTS / f"{name}.csv"
    _write(path, rows)
    path.with_suffix(".machine.txt").write_text(machine() + "\n", encoding="utf-8")
    return path


def record(
    path: Path, row: dict, keys: Sequence[str], order: Callable[[dict], Any] | None = None
) -> None:
    """Put a row into a table, in place of an earlier one of the same keys; others may do so at the same time.

    Args:
        path: of the table (.csv), made if absent.
        row: of the table's columns.
        keys: what tells its rows apart.
        order: sorts the rows; None leaves the new one at the end.
    """
    row = {name: str(value) for name, value in row.items()}
    with FileLock(path.with_name(f".{path.name}.lock")):
        rows = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [old for old in csv.DictReader(file) if any(old[k] != row[k] for k in keys)]
        rows.append(row)
        _write(path, sorted(rows, key=order) if order else rows)


def _write(path: Path, rows: Sequence[dict]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, text.getvalue().encode())


def write_notebook(path: Path, parameters: str, *code: str) -> Path:
    """A notebook for sweeps: the cell of parameters, and others."""
    import nbformat  # not in the library's own dependencies

    node = nbformat.v4.new_notebook()
    node.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    node.cells = [nbformat.v4.new_code_cell(source) for source in (parameters, *code)]
    node.cells[0].metadata.tags = ["parameters"]
    nbformat.write(node, path)
    return path


def markdown(rows: list[dict]) -> str:
    """A table of rows for the terminal, README and model card."""
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(str(row[key]) for key in header) + " |" for row in rows]
    return "\n".join(lines)
