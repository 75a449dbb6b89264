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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .. import checks
from ..errors import DependencyMissing, OutputError, SweepError
from ..files import atomic_write_bytes
from ..journal import exclusive
from ..tables import require_pyarrow
from ..workers import Finished, open_client, refuse_while_imported, spread
from . import table
from .grid import Grid, load_grid
from .notebooks import Notebook, missing_modules
from .plan import Plan, Run, plan
from .progress import Silent
from .table import FAILED, LOST, Row
from .unit import ROW_FILE, Unit, execute, git_state

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["require_packages", "run"]

Report = Callable[[str], None]

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
    watcher: Silent | None = None,
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
        watcher: is told of every start and end.
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
    sweep = _Sweep(plan(grid if isinstance(grid, Grid) else load_grid(grid)))
    notebook = sweep.plan.notebook
    for note in notebook.notes:
        report(note)
    _check_room(sweep.out)
    if scheduler is None:
        _require_modules(
            notebook, {"here": missing_modules(notebook.modules, notebook.path.parent)}
        )
    if dry_run:
        sweep.load(report, retry_failed)
        return sweep.finished()
    checks.whole("workers", workers, 1)
    try:
        sweep.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(sweep.out, error.strerror) from error
    with exclusive(sweep.out, "sweep", SweepError):
        sweep.load(report, retry_failed)
        if not resume and sweep.rows:
            raise SweepError(
                f"{sweep.out}: has {len(sweep.rows)} results. Go on with them (resume=True), or choose another folder."
            )
        sweep.write()
        if sweep.missing():
            with open_client(workers, scheduler, resources=resources) as client:
                if scheduler is not None:
                    folder = notebook.path.resolve().parent
                    found = client.run(missing_modules, notebook.modules, folder)
                    _require_modules(notebook, {f"on the worker {w}": m for w, m in found.items()})
                sweep.run(client, resources, watcher or Silent())
    return sweep.finished()


def require_packages() -> None:
    """Fail before anything else, by name.

    Raises:
        DependencyMissing: a package of the extra ``sweep`` is not installed.
    """
    try:
        import distributed  # noqa: F401
        import ipykernel  # noqa: F401
        import nbformat  # noqa: F401
        import papermill  # noqa: F401
        import pydantic  # noqa: F401
    except ModuleNotFoundError as error:
        raise DependencyMissing.for_extra(error.name or "", "sweep", "a sweep") from error


class _Sweep:
    """A plan, the rows that its folder has, and what is missing.

    Attributes:
        out: folder of the results.
        runs: all runs of the plan, by id.
        rows: all rows of the folder by run id, also those of other grids.
    """

    def __init__(self, planned: Plan) -> None:
        self.plan = planned
        self.out = planned.grid.out.absolute()
        self.runs: dict[str, Run] = {run.run_id: run for run in planned.runs}
        self.rows: dict[str, Row] = {}
        self._again: set[str] = set()  # rows that count for nothing
        self._table = table.table_path(self.out, planned.grid.table)

    def load(self, report: Report, retry_failed: bool) -> None:
        """Read the rows of the table and of the folders.

        Args:
            report: receives notes.
            retry_failed: count failed runs as missing.

        Raises:
            ResultsError: a table or a row is damaged, or of another schema.
        """
        if self.plan.grid.table == "parquet":
            require_pyarrow()
        rows = table.read_results(self._table) if self._table.exists() else []
        for path in sorted(self.out.glob(f"runs/*/{ROW_FILE}")):
            try:
                rows.append(table.check_row(json.loads(path.read_bytes()), path))
            except (OSError, ValueError) as error:  # of a damaged disk
                report(f"{path}: cannot be read ({error}); the run is repeated")
        for row in sorted(rows, key=lambda row: row["started"]):  # the last one counts
            self.rows[row["run_id"]] = row
        known = self.runs.keys() & self.rows.keys()
        for run_id in known:  # the grid may have given the variant another name since
            self.rows[run_id] = {**self.rows[run_id], "variant": self.runs[run_id].variant}
        again = (LOST, FAILED) if retry_failed else (LOST,)
        self._again = {run_id for run_id in known if self.rows[run_id]["status"] in again}
        now = git_state(self.plan.notebook.path.parent)["git"]
        kept = known - self._again
        if other := sum(self.rows[run_id]["git"] != now for run_id in kept):
            report(
                f"{other} of the {len(kept)} finished runs are of another git revision; they are kept, since their "
                "notebook and parameters are the same"
            )

    def missing(self) -> list[Run]:
        """Runs that have no row which counts, in the grid's order."""
        done = self.rows.keys() - self._again
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

    def run(self, client: Client, resources: Mapping[str, float] | None, watcher: Silent) -> None:
        """Do all that is missing.

        Args:
            client: connected to workers.
            resources: what each run needs.
            watcher: is told of it.
        """
        missing = self.missing()
        threads = max(1, sum(client.nthreads().values()))
        watcher.begun(len(self.runs), self.finished(), len(missing), threads)

        def started(units: list[Unit]) -> Iterator[Unit]:
            for unit in units:
                watcher.started(unit.run)
                yield unit

        try:
            units = started(self._units(missing))
            # One per thread: a run that waits on a worker would be held to have died with it.
            results = spread(client, execute, units, per_thread=1, resources=resources)
            with contextlib.closing(results):
                for done in results:
                    run = done.task.run
                    row = _lost(done) if done.error else done.result
                    self.rows[run.run_id] = row
                    self._again.discard(run.run_id)
                    self.write()
                    watcher.finished(run, row)
        finally:
            watcher.closed()

    def _units(self, runs: list[Run]) -> list[Unit]:
        import nbformat

        notebook, rows = self.plan.notebook, self.out / "runs"
        copy = self.out / "notebooks" / f"{notebook.path.stem}-{notebook.digest[:12]}.ipynb"
        try:
            copy.parent.mkdir(exist_ok=True)
            for run in runs:  # what counts for nothing must not pass for this attempt's
                (rows / run.name / ROW_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.out, error.strerror) from error
        atomic_write_bytes(copy, nbformat.writes(notebook.node).encode())
        folder = notebook.path.resolve().parent
        stamp = {"notebook": notebook.path.name, **git_state(folder)}
        seconds = self.plan.grid.timeout
        return [Unit(r, copy, folder, rows / r.name, stamp, seconds) for r in runs]


def _check_room(out: Path) -> None:
    """Could the folder be written? It need not be there yet."""
    reason = ""
    try:
        str(out).encode()
        there = next(path for path in (out, *out.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if not there.is_dir():
            reason = f"{there} is no folder"
        elif not os.access(there, os.W_OK | os.X_OK):
            reason = f"no right to write to {there}"
        elif free < MIN_FREE_BYTES:
            reason = f"{free >> 20} MB are free on its disk"
    except UnicodeEncodeError:
        reason = "its name is no Unicode, which the notebook's parameter must be"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise _unwritable(out, reason)


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


def _lost(done: Finished) -> Row:
    reason = str(done.error) or type(done.error).__name__
    unit: Unit = done.task
    return table.row_of(unit.run, {}, status=LOST, error=reason[:2000], **unit.stamp)
