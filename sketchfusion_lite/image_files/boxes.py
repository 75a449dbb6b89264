"""Boxes of ISO base media files: AVIF, HEIC, JPEG 2000."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["boxes", "primary_properties"]


def boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and body of the boxes in ``data``, one after the other; ends at the first that is cut off."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= len(data):
            size, start = struct.unpack_from(">Q", data, at + 8)[0], at + 16
        end = len(data) if size == 0 else at + size
        if end < start or end > len(data):
            return
        yield kind, data[start:end]
        at = end


def primary_properties(data: memoryview) -> list[tuple[bytes, memoryview]]:
    """The properties of the primary picture of an AVIF file; none if the file is damaged."""
    try:
        meta = dict(boxes(dict(boxes(data))[b"meta"][4:]))
        inner = dict(boxes(meta[b"iprp"]))
        wanted = struct.unpack_from(">H" if meta[b"pitm"][0] == 0 else ">I", meta[b"pitm"], 4)[0]
        properties = list(boxes(inner[b"ipco"]))
        table = inner[b"ipma"]
        number, link = (">H" if table[0] == 0 else ">I"), (">H" if table[3] & 1 else ">B")
        at, found = 8, []
        for _ in range(struct.unpack_from(">I", table, 4)[0]):
            item = struct.unpack_from(number, table, at)[0]
            at += struct.calcsize(number)
            links = table[at]
            values = struct.unpack_from(f">{links}{link[1]}", table, at + 1)
            at += 1 + links * struct.calcsize(link)
            if item == wanted:
                last = 0x7FFF if link == ">H" else 0x7F
                found += [properties[(v & last) - 1] for v in values if v & last]
        return found
    except (KeyError, IndexError, struct.error):
        return []
