"""Evaluate codecs over a folder of photos: resumable, in parallel, nothing measured twice, nothing lost.

    folder, codecs, rates --> rows still missing --> one task per photo --> running --> journal
                                   ^                                                       |
    OUT, OUT.journal --------------+                          OUT <-- all rows <-----------+

A row is in the journal, on the disk, before the next one of its worker begins, or as soon as it comes home from a
worker on another machine.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .. import checks, journal
from ..errors import (
    ArgumentError,
    ImageError,
    OutputError,
    ResultsError,
    SketchFusionWarning,
    WeightsError,
)
from ..files import list_images, text_of
from ..hardware import choose_device
from ..refiner_io import refiner_config
from ..weights_io import weights_file
from . import keeping, table
from .measuring import Measuring, PhotoTask, image_hash, with_known_metrics
from .metrics import METRICS, check_metrics
from .operating import CodecSpec, parse_codec, parse_rates
from .running import OnRow, Progress, run_here, run_in_processes, run_on_scheduler
from .table import FINAL, OK, Row

__all__ = ["evaluate"]

_MOST_WORKERS = 1 << 12  # more than any machine has cores
Report = Callable[[str], None]  # one line for a person


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
    report: Report | None = None,
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
        workers: processes; 1 works in this one.
        scheduler: address or file of a Dask scheduler, whose workers measure in place of processes here. Photos are
            sent to them; weights and folders of pipelines must lie under the same path there.
        seed: of torch's generator at the start of every row.
        weights, refiner: of our codec; None for those that come with the library.
        device: where networks run.
        pictures: folder that keeps the decoded pictures, made if it is absent: ``CODEC/RATE/IMAGE.png``, see
            :mod:`.keeping`. Rows whose picture is not there are measured again; metrics that they have stay.
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
        DependencyMissing: Parquet without pyarrow.
        EvaluationError: a worker died, or workers of a scheduler died over a photo again and again; the finished rows
            are kept.
        WorkersError: no scheduler answers, it has no workers, or the connection is lost; the finished rows are kept.
    """
    if isinstance(codecs, str) or not isinstance(codecs, Iterable):
        raise checks.refusal("codecs", codecs, "give a list of codecs, as in ['preview', 'avif'].")
    checks.whole("workers", workers, 1, _MOST_WORKERS)
    checks.whole("seed", seed, 0, (1 << 63) - 1)
    for name, called in (("on_row", on_row), ("report", report)):
        checks.function(name, called)
    out = checks.path("out", out)
    if scheduler is None:
        device = choose_device(device)
        _check_there(weights, refiner)
    else:  # its workers know their devices
        checks.kind("scheduler", scheduler, (str, os.PathLike), "an address or a file")
        checks.text("device", device)
    specs = tuple(dict.fromkeys(parse_codec(codec) for codec in codecs))
    measuring = Measuring(
        _check_metrics(metrics),
        seed,
        _text("weights", weights),
        _text("refiner", refiner),
        str(device),
        _text("pictures", pictures),
    )
    points = [(spec, rate) for spec in specs for rate in parse_rates(rates)]
    if not specs:
        raise ArgumentError("codecs: none is given. Name at least one.")
    photos = _photos(folder)
    if pictures is not None:
        keeping.check_names(photos)
    if not table.is_csv(out):
        table.require_pyarrow()  # now, not after hours
    report = report or (lambda line: None)
    if os.path.isdir(out) or not os.path.isdir(out.parent):
        raise OutputError(f"{out}: name a file in a folder that exists.")
    with journal.exclusive(out, "evaluation"):
        rows = _known_rows(out, report)
        _say_others(rows, photos, out)
        _check_same(rows, measuring, photos, specs, out)
        tasks = _missing(rows, photos, points, measuring)
        progress = Progress(table.journal_path(out), rows, tasks, on_row)
        if scheduler is not None:
            run_on_scheduler(measuring, tasks, progress, scheduler)
        elif workers == 1:
            run_here(measuring, tasks, progress)
        else:
            run_in_processes(measuring, tasks, progress, workers)
        progress.update()
        table.write_table(out, rows.values())
        table.journal_path(out).unlink(missing_ok=True)
    return sorted(rows.values(), key=table.key)


# --------------------------------------------------------------------------------------------------
# What is there, what is missing


def _check_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    chosen = check_metrics(metrics, "metrics")
    return tuple(name for name in METRICS if name in chosen)


def _text(name: str, path: str | Path | None) -> str | None:
    return None if path is None else str(checks.path(name, path))


def _check_there(weights: str | Path | None, refiner: str | Path | None) -> None:
    """Refuse weights that are not there now, not in every row."""
    if weights is not None and not os.path.isfile(file := weights_file(weights)):
        raise WeightsError(f"{file}: no such weights file. Check weights={weights}.")
    if refiner is not None:
        refiner_config(checks.path("refiner", refiner))


def _photos(folder: str | Path) -> list[Path]:
    photos = list_images(folder)
    if not photos:
        raise ImageError(f"{folder}: holds no picture.")
    return photos


def _known_rows(out: Path, report: Report) -> dict[tuple, Row]:
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


def _say_others(rows: dict[tuple, Row], photos: list[Path], out: Path) -> None:
    """Rows of photos that are not in the folder stay in the table, and in its means."""
    others = sorted({row["image"] for row in rows.values()} - {text_of(p.name) for p in photos})
    if others:
        more = f" and {len(others) - 3} more" if others[3:] else ""
        line = (
            f"{out}: has rows of photos that are not in the folder ({', '.join(others[:3])}{more}); they stay in the "
            "table and in its means. Write into a new file to have this folder alone"
        )
        warnings.warn(line, SketchFusionWarning, stacklevel=3)


def _check_same(
    rows: dict[tuple, Row],
    measuring: Measuring,
    photos: list[Path],
    specs: tuple[CodecSpec, ...],
    out: Path,
) -> None:
    """Refuse to go on with a table that this run would have measured differently.

    Raises:
        ResultsError: names what differs.
    """
    asked = {"seed": measuring.seed}
    hashes = {text_of(path.name): image_hash(path) for path in photos}
    models: dict[str, str] = {}
    for spec in specs:
        final = [r for r in rows.values() if r["codec"] == spec.text and r["status"] in FINAL]
        if final and (codec := measuring.open(spec)):
            models[spec.text] = codec.model
    for row in rows.values():
        now = asked | {
            "image_sha256": hashes.get(row["image"]) or row["image_sha256"],  # of what can be read
            "model": models.get(row["codec"], row["model"]) or row["model"],
        }
        for name, value in now.items():
            if row[name] != value and (name == "seed" or row["status"] in FINAL):
                raise ResultsError(
                    f"{out}: its rows of {row['image']} with {row['codec']} have {name} {row[name]!r}, this run "
                    f"{value!r}. Use the same settings, photos and weights, or write into a new file."
                )


def _missing(
    rows: dict[tuple, Row],
    photos: list[Path],
    points: list[tuple[CodecSpec, float]],
    measuring: Measuring,
) -> list[PhotoTask]:
    def done(row: Row) -> bool:
        if row["status"] != OK:
            return row["status"] in FINAL
        has_picture = measuring.pictures is None or keeping.holds(measuring.pictures, row)
        return has_picture and set(measuring.metrics) <= set(row["metrics"].split("+"))

    def left(path: Path) -> Iterator[tuple[CodecSpec, float]]:
        for spec, rate in points:
            row = rows.get((text_of(path.name), spec.text, rate))
            if row is None or not done(row):
                yield spec, rate

    tasks = [PhotoTask(path, tuple(left(path))) for path in photos]
    return [task for task in tasks if task.points]
