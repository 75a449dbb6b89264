"""The ``.skf`` container: a header, three sections and their checksums. No torch, no model.

    ┌──────────┬──────────┬─────────┬────────┬────────┬───────────────────────┐
    │ 'S' 0xF1 │ model id │ quality │ width  │ height │ words per section     │ header, 10-23 bytes
    │ 2 bytes  │ uint16   │ uint8   │ varint │ varint │ 3 varints             │ (14 for most photos)
    ├──────────┼──────────┴─────────┴────────┴────────┴───────────────────────┤
    │ CRC-16   │ hyper      the hyper latent; without it nothing decodes      │
    ├──────────┴───────────────────────────────────────────────────┬──────────┤
    │ structure    first channel group: enough for a sketch        │ CRC-16   │
    ├──────────────────────────────────────────────────────────────┼──────────┤
    │ tone         second channel group: colour and texture        │ CRC-16   │
    └──────────────────────────────────────────────────────────────┴──────────┘

Numbers are little endian; varints are LEB128 in their shortest form (any other is refused, so equal
streams are equal bytes). The low nibble of the second byte is the format version.

*Sections.* The three together are **one** rANS stream of 32-bit words, so the coder's state is
flushed once, not three times, and the start decodes without the rest. Lengths are in words.

*Checksums.* CRC-16/CCITT-FALSE, chained: each one covers everything before it and its own section,
checksums excepted, so sections of two files cannot be mixed. The first also guards the header. An
empty section has no checksum; that it is empty is guarded by the first one.

*Trust.* Nothing is believed before it is checked, and nothing larger than the data at hand is ever
allocated: sides are at most ``MAX_SIDE``, pixels at most ``max_pixels``, and a section has at most
``WORDS_PER_TILE`` words per tile of 64x64 pixels begun: 4 bits per pixel and section, over 20 times
the highest rate of the codec.
"""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import dataclass

from . import checks
from .checks import DEFAULT_MAX_PIXELS, MAX_SIDE
from .errors import ArgumentError, CorruptStream, NotAStream, TruncatedStream, UnsupportedStream

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "MAX_QUALITY",
    "MAX_SIDE",
    "SECTIONS",
    "VERSION",
    "WORD_BYTES",
    "Header",
    "Stream",
    "file_size",
    "index_to_quality",
    "max_section_words",
    "pack",
    "parse",
    "quality_to_index",
]

SECTIONS = ("hyper", "structure", "tone")
VERSION = 1
WORD_BYTES = 4
MAX_QUALITY = 5.0
WORDS_PER_TILE = 512

_MAGIC = 0x53
_VERSION_MARK = 0xF0  # high nibble of the second byte
_FIXED = struct.Struct("<BBHB")  # magic, version, model id, quality
_CRC = struct.Struct("<H")
_CRC_START = 0xFFFF
_SIDE_BYTES = 3  # longest varint of a side
_LENGTH_BYTES = 4  # longest varint of a section length
_MIN_HEAD = _FIXED.size + 5 + _CRC.size  # every varint takes one byte at least


@dataclass(frozen=True)
class Header:
    """What a stream says about its picture.

    Attributes:
        width, height: pixels, 1 to ``MAX_SIDE`` each.
        quality_index: 0 (smallest) to 255 (finest); see :func:`index_to_quality`.
        model_id: id of the model that made the stream, 0 to 65535.

    Raises:
        ArgumentError: a field is no ``int`` or outside its range.
    """

    width: int
    height: int
    quality_index: int
    model_id: int

    def __post_init__(self) -> None:
        ranges = {
            "width": (1, MAX_SIDE),
            "height": (1, MAX_SIDE),
            "quality_index": (0, 255),
            "model_id": (0, 65535),
        }
        for field, (low, high) in ranges.items():
            checks.whole(field, getattr(self, field), low, high)

    @property
    def quality(self) -> float:
        """Quality in [0, 5]."""
        return index_to_quality(self.quality_index)

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


@dataclass(frozen=True)
class Stream:
    """A parsed stream.

    Attributes:
        header: the picture's size, quality and model.
        hyper, structure, tone: section contents, whole words; ``b""`` if empty or missing.
        missing: sections that cannot be used, in stream order: cut off, damaged, or behind a gap
            (the sections are one rANS stream).
        section_bytes: bytes that arrived, by use: ``"header"``, ``"crc"`` and each section; they
            sum to the size of the data. A section cut short counts with what came of it.
        damaged: those of ``missing`` that arrived in full but failed their checksum; only ever set
            by ``parse(..., keep_going=True)``.
    """

    header: Header
    hyper: bytes
    structure: bytes
    tone: bytes
    missing: tuple[str, ...]
    section_bytes: dict[str, int]
    damaged: tuple[str, ...] = ()

    @property
    def payload(self) -> bytes:
        """The usable start of the rANS stream: all sections present, joined."""
        return self.hyper + self.structure + self.tone


def quality_to_index(quality: float) -> int:
    """Round a quality in [0, 5] to the nearest of the 256 values that a header can hold.

    Raises:
        ArgumentError: ``quality`` lies outside [0, 5] or is not a number.
    """
    return round(checks.number("quality", quality, 0, MAX_QUALITY) * 255 / MAX_QUALITY)


def index_to_quality(index: int) -> float:
    """Quality in [0, 5] of a header's quality index in 0 to 255.

    Raises:
        ArgumentError: another index.
    """
    return checks.whole("index", index, 0, 255) * MAX_QUALITY / 255


def max_section_words(width: int, height: int) -> int:
    """Largest section, in words, accepted for a picture of this size.

    Raises:
        ArgumentError: a side is no whole number from 1 to ``MAX_SIDE``.
    """
    width, height = (
        checks.whole(side, value, 1, MAX_SIDE)
        for side, value in (("width", width), ("height", height))
    )
    tiles = math.ceil(width / 64) * math.ceil(height / 64)
    return min(WORDS_PER_TILE * tiles, (1 << 7 * _LENGTH_BYTES) - 1)


def file_size(header: Header, words_hyper: int, words_structure: int, words_tone: int) -> int:
    """Exact size in bytes of the file that :func:`pack` would make.

    Args:
        header: the header to be written.
        words_hyper, words_structure, words_tone: section lengths in 32-bit words.

    Raises:
        ArgumentError: an argument of another type, or a section longer than a reader would accept.
    """
    checks.kind("header", header, Header, "a Header")
    words = tuple(
        checks.whole(f"words_{section}", count, 0)
        for section, count in zip(SECTIONS, (words_hyper, words_structure, words_tone), strict=True)
    )
    checksums = 1 + sum(count > 0 for count in words[1:])
    return len(_pack_header(header, words)) + _CRC.size * checksums + WORD_BYTES * sum(words)


def pack(header: Header, hyper: bytes, structure: bytes, tone: bytes) -> bytes:
    """Make a ``.skf`` stream.

    Args:
        header: size, quality and model of the picture.
        hyper, structure, tone: the rANS stream in three parts, whole 32-bit words each.

    Raises:
        ArgumentError: a section is no multiple of 4 bytes, or longer than a reader would accept.
    """
    checks.kind("header", header, Header, "a Header")
    sections = (hyper, structure, tone)
    for section, content in zip(SECTIONS, sections, strict=True):
        checks.kind(section, content, (bytes, bytearray, memoryview), "bytes")
        if len(content) % WORD_BYTES:
            raise ArgumentError(
                f"{section}: {len(content)} bytes; pass whole words of {WORD_BYTES} bytes."
            )
    head = _pack_header(header, tuple(len(content) // WORD_BYTES for content in sections))
    crc = binascii.crc_hqx(hyper, binascii.crc_hqx(head, _CRC_START))
    parts = [head, _CRC.pack(crc), hyper]
    for content in (structure, tone):
        if content:
            crc = binascii.crc_hqx(content, crc)
            parts += [content, _CRC.pack(crc)]
    return b"".join(parts)


def parse(
    data: bytes | bytearray | memoryview,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    name: str = "stream",
    keep_going: bool = False,
) -> Stream:
    """Take a ``.skf`` stream apart, checking everything.

    A stream cut short is no error as long as header and hyper section are whole: the sections that
    did not arrive in full are listed in :attr:`Stream.missing`.

    Args:
        data: the whole file, or its start.
        max_pixels: refuse pictures larger than this.
        name: what error messages call the stream, usually the file name.
        keep_going: drop a structure or tone section that fails its checksum (and what follows it)
            and report it in :attr:`Stream.damaged`, instead of raising.

    Raises:
        ArgumentError: ``data`` is not bytes-like, or another argument of the wrong type or range.
        NotAStream, UnsupportedStream, CorruptStream, TruncatedStream: see :mod:`.errors`. The only
            exceptions that the content of ``data`` can cause.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ArgumentError(
            f"data: parse takes the bytes of a stream, not {type(data).__name__}. "
            "Read the file first: Path(...).read_bytes()."
        )
    checks.whole("max_pixels", max_pixels, 1)
    checks.text("name", name)
    checks.flag("keep_going", keep_going)
    data = bytes(data)
    header, words, header_bytes, crc = _parse_head(data, max_pixels, name)
    end = header_bytes + _CRC.size + WORD_BYTES * words[0]
    contents = {"hyper": data[header_bytes + _CRC.size : end], "structure": b"", "tone": b""}
    used = {"header": header_bytes, "crc": _CRC.size, "hyper": WORD_BYTES * words[0]}
    missing: list[str] = []
    damaged: list[str] = []
    for section, count in zip(SECTIONS[1:], words[1:], strict=True):
        start, end = end, end + WORD_BYTES * count
        content = data[start:end]
        stored = data[end : end + _CRC.size] if count else b""
        end += _CRC.size if count else 0
        used[section] = len(content)
        used["crc"] += len(stored)
        crc = binascii.crc_hqx(content, crc)
        if missing or len(data) < end:
            missing.append(section)
        elif count and _CRC.unpack(stored)[0] != crc:
            if not keep_going:
                raise _checksum_error(name, f"{section} section", droppable=True)
            missing.append(section)
            damaged.append(section)
        else:
            contents[section] = content
    return Stream(
        header, **contents, missing=tuple(missing), section_bytes=used, damaged=tuple(damaged)
    )


def _parse_head(
    data: bytes, max_pixels: int, name: str
) -> tuple[Header, tuple[int, ...], int, int]:
    """Check header, hyper section and total size.

    Returns:
        Header, section lengths in words, size of the header in bytes, running checksum.
    """
    header, words, header_bytes = _parse_header(data, name)
    start = header_bytes + _CRC.size
    end = start + WORD_BYTES * words[0]
    if len(data) < end:
        raise TruncatedStream.at(len(data), end, "hyper section", name)
    crc = binascii.crc_hqx(data[start:end], binascii.crc_hqx(data[:header_bytes], _CRC_START))
    if _CRC.unpack_from(data, header_bytes)[0] != crc:
        raise _checksum_error(name, "header or hyper section")
    if header.pixels > max_pixels:
        raise UnsupportedStream(
            f"{name}: holds a picture of {header.width}x{header.height} = {header.pixels} pixels, "
            f"over the limit of {max_pixels}. If you trust it, raise max_pixels."
        )
    total = file_size(header, *words)
    if len(data) > total:
        raise CorruptStream(
            f"{name}: {len(data) - total} bytes follow the end of the stream at byte {total}. "
            "Remove them or fetch the file again."
        )
    return header, words, header_bytes, crc


def _checksum_error(name: str, what: str, droppable: bool = False) -> CorruptStream:
    remedy = ", or pass keep_going=True to decode without it" if droppable else ""
    return CorruptStream(
        f"{name}: the {what} is damaged (checksum differs). Fetch the file again{remedy}."
    )


def _pack_header(header: Header, words: tuple[int, ...]) -> bytes:
    limit = max_section_words(header.width, header.height)
    for section, count in zip(SECTIONS, words, strict=True):
        if count > limit:
            raise ArgumentError(
                f"{section}: {count} words; a {header.width}x{header.height} picture allows 0 to "
                f"{limit}. Lower the quality."
            )
    fixed = _FIXED.pack(_MAGIC, _VERSION_MARK | VERSION, header.model_id, header.quality_index)
    return fixed + b"".join(_varint(value) for value in (header.width, header.height, *words))


def _parse_header(data: bytes, name: str) -> tuple[Header, tuple[int, ...], int]:
    """Read the header; returns it, the section lengths in words, and the header's size in bytes."""
    if data[:1] not in (b"", bytes([_MAGIC])) or (len(data) > 1 and data[1] >> 4 != 0xF):
        raise NotAStream(
            f"{name}: not a .skf stream (it starts with {data[:2].hex(' ')}). "
            "Pass a file made by `sketchfusion encode`."
        )
    if len(data) > 1 and data[1] & 0x0F != VERSION:
        raise UnsupportedStream(
            f"{name}: format version {data[1] & 0x0F}; this release reads version {VERSION}. "
            "Install the release that made the file."
        )
    if len(data) < _FIXED.size:
        raise TruncatedStream.at(len(data), _MIN_HEAD, "header", name)
    _, _, model_id, quality_index = _FIXED.unpack_from(data)

    offset = _FIXED.size
    sides: list[int] = []
    for field in ("width", "height"):
        side, offset = _read_varint(data, offset, _SIDE_BYTES, field, name)
        if not 1 <= side <= MAX_SIDE:
            raise _field_error(name, f"{field}={side}, outside 1 to {MAX_SIDE}")
        sides.append(side)
    header = Header(*sides, quality_index=quality_index, model_id=model_id)

    limit = max_section_words(header.width, header.height)
    words: list[int] = []
    for section in SECTIONS:
        count, offset = _read_varint(data, offset, _LENGTH_BYTES, f"{section} length", name)
        if count > limit:
            raise _field_error(
                name,
                f"{section} length={count} words, over the {limit} that a "
                f"{header.width}x{header.height} picture allows",
            )
        words.append(count)
    return header, tuple(words), offset


def _field_error(name: str, what: str) -> CorruptStream:
    return CorruptStream(f"{name}: impossible field {what}. Fetch the file again.")


def _varint(value: int) -> bytes:
    """Unsigned LEB128, shortest form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, offset: int, longest: int, field: str, name: str) -> tuple[int, int]:
    """Read an unsigned LEB128 number; returns it and the offset behind it."""
    value = 0
    for index in range(longest):
        if offset + index >= len(data):
            needed = max(_MIN_HEAD, offset + index + 1)
            raise TruncatedStream.at(len(data), needed, "header", name)
        byte = data[offset + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if byte == 0 and index > 0:
                raise _field_error(name, f"{field} (a varint longer than necessary)")
            return value, offset + index + 1
    raise _field_error(name, f"{field} (a varint of more than {longest} bytes)")
