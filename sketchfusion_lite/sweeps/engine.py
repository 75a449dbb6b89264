"""Run a grid: resumable, on any workers, one row per run, nothing repeated and nothing lost.

    plan --> runs without a row --> spread over workers --> row.json, each --+
                  ^                                                         v
                  +---------- rows of OUT/results.* and of OUT/runs/*/row.json: the table, written after every run

A worker writes its row itself, so whatever is killed, and when, only runs under way are repeated.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import checks
from ..errors import DependencyMissing, OutputError, SweepError
from ..files import atomic_write_bytes
from ..journal import exclusive
from ..table_files import require_pyarrow
from ..workers import open_client, refuse_while_imported, spread
from . import table
from .grid import Grid, load_grid
from .notebooks import Notebook, missing_modules
from .plan import Plan, Run, plan
from .table import FAILED, LOST, Row
from .unit import ROW_FILE, Unit, execute

__all__ = ["require_packages", "run"]

Report = Callable[[str], None]
OnRow = Callable[[Row, int, int], None]

MIN_FREE_BYTES = 16 << 20  # of the disk of the results, for a first run's notebook


def run(
    grid: Grid | Mapping[str, object] | str | Path,
    *,
    workers: int = 1,
    scheduler: str | Path | None = None,
    resources: Mapping[str, float] | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    dry_run: bool = False,
    on_row: OnRow = lambda row, done, total: None,
    report: Report = lambda line: None,
) -> list[Row]:
    """Run all of a grid that has no row yet.

    Args:
        grid: a YAML file, the same keys as a mapping, or what :func:`.load_grid` returned.
        workers: processes to start on this machine, of one thread each.
        scheduler: address of a Dask scheduler, or its scheduler file, whose workers do the work instead. They see the
            same files under the same names.
        resources: what each run needs of a worker, e.g. ``{"GPU": 1}``; workers started here offer it.
        resume: go on where the folder of results stands; False refuses a folder that has any.
        retry_failed: run those again whose notebook failed.
        dry_run: check all and return the rows that are there; start nothing, write nothing.
        on_row: is told of each row as its run ends, and how many of how many there are by then.
        report: receives notes for a person, each one line.

    Returns:
        The rows of this grid's runs, in its order; see :func:`.read_results`. A failed notebook is a row of status
        ``failed``, a run whose workers died twice one of status ``lost``. After a dry run, or an interrupt, some are
        missing.

    Raises:
        SweepError: the grid makes no sense for its notebook, the notebook imports what is not there, another sweep
            writes the folder, or there are results although ``resume`` is False.
        ResultsError: the table is damaged.
        WorkersError: no scheduler answers, it has no workers, or none can be started here.
        ArgumentError: ``workers`` or ``resources`` out of range.
        OutputError: the folder of results cannot be written, or its disk is full.
        DependencyMissing: a package of the extra ``sweep`` is not installed.
    """
    require_packages()
    refuse_while_imported()
    sweep = _Sweep(plan(grid if isinstance(grid, Grid) else load_grid(grid)), report)
    notebook, out = sweep.notebook, sweep.out
    for note in notebook.notes:
        report(note)
    _check_room(out)
    if scheduler is None:
        _require_modules(notebook, {"here": missing_modules(notebook.modules, sweep.home)})
    if dry_run:
        sweep.load(retry_failed)
        return sweep.finished()
    checks.whole("workers", workers, 1)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error.strerror) from error
    with exclusive(out, "sweep", SweepError):
        sweep.load(retry_failed)
        if not resume and sweep.rows:
            raise SweepError(
                f"{out}: has {len(sweep.rows)} results. Go on with them (resume=True), or choose another folder."
            )
        sweep.write()
        missing, total = sweep.missing(), len(sweep.runs)
        report(f"{total} runs, {total - len(missing)} of them finished before")
        if not missing:
            return sweep.finished()
        with open_client(workers, scheduler, resources=resources) as client:
            if scheduler is not None:
                found = client.run(missing_modules, notebook.modules, sweep.home)
                _require_modules(notebook, {f"on the worker {w}": m for w, m in found.items()})
            units = sweep.units(missing)
            # One per thread: a run that waits on a worker would be held to have died with it.
            results = spread(client, execute, units, per_thread=1, resources=resources)
            with contextlib.closing(results):
                for number, done in enumerate(results, start=total - len(missing) + 1):
                    row = _lost(done.task, done.error) if done.error else done.result
                    sweep.rows[row["run_id"]] = row
                    sweep.write()
                    on_row(row, number, total)
    return sweep.finished()


def require_packages() -> None:
    """Fail before anything else, by name.

    Raises:
        DependencyMissing: a package of the extra ``sweep`` is not installed.
    """
    for name in ("distributed", "ipykernel", "nbformat", "papermill"):
        if find_spec(name) is None:
            raise DependencyMissing.for_extra(name, "sweep", "a sweep")


class _Sweep:
    """A plan, and the rows that its folder has.

    Attributes:
        home: folder of the notebook, where its runs work.
        out: folder of the results.
        runs: all runs of the plan, by id.
        rows: all rows of the folder by run id, also those of other grids.
        again: ids of runs whose rows count for nothing.
    """

    def __init__(self, planned: Plan, report: Report) -> None:
        self.grid, self.notebook, self.report = planned.grid, planned.notebook, report
        self.home = self.notebook.path.resolve().parent
        self.out = self.grid.out.absolute()
        self.runs: dict[str, Run] = {run.run_id: run for run in planned.runs}
        self.rows: dict[str, Row] = {}
        self.again: set[str] = set()
        self._table = table.table_path(self.out, self.grid.table)

    def load(self, retry_failed: bool) -> None:
        """Read the rows of the table and of the folders; with ``retry_failed``, failed runs count as missing.

        Raises:
            ResultsError: a table or a row is damaged, or of another schema.
        """
        if self.grid.table == "parquet":
            require_pyarrow()
        rows = table.read_results(self._table) if self._table.exists() else []
        for path in sorted(self.out.glob(f"runs/*/{ROW_FILE}")):
            try:
                rows.append(table.check_row(json.loads(path.read_bytes()), path))
            except (OSError, ValueError) as error:  # of a damaged disk
                self.report(f"{path}: cannot be read ({error}); the run is repeated")
        self.rows = {row["run_id"]: row for row in sorted(rows, key=lambda row: row["started"])}
        known = self.runs.keys() & self.rows.keys()
        for run_id in known:  # the grid may have given the variant another name since
            self.rows[run_id] = {**self.rows[run_id], "variant": self.runs[run_id].variant}
        bad = (LOST, FAILED) if retry_failed else (LOST,)
        self.again = {run_id for run_id in known if self.rows[run_id]["status"] in bad}
        now, kept = _git_state(self.home)["git"], known - self.again
        if other := sum(self.rows[run_id]["git"] != now for run_id in kept):
            self.report(
                f"{other} of the {len(kept)} finished runs are of another git revision; they are kept, since their "
                "notebook and parameters are the same"
            )

    def missing(self) -> list[Run]:
        """Runs that have no row which counts, in the grid's order."""
        done = self.rows.keys() - self.again
        return [run for run_id, run in self.runs.items() if run_id not in done]

    def finished(self) -> list[Row]:
        """Rows of the runs of this plan, in the grid's order, all with the same columns."""
        return table.aligned([self.rows[run_id] for run_id in self.runs if run_id in self.rows])

    def write(self) -> None:
        """Write the table, if there are rows.

        Raises:
            OutputError: it cannot be written.
        """
        if self.rows:
            table.write_results(self._table, self.rows.values())

    def units(self, runs: list[Run]) -> list[Unit]:
        """What workers get; the notebook is copied, and what counts for nothing removed.

        Raises:
            OutputError: the folder cannot be written.
        """
        import nbformat

        folders, name = self.out / "runs", self.notebook.path.stem
        copy = self.out / "notebooks" / f"{name}-{self.notebook.digest[:12]}.ipynb"
        try:
            copy.parent.mkdir(exist_ok=True)
            for run in runs:  # what counts for nothing must not pass for this attempt's
                (folders / run.name / ROW_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.out, error.strerror) from error
        atomic_write_bytes(copy, nbformat.writes(self.notebook.node).encode())
        stamp = {"notebook": self.notebook.path.name, **_git_state(self.home)}
        limit = self.grid.timeout
        return [Unit(run, copy, self.home, folders / run.name, stamp, limit) for run in runs]


def _check_room(out: Path) -> None:
    """Could the folder be written? It need not be there yet."""
    try:
        str(out).encode()
        there = next(path for path in (out, *out.parents) if path.exists())
        free = shutil.disk_usage(there).free
    except UnicodeEncodeError:
        raise _unwritable(out, "its name is no Unicode, as a parameter must be") from None
    except OSError as error:
        raise _unwritable(out, error.strerror) from error
    if not there.is_dir():
        raise _unwritable(out, f"{there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(out, f"no right to write to {there}")
    if free < MIN_FREE_BYTES:
        raise _unwritable(out, f"{free >> 20} MB are free on its disk")


def _unwritable(out: Path, reason: str | None) -> OutputError:
    return OutputError(
        f"{out}: cannot be written ({reason}). Mend that, or choose another folder: `out` of the grid, or --out."
    )


def _require_modules(notebook: Notebook, missing: Mapping[str, list[str]]) -> None:
    """Have all places what the notebook imports?"""
    for where, names in missing.items():
        if names:
            raise SweepError(
                f"{notebook.path}: imports {', '.join(names)}, not installed {where}. Install what is missing with "
                "the same Python, or import it below a condition."
            )


def _lost(unit: Unit, error: BaseException) -> Row:
    reason = str(error) or type(error).__name__
    return table.row_of(unit.run, {}, status=LOST, error=reason[:2000], **unit.stamp)


def _git_state(folder: Path) -> dict[str, Any]:
    """Revision of the repository around a folder, and whether tracked files differ from it.

    Returns:
        ``git`` (40 digits; empty outside of a repository, or without git) and ``git_dirty`` (None there).
    """

    def ask(*command: str) -> str:
        command = ("git", "-C", str(folder), *command)
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip()

    try:
        changes = ask("status", "--porcelain", "--untracked-files=no")
        return {"git": ask("rev-parse", "HEAD"), "git_dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return {"git": "", "git_dirty": None}
