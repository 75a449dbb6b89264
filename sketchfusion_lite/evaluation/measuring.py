"""One row of the table: a photo through a codec at a rate, and everything that is known of it afterwards.

Picture, CodecSpec, rate --> bytes <= rate * pixels / 8 --> decoded --> Comparison --> Row
                                 |
                                 +--> does not fit, not installed, failed: a row, too
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image

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
from . import keeping
from .adapters import Codec, Coded, Picture, Workbench
from .comparison import Comparison
from .metrics import METRICS
from .operating import CodecSpec
from .table import COLUMNS, DOES_NOT_FIT, FAILED, NOT_INSTALLED, OK, SCHEMA, Row

__all__ = ["Measuring", "PhotoTask", "image_hash", "with_known_metrics"]


@dataclass(frozen=True)
class PhotoTask:
    """The rows of one photo that are still to be measured.

    Attributes:
        path: of the photo.
        points: codecs with rates.
    """

    path: Path
    points: tuple[tuple[CodecSpec, float], ...]


@dataclass
class Measuring:
    """How rows are measured; travels to worker processes.

    Attributes:
        metrics: names out of ``METRICS``.
        seed: of torch's generator at the start of every row. Our decoders seed their noise by the stream.
        weights, refiner, device: see :class:`.adapters.Workbench`.
        pictures: folder to keep decoded pictures in, see :mod:`.keeping`; None keeps none.
    """

    metrics: tuple[str, ...] = METRICS
    seed: int = 0
    weights: str | None = None
    refiner: str | None = None
    device: str = "cpu"
    pictures: str | None = None

    @cached_property
    def bench(self) -> Workbench:
        """Networks of this process."""
        return Workbench(self.weights, self.refiner, self.device)

    def __getstate__(self) -> dict[str, object]:
        """Without the networks: another process loads its own."""
        return {name: value for name, value in vars(self).items() if name != "bench"}

    def rows(self, task: PhotoTask) -> Iterator[Row]:
        """Measure a photo; each row is yielded as soon as it is known.

        Raises:
            ArgumentError: a codec's option out of range: it would be wrong for every photo.
            DownloadError: the metrics' networks cannot be had.
            OutputError: a picture cannot be kept.
        """
        blank = self._blank(task.path)
        try:
            picture = Picture(task.path)
        except ImageError as error:
            for spec, rate in task.points:
                yield blank | {"codec": spec.text, "rate": rate} | _problem(FAILED, error)
            return
        blank |= {"width": picture.image.width, "height": picture.image.height}
        comparison = Comparison(picture.image, self.metrics, self.device)
        for spec, rate in task.points:
            torch.manual_seed(self.seed)
            found, shown = self._row(picture, comparison, spec, rate)
            row = blank | {"codec": spec.text, "rate": rate} | found
            if self.pictures is not None:
                keeping.keep(self.pictures, row, shown)
            yield row

    def _blank(self, path: Path) -> Row:
        """A row that says what is measured and how, without results."""
        empty = {name: "" if kind is str else None for name, kind in COLUMNS.items()}
        return empty | {
            "image": text_of(path.name),
            "image_sha256": image_hash(path),
            "library": __version__,
            "torch": torch.__version__,
            "metrics": "+".join(self.metrics),
            "seed": self.seed,
            "schema": SCHEMA,
        }

    def _row(
        self, picture: Picture, comparison: Comparison, spec: CodecSpec, rate: float
    ) -> tuple[Row, Image.Image | None]:
        """What is known of a row, and the decoded picture if there is one."""
        try:
            codec = self.bench.open(spec)
        except ArgumentError:
            raise
        except (DependencyMissing, DownloadError) as error:
            return _problem(NOT_INSTALLED, error), None
        except SketchFusionError as error:
            return _problem(FAILED, error), None
        about = {"model": codec.model, "peer": codec.version}
        try:
            coded = codec.at_most(picture, int(rate * picture.pixels / 8))
        except BudgetTooSmall as error:
            needed = {"needed_bytes": error.needed_bytes}
            return about | _problem(DOES_NOT_FIT, error) | needed, None
        except (DependencyMissing, DownloadError) as error:  # e.g. the weights of one quality
            return about | _problem(NOT_INSTALLED, error), None
        except SketchFusionError as error:
            return about | _problem(FAILED, error), None
        try:
            return about | self._results(picture, comparison, coded), coded.image
        except SketchFusionError as error:  # e.g. a picture of another size
            return about | _problem(FAILED, error), None

    @staticmethod
    def _results(picture: Picture, comparison: Comparison, coded: Coded) -> Row:
        # avif and avif/auto often are the same file: its picture is measured once
        shown = hashlib.sha256(coded.image.tobytes()).digest()
        measured = picture.once(shown, lambda: comparison.measure(coded.image)).as_dict()
        return {
            "status": OK,
            "bytes": len(coded.data),
            "bpp": len(coded.data) * 8 / picture.pixels,
            "quality": coded.quality,
            "scale": coded.scale,
            "encode_s": coded.encode_s,
            "decode_s": coded.decode_s,
            **{name: None if math.isnan(value) else value for name, value in measured.items()},
        }

    def open(self, spec: CodecSpec) -> Codec | None:
        """A codec, or None when it cannot run here."""
        try:
            return self.bench.open(spec)
        except ArgumentError:
            raise
        except SketchFusionError:
            return None  # the rows say why


def image_hash(path: Path) -> str:
    """First digits of a photo's hash, enough to notice that it is another one; empty where it cannot be read."""
    try:
        return sha256_of(path)[:16]
    except OSError:  # the rows say why
        return ""


def with_known_metrics(row: Row, old: Row | None) -> Row:
    """A row measured again, for a picture or a metric that was missing, keeps the metrics that it had."""
    same = ("status", "image_sha256", "bytes", "model", "peer", "library", "torch", "seed")
    if old is None or any(row[name] != old[name] for name in same):
        return row
    asked = {*row["metrics"].split("+"), *old["metrics"].split("+")}
    kept = {name: old[name] for name in METRICS if row[name] is None}
    return row | kept | {"metrics": "+".join(name for name in METRICS if name in asked)}


def _problem(status: str, error: SketchFusionError) -> Row:
    return {"status": status, "message": text_of(" ".join(str(error).split()))}
