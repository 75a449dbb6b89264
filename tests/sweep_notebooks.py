"""Tiny notebooks for tests of sweeps, made on the spot; none imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def code(source: Any, *tags: str, **keys: Any) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": []} | keys


def prose(source: str, *tags: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": source, "metadata": {"tags": list(tags)}}


def content(*cells: dict, metadata: dict | None = None, **keys: Any) -> dict[str, Any]:
    """A notebook as a program may write it: no ids, no execution counts."""
    common = {"metadata": metadata or {}, "nbformat": 4, "nbformat_minor": 4}
    return {"cells": list(cells), **common, **keys}


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """A notebook of a cell of parameters and cells of code."""
    parts = [prose("# A unit"), code(parameters, "parameters"), *map(code, cells)]
    path.write_text(json.dumps(content(*parts)))
    return path


def write_grid(folder: Path, middle: str = "", **keys: Any) -> Path:
    """A notebook and a grid over it in a folder; executions leave their marks in ``folder/marks``."""
    (folder / "marks").mkdir(exist_ok=True)
    write_notebook(folder / "unit.ipynb", CODE, middle, RESULT)
    given = {"notebook": "unit.ipynb", "out": "out", "fixed": {"marks": str(folder / "marks")}}
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(given | keys))
    return path


def executions(folder: Path) -> dict[str, int]:
    """``"x-rate-seed"`` -> how often it was executed."""
    logs = sorted((folder / "marks").glob("*.log"))
    return {log.stem: len(log.read_text().splitlines()) for log in logs}
