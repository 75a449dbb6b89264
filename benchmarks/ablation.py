"""Keep the results of the ablation: ``python -m benchmarks.ablation [FOLDER]``, after

sketchfusion sweep sweeps/ablation.yaml --workers 2

FOLDER/results.parquet -----------> data/results/ablation.csv          one row a run, without names of machines
FOLDER/runs/*/codec/log.csv ------> data/results/ablation_training.csv  what the trainings said, every 100 steps
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sketchfusion_lite.sweeps import read_results
from sketchfusion_lite.sweeps.table import OK, write_results

from .common import RESULTS, machine, write_rows

FOLDER = Path(__file__).parents[1] / "runs" / "ablation"
EVERY = 100  # steps
KEPT = ("bpp", "mse", "lpips")


def main(folder: Path = FOLDER) -> None:
    rows = read_results(folder)
    unfinished = [f"{row['variant']} ({row['status']})" for row in rows if row["status"] != OK]
    if unfinished:
        print(f"left out: {', '.join(unfinished)}")
    rows = [{**row, "worker": ""} for row in rows if row["status"] == OK]
    write_results(RESULTS / "ablation.csv", rows)
    training = [line for row in rows for line in _training(folder, row)]
    path = write_rows("ablation_training", training)
    path.with_suffix(".machine.txt").rename(RESULTS / "ablation.machine.txt")
    print(f"{len(rows)} runs, {len(training)} points of their trainings; {machine()}")


def _training(folder: Path, row: dict) -> list[dict]:
    log = folder / "runs" / f"{row['variant']}-{row['run_id']}" / "codec" / "log.csv"
    with log.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if int(line["step"]) % EVERY == 0]
    who = {"variant": row["variant"], "seed": row["param.seed"]}
    return [
        {**who, "step": int(line["step"]), **{key: float(line[key]) for key in KEPT}}
        for line in lines
    ]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
