"""``sketchfusion sweep``: a notebook over a grid of parameters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from ..errors import ArgumentError, SweepError
from .console import needs_extra, note, say, show
from .options import Scheduler

if TYPE_CHECKING:
    from ..sweeps.plan import Plan


def sweep(
    grid: Annotated[
        Path,
        typer.Argument(
            metavar="GRID.yaml", help="Notebook, parameters and folder of the results; see docs."
        ),
    ],
    workers: Annotated[
        int, typer.Option(min=1, help="Processes on this machine, of one thread each.")
    ] = 1,
    scheduler: Scheduler = None,
    resources: Annotated[
        str,
        typer.Option(metavar="NAME=AMOUNT", help="What each run needs of a worker, as in GPU=1."),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the results, instead of the grid's.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Time limit of a run, instead of the grid's; a run over it is ended and has failed.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Go on where the folder stands, or refuse one with results.",
        ),
    ] = True,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run those again whose notebook failed.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, list the runs, and start nothing."),
    ] = False,
) -> None:
    """Run a notebook with every combination of a grid; one row of results per run, in one table.

    Stop it at any moment and start it again to go on: finished runs are not repeated. A notebook that
    fails is a row with its error; the exit status then says so.
    """
    with needs_extra("sweep", "a sweep"):
        from ..sweeps import load_grid, plan, run
        from ..sweeps.engine import require_packages

        require_packages()
    asked, loaded = _parse_resources(resources), load_grid(grid, out=out, timeout=timeout)
    planned, begun, new = plan(loaded), time.monotonic(), 0

    def told(row: dict[str, Any], done: int, total: int) -> None:
        nonlocal new
        new += 1
        left = timedelta(seconds=round((time.monotonic() - begun) / new * (total - done)))
        settings = [f"{n}={row[f'param.{n}']!r}" for n in planned.varied]
        took = "" if row["seconds"] is None else f" in {row['seconds']:.1f} s"
        error = f": {row['error'].splitlines()[0]}" if row["error"] else ""
        note(
            f"[{done}/{total}, {left} left] {row['status']} {row['variant']}-{row['run_id']}{took} "
            f"({', '.join(settings) or 'defaults'}){error}"
        )

    rows = run(
        loaded,
        workers=workers,
        scheduler=scheduler,
        resources=asked,
        resume=resume,
        retry_failed=retry_failed,
        dry_run=dry_run,
        on_row=told,
        report=note,
    )
    if dry_run:
        _list_runs(planned, rows, ("lost", "failed") if retry_failed else ("lost",))
        return
    bad = [row for row in rows if row["status"] != "ok"]
    say(f"{loaded.out}  {len(rows)} runs  {len(rows) - len(bad)} ok")
    if bad:
        raise SweepError(
            f"{len(bad)} of {len(rows)} runs have no result, see the column error of {loaded.out}, or the notebooks "
            f"there. The first: {bad[0]['variant']}-{bad[0]['run_id']}: {bad[0]['error']}. "
            "Failed runs are repeated with --retry-failed."
        )


def _parse_resources(text: str) -> dict[str, float] | None:
    if not text:
        return None
    found = {}
    for part in text.split(","):
        name, _, amount = part.partition("=")
        try:
            found[name.strip()] = float(amount)
        except ValueError as error:
            raise ArgumentError(f"--resources {text}: write NAME=AMOUNT, as in GPU=1.") from error
        if not name.strip() or not 0 < found[name.strip()] < float("inf"):
            raise ArgumentError(f"--resources {text}: write NAME=AMOUNT, as in GPU=1.")
    return found


def _list_runs(planned: Plan, rows: list[dict[str, Any]], again: Sequence[str]) -> None:
    """A line for each run, with its parameters and state; ``again`` are the states of rows that count for nothing."""
    states = {row["run_id"]: row["status"] for row in rows}
    runs, names, out = planned.runs, planned.varied, planned.grid.out
    listing = Table("run", "variant", *names, "state", box=SIMPLE)
    for run in runs:
        state = states.get(run.run_id, "to do")
        values = (escape(repr(run.parameters[n])) if n in run.parameters else "" for n in names)
        listing.add_row(run.run_id, run.variant, *values, state + ", again" * (state in again))
    show(listing)
    common = {k: v for k, v in runs[0].parameters.items() if k not in names}
    if common:
        say("in all runs: " + ", ".join(f"{name}={value!r}" for name, value in common.items()))
    if planned.grid.timeout is not None:
        say(f"time limit of a run: {planned.grid.timeout:g} s")
    to_do = sum(states.get(run.run_id, again[0]) in again for run in runs)
    say(f"{out.absolute()}  {len(runs)} runs  {to_do} to do")
