"""Picture files made by hand, byte by byte after their specifications: what is read is checked against known pixels."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

HEIGHT, WIDTH = 9, 12


def scene() -> np.ndarray:
    """A picture without any symmetry, ``(9, 12, 3)`` uint8, dark and light and strong colours."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), 255 - x * 200 // (WIDTH - 1)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def ramp() -> np.ndarray:
    """Its grey companion, ``(9, 12)`` in [0, 1], from black to white; no symmetry either."""
    ramp = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    ramp[3:5, 4:7] = 0.75
    return ramp


# --------------------------------------------------------------------------------------------------
# PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk with its checksum."""
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def png(
    samples: np.ndarray,
    depth: int,
    kind: int,
    *extra: tuple[bytes, bytes],
    interlaced: bool = False,
) -> bytes:
    """A PNG of ``(H, W)`` or ``(H, W, C)`` samples in any depth.

    Args:
        samples: as stored, 0 to ``2**depth - 1``.
        depth, kind: bit depth and colour type of the header.
        extra: chunks between header and pixels.
        interlaced: in the seven passes of Adam7.
    """
    height, width = samples.shape[:2]
    samples = samples.reshape(height, width, -1)
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [samples]
    rows = b"".join(
        b"\0" + packed(row.ravel(), depth) for part in passes if part.size for row in part
    )
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))
    chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def packed(values: np.ndarray, depth: int, order: str = ">") -> bytes:
    """Integers in ``depth`` bits each, the last byte filled up with zeros."""
    if depth in (8, 16, 32, 64):
        return values.astype(f"{order}u{depth // 8}").tobytes()
    bits = (values[:, None].astype(np.int64) >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


# --------------------------------------------------------------------------------------------------
# TIFF and EXIF

_CODES = {
    "B": 1,
    "s": 2,
    "H": 3,
    "I": 4,
    "L": 5,
    "b": 6,
    "h": 8,
    "i": 9,
    "f": 11,
    "d": 12,
    "R": 5,
    "U": 7,
}


def tiff(
    tags: dict[int, tuple[str, Any]],
    pixels: bytes | list[bytes] = b"",
    order: str = "<",
    big: bool = False,
    tiled: bool = False,
    then: list[tuple[dict[int, tuple[str, Any]], bytes]] = (),  # type: ignore[assignment]
    inside: list[tuple[dict[int, tuple[str, Any]], bytes]] = (),  # type: ignore[assignment]
) -> bytes:
    """A TIFF (or the block of EXIF, which is one) by hand.

    Args:
        tags: number -> (type: a letter of struct, "s" text, "R" rationals, "U" undefined; values). A dict as values is
            a directory that the tag points at.
        pixels: strips or tiles.
        order: "<" or ">".
        big: BigTIFF.
        tiled: the pixels are tiles.
        then: more pages, as tags and one strip.
        inside: SubIFDs of the first page.
    """
    word = "Q" if big else "I"
    mark = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head = mark + (struct.pack(order + "HH", 8, 0) if big else b"")
    body = bytearray(head + bytes(8 if big else 4))

    def put(data: bytes) -> int:
        body.extend(bytes(-len(body) % 8))
        body.extend(data)
        return len(body) - len(data)

    def directory(tags: dict[int, tuple[str, Any]], parts: list[bytes], tiled: bool = False) -> int:
        tags = dict(tags)
        if parts:
            tags[324 if tiled else 273] = ("I", [put(part) for part in parts])
            tags[325 if tiled else 279] = ("I", [len(part) for part in parts])
        entries = []
        for number, (kind, values) in sorted(tags.items()):
            if isinstance(values, dict):
                kind, values = "I", [directory(values, [])]
            if kind in "sU":
                data, count = bytes(values), len(values)
            else:
                values = list(np.atleast_1d(values))
                letter = "I" if kind == "R" else kind
                count = len(values) // (2 if kind == "R" else 1)
                data = struct.pack(f"{order}{len(values)}{letter}", *values)
            room = 8 if big else 4
            if len(data) > room:
                data = struct.pack(order + word, put(data))
            entries.append(
                struct.pack(order + "HH" + word, number, _CODES[kind], count)
                + data.ljust(room, b"\0")
            )
        count = struct.pack(order + ("Q" if big else "H"), len(entries))
        return put(count + b"".join(entries) + bytes(8 if big else 4))

    if inside:
        tags = {**tags, 330: ("I", [directory(each, [data]) for each, data in inside])}
    at = directory(tags, [pixels] if isinstance(pixels, bytes) and pixels else list(pixels), tiled)
    size = struct.calcsize(word)
    body[len(head) : len(head) + size] = struct.pack(order + word, at)
    for each, data in then:
        link = len(body) - size
        at = directory(each, [data])
        body[link : link + size] = struct.pack(order + word, at)
    return bytes(body)


def tags_of(
    shape: tuple[int, ...], bits: int, photometric: int, **more: Any
) -> dict[int, tuple[str, Any]]:
    """The usual tags of samples ``(H, W)`` or ``(H, W, C)``; more by number, as ``t274=("H", 6)``."""
    count = shape[2] if len(shape) == 3 else 1
    tags = {256: ("I", shape[1]), 257: ("I", shape[0]), 258: ("H", [bits] * count), 259: ("H", 1)}
    tags |= {262: ("H", photometric), 277: ("H", count), 278: ("I", shape[0])}
    return tags | {int(key[1:]): value for key, value in more.items()}


def exif(tags: dict[int, tuple[str, Any]], order: str = ">") -> bytes:
    """The body of an EXIF block, without any lead."""
    return tiff(tags, order=order)


def in_jpeg(data: bytes, body: bytes, marker: int = 0xE1) -> bytes:
    """A JPEG with one more segment behind its start."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def in_webp(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A simple WebP with an ``EXIF`` or ``ICCP`` chunk."""

    def part(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

    flags = {b"EXIF": 8, b"ICCP": 32}[kind]
    size = (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    head = part(b"VP8X", bytes([flags, 0, 0, 0]) + size)
    extra = part(kind, body)
    inner = (
        b"WEBP"
        + head
        + (extra if kind == b"ICCP" else b"")
        + data[12:]
        + (extra if kind == b"EXIF" else b"")
    )
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


# --------------------------------------------------------------------------------------------------
# BMP, GIF, JPEG 2000


def bmp(
    rows: list[bytes], width: int, bits: int, palette: bytes = b"", used: int = 0, *, compression: int = 0,
    masks: bytes = b"", size: int = 40, more: bytes = b"", top_down: bool = False, tail: bytes = b"",
) -> bytes:  # fmt: skip
    """A BMP of rows from top to bottom; ``more`` is what headers of more than 40 bytes hold behind those."""
    pixels = b"".join(row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    height = -len(rows) if top_down else len(rows)
    head = struct.pack("<IiiHHII", size, width, height, 1, bits, compression, len(pixels))
    head += struct.pack("<iiII", 0, 0, used, 0)
    head = (head + more).ljust(size, b"\0") + masks + palette
    offset = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + head + pixels + tail


def with_gif_profile(data: bytes, profile: bytes) -> bytes:
    """A GIF with an ICC profile in the extension that the ICC registered for it."""
    blocks = b"".join(
        bytes([len(part)]) + part
        for part in (profile[i : i + 255] for i in range(0, len(profile), 255))
    )
    at = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    return data[:at] + b"\x21\xff\x0bICCRGBG1012" + blocks + b"\0" + data[at:]


def with_avif_property(data: bytes, box: bytes) -> bytes:
    """An AVIF whose only picture has one property more, a box whole with its head."""
    changed = bytearray(data)

    def grow(kind: bytes, by: int) -> int:
        """Make a box longer; where its body starts."""
        at = changed.index(kind)
        size = struct.unpack_from(">I", changed, at - 4)[0]
        changed[at - 4 : at] = struct.pack(">I", size + by)
        return at + 4

    extra = len(box) + 1  # the box, and its number among those of the picture
    for kind in (b"meta", b"iprp"):
        grow(kind, extra)
    places = (
        changed.index(b"iloc") + 4 + 4 + 2 + 2 + 2 + 2 + 2
    )  # version, widths, count; id, source, extents
    changed[places : places + 4] = struct.pack(
        ">I", struct.unpack_from(">I", changed, places)[0] + extra
    )
    links = grow(b"ipma", 1) + 4 + 4 + 2  # version, count; id
    count = changed[links]
    changed[links] += 1
    numbers = changed[links + 1 : links + 1 + count]
    changed[links + 1 + count : links + 1 + count] = bytes(
        [max(n & 127 for n in numbers) + 1 | 128]
    )
    body = grow(b"ipco", len(box))
    end = body - 8 + struct.unpack_from(">I", changed, body - 8)[0] - len(box)
    changed[end:end] = box
    return bytes(changed)


def with_jp2_colours(data: bytes, body: bytes) -> bytes:
    """A JP2 whose colour box is another."""
    at, old = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    length = struct.unpack_from(">I", data, old)[0]
    new = struct.pack(">I", 8 + len(body)) + b"colr" + body
    whole = struct.unpack_from(">I", data, at)[0] + len(new) - length
    return data[:at] + struct.pack(">I", whole) + data[at + 4 : old] + new + data[old + length :]
