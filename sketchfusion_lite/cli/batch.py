"""One file or a whole folder: which output belongs to which input, and what happens on errors.

folder --> plan: names clash? outputs there? --> [job, job, ...] --> work --> one line per file
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import (
    ArgumentError,
    DependencyMissing,
    OutputError,
    SketchFusionError,
    WeightsError,
)
from .console import note, progress_bar, report, say, show

_HOPELESS = (ArgumentError, DependencyMissing, WeightsError)  # would hit every other file too


@dataclass(frozen=True)
class Job:
    """One input file and the output file it becomes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Plan:
    """Everything to do.

    Attributes:
        jobs: what to do; one job if the input is a file.
        skipped: jobs left out because their output exists.
        is_folder: whether the input is a folder.
    """

    jobs: tuple[Job, ...]
    skipped: tuple[Job, ...]
    is_folder: bool


@dataclass(frozen=True)
class Done:
    """What became of one file.

    Attributes:
        line: the summary for stdout.
        stream_bytes: size of the ``.skf`` file.
        pixels: of the picture.
    """

    line: str
    stream_bytes: int
    pixels: int


def make_plan(
    source: Path,
    target: Path,
    suffix: str,
    force: bool,
    find: Callable[[Path], Sequence[Path]],
    unusable: type[SketchFusionError],
) -> Plan:
    """Decide what becomes of what, before any work starts.

    Args:
        source: a file or a folder.
        target: a file, or a folder if ``source`` is one; such a folder is created.
        suffix: of the outputs in a folder.
        force: replace existing outputs.
        find: lists the inputs of a folder.
        unusable: raised when there is nothing at ``source``.

    Raises:
        ArgumentError: two inputs of a folder would become the same output.
        OutputError: the output exists already, or cannot exist.
    """
    if not source.exists():
        raise unusable(f"{source}: no such file or folder. Check the path.")
    if not source.is_dir():
        check_target(target, force)
        return Plan((Job(source, target),), (), is_folder=False)
    sources = find(source)
    if not sources:
        raise unusable(f"{source}: nothing to do, the folder holds no file of the right kind.")
    jobs: dict[str, Job] = {}
    for path in sources:
        job = Job(path, target / f"{path.stem}{suffix}")
        other = jobs.setdefault(os.path.normcase(job.target), job)
        if other is not job:
            raise ArgumentError(
                f"{other.source.name} and {path.name} would both become {job.target.name}. "
                "Rename one of them."
            )
    _make_folder(target)
    skipped = tuple(job for job in jobs.values() if job.target.exists() and not force)
    return Plan(tuple(j for j in jobs.values() if j not in skipped), skipped, is_folder=True)


def check_target(target: Path, force: bool) -> None:
    """Refuse an output that exists, or whose folder does not.

    Raises:
        OutputError: see there.
    """
    if target.is_dir():
        raise OutputError(f"{target}: is a folder. Name a file inside it.")
    if target.is_file() and not force:
        raise OutputError(f"{target}: exists already. Pass --force to replace it.")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: the folder {target.parent} does not exist. Create it first.")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made a folder ({error.strerror}). "
            "A folder as input needs a folder as output."
        ) from error


def run_plan(plan: Plan, work: Callable[[Job], Done], verb: str) -> None:
    """Do all jobs: one line each, errors reported as they come, a table of totals for a folder.

    Args:
        plan: from :func:`make_plan`.
        work: does one job.
        verb: what the work is called, e.g. ``"encoded"``.

    Raises:
        SketchFusionError: the only file failed, or an error that would hit every file.
        typer.Exit: some files of a folder failed; the status is that of the first error.
    """
    if not plan.is_folder:
        say(work(plan.jobs[0]).line)
        return
    for job in plan.skipped:
        note(f"skipped: {job.source.name}: {job.target} exists already; --force replaces it")
    done: list[Done] = []
    errors: list[SketchFusionError] = []
    start = time.perf_counter()
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=len(plan.jobs))
        for job in plan.jobs:
            bar.update(task, description=job.source.name)
            try:
                done.append(work(job))
                say(done[-1].line)
            except _HOPELESS:
                raise
            except SketchFusionError as error:
                report(error, job.source.name)
                errors.append(error)
            bar.advance(task)
    show(_totals(plan, done, len(errors), time.perf_counter() - start, verb))
    if errors:
        raise typer.Exit(errors[0].exit_code)


def _totals(plan: Plan, done: list[Done], failed: int, seconds: float, verb: str) -> Table:
    table = Table()
    for column in (verb, "skipped", "failed", ".skf bytes", "mean bpp", "seconds"):
        table.add_column(column, justify="right")
    rates = [8 * d.stream_bytes / d.pixels for d in done]
    table.add_row(
        str(len(done)),
        str(len(plan.skipped)),
        str(failed),
        str(sum(d.stream_bytes for d in done)),
        f"{sum(rates) / len(rates):.4f}" if rates else "-",
        f"{seconds:.2f}",
    )
    return table
