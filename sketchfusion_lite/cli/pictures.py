"""``sketchfusion encode`` and ``sketchfusion decode``: pictures to streams and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TaskProgressColumn, TimeRemainingColumn

from .. import bitstream
from ..errors import ArgumentError, ImageError, StreamError
from ..files import IMAGE_SUFFIXES, list_images
from .batch import Done, Job, make_plan, run_plan
from .console import note, progress_bar
from .streams import MaxPixels, missing_text, read_stream

if TYPE_CHECKING:
    from ..codec import SketchFusionCodec

Weights = Annotated[
    Path | None,
    typer.Option(help="Weights file (.safetensors). Default: the one that comes with the package."),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where the networks run: auto (a GPU if there is one), cpu, cuda, cuda:1 ..."
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Replace existing outputs. Without it they are an error (folder: skipped)."
    ),
]


class Stage(StrEnum):
    """How far to decode."""

    SKETCH = "sketch"
    PREVIEW = "preview"
    REFINED = "refined"


class Format(StrEnum):
    """What decoded pictures are stored as."""

    PNG = "png"
    WEBP = "webp"
    JPG = "jpg"


def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture, or a folder of them.")],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.skf",
            help="Stream to write; a folder if IN is one (photo.jpg becomes photo.skf in it).",
        ),
    ],
    bpp: Annotated[
        float | None,
        typer.Option(
            help="Budget in bits per pixel of the whole file, never exceeded. Default: 0.045.",
            show_default=False,
        ),
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Budget in bytes of the whole file, never exceeded.")
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=bitstream.MAX_QUALITY,
            help="Fixed quality instead of a budget: 0 (smallest) to 5 (finest).",
        ),
    ] = None,
    effort: Annotated[
        int,
        typer.Option(
            min=0,
            max=10,
            help="0: one pass of the encoder. 1 to 10: search a better latent for each photo, slowly.",
        ),
    ] = 0,
    weights: Weights = None,
    device: Device = "auto",
    max_pixels: MaxPixels = bitstream.DEFAULT_MAX_PIXELS,
    force: Force = False,
) -> None:
    """Compress a photo, or every photo of a folder, to .skf files of a few kilobytes.

    Prints one line per photo: name, size in pixels, bytes, bits per pixel, quality and seconds.
    In a folder, a bad picture is reported and the others go on; the exit status tells.
    """
    if sum(value is not None for value in (bpp, max_bytes, quality)) > 1:
        raise ArgumentError(
            "--bpp, --max-bytes and --quality exclude each other: pass one of them."
        )
    if target.suffix.lower() in IMAGE_SUFFIXES:
        raise ArgumentError(f"{target}: named like a picture. Call the stream {target.stem}.skf.")
    plan = make_plan(source, target, ".skf", force, list_images, ImageError)
    codec = _load(weights, device) if plan.jobs else None

    def work(job: Job) -> Done:
        start = time.perf_counter()
        with _effort_bar(job.source.name, 0 if plan.is_folder else effort) as on_progress:
            encoded = codec.encode(
                job.source,
                bpp=bpp,
                max_bytes=max_bytes,
                quality=quality,
                effort=effort,
                on_progress=on_progress,
                max_pixels=max_pixels,
            )
        encoded.save(job.target)
        seconds = time.perf_counter() - start
        header = bitstream.parse(encoded.data, max_pixels).header
        line = (
            f"{job.source.name}  {header.width}x{header.height}  {len(encoded.data)} bytes  "
            f"{encoded.bpp:.4f} bpp  quality {encoded.quality:.2f}  {seconds:.2f} s"
        )
        return Done(line, len(encoded.data), header.pixels)

    run_plan(plan, work, "encoded")


def decode(
    source: Annotated[
        Path, typer.Argument(metavar="IN.skf", help="A stream, or a folder of .skf files.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.png",
            help="Picture to write (.png, .webp, .jpg); a folder if IN is one.",
        ),
    ],
    stage: Annotated[
        Stage,
        typer.Option(help="How far: the line drawing, the fast preview, or the refined picture."),
    ] = Stage.PREVIEW,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stage refined: sampling steps, 1 to 8; more take longer. Default: 2.",
            show_default=False,
        ),
    ] = None,
    realism: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Stage refined: from 0 (the preview exactly) to 1 (all invented detail). Default: 1.",
            show_default=False,
        ),
    ] = None,
    refiner: Annotated[
        Path | None,
        typer.Option(
            help="Stage refined: folder of a refiner. Default: the one that comes with the package.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(
            help="Kind of the pictures of a folder; png and webp are lossless, jpg has quality 95. "
            "A single file's kind is its name's. Default: png.",
            show_default=False,
        ),
    ] = None,
    weights: Weights = None,
    device: Device = "auto",
    max_pixels: MaxPixels = bitstream.DEFAULT_MAX_PIXELS,
    force: Force = False,
) -> None:
    """Decompress a stream, or every .skf file of a folder.

    A truncated stream decodes to what arrived, with a warning and exit status 0; a damaged one is
    an error. In a folder, a bad stream is reported and the others go on; the exit status tells.
    """
    if format is not None and not source.is_dir() and target.suffix.lower() != f".{format}":
        raise ArgumentError(f"{target}: not named .{format}. Drop --format, or rename the output.")
    dials = {k: v for k, v in (("steps", steps), ("realism", realism)) if v is not None}
    if stage is not Stage.REFINED and (dials or refiner):
        raise ArgumentError(
            f"--{next(iter(dials), 'refiner')} belongs to the refined stage. Add --stage refined."
        )
    suffix = f".{format or Format.PNG}"
    plan = make_plan(source, target, suffix, force, _list_streams, StreamError)
    codec = _load(weights, device, refiner) if plan.jobs else None

    def work(job: Job) -> Done:
        from ..images import save_image

        start = time.perf_counter()
        data = read_stream(job.source, max_pixels)
        decoded = codec.decode(
            data,
            stage.value,
            **dials,
            max_pixels=max_pixels,
            name=str(job.source),
        )
        save_image(decoded.image, job.target)
        seconds = time.perf_counter() - start
        about = decoded.info
        if about.missing:
            note(f"warning: {missing_text(job.source, about.missing)}")
        line = (
            f"{job.source.name}  {about.width}x{about.height}  {len(data)} bytes  "
            f"{about.bpp:.4f} bpp  quality {about.quality:.2f}  {stage}  {seconds:.2f} s"
        )
        return Done(line, len(data), about.width * about.height)

    run_plan(plan, work, "decoded")


@contextmanager
def _effort_bar(
    name: str, effort: int
) -> Iterator[Callable[[int, int, dict[str, float]], None] | None]:
    """A bar for the steps of an encode-time search; nothing without one."""
    if not effort:
        yield None
        return
    with progress_bar(TaskProgressColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(name)
        yield lambda done, total, numbers: bar.update(task, completed=done, total=total)


def _list_streams(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".skf" and not path.name.startswith(".") and path.is_file()
    )


def _load(weights: Path | None, device: str, refiner: Path | None = None) -> SketchFusionCodec:
    """Load a codec.

    Raises:
        ArgumentError: there is no such device here.
        WeightsError: see :func:`.codec.load_codec`.
    """
    from ..codec import load_codec

    try:
        return load_codec(weights, device, refiner=refiner)
    except (AssertionError, RuntimeError) as error:  # how torch refuses a device
        reason = str(error).splitlines()[0]
        raise ArgumentError(
            f"--device {device} cannot be used here ({reason}). Use auto or cpu."
        ) from error
