"""One file of a folder, from bytes to bytes: what a worker does, wherever it is.

    Item(name, bytes) --> Encoding | Decoding --> Made(bytes, facts)

Neither reads its source nor writes its output: one process does, and workers need no disk in common with it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import bitstream
from ..errors import ImageError, SketchFusionError
from ..results import StreamInfo, describe

if TYPE_CHECKING:
    from ..codec import SketchFusionCodec
    from ..latent_search import OnProgress

__all__ = ["Decoding", "Encoding", "Item", "Made", "Networks", "attempt", "attempt_on_worker"]

_MAX_FILE_BYTES = 1 << 31  # a picture file is held in memory as a whole, here and on a worker
_PIECE = 1 << 20
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Item:
    """A file as it travels to a worker.

    Attributes:
        name: what messages call it.
        data: all of it.
        output: what messages call the file that it becomes; its suffix is that of the format.
    """

    name: str
    data: bytes
    output: str


@dataclass(frozen=True)
class Made:
    """What became of an item.

    Attributes:
        data: the output file.
        width, height: of the picture.
        stream_bytes: size of the ``.skf`` stream, be it input or output.
        quality: in [0, 5].
        missing: sections that a truncated stream lacked.
        seconds: that it took, where it was made.
        device: that the networks ran on, and in which numbers: ``"cpu, float32"``.
        stage: of a decoded picture; empty for an encoded one.
    """

    data: bytes
    width: int
    height: int
    stream_bytes: int
    quality: float
    missing: tuple[str, ...]
    seconds: float
    device: str
    stage: str = ""

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole stream."""
        return self.stream_bytes * 8 / (self.width * self.height)


@dataclass(frozen=True)
class Networks:
    """Which networks, and where they run.

    Attributes:
        weights: a file, or the name of one that comes with the library; None for the default.
        sha256: of that file where the work was given out, so that no other weights take its place on a worker;
            empty for any.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
        dtype: ``"auto"``, ``"float32"`` or ``"bfloat16"``, each worker's own choice if auto.
        refiner: folder of the second stage; None for the default.
    """

    weights: str | None = None
    sha256: str = ""
    device: str = "auto"
    dtype: str = "auto"
    refiner: str | None = None

    def codec(self) -> SketchFusionCodec:
        """The codec, loaded once in a process as long as its files stay the same.

        Raises:
            ArgumentError: there is no such device here.
            WeightsError: the weights are missing, damaged, or others than where the work was given out.
        """
        from ..weights_io import folder_stamp

        return _load(self, folder_stamp(self.refiner))


@lru_cache(maxsize=1)
def _load(networks: Networks, stamp: tuple) -> SketchFusionCodec:
    from ..codec import load_codec
    from ..weights_io import require_same_weights

    if networks.sha256:
        require_same_weights(networks.weights, networks.sha256)
    return load_codec(networks.weights, networks.device, networks.dtype, networks.refiner)


@dataclass(frozen=True)
class Encoding:
    """How photos are encoded; for the numbers see :meth:`.SketchFusionCodec.encode`."""

    networks: Networks
    bpp: float | None = None
    max_bytes: int | None = None
    quality: float | None = None
    effort: int = 0
    max_pixels: int = bitstream.DEFAULT_MAX_PIXELS

    @property
    def settings(self) -> str:
        """What decides over the bytes besides photo and weights, e.g. ``"bpp=0.045 effort=5"``."""
        from ..codec import DEFAULT_BPP

        chosen = [(n, getattr(self, n)) for n in ("bpp", "max_bytes", "quality")]
        given = [f"{name}={value:g}" for name, value in chosen if value is not None]
        return " ".join([*(given or [f"bpp={DEFAULT_BPP:g}"]), f"effort={self.effort}"])

    def make(self, item: Item, on_progress: OnProgress | None = None) -> Made:
        """Compress a photo.

        Raises:
            ArgumentError, ImageError, BudgetTooSmall: see :meth:`.SketchFusionCodec.encode`.
            WeightsError: see :meth:`Networks.codec`.
        """
        codec, start = self.networks.codec(), time.perf_counter()
        encoded = codec.encode(
            item.data,
            bpp=self.bpp,
            max_bytes=self.max_bytes,
            quality=self.quality,
            effort=self.effort,
            on_progress=on_progress,
            max_pixels=self.max_pixels,
            name=item.name,
        )
        size = len(encoded.data)
        about = describe(bitstream.parse(encoded.data, self.max_pixels), size)
        return _made(codec, start, encoded.data, about, size)


@dataclass(frozen=True)
class Decoding:
    """How streams are decoded; for the numbers see :meth:`.SketchFusionCodec.decode`.

    Attributes:
        stage: None for the finest that the networks have.
        dials: ``steps`` and ``realism``, where they are given.
        keep_going: leave out damaged sections.
    """

    networks: Networks
    stage: str | None
    dials: tuple[tuple[str, float], ...] = ()
    max_pixels: int = bitstream.DEFAULT_MAX_PIXELS
    keep_going: bool = False

    def make(self, item: Item) -> Made:
        """Decompress a stream into the bytes of a picture file.

        Raises:
            ArgumentError, StreamError: see :meth:`.SketchFusionCodec.decode`.
            OutputError: no picture can be stored under the output's name.
            WeightsError: see :meth:`Networks.codec`.
        """
        from ..images import image_file

        dials: dict[str, Any] = dict(self.dials)
        codec, start = self.networks.codec(), time.perf_counter()
        decoded = codec.decode(
            item.data,
            self.stage,
            **dials,
            max_pixels=self.max_pixels,
            keep_going=self.keep_going,
            name=item.name,
        )
        data = bytes(image_file(decoded.image, item.output))
        return _made(codec, start, data, decoded.info, len(item.data), decoded.stage)


def _made(
    codec: SketchFusionCodec,
    start: float,
    data: bytes,
    about: StreamInfo,
    size: int,
    stage: str = "",
) -> Made:
    """What became of a stream of ``size`` bytes, or became one, by work that began at ``start``."""
    from ..hardware import describe_choice

    seconds = time.perf_counter() - start
    facts = (about.width, about.height, size, about.quality, about.missing)
    return Made(data, *facts, seconds, describe_choice(codec.device, codec.dtype), stage)


def attempt(how: Encoding | Decoding, item: Item) -> Made | SketchFusionError:
    """What became of an item. An error of ours is a result: trying again would not help."""
    try:
        return how.make(item)
    except SketchFusionError as error:
        return error


def attempt_on_worker(how: Encoding | Decoding, item: Item) -> Made | SketchFusionError:
    """What a worker runs: one item at a time, with one thread, even on a worker that was started with more."""
    import torch

    with _one_at_a_time:
        torch.set_num_threads(1)
        return attempt(how, item)


def read_photo(path: Path) -> bytes:
    """Read a picture file, but no film.

    Raises:
        ImageError: it cannot be read, or has 2 GiB or more.
    """
    try:
        with path.open("rb") as file:
            return read_whole(file, str(path))
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        remedy = "It is gone, or a link to nothing." if gone else "Check its permissions."
        raise ImageError(f"{path}: cannot be read ({error.strerror}). {remedy}") from error


def read_whole(file: BinaryIO, name: str) -> bytes:
    """All of an open picture file, which may be a pipe: its size is known only when it ends.

    Raises:
        ImageError: it has 2 GiB or more.
    """
    pieces, size = [], 0
    while piece := file.read(_PIECE):
        pieces.append(piece)
        if (size := size + len(piece)) >= _MAX_FILE_BYTES:
            raise ImageError(f"{name}: 2 GiB or more, too large for a picture. Convert it first.")
    return b"".join(pieces)
