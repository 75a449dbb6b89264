"""A photo through codecs at rates: one row for each, whatever becomes of it. Runs here, or on a worker anywhere.

    photo, codec, rate --> bytes <= rate * pixels / 8 --> decoded --> metrics --> Row, PNG
                               |
                               +--> does not fit, not installed, failed: a row, too

A worker needs no disk in common with the caller: the photo travels with its task; rows and pictures come back.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from .. import __version__
from ..errors import (
    ArgumentError,
    BudgetTooSmall,
    DependencyMissing,
    DownloadError,
    ImageError,
    SketchFusionError,
)
from ..files import sha256_of, text_of
from ..folders import read_photo
from ..weights_io import SHIPPED, folder_stamp, require_same_weights
from .adapters import Coded, Picture, Workbench
from .metrics import METRICS, Comparison
from .operating import OURS, CodecSpec
from .pictures import png
from .table import COLUMNS, DOES_NOT_FIT, FAILED, NOT_INSTALLED, OK, SCHEMA, Row

__all__ = ["Measured", "Measuring", "PhotoTask", "measure"]

Measured = tuple[Row, bytes | None]  # a row, and the PNG file of its picture if pictures are kept
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class PhotoTask:
    """Rows of one photo that are to be measured.

    Attributes:
        path: of the photo.
        points: codecs with rates.
        data, caption: of :class:`.adapters.Picture`, where the task travels.
    """

    path: Path
    points: tuple[tuple[CodecSpec, float], ...]
    data: bytes | None = None
    caption: bytes | None = None

    def by_family(self) -> list[PhotoTask]:
        """A task for each set of codecs that share work, our stages or one peer: little is lost with a worker."""
        families = defaultdict(list)
        for spec, rate in self.points:
            ours = spec.name in OURS and spec.name != "lines"
            families["ours" if ours else spec.name].append((spec, rate))
        return [replace(self, points=tuple(points)) for points in families.values()]

    def packed(self) -> PhotoTask:
        """The task with its files; an :class:`.ImageError` where they cannot be read."""
        caption = self.path.with_suffix(".txt")
        said = read_photo(caption) if caption.is_file() else b""
        return replace(self, data=read_photo(self.path), caption=said)


@dataclass(frozen=True)
class Measuring:
    """How rows are measured; travels to workers.

    Attributes:
        metrics: names out of ``METRICS``.
        seed: of torch's generator at the start of every row. Our decoders seed their noise by the stream.
        weights, refiner, device: see :class:`.adapters.Workbench`.
        weights_sha256: of our codec's weights, if they are not those of the library.
        pictures: folder that decoded pictures shall go to; None keeps none.
    """

    metrics: tuple[str, ...] = METRICS
    seed: int = 0
    weights: str | None = None
    refiner: str | None = None
    device: str = "cpu"
    weights_sha256: str = ""
    pictures: str | None = None

    def elsewhere(self) -> Measuring:
        """For a worker, which has another current folder and may have other files under the same names."""
        how = self
        if how.weights is not None and how.weights not in SHIPPED:
            weights = str(Path(how.weights).absolute())
            how = replace(how, weights=weights, weights_sha256=sha256_of(weights))
        if how.refiner is not None:
            how = replace(how, refiner=str(Path(how.refiner).absolute()))
        return how

    def rows(self, task: PhotoTask, bench: Workbench) -> Iterator[Measured]:
        """Measure a photo; each row is yielded as soon as it is known.

        Raises:
            ArgumentError: a codec's option out of range: it would be wrong for every photo.
            DownloadError: the metrics' networks cannot be had.
        """
        blank: Row = {name: "" if kind is str else None for name, kind in COLUMNS.items()}
        blank |= {"image": text_of(task.path.name), "schema": SCHEMA, "seed": self.seed}
        blank |= {"library": __version__, "torch": torch.__version__}
        blank |= {"metrics": "+".join(self.metrics)}
        try:
            data = read_photo(task.path) if task.data is None else task.data
            blank |= {"image_sha256": hashlib.sha256(data).hexdigest()[:16]}
            picture = Picture(task.path, data, task.caption)
        except ImageError as error:
            for spec, rate in task.points:
                yield blank | {"codec": spec.text, "rate": rate} | _problem(FAILED, error), None
            return
        blank |= {"width": picture.image.width, "height": picture.image.height}
        comparison = Comparison(picture.image, self.metrics, self.device)
        for spec, rate in task.points:
            torch.manual_seed(self.seed)
            found, coded = _row(picture, comparison, bench, spec, rate)
            row = blank | {"codec": spec.text, "rate": rate} | found
            yield row, png(row, coded.image) if self.pictures and coded else None


def measure(how: Measuring, task: PhotoTask) -> list[Measured]:
    """What a worker runs.

    One thread, and one task at a time, even on a worker that was started with more threads: rows seed torch's
    generator, and a process has one.

    Raises:
        WeightsError: this machine has other weights under the name than the one that asks.
        ArgumentError, DownloadError: see :meth:`Measuring.rows`.
    """
    with _one_at_a_time:
        torch.set_num_threads(1)
        if how.weights_sha256:
            require_same_weights(how.weights, how.weights_sha256)
        return list(how.rows(task, _workbench(how, folder_stamp(how.refiner))))


@lru_cache(maxsize=1)
def _workbench(how: Measuring, stamp: tuple) -> Workbench:
    """Networks of this process, as long as their files stay the same."""
    return Workbench(how.weights, how.refiner, how.device)


def _row(
    picture: Picture, comparison: Comparison, bench: Workbench, spec: CodecSpec, rate: float
) -> tuple[Row, Coded | None]:
    """What is known of a row, and the decoded picture if there is one."""
    about: Row = {}
    try:
        codec = bench.open(spec)
        about = {"model": codec.model, "peer": codec.version}
        coded = codec.at_most(picture, int(rate * picture.pixels / 8))
        return about | _results(picture, comparison, coded), coded
    except BudgetTooSmall as error:
        needed = {"needed_bytes": error.needed_bytes}
        return about | _problem(DOES_NOT_FIT, error) | needed, None
    except (DependencyMissing, DownloadError) as error:  # e.g. the weights of one quality
        return about | _problem(NOT_INSTALLED, error), None
    except SketchFusionError as error:
        if isinstance(error, ArgumentError) and not about:
            raise
        return about | _problem(FAILED, error), None  # e.g. a picture of another size


def _results(picture: Picture, comparison: Comparison, coded: Coded) -> Row:
    # avif and avif/auto often are the same file: its picture is measured once
    shown = hashlib.sha256(coded.image.tobytes()).digest()
    measured = picture.once(shown, lambda: comparison.measure(coded.image)).as_dict()
    return {
        "status": OK,
        "bytes": len(coded.data),
        "bpp": len(coded.data) * 8 / picture.pixels,
        "quality": float(coded.quality),
        "scale": coded.scale,
        "encode_s": coded.encode_s,
        "decode_s": coded.decode_s,
        **{name: None if math.isnan(value) else value for name, value in measured.items()},
    }


def _problem(status: str, error: SketchFusionError) -> Row:
    return {"status": status, "message": text_of(" ".join(str(error).split()))}
