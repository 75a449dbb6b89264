"""Picture files made by hand, byte by byte after their specifications: what is read is checked against known pixels."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

Tags = dict[int, tuple[str, Any]]
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
_ADAM7 += ((0, 1, 1, 2),)


def png_of(
    size: tuple[int, int], depth: int, kind: int, *chunks: Any, interlaced: bool = False
) -> bytes:
    """A PNG of a size, ``(width, height)``, with any chunks between its header and its end."""
    head = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, int(interlaced))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", head), *chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png(samples: np.ndarray, depth: int, kind: int, *extra: Any, interlaced: bool = False) -> bytes:
    """A PNG of ``(H, W)`` or ``(H, W, C)`` samples in any depth.

    Args:
        samples: as stored, 0 to ``2**depth - 1``.
        depth, kind: bit depth and colour type of the header.
        extra: chunks between header and pixels, (kind, body).
        interlaced: in the seven passes of Adam7.
    """
    height, width = samples.shape[:2]
    samples = samples.reshape(height, width, -1)
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [samples]
    rows = [b"\0" + packed(row.ravel(), depth) for part in passes if part.size for row in part]
    pixels = b"IDAT", zlib.compress(b"".join(rows))
    return png_of((width, height), depth, kind, *extra, pixels, interlaced=interlaced)


def packed(values: np.ndarray, depth: int, order: str = ">") -> bytes:
    """Integers in ``depth`` bits each, the last byte filled up with zeros."""
    if depth in (8, 16, 32, 64):
        return values.astype(f"{order}u{depth // 8}").tobytes()
    bits = (values[:, None].astype(np.int64) >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


_CODES = dict(zip("BsHILRbUhifd", (1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 11, 12), strict=True))


def tiff(
    tags: Tags,
    pixels: bytes | list[bytes] = b"",
    order: str = "<",
    big: bool = False,
    tiled: bool = False,
    then: list[tuple[Tags, bytes]] = (),  # type: ignore[assignment]
    inside: list[tuple[Tags, bytes]] = (),  # type: ignore[assignment]
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
    word, room = ("Q", 8) if big else ("I", 4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HH", 8, 0) if big else b""
    body = bytearray(head + bytes(room))

    def put(data: bytes) -> int:
        body.extend(bytes(-len(body) % 8))
        body.extend(data)
        return len(body) - len(data)

    def directory(tags: Tags, parts: list[bytes], tiled: bool = False) -> int:
        tags = dict(tags)
        if parts:
            tags[324 if tiled else 273] = ("I", [put(part) for part in parts])
            tags[325 if tiled else 279] = ("I", [len(part) for part in parts])
        entries = b""
        for number, (kind, values) in sorted(tags.items()):
            if isinstance(values, dict):
                kind, values = "I", [directory(values, [])]
            if kind in "sU":
                data, count = bytes(values), len(values)
            else:
                values = list(np.atleast_1d(values))
                count = len(values) // (2 if kind == "R" else 1)
                data = struct.pack(f"{order}{len(values)}{'I' if kind == 'R' else kind}", *values)
            if len(data) > room:
                data = struct.pack(order + word, put(data))
            entries += struct.pack(order + "HH" + word, number, _CODES[kind], count)
            entries += data.ljust(room, b"\0")
        return put(struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + bytes(room))

    if inside:
        tags = {**tags, 330: ("I", [directory(each, [data]) for each, data in inside])}
    strips = [pixels] if isinstance(pixels, bytes) and pixels else list(pixels)
    link = len(head)
    for each, parts in ((tags, strips), *((each, [data]) for each, data in then)):
        at = directory(each, parts, tiled and each is tags)
        body[link : link + room] = struct.pack(order + word, at)
        link = len(body) - room
    return bytes(body)


def tags_of(shape: tuple[int, ...], bits: int, photometric: int, **more: Any) -> Tags:
    """The usual tags of samples ``(H, W)`` or ``(H, W, C)``; more by number, as ``t274=("H", 6)``."""
    count = shape[2] if len(shape) == 3 else 1
    tags = {256: ("I", shape[1]), 257: ("I", shape[0]), 258: ("H", [bits] * count), 259: ("H", 1)}
    tags |= {262: ("H", photometric), 277: ("H", count), 278: ("I", shape[0])}
    return tags | {int(key[1:]): value for key, value in more.items()}


def stored_tiff(
    samples: np.ndarray, bits: int, photometric: int, order: str = "<", **more: Any
) -> bytes:
    """Unsigned integers in one strip; rows end at bytes."""
    data = b"".join(packed(row, bits, order) for row in samples.reshape(samples.shape[0], -1))
    options = {k: more.pop(k) for k in ("big", "then", "inside") if k in more}
    return tiff(tags_of(samples.shape, bits, photometric, **more), data, order, **options)


def exif(tags: Tags, order: str = ">") -> bytes:
    """The body of an EXIF block, without any lead."""
    return tiff(tags, order=order)


def in_jpeg(data: bytes, body: bytes, marker: int = 0xE1) -> bytes:
    """A JPEG with one more segment behind its start."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def bmp(
    rows: list[bytes], bits: int, palette: bytes = b"", width: int = 12, *, used: int = 0, compression: int = 0,
    size: int = 40, more: bytes = b"", top_down: bool = False, tail: bytes = b"",
) -> bytes:  # fmt: skip
    """A BMP of rows from top to bottom; ``more`` is what headers of more than 40 bytes hold behind those."""
    pixels = b"".join(row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    height = -len(rows) if top_down else len(rows)
    head = struct.pack("<IiiHHII", size, width, height, 1, bits, compression, len(pixels))
    head += struct.pack("<iiII", 0, 0, used, 0)
    head = (head + more).ljust(size, b"\0") + palette
    offset = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + head + pixels + tail


def with_gif_profile(data: bytes, profile: bytes) -> bytes:
    """A GIF of 256 colours with an ICC profile in the extension that the ICC registered for it."""
    parts = (profile[i : i + 255] for i in range(0, len(profile), 255))
    blocks = b"".join(bytes([len(part)]) + part for part in parts)
    return data[:781] + b"\x21\xff\x0bICCRGBG1012" + blocks + b"\0" + data[781:]


def with_jp2_colours(data: bytes, body: bytes) -> bytes:
    """A JP2 whose colour box is another."""
    at, old = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    length = struct.unpack_from(">I", data, old)[0]
    new = struct.pack(">I", 8 + len(body)) + b"colr" + body
    whole = struct.unpack_from(">I", data, at)[0] + len(new) - length
    return data[:at] + struct.pack(">I", whole) + data[at + 4 : old] + new + data[old + length :]
