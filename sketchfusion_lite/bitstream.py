"""The ``.skf`` container: a header, three sections and their checksums. No torch, no model.

    ┌──────────┬──────────┬─────────┬────────┬────────┬───────────────────────┐
    │ 'S' 0xF1 │ model id │ quality │ width  │ height │ words per section     │ header, 10-23 bytes
    │ 2 bytes  │ uint16   │ uint8   │ varint │ varint │ 3 varints             │ (14 for most photos)
    ├──────────┼──────────┴─────────┴────────┴────────┴───────────────────────┤
    │ CRC-16   │ hyper      the hyper latent; without it nothing decodes      │
    ├──────────┴───────────────────────────────────────────────────┬──────────┤
    │ structure    first channel group: enough for a sketch        │ CRC-16   │
    ├──────────────────────────────────────────────────────────────┼──────────┤
    │ tone         second channel group: what is still missing     │ CRC-16   │
    └──────────────────────────────────────────────────────────────┴──────────┘

Numbers are little endian; varints are LEB128 in their shortest form (any other is refused, so equal streams are equal
bytes). The low nibble of the second byte is the format version.

*Sections.* The three together are **one** rANS stream of 32-bit words, so the coder's state is flushed once, not three
times, and the start decodes without the rest. Lengths are in words.

*Checksums.* CRC-16/CCITT-FALSE, chained: each one covers everything before it and its own section, checksums excepted,
so sections of two files cannot be mixed. The first also guards the header. An empty section has no checksum; that it is
empty is guarded by the first one.

*Trust.* Nothing is believed before it is checked, and nothing larger than the data at hand is ever allocated: sides are
at most ``MAX_SIDE``, pixels at most ``max_pixels``, and a section at most ``WORDS_PER_BLOCK`` words per block of 64x64
pixels begun: 4 bits per pixel and section, over 20 times the highest rate of the codec.
"""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import dataclass

from . import checks
from .checks import DEFAULT_MAX_PIXELS, MAX_SIDE
from .errors import ArgumentError, CorruptStream, NotAStream, TruncatedStream, UnsupportedStream

__all__ = ["Header", "Stream", "index_to_quality", "pack", "parse", "quality_to_index"]

SECTIONS = ("hyper", "structure", "tone")
VERSION = 1
WORD_BYTES = 4
MAX_QUALITY = 5.0
WORDS_PER_BLOCK = 512  # of 64x64 pixels, what one place of the hyper latent sees
_MAGIC, _VERSION_MARK = 0x53, 0xF0  # the mark is the high nibble of the second byte
_FIXED = struct.Struct("<BBHB")  # magic, version, model id, quality
_CRC, _CRC_START = struct.Struct("<H"), 0xFFFF
_LENGTH_BYTES = 4  # longest varint of a section length
_VARINTS = {"width": 3, "height": 3} | {f"{name} length": _LENGTH_BYTES for name in SECTIONS}
_MIN_HEAD = _FIXED.size + len(_VARINTS) + _CRC.size  # every varint takes one byte at least
_AGAIN = "Fetch the file again"


@dataclass(frozen=True)
class Header:
    """What a stream says about its picture.

    Attributes:
        width, height: pixels, 1 to ``MAX_SIDE`` each.
        quality_index: 0 (smallest) to 255 (finest); see :func:`index_to_quality`.
        model_id: id of the model that made the stream, 0 to 65535; see :func:`.integer.model_id`.

    Raises:
        ArgumentError: a field is no ``int`` or outside its range.
    """

    width: int
    height: int
    quality_index: int
    model_id: int

    def __post_init__(self) -> None:
        checks.whole("width", self.width, 1, MAX_SIDE)
        checks.whole("height", self.height, 1, MAX_SIDE)
        checks.whole("quality_index", self.quality_index, 0, 255)
        checks.whole("model_id", self.model_id, 0, 65535)

    @property
    def quality(self) -> float:
        """Quality in [0, 5]."""
        return index_to_quality(self.quality_index)

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True)
class Stream:
    """A parsed stream.

    Attributes:
        header: the picture's size, quality and model.
        hyper, structure, tone: section contents, whole words; ``b""`` if empty or missing.
        missing: sections that cannot be used, in stream order: cut off, damaged, or behind a gap (it is one stream).
        section_bytes: bytes that arrived, by use: ``"header"``, ``"crc"`` and each section, a cut one with what came of
            it; they sum to the size of the data.
        damaged: those of ``missing`` that arrived in full but failed their checksum; set by ``keep_going`` alone.
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
    """The nearest of a header's 256 values to a quality; outside [0, 5] an :class:`.ArgumentError`."""
    return round(checks.number("quality", quality, 0, MAX_QUALITY) * 255 / MAX_QUALITY)


def index_to_quality(index: int) -> float:
    """Quality in [0, 5] of a header's index; outside 0 to 255 an :class:`.ArgumentError`."""
    return checks.whole("index", index, 0, 255) * MAX_QUALITY / 255


def max_section_words(width: int, height: int) -> int:
    """Largest section, in words, accepted for a picture of this size."""
    blocks = math.ceil(width / 64) * math.ceil(height / 64)
    return min(WORDS_PER_BLOCK * blocks, (1 << 7 * _LENGTH_BYTES) - 1)


def file_size(header: Header, *words: int) -> int:
    """Size in bytes of the file that :func:`pack` would make of three sections of so many words."""
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
            raise ArgumentError(f"{section}: {len(content)} bytes; pass whole words of 4 bytes.")
    data = _pack_header(header, tuple(len(content) // WORD_BYTES for content in sections))
    crc = binascii.crc_hqx(hyper, binascii.crc_hqx(data, _CRC_START))
    data += _CRC.pack(crc) + hyper
    for content in filter(None, (structure, tone)):
        crc = binascii.crc_hqx(content, crc)
        data += content + _CRC.pack(crc)
    return data


def parse(
    data: bytes | bytearray | memoryview,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    name: str = "stream",
    keep_going: bool = False,
) -> Stream:
    """Take a ``.skf`` stream apart, checking everything.

    A stream cut short is no error as long as header and hyper section are whole: :attr:`Stream.missing` has the rest.

    Args:
        data: the whole file, or its start.
        max_pixels: refuse pictures larger than this.
        name: what error messages call the stream, usually the file name.
        keep_going: drop a structure or tone section that fails its checksum, and what follows it, instead of raising.

    Raises:
        ArgumentError: ``data`` is not bytes-like, or another argument of the wrong type or range.
        NotAStream, UnsupportedStream, CorruptStream, TruncatedStream: all that the content of ``data`` can cause.
    """
    what = "the bytes of a stream (read the file first)"
    checks.kind("data", data, (bytes, bytearray, memoryview), what)
    checks.whole("max_pixels", max_pixels, 1)
    checks.text("name", name)
    checks.flag("keep_going", keep_going)
    data = bytes(data)
    header, words, start, crc = _read_head(data, max_pixels, name)
    end = start + WORD_BYTES * words[0]
    contents = {"hyper": data[start:end], "structure": b"", "tone": b""}
    used = {"header": start - _CRC.size, "crc": _CRC.size, "hyper": WORD_BYTES * words[0]}
    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    for section, count in zip(SECTIONS[1:], words[1:], strict=True):
        start, end = end, end + WORD_BYTES * count
        content = data[start:end]
        stored = data[end : end + _CRC.size] if count else b""
        end += _CRC.size if count else 0
        used[section] = len(content)
        used["crc"] += len(stored)
        crc = binascii.crc_hqx(content, crc)
        if missing or len(data) < end:
            missing += (section,)
        elif count and _CRC.unpack(stored)[0] != crc:
            if not keep_going:
                remedy = f"{_AGAIN}, or pass keep_going=True to decode without it"
                raise _corrupt(name, f"the {section} section is damaged (checksum differs)", remedy)
            missing += (section,)
            damaged += (section,)
        else:
            contents[section] = content
    return Stream(header, **contents, missing=missing, section_bytes=used, damaged=damaged)


def _read_head(data: bytes, max_pixels: int, name: str) -> tuple[Header, list[int], int, int]:
    """The checked header, section lengths in words, where the hyper section starts, the running checksum."""
    header, words, size = _read_header(data, name)
    start = size + _CRC.size
    end = start + WORD_BYTES * words[0]
    if len(data) < end:
        raise TruncatedStream.at(len(data), end, "hyper section", name)
    crc = binascii.crc_hqx(data[start:end], binascii.crc_hqx(data[:size], _CRC_START))
    if _CRC.unpack_from(data, size)[0] != crc:
        raise _corrupt(name, "the header or hyper section is damaged (checksum differs)")
    if header.pixels > max_pixels:
        raise UnsupportedStream(
            f"{name}: holds a picture of {header.width}x{header.height} = {header.pixels} pixels, "
            f"over the limit of {max_pixels}. If you trust it, raise max_pixels."
        )
    total = file_size(header, *words)
    if len(data) > total:
        what = f"{len(data) - total} bytes follow the end of the stream at byte {total}"
        raise _corrupt(name, what, "Remove them or fetch the file again")
    return header, words, start, crc


def _pack_header(header: Header, words: tuple[int, ...]) -> bytes:
    limit = max_section_words(header.width, header.height)
    for section, count in zip(SECTIONS, words, strict=True):
        if count > limit:
            allowed = f"a {header.width}x{header.height} picture allows 0 to {limit}"
            raise ArgumentError(f"{section}: {count} words; {allowed}. Lower the quality.")
    fixed = _FIXED.pack(_MAGIC, _VERSION_MARK | VERSION, header.model_id, header.quality_index)
    return fixed + b"".join(_varint(value) for value in (header.width, header.height, *words))


def _read_header(data: bytes, name: str) -> tuple[Header, list[int], int]:
    """Header, section lengths in words, and the header's size in bytes."""
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
    values, offset = list[int](), _FIXED.size
    for field, longest in _VARINTS.items():
        value, offset = _read_varint(data, offset, longest, field, name)
        low, high = (0, max_section_words(*values[:2])) if values[1:] else (1, MAX_SIDE)
        if not low <= value <= high:
            raise _corrupt(name, f"impossible field {field}={value}, outside {low} to {high}")
        values.append(value)
    return Header(values[0], values[1], quality_index, model_id), values[2:], offset


def _varint(value: int) -> bytes:
    """Unsigned LEB128, shortest form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


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
                raise _corrupt(name, f"impossible field {field} (a varint longer than necessary)")
            return value, offset + index + 1
    raise _corrupt(name, f"impossible field {field} (a varint of more than {longest} bytes)")


def _corrupt(name: str, what: str, remedy: str = _AGAIN) -> CorruptStream:
    return CorruptStream(f"{name}: {what}. {remedy}.")
