"""What encoding and decoding return: plain, frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from . import bitstream
from .files import atomic_write_bytes


@dataclass(frozen=True)
class Encoded:
    """A compressed photo.

    Attributes:
        data: the whole ``.skf`` file.
        bpp: ``len(data) * 8 / (height * width)``: what is on disk.
        estimated_bpp: ideal code length ``-log2 p`` of the model, without header and checksums.
        quality: in [0, 5], as stored in the stream.
    """

    data: bytes
    bpp: float
    estimated_bpp: float
    quality: float

    def save(self, path: str | Path) -> Path:
        """Write the file; under its name there is never half a stream."""
        return atomic_write_bytes(path, self.data)


@dataclass(frozen=True)
class StreamInfo:
    """What a stream says of itself.

    Attributes:
        width, height: pixels.
        quality: in [0, 5].
        model_id: 16-bit id of the entropy model that made it.
        bpp: bits per pixel of the data at hand.
        section_bytes: every byte by use: header, crc, hyper, structure, tone.
        missing: sections that a truncated stream lacks (or that are damaged), else empty.
    """

    width: int
    height: int
    quality: float
    model_id: int
    bpp: float
    section_bytes: dict[str, int]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Decoded:
    """A decompressed photo.

    Attributes:
        image: the picture of the stage asked for.
        sketch: line drawing of the structure group (dark on light, mode "L").
        preview: the first receiver stage's reconstruction (mode "RGB"), None at stage "sketch".
        refined: the second receiver stage's picture, None before stage "refined".
        info: see :class:`StreamInfo`.
    """

    image: Image.Image
    sketch: Image.Image
    preview: Image.Image | None
    refined: Image.Image | None
    info: StreamInfo

    @property
    def stage(self) -> str:
        """How far it was decoded, and what ``image`` is: ``"sketch"``, ``"preview"`` or ``"refined"``."""
        if self.refined is not None:
            return "refined"
        return "sketch" if self.preview is None else "preview"


def read_info(data: bytes, name: str = "stream") -> StreamInfo:
    """Describe a stream without decoding it; needs no weights.

    Raises:
        StreamError: not a stream, corrupt, or too short for header and hyper section.
    """
    return describe(bitstream.parse(data, name=name), len(data))


def describe(stream: bitstream.Stream, size: int) -> StreamInfo:
    header = stream.header
    return StreamInfo(
        header.width,
        header.height,
        header.quality,
        header.model_id,
        size * 8 / header.pixels,
        stream.section_bytes,
        stream.missing,
    )
