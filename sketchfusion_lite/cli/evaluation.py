"""``sketchfusion evaluate``: codecs over a folder of photos, a table of results, a summary; ``sketchfusion fid``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import ArgumentError, DependencyMissing, DownloadError, EvaluationError
from .console import note, progress_bar, say, show
from .options import Scheduler, Weights, one_of, option
from .pipes import check_target

_SHOWN = {  # column of the table of means -> heading, digits
    "bpp": ("bpp", 4),
    "psnr": ("PSNR dB", 2),
    "ms_ssim": ("MS-SSIM", 4),
    "lpips_alex": ("LPIPS-Alex", 4),
    "lpips_vgg": ("LPIPS-VGG", 4),
    "dists": ("DISTS", 4),
    "encode_s": ("encode s", 2),
    "decode_s": ("decode s", 2),
}


_CODEC = (
    "What to measure; may be repeated. Ours: sketch, preview, refined, lines, as in refined:steps=4,realism=0.8. "
    "Others: jpeg, webp, avif, jpeg2000, jpegxl, heic, vvc, at half the size as in avif/2; pics:pipeline=FOLDER; "
    "zoo:model=NAME."
)
_TABLE = "Table to write, or to go on with: rows that it has are not measured again. CSV if it is named so."
_RATES = "Budgets in bits per pixel, the same for every codec. Default: 0.03,0.045,0.07,0.1."
_METRICS = (
    "Out of psnr, ms_ssim, lpips_alex, lpips_vgg, dists. Default: all; the last two are slow."
)
_WORKERS = "Processes, of one thread and about 2 GB each; several need the extra sweep. Default: 1."
_SEED = "Of the random numbers, where a codec takes any. Default: 0."
_REFINER = "Folder of our refiner. Default: the shipped one."
_DEVICE = "Where the networks run: cpu, cuda ... Default: cpu."
_PICTURES = (
    "Keep the decoded pictures there, as CODEC/RATE/IMAGE.png. Rows without one are measured again."
)
_FID = "Add FID and KID on patches of the kept pictures, and write them to OUT.fid.csv. Needs --pictures."
_DECODED = (
    "Folder of decoded pictures, named as the photos are but for the suffix; or a folder of such folders, as evaluate "
    "--pictures makes it."
)


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Photos to measure on.")],
    codec: Annotated[list[str], option(_CODEC)],
    out: Annotated[Path, option(_TABLE, metavar="OUT.parquet")],
    rates: Annotated[str, option(_RATES)] = "0.03,0.045,0.07,0.1",
    metrics: Annotated[str, option(_METRICS)] = "",
    workers: Annotated[int, option(_WORKERS, min=1)] = 1,
    scheduler: Scheduler = None,
    seed: Annotated[int, option(_SEED)] = 0,
    weights: Weights = None,
    refiner: Annotated[Path | None, option(_REFINER)] = None,
    device: Annotated[str, option(_DEVICE)] = "cpu",
    pictures: Annotated[Path | None, option(_PICTURES, metavar="FOLDER")] = None,
    fid: Annotated[bool, option(_FID, "--fid")] = False,
) -> None:
    """Measure codecs over a folder of photos: real files within the same budgets, decoded from their bytes.

    One row per photo, codec and rate. Stop it at any moment and start it again to go on. A codec that
    is not installed, and a photo that does not fit a budget or cannot be read, are rows too. Means are over
    what fits; there is none where a photo is too small for a metric. Files of other kinds and folders inside
    are left out, and named.
    """
    from ..evaluation.metrics import METRICS
    from ..evaluation.runner import evaluate as run
    from ..evaluation.summary import mean_rows

    one_of(workers=None if workers == 1 else workers, scheduler=scheduler)
    if fid and pictures is None:
        raise ArgumentError("--fid compares kept pictures: add --pictures FOLDER.")
    network = _network_or_reason(device) if fid else None
    chosen = [name.strip() for name in metrics.split(",") if name.strip()] or METRICS
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(folder.name, total=None)

        def on_row(row: dict[str, Any], done: int, total: int) -> None:
            name = f"{row['image']} {row['codec']}"
            bar.update(task, description=name, completed=done, total=total)

        rows = run(
            folder,
            codec,
            rates,
            out,
            metrics=chosen,
            workers=workers,
            scheduler=scheduler,
            seed=seed,
            weights=weights,
            refiner=refiner,
            device=device,
            pictures=pictures,
            on_row=on_row,
            report=note,
        )
    show(_summary(mean_rows(rows)))
    say(f"{out}  {len(rows)} rows")
    if fid:
        assert pictures is not None  # refused above
        from ..evaluation.pictures import kept_sets

        _say_fid(kept_sets(folder, rows, pictures), network, out.with_suffix(".fid.csv"))
    failed = _report_problems(rows)
    if failed:
        raise typer.Exit(EvaluationError.exit_code)


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE, padding=0, collapse_padding=True)
    table.add_column("codec", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _summary(means: list[dict[str, Any]]) -> Table:
    """Means per codec and rate; in place of means, why there are none."""
    columns = [name for name in _SHOWN if any(row[name] is not None for row in means)]
    table = _table("rate", "fits", *(_SHOWN[name][0] for name in columns), "")
    for row in means:
        values = [row["codec"], f"{row['rate']:g}", f"{row['fits']}/{row['photos']}"]
        for name in columns:
            values.append("-" if row[name] is None else f"{row[name]:.{_SHOWN[name][1]}f}")
        remark = "" if row["status"] == "ok" else row["status"]
        if row["needed_bpp"] is not None:
            remark += f" needs {row['needed_bpp']:.3f} bpp"
        table.add_row(*values, f"{remark} {row['note']}".strip())
    return table


def _report_problems(rows: list[dict[str, Any]]) -> int:
    """Say on stderr what is missing, once per codec, and what failed; how many rows failed."""
    missing = {row["codec"]: row["message"] for row in rows if row["status"] == "not installed"}
    for codec, message in missing.items():
        note(f"skipped: {codec}: {message}")
    failed = [row for row in rows if row["status"] == "failed"]
    for row in failed:
        note(f"error: {row['image']}: {row['codec']} at {row['rate']:g} bpp: {row['message']}")
    return len(failed)


# --------------------------------------------------------------------------------------------------
# FID and KID


def fid(
    originals: Annotated[Path, typer.Argument(metavar="ORIGINALS", help="Folder of photos.")],
    decoded: Annotated[Path, typer.Argument(metavar="DECODED", help=_DECODED)],
    out: Annotated[Path | None, option("Write the table there, too.", metavar="OUT.csv")] = None,
    device: Annotated[str, option(_DEVICE)] = "cpu",
    force: Annotated[bool, option("Replace OUT.csv.", "--force")] = False,
) -> None:
    """FID and KID between photos and decoded pictures, on 256x256 patches.

    Both compare sets, not pictures, and need many patches. FID of 24 Kodak photos (192 patches) is far too large and
    compares codecs on these photos at best; KID has no such bias.
    """
    from ..evaluation.pictures import sets_of_folder
    from ..evaluation.realism import inception

    if out is not None:
        check_target(out, force)
    sets = sets_of_folder(originals, decoded, note)
    if _say_fid(sets, inception(device), out):
        raise typer.Exit(EvaluationError.exit_code)


def _network_or_reason(device: str) -> Any:
    """The network under FID; where there is none, the error that says why, which is noted at once."""
    from ..evaluation.realism import inception

    try:
        return inception(device)
    except (DependencyMissing, DownloadError) as error:
        note(f"FID, KID: will be absent: {error}")
        return error


def _say_fid(sets: list[Any], network: Any, out: Path | None) -> int:
    """Print FID and KID of each set, or why they are absent; how many sets have none."""
    from ..evaluation.realism import measure_sets, write_sets

    if isinstance(network, Exception):
        say(f"FID, KID: absent: {network}")
        return len(sets)
    if not sets:
        say("FID, KID: absent: no codec delivered a picture")
        return 0
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("FID, KID", total=len(sets))

        def on_set(name: str) -> None:
            bar.update(task, description=name, advance=1)

        rows = measure_sets(sets, network, on_set)
    table = _table("rate", "pictures", "patches", "FID", "KID x 1000", "+-")
    for row in rows:
        head = row["codec"], "" if row["rate"] is None else f"{row['rate']:g}"
        if row["message"]:
            note(f"FID, KID: absent: {' '.join(head).strip()}: {row['message']}")
            table.add_row(*head, *"-----")
        else:
            counts = str(row["pictures"]), str(row["patches"])
            kid = f"{1000 * row['kid']:.2f}", f"{1000 * row['kid_std']:.2f}"
            table.add_row(*head, *counts, f"{row['fid']:.2f}", *kid)
    show(table)
    if out is not None:
        say(f"{write_sets(out, rows)}  {len(rows)} sets")
    return sum(bool(row["message"]) for row in rows)
