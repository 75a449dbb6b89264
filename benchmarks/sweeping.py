"""What a sweep costs beyond papermill, and what a second worker brings: ``python -m benchmarks sweeping``.

The same runs, by papermill one after the other and by sweeps. Starting the workers is measured apart: it is paid once.
The work of a run is a fixed number of loops in Python, so that two workers on two idle cores can be twice as fast.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from sketchfusion_lite.sweeps import run
from sketchfusion_lite.workers.cluster import ONE_THREAD, environment, open_client

from .common import machine, markdown, write_notebook, write_rows

RUNS = 8
LOOPS = 40_000_000  # a few seconds a run
CELLS = (  # a notebook that works for a while and reports a number
    'start: int = 0\nloops: int = 1\nresults_path: str = ""',
    "import json\nvalue = start\nfor _ in range(loops):\n    value = (value * 5 + 1) % 65537",
    'with open(results_path, "w") as file:\n    json.dump({"value": value}, file)',
)


def plain_seconds(notebook: Path, out: Path, runs: int, loops: int) -> float:
    """Seconds of a loop over papermill, its import not counted."""
    import papermill

    out.mkdir()
    began = time.perf_counter()
    with environment(ONE_THREAD):
        for start in range(runs):
            values = {"start": start, "loops": loops, "results_path": str(out / f"{start}.json")}
            target = str(out / f"{start}.ipynb")
            papermill.execute_notebook(str(notebook), target, values, progress_bar=False)
    return time.perf_counter() - began


def sweep_seconds(notebook: Path, out: Path, runs: int, loops: int, workers: int) -> float:
    """Seconds of a sweep on workers that are there, each warmed up by a run of its own."""
    grid = {"notebook": notebook, "out": out, "fixed": {"loops": loops}}
    with open_client(workers) as client:
        address = client.scheduler.address
        warm = {**grid, "out": f"{out}-warm", "fixed": {"loops": 1}}
        run({**warm, "grid": {"start": list(range(2 * workers))}}, scheduler=address)
        began = time.perf_counter()
        rows = run({**grid, "grid": {"start": list(range(runs))}}, scheduler=address)
        seconds = time.perf_counter() - began
    if bad := [row["error"] for row in rows if row["status"] != "ok"]:
        raise RuntimeError(bad[0])
    return seconds


def start_seconds(workers: int) -> float:
    """Seconds until workers are there, and gone again."""
    began = time.perf_counter()
    with open_client(workers) as client:
        client.wait_for_workers(workers)
    return time.perf_counter() - began


def measure(runs: int = RUNS, loops: int = LOOPS) -> list[dict[str, str]]:
    """Rows: seconds in all, per run, and what a run costs more than by papermill alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notebook = write_notebook(folder / "unit.ipynb", *CELLS)
        plain_seconds(notebook, folder / "warm", 1, 1)
        plain = plain_seconds(notebook, folder / "plain", runs, loops)
        found = [("papermill alone", plain, "", "")]
        one = sweep_seconds(notebook, folder / "one", runs, loops, 1)
        found.append(("sweep, 1 worker", one, (one - plain) / runs, ""))
        two = sweep_seconds(notebook, folder / "two", runs, loops, 2)
        found.append(("sweep, 2 workers", two, "", one / two))
    rows = [
        {
            "what": what,
            "runs": str(runs),
            "seconds": f"{seconds:.2f}",
            "seconds per run": f"{seconds / runs:.2f}",
            "over papermill, s per run": f"{over:+.2f}" if over != "" else "",
            "times one worker": f"{gain:.2f}" if gain != "" else "",
        }
        for what, seconds, over, gain in found
    ]
    empty = dict.fromkeys(rows[0], "")
    start = {"what": "start and stop 2 workers", "seconds": f"{start_seconds(2):.2f}"}
    return [*rows, {**empty, **start}]


def main() -> None:
    print(machine())
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"note: the machine is busy (load {load:.1f}); the gain of two workers means little")
    rows = measure()
    write_rows("sweeping", rows)
    print(markdown(rows))


if __name__ == "__main__":
    main()
