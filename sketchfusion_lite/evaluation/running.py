"""Where rows are measured: in this process, in several of this machine, or by the workers of a Dask scheduler.

    tasks --+--> here -----------------------------> journal
            +--> processes, each by itself --------> journal
            +--> workers --> rows home --> here ---> journal --> Progress, which reads it

All work with one thread, so that their number changes no result. Whatever is killed, and when, at most the rows under
way are lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import journal
from ..errors import EvaluationError, WorkersError
from ..files import sha256_of
from ..weights_io import SHIPPED
from ..workers import open_client, spread
from . import keeping, parcels, table
from .measuring import Measuring, PhotoTask, with_known_metrics
from .table import Row

__all__ = ["OnRow", "Progress", "run_here", "run_in_processes", "run_on_scheduler"]

OnRow = Callable[[Row, int, int], None]  # the row, rows done, rows to do in this run

_POLL_SECONDS = 0.2


class Progress:
    """Learns of finished rows from the journal, where every process writes them."""

    def __init__(
        self, journal: Path, rows: dict[tuple, Row], tasks: list[PhotoTask], on_row: OnRow | None
    ) -> None:
        self.journal, self.rows, self.on_row = journal, rows, on_row
        self.done, self.total = 0, sum(len(task.points) for task in tasks)
        self._read = journal.stat().st_size

    def update(self) -> None:
        """Take note of the rows that came since the last call."""
        with self.journal.open("rb") as file:
            file.seek(self._read)
            *lines, _ = file.read().split(b"\n")  # the last one may be under way
        for line in lines:
            self._read += len(line) + 1
            row = json.loads(line)
            row = with_known_metrics(row, self.rows.get(table.key(row)))
            self.rows[table.key(row)] = row
            self.done += 1
            if self.on_row:
                self.on_row(row, self.done, self.total)


# --------------------------------------------------------------------------------------------------
# In this process


def run_here(measuring: Measuring, tasks: list[PhotoTask], progress: Progress) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker: results must not depend on their number
    try:
        for task in tasks:
            _measure_here(measuring, task, progress)
    finally:
        torch.set_num_threads(threads)


def _measure_here(measuring: Measuring, task: PhotoTask, progress: Progress) -> None:
    for row in measuring.rows(task):
        journal.append(progress.journal, row)
        progress.update()


# --------------------------------------------------------------------------------------------------
# In several processes

_worker: dict[str, Any] = {}  # of this process, if it is a worker


def run_in_processes(
    measuring: Measuring, tasks: list[PhotoTask], progress: Progress, workers: int
) -> None:
    context = multiprocessing.get_context("spawn")
    # No Event: its lock would die with a worker that is killed while it looks, and the run wait for it for ever.
    stop = context.RawValue(ctypes.c_bool, False)
    arguments = (measuring, progress.journal, stop)
    pool = ProcessPoolExecutor(min(workers, len(tasks)) or 1, context, _start_worker, arguments)
    with pool:
        pending: set[Future[None]] = {pool.submit(_work, task) for task in tasks}
        try:
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                progress.update()
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            progress.update()
            raise EvaluationError(
                f"a worker process died after {progress.done} of {progress.total} rows: it was killed, or memory ran "
                f"out. They are kept in {progress.journal}; start the same evaluation again to go on, with fewer "
                "workers if memory is short."
            ) from error
        finally:
            stop.value = True  # after an interrupt, workers end with the row under way
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(measuring: Measuring, journal: Path, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what an interrupt means
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _worker.update(measuring=measuring, journal=journal, stop=stop)


def _die_with_parent() -> None:
    """A run that goes on must not meet workers of the one that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(task: PhotoTask) -> None:
    for row in _worker["measuring"].rows(task):
        journal.append(_worker["journal"], row)
        if _worker["stop"].value:
            return


# --------------------------------------------------------------------------------------------------
# On the workers of a scheduler


def run_on_scheduler(
    measuring: Measuring, tasks: list[PhotoTask], progress: Progress, scheduler: str
) -> None:
    if not tasks:
        return
    sha256, own = "", measuring.weights
    if own is not None and own not in SHIPPED:
        measuring = replace(measuring, weights=str(Path(own).absolute()))
        sha256 = sha256_of(own)
    if measuring.refiner is not None:
        measuring = replace(measuring, refiner=str(Path(measuring.refiner).absolute()))
    lost: dict[str, WorkersError] = {}
    # A photo that cannot be read cannot be sent either: its rows say so from here.
    unreadable = partial(_measure_here, measuring, progress=progress)
    work = parcels.parcels(tasks, unreadable, sha256)
    with (
        open_client(scheduler=scheduler) as client,
        contextlib.closing(spread(client, partial(parcels.measure, measuring), work)) as results,
    ):
        for finished in results:
            if isinstance(finished.error, WorkersError):
                codecs = sorted({spec.text for spec, _ in finished.task.points})
                lost[f"{finished.task.path.name} with {', '.join(codecs)}"] = finished.error
                continue
            if finished.error is not None:
                raise finished.error
            for measured in finished.result:
                if measuring.pictures is not None:
                    keeping.keep_file(measuring.pictures, measured.row, measured.picture)
                journal.append(progress.journal, measured.row)
                progress.update()
    for what, error in lost.items():
        raise EvaluationError(
            f"{what}: {error} {progress.done} of {progress.total} rows are measured and kept in {progress.journal}; "
            "start the same evaluation again to go on."
        ) from error
