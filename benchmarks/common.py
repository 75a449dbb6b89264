"""What the benchmarks share: where results go, and on what they were measured."""

from __future__ import annotations

import csv
import platform
from pathlib import Path

import torch

from sketchfusion_lite.evaluation.machine import peak_megabytes

__all__ = ["RESULTS", "machine", "markdown", "peak_megabytes", "write_rows"]

RESULTS = Path(__file__).parents[1] / "data" / "results"


def machine() -> str:
    """One line on the machine: processor, threads, versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    vector = torch.backends.cpu.get_cpu_capability()
    return f"{processor} ({vector}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def write_rows(name: str, rows: list[dict]) -> Path:
    """Write rows of equal keys to ``data/results/NAME.csv``."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".machine.txt").write_text(machine() + "\n", encoding="utf-8")
    return path


def markdown(rows: list[dict]) -> str:
    """A table of rows for the terminal, README and model card."""
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(str(row[key]) for key in header) + " |" for row in rows]
    return "\n".join(lines)
