"""Evaluate codecs over a folder of photos: resumable, in parallel, nothing measured twice, nothing lost.

    folder, codecs, rates --> rows still missing --> a task per photo --+--> here --------------+--> row --> journal
                                   ^                                    +--> Dask's workers ----+              |
    OUT, OUT.journal --------------+                                        OUT <-- all rows <-----------------+

A row is in the journal, on the disk, before the next one is measured here, or as soon as it comes home from a worker.
All work with one thread, so that their number changes no result.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

import torch

from .. import checks, journal, table_files
from ..errors import (
    ArgumentError,
    EvaluationError,
    ImageError,
    OutputError,
    ResultsError,
    SketchFusionError,
    SketchFusionWarning,
    WeightsError,
    WorkersError,
)
from ..files import list_images, sha256_of, text_of
from ..hardware import choose_device
from ..refiner_io import refiner_config
from ..weights_io import weights_file
from ..workers import open_client, spread
from . import pictures as kept_pictures
from . import table
from .adapters import Workbench
from .measuring import Measured, Measuring, PhotoTask, measure
from .metrics import METRICS, check_metrics
from .operating import CodecSpec, parse_codec, parse_rates
from .table import FINAL, OK, Row, with_known_metrics

__all__ = ["evaluate"]

_MOST_WORKERS = 1 << 12  # more than any machine has cores
OnRow = Callable[[Row, int, int], None]  # the row, rows done, rows to do in this run


def evaluate(
    folder: str | Path,
    codecs: Iterable[str],
    rates: Iterable[float] | str,
    out: str | Path,
    *,
    metrics: Iterable[str] = METRICS,
    workers: int = 1,
    scheduler: str | None = None,
    seed: int = 0,
    weights: str | Path | None = None,
    refiner: str | Path | None = None,
    device: str = "cpu",
    pictures: str | Path | None = None,
    on_row: OnRow | None = None,
    report: Callable[[str], None] | None = None,
) -> list[Row]:
    """Measure every photo of a folder with every codec at every rate.

    Rows that ``out`` has already are kept and not measured again, unless their codec was not installed or failed, or
    they lack a metric that is asked for now: slow metrics can be added later, for some codecs and rates only.

    Args:
        folder: photos.
        codecs: e.g. ``"refined:steps=2"``, ``"avif/2"``; see :mod:`.operating`.
        rates: budgets in bits per pixel, the same for every codec.
        out: table to write or to go on with; CSV if it is named so, else Parquet.
        metrics: names out of ``METRICS``.
        workers: processes; 1 works in this one, more need the extra ``sweep``.
        scheduler: address or file of a Dask scheduler, whose workers measure in place of processes here; weights and
            folders of pipelines must lie under the same path there.
        seed: of torch's generator at the start of every row.
        weights, refiner: of our codec; None for those that come with the library.
        device: where networks run.
        pictures: folder that keeps the decoded pictures, made if it is absent: ``CODEC/RATE/IMAGE.png``, see
            :mod:`.pictures`. Rows whose picture is not there are measured again; metrics that they have stay.
        on_row: called after every row.
        report: receives notes, such as that a torn row was dropped.

    Returns:
        All rows of the table, sorted by photo, codec and rate; see :data:`.table.COLUMNS`.

    Raises:
        ArgumentError: unknown codec or metric, a rate or a number of workers out of range, or two photos whose
            decoded pictures would have the same name.
        ImageError: no folder, or no photo in it.
        WeightsError: weights or refiner are not there.
        OutputError: the table or a picture cannot be written, or another evaluation is writing the table.
        ResultsError: the table is damaged, or was measured with other settings, photos or weights.
        DependencyMissing: Parquet without pyarrow, or several workers without dask.distributed.
        EvaluationError: workers died over a photo again and again; the finished rows are kept.
        WorkersError: no worker can be started, no scheduler answers, or the connection is lost; the finished rows are
            kept.
    """
    if isinstance(codecs, str) or not isinstance(codecs, Iterable):
        raise checks.refusal("codecs", codecs, "give a list of codecs, as in ['preview', 'avif'].")
    checks.whole("workers", workers, 1, _MOST_WORKERS)
    checks.whole("seed", seed, 0, (1 << 63) - 1)
    for name, called in (("on_row", on_row), ("report", report)):
        checks.function(name, called)
    out = checks.path("out", out)
    chosen = check_metrics(metrics, "metrics")
    given = {"weights": weights, "refiner": refiner, "pictures": pictures}
    files = {name: str(checks.path(name, path)) for name, path in given.items() if path is not None}
    if scheduler is None:
        device = str(choose_device(device))
        _check_there(files.get("weights"), files.get("refiner"))
    else:  # its workers know their devices
        checks.kind("scheduler", scheduler, (str, os.PathLike), "an address or a file")
        checks.text("device", device)
    chosen = tuple(name for name in METRICS if name in chosen)
    how = Measuring(chosen, seed, device=str(device), **files)
    specs = tuple(dict.fromkeys(parse_codec(codec) for codec in codecs))
    points = list(product(specs, parse_rates(rates)))
    if not specs:
        raise ArgumentError("codecs: none is given. Name at least one.")
    photos = list_images(folder)
    if not photos:
        raise ImageError(f"{folder}: holds no picture.")
    if how.pictures is not None:
        kept_pictures.check_names(photos)
    if not table_files.is_csv(out):
        table_files.require_pyarrow("peers")  # now, not after hours
    report = report or (lambda line: None)
    if os.path.isdir(out) or not os.path.isdir(out.parent):
        raise OutputError(f"{out}: name a file in a folder that exists.")
    with journal.exclusive(out, "evaluation"):
        run = _Run(how, out, photos, _known_rows(out, report), on_row)
        run.check_same(specs)
        tasks = run.missing(points)
        if scheduler is None and workers == 1:
            run.here(tasks)
        elif tasks:
            run.on_workers(tasks, workers, scheduler)
        table.write_table(out, run.rows.values())
        table.journal_path(out).unlink(missing_ok=True)
    return sorted(run.rows.values(), key=table.key)


def _check_there(weights: str | None, refiner: str | None) -> None:
    """Refuse weights that are not there now, not in every row."""
    if weights is not None and not os.path.isfile(file := weights_file(weights)):
        raise WeightsError(f"{file}: no such weights file. Check weights={weights}.")
    if refiner is not None:
        refiner_config(refiner)


def _known_rows(out: Path, report: Callable[[str], None]) -> dict[tuple, Row]:
    """Rows of the table and of a run that was cut off, by their key."""
    rows = table.read_table(out) if out.exists() else []
    recovered = table.read_journal(table.journal_path(out), report)
    if recovered:
        report(f"{out.name}: going on, {len(recovered)} rows of a run that was cut off are kept")
    journal.rewrite(table.journal_path(out), recovered)
    known: dict[tuple, Row] = {}
    for row in [*rows, *recovered]:
        known[table.key(row)] = with_known_metrics(row, known.get(table.key(row)))
    return known


class _Run:
    """What a run has reached: rows go into the journal, then into ``rows``."""

    def __init__(
        self, how: Measuring, out: Path, photos: list[Path], rows: dict, on_row: OnRow | None
    ) -> None:
        self.how, self.out, self.on_row = how, out, on_row
        self.photos = {text_of(path.name): path for path in photos}
        self.rows: dict[tuple, Row] = rows
        self.bench = Workbench(how.weights, how.refiner, how.device)
        self.done = self.total = 0

    def check_same(self, specs: Iterable[CodecSpec]) -> None:
        """Refuse to go on with a table that this run would have measured differently; say what it keeps besides.

        Raises:
            ResultsError: names what differs.
        """
        if others := sorted({row["image"] for row in self.rows.values()} - {*self.photos}):
            more = f" and {len(others) - 3} more" if others[3:] else ""
            line = (
                f"{self.out}: has rows of photos that are not in the folder ({', '.join(others[:3])}{more}); they stay "
                "in the table and in its means. Write into a new file to have this folder alone"
            )
            warnings.warn(line, SketchFusionWarning, stacklevel=3)
        final = [row for row in self.rows.values() if row["status"] in FINAL]
        hashes = {n: _hash(p) for n, p in self.photos.items() if self.rows}
        measured = {row["codec"] for row in final}
        models = {spec.text: self._model(spec) for spec in specs if spec.text in measured}
        for row in self.rows.values():
            now = {
                "seed": self.how.seed,
                "image_sha256": hashes.get(row["image"])
                or row["image_sha256"],  # of what can be read
                "model": models.get(row["codec"]) or row["model"],
            }
            for name, value in now.items():
                if row[name] != value and (name == "seed" or row["status"] in FINAL):
                    raise ResultsError(
                        f"{self.out}: its rows of {row['image']} with {row['codec']} have {name} {row[name]!r}, this "
                        f"run {value!r}. Use the same settings, photos and weights, or write into a new file."
                    )

    def _model(self, spec: CodecSpec) -> str:
        """Which weights a codec has; empty where it cannot run here: the rows say why."""
        try:
            return self.bench.open(spec).model
        except ArgumentError:
            raise
        except SketchFusionError:
            return ""

    def missing(self, points: list[tuple[CodecSpec, float]]) -> list[PhotoTask]:
        """Tasks for the rows that are not there, or lack a metric or a picture."""

        def done(row: Row | None) -> bool:
            if row is None or row["status"] != OK:
                return row is not None and row["status"] in FINAL
            has_picture = self.how.pictures is None or kept_pictures.holds(self.how.pictures, row)
            return has_picture and set(self.how.metrics) <= set(row["metrics"].split("+"))

        tasks = []
        for name, path in self.photos.items():
            left = [p for p in points if not done(self.rows.get((name, p[0].text, p[1])))]
            self.total += len(left)
            tasks += [PhotoTask(path, tuple(left))] if left else []
        return tasks

    def record(self, measured: Measured) -> None:
        row, picture = measured
        if self.how.pictures is not None:
            kept_pictures.keep(self.how.pictures, row, picture)
        journal.append(table.journal_path(self.out), row)
        row = with_known_metrics(row, self.rows.get(table.key(row)))
        self.rows[table.key(row)] = row
        self.done += 1
        if self.on_row:
            self.on_row(row, self.done, self.total)

    def here(self, tasks: Iterable[PhotoTask]) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker
        try:
            for task in tasks:
                for measured in self.how.rows(task, self.bench):
                    self.record(measured)
        finally:
            torch.set_num_threads(threads)

    def on_workers(self, tasks: list[PhotoTask], workers: int, scheduler: str | None) -> None:
        parts = [part for task in tasks for part in task.by_family()]

        def packed() -> Iterator[PhotoTask]:
            for part in parts:
                try:
                    yield part.packed()
                except ImageError:  # what cannot be read cannot be sent: its rows say so from here
                    self.here([part])

        lost: dict[str, WorkersError] = {}
        work = partial(measure, self.how.elsewhere())
        with (
            open_client(min(workers, len(parts)), scheduler) as client,
            contextlib.closing(spread(client, work, packed())) as results,
        ):
            for finished in results:
                if isinstance(finished.error, WorkersError):
                    codecs = sorted({spec.text for spec, _ in finished.task.points})
                    lost[f"{finished.task.path.name} with {', '.join(codecs)}"] = finished.error
                elif finished.error is not None:
                    raise finished.error
                else:
                    for measured in finished.result:
                        self.record(measured)
        for what, error in lost.items():
            raise EvaluationError(
                f"{what}: {error} {self.done} of {self.total} rows are measured and kept in "
                f"{table.journal_path(self.out)}; start the same evaluation again to go on."
            ) from error


def _hash(path: Path) -> str:
    """First digits of a photo's hash, enough to notice that it is another one; empty where it cannot be read."""
    try:
        return sha256_of(path)[:16]
    except OSError:  # the rows say why
        return ""
