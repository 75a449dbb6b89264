"""A whole folder: which output belongs to which input, and what happens on errors.

folder --> names clash? outputs there? --> [job, job, ...] --> here, or spread over workers --> one line a file
                     ^                                                             |
                     +----- manifest <--- a row, then the file, by this process ---+
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
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
from .pipes import is_stdout

_HOPELESS = (ArgumentError, WeightsError)


@dataclass(frozen=True)
class Job:
    """One input file and the output file it becomes."""

    source: Path
    target: Path


class Batch:
    """The files of a folder, and what becomes of each.

    Attributes:
        jobs: what to do.
        skipped: how many are left out because their output is there.
        refused: jobs that are not done, with the reason: several would become the same output, or what is there is
            not what this run would take for its own.
    """

    def __init__(self, sources: Sequence[Path], target: Path, suffix: str) -> None:
        """Make the folder of outputs, and give each source its name in it; of sources that clash none is chosen.

        Raises:
            ArgumentError, OutputError: ``target`` is, and can be, no folder.
        """
        if is_stdout(target):
            raise ArgumentError(f"{target}: a folder as input needs a folder as output.")
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{target}: cannot be made a folder ({error.strerror}). "
                "A folder as input needs a folder as output."
            ) from error
        self.jobs: list[Job] = []
        self.skipped = 0
        self.refused: list[tuple[Job, SketchFusionError]] = []
        alike: dict[str, list[Job]] = defaultdict(list)
        for path in sources:
            job = Job(path, target / f"{path.stem}{suffix}")
            alike[os.path.normcase(job.target)].append(job)
        for jobs in alike.values():
            if len(jobs) == 1:
                self.jobs += jobs
                continue
            *names, last = [job.source.name for job in jobs]
            become = f"would {'all' if names[1:] else 'both'} become {jobs[0].target.name}"
            text = f"{', '.join(names)} and {last} {become}. Rename all but one of them."
            self.refused += [(job, ArgumentError(text)) for job in jobs]

    def leave_out(self, force: bool, manifest: Manifest | None = None) -> None:
        """Leave out what is there already; says so.

        Args:
            force: replace outputs, but for those that the manifest proves to be what this run would write.
            manifest: of the folder of outputs, if it has one.

        Raises:
            OutputError: an output was made with other settings or another model.
        """
        found: dict[str, list[Job]] = defaultdict(list)
        for job in self.jobs:
            there = UNKNOWN if job.target.exists() else TODO
            found[manifest.judge(job.source, job.target) if manifest else there].append(job)
        if found[DONE] and manifest:
            done = f"{len(found[DONE])} of {len(self.jobs)} are done"
            note(f"skipped: {done}, as {manifest.path} says")
        kept = {*found[DONE]}
        if not force:
            if manifest and (otherwise := found[OTHERWISE]):
                raise manifest.otherwise([job.target for job in otherwise])
            for job in found[UNKNOWN]:
                note(
                    f"skipped: {job.source.name}: {job.target} exists already; --force replaces it"
                )
            for job in found[CHANGED]:
                text = f"{job.source.name}: it or {job.target} has changed since it was encoded"
                self.refused.append((job, OutputError(f"{text}; --force replaces the file")))
            kept.update(found[UNKNOWN], found[CHANGED])
        self.skipped = len(kept) - (0 if force else len(found[CHANGED]))
        self.jobs = [job for job in self.jobs if job not in kept]

    def run(
        self,
        how: Encoding | Decoding,
        read: Callable[[Path], bytes],
        line: Callable[[str, Made], str],
        workers: int | None,
        scheduler: str | None,
        manifest: Manifest | None = None,
    ) -> None:
        """Do all jobs: one line each, errors reported as they come, a table of totals.

        Files are read as workers come free, and written by this process alone.

        Args:
            how: what is done to a file, which ``read`` reads.
            line: the summary of a file for stdout, from its name and what became of it.
            workers: processes to start here, or ``scheduler`` of some that are there; else this process works.
            manifest: receives a row for every file.

        Raises:
            SketchFusionError: an error that would hit every file.
            WorkersError, DependencyMissing: see :func:`.open_client`.
            typer.Exit: some files failed; the status is that of the first error.
        """
        made: list[Made] = []
        errors: list[SketchFusionError] = []
        jobs = {str(job.source): job for job in self.jobs}
        start = time.perf_counter()

        def failed(job: Job, error: SketchFusionError) -> None:
            report(error, job.source.name)
            errors.append(error)
            if manifest:
                manifest.add_failure(job.source, job.target, error)

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

        for job, error in self.refused:
            failed(job, error)
        with ExitStack() as stack:
            if jobs and (workers is not None or scheduler is not None):
                client = stack.enter_context(open_client(workers or 1, scheduler))
                results = spread(client, partial(attempt_on_worker, how), items())
            else:
                results = (Finished(item, attempt(how, item)) for item in items())
            bar = stack.enter_context(progress_bar(MofNCompleteColumn(), TimeRemainingColumn()))
            task = bar.add_task("", total=len(jobs))
            for finished in stack.enter_context(closing(results)):
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
                        sha256 = hashlib.sha256(item.data).hexdigest()
                        manifest.add(job.source, sha256, job.target, result)
                    atomic_write_bytes(job.target, result.data)
                except SketchFusionError as error:
                    failed(job, error)
                else:
                    made.append(replace(result, data=b""))
                    say(line(job.source.name, result))
                bar.advance(task)
        facts = {
            "encoded" if isinstance(how, Encoding) else "decoded": len(made),
            "skipped": self.skipped,
            "failed": len(errors),
            ".skf bytes": sum(each.stream_bytes for each in made),
            "mean bpp": f"{sum(each.bpp for each in made) / len(made):.4f}" if made else "-",
            "seconds": f"{time.perf_counter() - start:.2f}",
        }
        table = Table()
        for column in facts:
            table.add_column(column, justify="right")
        table.add_row(*map(str, facts.values()))
        show(table)
        if errors:
            raise typer.Exit(errors[0].exit_code)
