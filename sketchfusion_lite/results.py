"""What encoding and decoding return, plain frozen records; and reading a stream back, within bounds.

Encoded, bytes, path --stream_of--> (bytes, what messages call them) --> parse --> StreamInfo
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from . import bitstream, checks
from .errors import ArgumentError, StreamError, TruncatedStream
from .files import atomic_write_bytes

if TYPE_CHECKING:
    from PIL import Image

_FIRST_BYTES = 1 << 16
_OVERHEAD = 64  # more than header and checksums


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"Encoded({len(self.data)} bytes, {self.bpp:.4f} bpp, quality {self.quality:.2f})"

    def save(self, path: str | Path) -> Path:
        """Write the file; under its name there is never half a stream.

        Raises:
            ArgumentError: ``path`` is no path.
            OutputError: it cannot be written.
        """
        return atomic_write_bytes(checks.path("path", path), self.data)


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


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        about = self.info
        without = f", without {' and '.join(about.missing)}" if about.missing else ""
        return f"Decoded({self.stage}, {about.width}x{about.height}, {about.bpp:.4f} bpp{without})"

    @property
    def stage(self) -> str:
        """How far it was decoded, and what ``image`` is: ``"sketch"``, ``"preview"`` or ``"refined"``."""
        if self.refined is not None:
            return "refined"
        return "sketch" if self.preview is None else "preview"


StreamSource = bytes | bytearray | memoryview | str | os.PathLike[str] | Encoded


def read_info(data: StreamSource, name: str = "") -> StreamInfo:
    """Describe a stream without decoding it; needs no weights.

    Args:
        data: the bytes of a stream, the path of a file, or an :class:`Encoded`.
        name: what error messages call it; empty for the path, or "stream".

    Raises:
        ArgumentError: ``data`` is none of these.
        StreamError: not a stream, corrupt, or too short for header and hyper section; or no file to read.
    """
    data, name = stream_of(data, name)
    return describe(bitstream.parse(data, name=name), len(data))


def stream_of(
    data: StreamSource, name: str = "", max_pixels: int = bitstream.DEFAULT_MAX_PIXELS
) -> tuple[bytes, str]:
    """The bytes of a stream, unchecked, and what error messages call it.

    Args:
        data: the bytes, the path of a file, or an :class:`Encoded`.
        name: empty for the path, or "stream".
        max_pixels: a file may be as large as pictures of this size make it.

    Raises:
        ArgumentError: ``data`` is none of these.
        StreamError: the file cannot be read, or is no stream.
    """
    checks.text("name", name)
    if isinstance(data, Encoded):
        data = data.data
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data), name or "stream"
    if isinstance(data, str | os.PathLike):
        path = checks.path("data", data)
        return read_stream(path, max_pixels, name), name or str(path)
    raise ArgumentError(
        f"data: {type(data).__name__} is no stream. Pass its bytes, the path of a .skf file, or what encode returned."
    )


def read_stream(
    path: Path, max_pixels: int = bitstream.DEFAULT_MAX_PIXELS, name: str = ""
) -> bytes:
    """Read a ``.skf`` file, see :func:`read_bounded`.

    Raises:
        StreamError: cannot be read, or is no intact stream.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            return read_bounded(file, max_pixels, name)
    except OSError as error:
        raise StreamError(
            f"{name}: cannot be read ({error.strerror}). Check its name and permissions."
        ) from error


def read_bounded(file: BinaryIO, max_pixels: int, name: str) -> bytes:
    """Read an open file, a pipe for example, but never much more than a stream of this size may hold.

    The first 64 kB are checked before the rest is read, so a film renamed to ``.skf`` is cheap.

    Raises:
        StreamError: no intact stream.
    """
    data = file.read(_FIRST_BYTES)
    if len(data) < _FIRST_BYTES:
        return data
    try:
        # Damage is judged when all is there, by whoever asked for it.
        header = bitstream.parse(data, max_pixels, name, keep_going=True).header
        words = bitstream.max_section_words(header.width, header.height)
    except TruncatedStream:  # a hyper section beyond the first bytes; its checksum is not seen yet
        words = bitstream.max_section_words(max_pixels + 64 * bitstream.MAX_SIDE, 64)
    room = len(bitstream.SECTIONS) * words * bitstream.WORD_BYTES + _OVERHEAD - len(data) + 1
    parts = [data]
    while room > 0 and (part := file.read(min(room, _FIRST_BYTES))):
        parts.append(part)
        room -= len(part)
    return b"".join(parts)


def describe(stream: bitstream.Stream, size: int) -> StreamInfo:
    """What a parsed stream of ``size`` bytes says of itself."""
    h = stream.header
    bpp, used = size * 8 / h.pixels, stream.section_bytes
    return StreamInfo(h.width, h.height, h.quality, h.model_id, bpp, used, stream.missing)
