"""Photos measured by workers that may lie anywhere: the photo travels with its task, rows and pictures come back.

    PhotoTask --> Parcel(photo, codecs that share files) --> a worker, in a folder of this parcel alone --> [Measured]

Workers need no disk in common with the caller, and write nothing that stays.
"""

from __future__ import annotations

import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from ..errors import ImageError
from ..folders import read_photo
from ..weights_io import folder_stamp, require_same_weights
from . import keeping
from .adapters import Workbench
from .measuring import Measuring, PhotoTask
from .operating import OURS, CodecSpec
from .table import Row

__all__ = ["Measured", "Parcel", "measure", "parcels"]

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Parcel:
    """A photo and some of its rows that are to be measured.

    Attributes:
        path: of the photo, where the parcel comes from.
        files: the photo, and its caption if it has one: name -> content.
        points: codecs with rates.
        weights_sha256: of our codec's weights, if they are not those of the library.
    """

    path: Path
    files: dict[str, bytes]
    points: tuple[tuple[CodecSpec, float], ...]
    weights_sha256: str = ""


@dataclass(frozen=True)
class Measured:
    """A row, and the PNG file of the decoded picture if pictures are kept and there is one."""

    row: Row
    picture: bytes | None = None


def parcels(
    tasks: Iterable[PhotoTask], unreadable: Callable[[PhotoTask], None], weights_sha256: str = ""
) -> Iterator[Parcel]:
    """One parcel per photo and family of codecs, read when it is asked for.

    Stages of our receiver share a stream, and a peer's sizes and rates share trials; nothing else is worth keeping
    together: what is lost with a worker, or waits for a slow one, is little.

    Args:
        tasks: photos with what is to be measured of them.
        unreadable: receives those that cannot be sent, in place of a parcel.
        weights_sha256: see :class:`Parcel`.
    """
    for task in tasks:
        families = defaultdict(list)
        for spec, rate in task.points:
            ours = spec.name in OURS and spec.name != "lines"
            families["ours" if ours else spec.name].append((spec, rate))
        caption = task.path.with_suffix(".txt")  # of PICS
        sent = [task.path, caption] if caption.is_file() else [task.path]
        try:
            files = {path.name: read_photo(path) for path in sent}
        except ImageError:
            unreadable(task)
            continue
        for points in families.values():
            yield Parcel(task.path, files, tuple(points), weights_sha256)


def measure(measuring: Measuring, parcel: Parcel) -> list[Measured]:
    """What a worker runs: measure a parcel.

    One thread, and one parcel at a time, even on a worker that was started with more threads: rows seed torch's
    generator, and a process has one.

    Raises:
        WeightsError: this machine has other weights under the name than the one that asks.
        ArgumentError, DownloadError, OutputError: see :meth:`.Measuring.rows`.
    """
    with _one_at_a_time, tempfile.TemporaryDirectory() as name:
        torch.set_num_threads(1)
        if parcel.weights_sha256:
            require_same_weights(measuring.weights, parcel.weights_sha256)
        photos, pictures = Path(name, "photos"), Path(name, "pictures")
        photos.mkdir()
        for file, data in parcel.files.items():
            (photos / file).write_bytes(data)
        here = replace(measuring, pictures=measuring.pictures and str(pictures))
        here.bench = _workbench(
            measuring.weights,
            measuring.refiner,
            measuring.device,
            (parcel.weights_sha256, folder_stamp(measuring.refiner)),
        )
        measured = []
        for row in here.rows(PhotoTask(photos / parcel.path.name, parcel.points)):
            # Messages name the photo where it lies for the reader of the table.
            row["message"] = row["message"].replace(str(photos), str(parcel.path.parent))
            kept = keeping.picture_path(pictures, row)
            measured.append(Measured(row, kept.read_bytes() if kept.is_file() else None))
        return measured


@lru_cache(maxsize=1)
def _workbench(weights: str | None, refiner: str | None, device: str, stamp: tuple) -> Workbench:
    """Networks of this process, as long as their files stay the same."""
    return Workbench(weights, refiner, device)
