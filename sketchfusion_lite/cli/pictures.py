"""``sketchfusion encode`` and ``sketchfusion decode``: pictures to streams and back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import TaskProgressColumn, TimeRemainingColumn

from .. import bitstream
from ..errors import ArgumentError, ImageError, SketchFusionError, StreamError, WeightsError
from ..files import IMAGE_SUFFIXES, list_files, list_images, sha256_of
from ..folders import Decoding, Encoding, Item, Made, Manifest, Networks, read_photo
from ..folders.manifest import NAME as MANIFEST
from ..results import read_stream
from .batch import Batch
from .console import note, progress_bar, say
from .options import (
    Device,
    Dtype,
    Force,
    KeepGoing,
    MaxPixels,
    Scheduler,
    Weights,
    Workers,
    one_of,
    option,
)
from .pipes import check_target, is_stdin, is_stdout, label, photo_from, stream_from, write
from .streams import entropy_model_id, missing_text

if TYPE_CHECKING:
    from ..latent_search import OnProgress

LOG_SECONDS = 10  # between lines of progress where there is no terminal

_PHOTO = "A picture, a folder of them, or - for stdin."
_STREAM_OUT = (
    "Stream to write, - for stdout; a folder if IN is one (photo.jpg becomes photo.skf in it)."
)
_BPP = "Budget in bits per pixel of the whole file, never exceeded. Default: 0.045."
_MAX_BYTES = "Budget in bytes of the whole file, never exceeded."
_QUALITY = "Fixed quality instead of a budget: 0 (smallest) to 5 (finest)."
_EFFORT = (
    "0, the default: one pass of the encoder. 1 to 10: search a better latent for each photo, which takes seconds to "
    "minutes here and nothing at the receiver."
)
_STREAM = "A stream, a folder of .skf files, or - for stdin."
_PICTURE_OUT = "Picture to write (.png, .webp, .jpg), - for stdout; a folder if IN is one."
_STAGE = (
    "How far: the line drawing, the fast preview, or the refined picture. Default: the finest that the weights have, "
    "refined with those that come with the package."
)
_STEPS = "Stage refined: sampling steps, 1 to 8; more take longer. Default: 1."
_REALISM = (
    "Stage refined: from 0 (most faithful) to 1 (most realistic: detail is invented). Default: 1."
)
_REFINER = "Stage refined: folder of a refiner. Default: the one that comes with the package."
_FORMAT = (
    "Kind of the pictures of a folder, or of one on stdout; png and webp are lossless, jpg has quality 95. A single "
    "file's kind is its name's. Default: png."
)


Stage = Literal["sketch", "preview", "refined"]
Format = Literal["png", "webp", "jpg"]


def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help=_PHOTO)],
    target: Annotated[Path, typer.Argument(metavar="OUT.skf", help=_STREAM_OUT)],
    bpp: Annotated[float | None, option(_BPP)] = None,
    max_bytes: Annotated[int | None, option(_MAX_BYTES, min=1)] = None,
    quality: Annotated[float | None, option(_QUALITY, min=0, max=bitstream.MAX_QUALITY)] = None,
    effort: Annotated[int, option(_EFFORT, min=0, max=10)] = 0,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_pixels: MaxPixels = bitstream.DEFAULT_MAX_PIXELS,
    workers: Workers = None,
    scheduler: Scheduler = None,
    force: Force = False,
) -> None:
    """Compress a photo, or every photo of a folder, to .skf files of a few kilobytes.

    Prints one line per photo: name, size in pixels, bytes, bits per pixel, quality and seconds.
    In a folder, a bad picture is reported and the others go on; the exit status tells. Files of other kinds and
    folders inside are left out, and named. A folder's manifest.jsonl says what was made of which photo and how: start
    a run that was cut off again, and it goes on.
    """
    one_of(bpp=bpp, max_bytes=max_bytes, quality=quality)
    one_of(workers=workers, scheduler=scheduler)
    if target.suffix.lower() in IMAGE_SUFFIXES:
        raise ArgumentError(f"{target}: named like a picture. Call the stream {target.stem}.skf.")
    sources = _sources(source, target, force, list_images, ImageError)
    networks = _networks(sources is not None, weights, device, dtype, workers or scheduler)
    how = Encoding(networks, bpp, max_bytes, quality, effort, max_pixels)

    def line(name: str, made: Made) -> str:
        return f"{_facts(name, made)}  {made.seconds:.2f} s  ({made.device})"

    if sources is None:
        name = label(source)
        item = Item(str(name), photo_from(source), str(target))
        with _effort_bar(name.name, effort) as on_progress:
            made = how.make(item, on_progress)
        _give(target, made.data, line(name.name, made))
        return
    batch = Batch(sources, target, ".skf")
    with Manifest.opened(target, how.settings, _model(networks), note) as manifest:
        batch.leave_out(force, manifest)
        batch.run(how, read_photo, line, workers, scheduler, manifest)


def decode(
    source: Annotated[Path, typer.Argument(metavar="IN.skf", help=_STREAM)],
    target: Annotated[Path, typer.Argument(metavar="OUT.png", help=_PICTURE_OUT)],
    stage: Annotated[Stage | None, option(_STAGE)] = None,
    steps: Annotated[int | None, option(_STEPS, min=1)] = None,
    realism: Annotated[float | None, option(_REALISM, min=0, max=1)] = None,
    refiner: Annotated[Path | None, option(_REFINER)] = None,
    format: Annotated[Format | None, option(_FORMAT)] = None,
    weights: Weights = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_pixels: MaxPixels = bitstream.DEFAULT_MAX_PIXELS,
    keep_going: KeepGoing = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    force: Force = False,
) -> None:
    """Decompress a stream, or every .skf file of a folder.

    A truncated stream decodes to what arrived, with a warning and exit status 0; a damaged one is an error, or with
    --keep-going decodes without its damage. In a folder, a bad stream is reported and the others go on; the exit
    status tells. Other files and folders inside are left out, and named.
    """
    one_of(workers=workers, scheduler=scheduler)
    piped = is_stdout(target) and not target.suffix
    is_file = not os.path.isdir(source)
    if format is not None and is_file and not piped and target.suffix.lower() != f".{format}":
        raise ArgumentError(f"{target}: not named .{format}. Drop --format, or rename the output.")
    dials = {k: v for k, v in (("steps", steps), ("realism", realism)) if v is not None}
    if stage not in (None, "refined") and (dials or refiner):
        raise ArgumentError(
            f"--{next(iter(dials), 'refiner')} belongs to the refined stage. Drop --stage {stage}."
        )
    asked = "refined" if dials else stage  # a dial is a wish for what it turns
    suffix = f".{format or 'png'}"
    sources = _sources(source, target, force, _list_streams, StreamError)
    folder = sources is not None
    networks = _networks(folder, weights, device, dtype, workers or scheduler, refiner)
    how = Decoding(networks, asked, tuple(dials.items()), max_pixels, keep_going)

    def line(name: str, made: Made) -> str:
        if made.missing:
            file = source / name if folder else label(source)
            note(f"warning: {missing_text(file, made.missing, keep_going)}")
        return f"{_facts(name, made)}  {made.stage}  {made.seconds:.2f} s  ({made.device})"

    if sources is None:
        output = f"stdout{suffix}" if piped else str(target)
        name = label(source)
        made = how.make(Item(str(name), stream_from(source, max_pixels), output))
        _give(target, made.data, line(name.name, made))
        return
    batch = Batch(sources, target, suffix)
    batch.leave_out(force)
    batch.run(how, partial(read_stream, max_pixels=max_pixels), line, workers, scheduler)


def _sources(
    source: Path,
    target: Path,
    force: bool,
    find: Callable[[Path], list[Path]],
    unusable: type[SketchFusionError],
) -> list[Path] | None:
    """The files of a folder; None where the source is one file, for which the target is checked.

    Raises:
        unusable: there is nothing at ``source``.
        OutputError: the output file exists already, or cannot exist.
    """
    if not (is_stdin(source) or os.path.exists(source)):
        raise unusable(f"{source}: no such file or folder. Check the path.")
    if is_stdin(source) or not os.path.isdir(source):
        check_target(target, force)
        return None
    sources = find(source)
    if not sources:
        raise unusable(f"{source}: nothing to do, the folder holds no file of the right kind.")
    return sources


def _give(target: Path, data: bytes, line: str) -> None:
    """Write an output, and print its summary, never into it."""
    write(target, data)
    (note if is_stdout(target) else say)(line)


def _facts(name: str, made: Made) -> str:
    return (
        f"{name}  {made.width}x{made.height}  {made.stream_bytes} bytes  {made.bpp:.4f} bpp  "
        f"quality {made.quality:.2f}"
    )


def _networks(
    is_folder: bool,
    weights: Path | None,
    device: str,
    dtype: str,
    spread: int | str | None,
    refiner: Path | None = None,
) -> Networks:
    """What to load; for a folder with paths and hashes that mean the same in other processes.

    Raises:
        ArgumentError: workers for a single file.
        WeightsError: the weights are missing.
    """
    if not is_folder:
        if spread:
            raise ArgumentError("--workers and --scheduler are for folders: drop them for a file.")
        return Networks(_text(weights), "", device, dtype, _text(refiner))
    from ..weights_io import SHIPPED, weights_file

    file = weights_file(weights)
    if not file.is_file():
        raise WeightsError(f"{file}: no such weights file. Check the path.")
    name = _text(weights if str(weights) in SHIPPED else weights and weights.absolute())
    return Networks(name, sha256_of(file), device, dtype, _text(refiner and refiner.absolute()))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _model(networks: Networks) -> str:
    """What a manifest calls the model: its id, and the start of the hash of its weights.

    Raises:
        WeightsError: the file holds no codec.
    """
    from ..weights_io import weights_file

    file = weights_file(networks.weights)
    model_id = entropy_model_id(file)
    if model_id is None:
        raise WeightsError(f"{file}: holds no codec. Train one with the recipe 'codec'.")
    return f"{model_id:#06x}-{networks.sha256[:12]}"


@contextmanager
def _effort_bar(name: str, effort: int) -> Iterator[OnProgress | None]:
    """Says how long an encode-time search takes; then a bar, or in a log a line now and then."""
    if not effort:
        yield None
        return
    with progress_bar(TaskProgressColumn(), TimeRemainingColumn()) as bar:
        task, said = bar.add_task(name), time.monotonic()

        def on_progress(done: int, total: int, numbers: dict[str, float]) -> None:
            nonlocal said
            left = f"{numbers['seconds']:.0f} s"
            if not done:
                note(f"{name}: effort {effort}, {total} steps, about {left}")
            elif bar.disable and time.monotonic() - said > LOG_SECONDS and done < total:
                note(f"{name}: step {done} of {total}, {left} left")
                said = time.monotonic()
            bar.update(task, completed=done, total=total)

        yield on_progress


def _list_streams(folder: Path) -> list[Path]:
    return list_files(folder, (".skf",), "not named .skf", StreamError, ours=(MANIFEST,))
