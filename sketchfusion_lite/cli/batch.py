"""One file or a whole folder: which output belongs to which input, and what happens on errors.

folder --> plan: names clash? outputs there? --> [job, job, ...] --> here, or spread over workers --> one line a file
                     ^                                                             |
                     +----- manifest <--- a row, then the file, by this process ---+
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import typer
from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import ArgumentError, OutputError, SketchFusionError, WeightsError
from ..files import atomic_write_bytes, text_of
from ..folders import Decoding, Encoding, Item, Made, Manifest, attempt, attempt_on_worker
from ..folders.manifest import CHANGED, DONE, OTHERWISE, TODO, UNKNOWN
from ..workers import Finished, open_client, spread
from .console import note, progress_bar, report, say, show
from .pipes import check_stdout, is_stdin, is_stdout

_HOPELESS = (ArgumentError, WeightsError)

# Items, one by one, to what became of each.
Doing = Callable[[Iterator[Item]], Generator[Finished, None, None]]


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
        is_folder: whether the input is a folder.
        skipped: how many jobs were left out because their output is there.
        refused: jobs that are not done, with the reason: several would become the same output, or what is there is
            not what this run would take for its own.
    """

    jobs: tuple[Job, ...]
    is_folder: bool
    skipped: int = 0
    refused: tuple[tuple[Job, SketchFusionError], ...] = ()


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
        force: replace an existing file; for folders see :func:`leave_out`.
        find: lists the inputs of a folder.
        unusable: raised when there is nothing at ``source``.

    Raises:
        OutputError: the output file exists already, or cannot exist.
    """
    if not (is_stdin(source) or os.path.exists(source)):
        raise unusable(f"{source}: no such file or folder. Check the path.")
    if not os.path.isdir(source) or is_stdin(source):
        check_target(target, force)
        return Plan((Job(source, target),), is_folder=False)
    sources = find(source)
    if not sources:
        raise unusable(f"{source}: nothing to do, the folder holds no file of the right kind.")
    jobs: dict[str, list[Job]] = {}
    for path in sources:
        job = Job(path, target / f"{path.stem}{suffix}")
        jobs.setdefault(os.path.normcase(job.target), []).append(job)
    _make_folder(target)
    single = tuple(alike[0] for alike in jobs.values() if not alike[1:])
    clashes = tuple((job, _clash(alike)) for alike in jobs.values() if alike[1:] for job in alike)
    return Plan(single, is_folder=True, refused=clashes)


def _clash(alike: list[Job]) -> ArgumentError:
    """The error for inputs of which only one could be kept: none is chosen."""
    *names, last = [job.source.name for job in alike]
    become = f"would {'all' if names[1:] else 'both'} become {alike[0].target.name}"
    return ArgumentError(f"{', '.join(names)} and {last} {become}. Rename all but one of them.")


def leave_out(plan: Plan, force: bool, manifest: Manifest | None = None) -> Plan:
    """A folder's plan without what is there already; says so.

    Args:
        plan: from :func:`make_plan`.
        force: replace outputs, but for those that the manifest proves to be what this run would write.
        manifest: of the folder of outputs, if it has one.

    Raises:
        OutputError: an output was made with other settings or another model.
    """
    found: dict[str, list[Job]] = defaultdict(list)
    for job in plan.jobs:
        there = UNKNOWN if job.target.exists() else TODO
        found[manifest.judge(job.source, job.target) if manifest else there].append(job)
    done = found[DONE]
    if done and manifest:
        note(f"skipped: {len(done)} of {len(plan.jobs)} are done, as {manifest.path} says")
    kept = set(done)
    refused = [*plan.refused]
    if not force:
        if manifest and (otherwise := found[OTHERWISE]):
            raise manifest.otherwise([job.target for job in otherwise])
        for job in found[UNKNOWN]:
            note(f"skipped: {job.source.name}: {job.target} exists already; --force replaces it")
        for job in found[CHANGED]:
            text = f"{job.source.name}: it or {job.target} has changed since it was encoded; --force replaces the file"
            refused.append((job, OutputError(text)))
        kept.update(found[UNKNOWN], found[CHANGED])
    jobs = tuple(job for job in plan.jobs if job not in kept)
    changed = len(refused) - len(plan.refused)
    return replace(plan, jobs=jobs, skipped=len(kept) - changed, refused=tuple(refused))


def check_target(target: Path, force: bool) -> None:
    """Refuse an output that exists, or whose folder does not.

    Raises:
        OutputError: see there.
    """
    if is_stdout(target):
        check_stdout()
        return
    if os.path.isdir(target):
        raise OutputError(f"{target}: is a folder. Name a file inside it.")
    if os.path.isfile(target) and not force:
        raise OutputError(f"{target}: exists already. Pass --force to replace it.")
    if not os.path.isdir(target.parent):
        raise OutputError(f"{target}: the folder {target.parent} does not exist. Create it first.")


def _make_folder(folder: Path) -> None:
    if is_stdout(folder):
        raise ArgumentError(f"{folder}: a folder as input needs a folder as output.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made a folder ({error.strerror}). "
            "A folder as input needs a folder as output."
        ) from error


@contextmanager
def doing(
    plan: Plan, how: Encoding | Decoding, workers: int | None, scheduler: str | None
) -> Iterator[Doing]:
    """Where the work is done: in this process, or on workers.

    Args:
        plan: from :func:`leave_out`; no workers are started for nothing.
        how: what is done to a file.
        workers: processes to start here for it.
        scheduler: of workers that are there, in place of ``workers``; with neither, this process works.

    Raises:
        WorkersError, DependencyMissing: see :func:`.open_client`.
    """
    if not plan.jobs or (workers is None and scheduler is None):
        yield lambda items: (Finished(item, attempt(how, item)) for item in items)
        return
    with open_client(workers or 1, scheduler) as client:
        yield partial(spread, client, partial(attempt_on_worker, how))


def run_plan(
    plan: Plan,
    read: Callable[[Path], bytes],
    do: Doing,
    line: Callable[[str, Made], str],
    verb: str,
    manifest: Manifest | None = None,
) -> None:
    """Do all jobs of a folder: one line each, errors reported as they come, a table of totals.

    Files are read as workers come free, and written by this process alone.

    Args:
        plan: from :func:`leave_out`.
        read: reads an input file.
        do: from :func:`doing`.
        line: the summary of a file for stdout, from its name and what became of it.
        verb: what the work is called, e.g. ``"encoded"``.
        manifest: receives a row for every file.

    Raises:
        SketchFusionError: an error that would hit every file.
        typer.Exit: some files failed; the status is that of the first error.
    """
    made: list[Made] = []
    errors: list[SketchFusionError] = []
    jobs = {str(job.source): job for job in plan.jobs}
    start = time.perf_counter()

    def failed(job: Job, error: SketchFusionError) -> None:
        report(error, job.source.name)
        errors.append(error)
        if manifest:
            manifest.add_failure(job.source, job.target, error)

    for job, error in plan.refused:
        failed(job, error)
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=len(plan.jobs))

        def items() -> Iterator[Item]:
            for name, job in jobs.items():
                bar.update(task, description=text_of(job.source.name))
                try:
                    item = Item(name, read(job.source), str(job.target))
                except SketchFusionError as error:
                    failed(job, error)
                    bar.advance(task)
                else:
                    yield item

        with closing(do(items())) as results:
            for finished in results:
                item: Item = finished.task
                job, result = jobs[item.name], finished.error or finished.result
                if isinstance(result, _HOPELESS) or not isinstance(
                    result, Made | SketchFusionError
                ):
                    raise result  # would hit every other file too, or is a fault of the program
                try:
                    if isinstance(result, SketchFusionError):
                        raise result
                    if manifest:
                        source_sha256 = hashlib.sha256(item.data).hexdigest()
                        manifest.add(job.source, source_sha256, job.target, result)
                    atomic_write_bytes(job.target, result.data)
                except SketchFusionError as error:
                    failed(job, error)
                else:
                    made.append(replace(result, data=b""))
                    say(line(job.source.name, result))
                bar.advance(task)
    show(_totals(made, plan.skipped, len(errors), time.perf_counter() - start, verb))
    if errors:
        raise typer.Exit(errors[0].exit_code)


def _totals(made: list[Made], skipped: int, failed: int, seconds: float, verb: str) -> Table:
    table = Table()
    facts = {
        verb: len(made),
        "skipped": skipped,
        "failed": failed,
        ".skf bytes": sum(each.stream_bytes for each in made),
        "mean bpp": f"{sum(each.bpp for each in made) / len(made):.4f}" if made else "-",
        "seconds": f"{seconds:.2f}",
    }
    for column in facts:
        table.add_column(column, justify="right")
    table.add_row(*map(str, facts.values()))
    return table
