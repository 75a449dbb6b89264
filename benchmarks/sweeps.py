"""Keep the results of the project's sweeps: ``python -m benchmarks.sweeps quantisers ablation``, after

sketchfusion sweep sweeps/NAME.yaml --workers 2

runs/NAME/results.parquet --------------> data/results/NAME.csv               one row a run, without names of machines
runs/ablation/runs/*/codec/log.csv -----> data/results/ablation_training.csv  what the trainings said, every 100 steps
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from sketchfusion_lite.sweeps import read_results
from sketchfusion_lite.sweeps.table import OK, write_results

from .common import RESULTS, machine, write_rows

RUNS = Path(__file__).parents[1] / "runs"
EVERY = 100  # steps
KEPT = ("bpp", "mse", "lpips")


def main(names: list[str]) -> None:
    for name in names:
        rows = read_results(RUNS / name)
        if unfinished := [f"{r['variant']} ({r['status']})" for r in rows if r["status"] != OK]:
            print(f"{name}: left out: {', '.join(unfinished)}")
        rows = [{**row, "worker": ""} for row in rows if row["status"] == OK]
        write_results(RESULTS / f"{name}.csv", rows)
        (RESULTS / f"{name}.machine.txt").write_text(f"{machine()}\n", encoding="utf-8")
        print(f"{name}: {len(rows)} runs; {machine()}")
        if name == "ablation":
            training = [line for row in rows for line in _training(RUNS / name, row)]
            path = write_rows(f"{name}_training", training)
            path.with_suffix(".machine.txt").unlink()


def _training(folder: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    log = folder / "runs" / f"{row['variant']}-{row['run_id']}" / "codec" / "log.csv"
    with log.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if int(line["step"]) % EVERY == 0]
    who = {"variant": row["variant"], "seed": row["param.seed"]}
    return [
        {**who, "step": int(line["step"]), **{key: float(line[key]) for key in KEPT}}
        for line in lines
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
