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
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from .. import checks
from ..errors import DependencyMissing, OutputError, SweepError
from ..files import atomic_write_bytes
from ..workers import open_client, refuse_while_imported, spread
from . import table
from .grid import Grid, load_grid
from .notebooks import missing_modules
from .plan import Plan, Run, plan
from .progress import Silent, Watcher
from .table import FAILED, LOST, Row
from .unit import ROW_FILE, Unit, execute, git_state

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Sweep", "run"]

Report = Callable[[str], None]

MIN_FREE_BYTES = 16 << 20  # of the disk of the results, for a first run's notebook


def run(
    grid: Grid | Mapping[str, Any] | str | Path,
    *,
    workers: int = 1,
    scheduler: str | Path | None = None,
    resources: Mapping[str, float] | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    dry_run: bool = False,
    watcher: Watcher | None = None,
    report: Report | None = None,
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
    sweep = Sweep(plan(grid if isinstance(grid, Grid) else load_grid(grid)))
    sweep.check(report, is_here=scheduler is None)
    if dry_run:
        sweep.load(report, retry_failed)
        return sweep.finished()
    checks.whole("workers", workers, 1)
    with sweep.exclusive():
        sweep.load(report, retry_failed)
        if not resume and sweep.rows:
            raise SweepError(
                f"{sweep.out}: has {len(sweep.rows)} results. Go on with them (resume=True), or choose another folder."
            )
        sweep.write()
        if sweep.missing():
            with open_client(workers, scheduler, resources=resources) as client:
                if scheduler is not None:
                    sweep.check_modules(client)
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
    except ModuleNotFoundError as error:
        raise DependencyMissing.for_extra(error.name or "", "sweep", "a sweep") from error


class Sweep:
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
        self._stale: list[Path] = []  # and their files
        self._table = table.table_path(self.out, planned.grid.table)

    # what a run needs ----------------------------------------------------------------------------

    def check(self, report: Report | None = None, is_here: bool = True) -> None:
        """Would runs fail for what can be told now? Writes nothing.

        Args:
            report: receives what is done in another way than the notebook asks for.
            is_here: the runs are executed on this machine, by this Python.

        Raises:
            SweepError: the notebook imports modules that are not there.
            OutputError: the folder of results cannot be written, or its disk is full.
        """
        report = report or (lambda line: None)
        for note in self.plan.notebook.notes:
            report(note)
        _check_room(self.out)
        notebook = self.plan.notebook
        if is_here and (missing := missing_modules(notebook.modules, notebook.path.parent)):
            raise _missing(notebook.path, missing, "here")

    def check_modules(self, client: Client) -> None:
        """Have all workers what the notebook imports?

        Raises:
            SweepError: one has not.
        """
        notebook = self.plan.notebook
        folder = notebook.path.resolve().parent
        found = client.run(missing_modules, notebook.modules, folder)
        for worker, missing in found.items():
            if missing:
                raise _missing(notebook.path, missing, f"on the worker {worker}")

    # what is there -------------------------------------------------------------------------------

    def load(self, report: Report | None = None, retry_failed: bool = False) -> None:
        """Read the rows of the table and of the folders.

        Args:
            report: receives notes.
            retry_failed: count failed runs as missing.

        Raises:
            ResultsError: a table or a row is damaged, or of another schema.
        """
        report = report or (lambda line: None)
        if self.plan.grid.table == "parquet":
            table.require_pyarrow()
        rows = table.read_results(self._table) if self._table.exists() else []
        self.rows = {row["run_id"]: row for row in rows}
        files: dict[str, Path] = {}
        for path in sorted(self.out.glob(f"runs/*/{ROW_FILE}")):
            row = _read_row(path, report)
            if row is None:
                self._stale.append(path)
            else:
                self.rows[row["run_id"]], files[row["run_id"]] = row, path
        for run_id, run in self.runs.items():
            if run_id in self.rows:  # the grid may have given the variant another name since
                self.rows[run_id] = {**self.rows[run_id], "variant": run.variant}
        again = (LOST, FAILED) if retry_failed else (LOST,)
        self._again = {
            i for i, row in self.rows.items() if i in self.runs and row["status"] in again
        }
        self._stale += [path for run_id, path in files.items() if run_id in self._again]
        self._note_revisions(report)

    def _note_revisions(self, report: Report) -> None:
        now = git_state(self.plan.notebook.path.parent)["git"]
        kept = [self.rows[i]["git"] for i in self.runs if i in self.rows and i not in self._again]
        if other := sum(revision != now for revision in kept):
            report(
                f"{other} of the {len(kept)} finished runs are of another git revision; they are kept, since their "
                "notebook and parameters are the same"
            )

    def missing(self) -> list[Run]:
        """Runs that have no row which counts, in the grid's order."""
        done = set(self.rows) - self._again
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

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep a second sweep away from the same folder, which is made if it is absent.

        Raises:
            SweepError: there is one.
            OutputError: the folder cannot be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.out / ".sweep.lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise SweepError(
                f"{self.out}: another sweep is writing it. Wait for its end, or choose another folder."
            ) from error
        except OSError as error:
            raise _unwritable(self.out, error.strerror) from error
        try:
            yield
        finally:
            lock.release()

    # what is missing -----------------------------------------------------------------------------

    def run(self, client: Client, resources: Mapping[str, float] | None, watcher: Watcher) -> None:
        """Do all that is missing.

        Args:
            client: connected to workers.
            resources: what each run needs.
            watcher: is told of it.
        """
        missing, topic = self.missing(), f"sketchfusion-sweep-{secrets.token_hex(4)}"
        guard = threading.Lock()  # starts are told by another thread

        def on_event(event: tuple[float, Mapping[str, str]]) -> None:
            _, message = event
            with guard:
                watcher.started(self.runs[message["run_id"]], message["worker"])

        threads = max(1, sum(client.nthreads().values()))
        watcher.begun(len(self.runs), self.finished(), len(missing), threads)
        client.subscribe_topic(topic, on_event)
        try:
            units = self._units(missing, topic)
            # One per thread: a run that waits on a worker would be held to have died with it.
            for done in spread(client, execute, units, per_thread=1, resources=resources):
                run = done.task.run
                row = _lost(done.task, done.error) if done.error else done.result
                self.rows[run.run_id] = row
                self._again.discard(run.run_id)
                self.write()
                with guard:
                    watcher.finished(run, row)
        finally:
            client.unsubscribe_topic(topic)
            with guard:
                watcher.closed()

    def _units(self, runs: list[Run], topic: str) -> list[Unit]:
        import nbformat

        notebook = self.plan.notebook
        copy = self.out / "notebooks" / f"{notebook.path.stem}-{notebook.digest[:12]}.ipynb"
        try:
            copy.parent.mkdir(exist_ok=True)
            for path in self._stale:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.out, error.strerror) from error
        atomic_write_bytes(copy, nbformat.writes(notebook.node).encode())
        folder = notebook.path.resolve().parent
        stamp = {"notebook": notebook.path.name, **git_state(folder)}
        seconds, rows = self.plan.grid.timeout, self.out / "runs"
        return [Unit(r, copy, folder, rows / r.name, stamp, topic, seconds) for r in runs]


def _check_room(out: Path) -> None:
    """Could the folder be written? It need not be there yet."""
    if re.search("[\ud800-\udfff]", str(out)):
        raise _unwritable(out, "its name is no Unicode, which the notebook's parameter must be")
    try:
        there = next(path for path in (out, *out.parents) if path.exists())
        free = shutil.disk_usage(there).free
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


def _missing(notebook: Path, modules: list[str], where: str) -> SweepError:
    return SweepError(
        f"{notebook}: imports {', '.join(modules)}, not installed {where}. Install what is missing with the same "
        "Python, or import it below a condition."
    )


def _read_row(path: Path, report: Report) -> Row | None:
    """The row of a run's folder; None if a damaged disk has left none that can be read, which is said."""
    try:
        row = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        report(f"{path}: cannot be read ({error}); the run is repeated")
        return None
    return table.check_row(row, path)


def _lost(unit: Unit, error: BaseException) -> Row:
    reason = str(error) or type(error).__name__
    return table.row_of(unit.run, {}, status=LOST, error=reason[:2000], **unit.stamp)
