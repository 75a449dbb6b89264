"""``python -m tools.faults [encode|train|sweep|evaluate|fetch|all ...] --tries N --seed S``.

Prints a line per command and writes ``data/results/faults.csv``: a command run again replaces its row. Ends with
status 1 if there was any fault; the folders of those trials are kept, and named.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.common import RESULTS as FOLDER
from benchmarks.common import record

from .killing import Tally, measure, trial
from .scenarios import SCENARIOS

RESULTS = FOLDER / "faults.csv"


def run(
    name: str, tries: int, seed: int, folder: Path, results: Path = RESULTS, hits: int | None = None
) -> Tally:
    """All trials of one command; the seed decides number and moments of the kills.

    Args:
        name: key of ``SCENARIOS``.
        tries: trials, at most.
        seed: of the moments, together with the name.
        folder: for inputs and outputs.
        results: the table.
        hits: stop after so many kills that met the process alive.
    """
    scenario = SCENARIOS[name](folder / "inputs")
    order = list(SCENARIOS)
    tally, rng = Tally(name), random.Random(f"{name} {seed}")
    reference = measure(scenario, folder / name / "reference")
    for number in range(tries):
        if hits is not None and tally.hits >= hits:
            break
        trial(scenario, folder / name / f"try{number:03d}", reference, rng, tally)
        # after every trial: this run, too, may be stopped
        record(results, tally.row(), ["command"], lambda row: order.index(row["command"]))
    return tally


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("names", nargs="*", default=["all"], metavar="COMMAND")
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hits", type=int, help="stop after so many kills in time")
    parser.add_argument("--results", type=Path, default=RESULTS, help="table to write")
    chosen = parser.parse_args(arguments)
    names = list(SCENARIOS) if "all" in chosen.names else chosen.names
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"unknown {sorted(unknown)}; there are: {', '.join(SCENARIOS)}, all")
    folder, faults = Path(tempfile.mkdtemp(prefix="sketchfusion-faults-")), []
    for name in names:
        tally = run(name, chosen.tries, chosen.seed, folder, chosen.results, chosen.hits)
        faults += tally.faults
        print(", ".join(f"{key} {value}" for key, value in tally.row().items()), flush=True)
        for line in tally.faults:
            print(f"  {line}", flush=True)
    if faults:
        print(f"{len(faults)} faults; what they left: {folder}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
