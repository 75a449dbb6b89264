"""Tiny notebooks for tests of sweeps, made on the spot; none imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

PARAMETERS = """\
x: int = 1  # a factor: not "y=2"
rate: float = 0.5
marks: str = ""  # every execution adds a line there
seed: int = 0
results_path: str = ""
"""

# Says that it was executed; may fail, or kill whoever executes it, the first time or always.
CODE = """\
import json, os, signal, time
from pathlib import Path

times = 0
if marks:
    log = Path(marks) / f"{x}-{rate}-{seed}.log"
    times = len(log.read_text().splitlines()) if log.exists() else 0
    with log.open("a") as file:
        file.write(f"{os.getpid()}\\n")
"""
RESULT = """\
row = {"product": x * rate + seed, "threads": os.environ["OMP_NUM_THREADS"], "folder": os.getcwd()}
Path(results_path).write_text(json.dumps(row))
"""


def write_notebook(
    path: Path, middle: str = "", parameters: str = PARAMETERS, cells: Sequence[str] | None = None
) -> Path:
    """A notebook of a cell of parameters, ``CODE``, ``middle`` and ``RESULT``, or of other cells after the first."""
    node = nbformat.v4.new_notebook()
    node.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    first = nbformat.v4.new_code_cell(parameters)
    first.metadata.tags = ["parameters"]
    rest = [CODE, middle, RESULT] if cells is None else cells
    node.cells = [nbformat.v4.new_markdown_cell("# A unit"), first]
    node.cells += [nbformat.v4.new_code_cell(code) for code in rest]
    nbformat.write(node, path)
    return path


def write_grid(folder: Path, middle: str = "", **keys: Any) -> Path:
    """A notebook and a grid over it in a folder; executions leave their marks in ``folder/marks``."""
    (folder / "marks").mkdir(exist_ok=True)
    write_notebook(folder / "unit.ipynb", middle)
    content = {"notebook": "unit.ipynb", "out": "out", "fixed": {"marks": str(folder / "marks")}}
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(content | keys))
    return path


def executions(folder: Path) -> dict[str, int]:
    """``"x-rate-seed"`` -> how often it was executed."""
    logs = sorted((folder / "marks").glob("*.log"))
    return {log.stem: len(log.read_text().splitlines()) for log in logs}


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must not depend on when and where a row was measured."""
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "started", "worker")} for row in rows
    ]
