"""What is done to intact files: hypothesis draws edits, plain functions carry them out.

any bytes:   places are replaced by anything, by edges of integers, repetitions, pieces of other files, or nothing
.skf:        a stream as (head, hyper, structure, tone); parts are edited and the checksums *repaired*, or
             every mutation would end at the first of them
PNG:         the same with its chunks

All strategies are made once, as making one takes longer than drawing from it; places are drawn as numbers of 16 bits
and taken modulo the length at hand.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Sequence

from hypothesis import strategies as st

from sketchfusion_lite.bitstream import parse

_ANY = st.integers(0, 0xFFFF)
_EDGES = [
    (edge & (1 << 8 * size) - 1).to_bytes(size, order)
    for edge in (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
    for size in (1, 2, 3, 4)
    for order in ("little", "big")
]
_ALL = 1 << 20
_NEW = st.one_of(  # bytes; how often the next 16 bytes are repeated; None: the end of another file
    st.binary(min_size=1, max_size=8), st.sampled_from(_EDGES), st.integers(0, 8), st.none()
)
EDIT = st.tuples(_ANY, st.sampled_from((0, 1, 1, 2, 4, 8, 16, _ALL)), _NEW)
EDITS = st.lists(EDIT, min_size=1, max_size=4)
_NUMBERS = st.integers(0, 200) | st.sampled_from([255, 65535, 1 << 20, (1 << 20) + 1, 1 << 27])
_FORGERY = st.tuples(st.sampled_from("bqnssss"), _ANY, _NUMBERS, EDITS)
FORGERIES = st.lists(_FORGERY, min_size=1, max_size=2)
Edits = Sequence[tuple[int, int, bytes | int | None]]


def edited(data: bytes, edits: Edits, others: Sequence[bytes] = ()) -> bytes:
    """Bytes with some places replaced, without any knowledge of their format."""
    for place, gone, new in edits:
        at = place % (len(data) + 1)
        if isinstance(new, int):
            new = data[at : at + 16] * new
        elif new is None:
            new = others[place % len(others)][at:] if others else b""
        data = data[:at] + new + data[at + gone :]
    return data


def take_apart(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Head, hyper, structure and tone of a whole stream, without its checksums."""
    stream = parse(data, max_pixels=1 << 40)
    head = data[: stream.section_bytes["header"]]
    return head, stream.hyper, stream.structure, stream.tone


def assemble(head: bytes, hyper: bytes, structure: bytes, tone: bytes) -> bytes:
    """A stream of any parts, however impossible, whose checksums are right."""
    crc = binascii.crc_hqx(hyper, binascii.crc_hqx(head, 0xFFFF))
    out = [head, struct.pack("<H", crc), hyper]
    for content in filter(None, (structure, tone)):
        crc = binascii.crc_hqx(content, crc)
        out += [content, struct.pack("<H", crc)]
    return b"".join(out)


def forged_stream(data: bytes, forgeries: Sequence[tuple], others: Sequence[bytes]) -> bytes:
    """A whole stream with edited fields and sections, and repaired checksums; at times cut."""
    head, *sections = take_apart(data)
    fixed, numbers, cut = bytearray(head[:5]), _numbers(head[5:]), 1
    for part, any_, number, edits in forgeries:
        which, cut = any_ % 3, any_ % 5
        if part == "b":
            fixed[which + 2] ^= 1 << number % 8
        elif part == "q":
            fixed[4] = any_ % 256  # quality
        elif part == "n":  # a side, or the words of a section
            numbers[any_ % 5] = number
        else:
            section = edited(sections[which], edits, others)
            if any_ % 7 == 0:  # what no encoder writes: the same byte over and over
                section = b"\0\xff\x55\xff"[number % 4 :][:1] * (2048 if number > 9 else 64)
            elif any_ % 7 == 1:
                section = take_apart(others[number % len(others)])[1 + which]
            sections[which] = section[: len(section) // 4 * 4]
            numbers[2 + which] = len(section) // 4
    coded = b"".join(map(_varint, numbers))
    if any_ % 13 == 0:
        coded = edited(coded, edits[:1])
    out = assemble(bytes(fixed) + coded, *sections)
    return out if cut else out[: any_ % (len(out) + 1)]


def forged_png(data: bytes, place: int, edits: Edits) -> bytes:
    """A PNG with one chunk's body edited and its checksum repaired; packed bodies at times inside."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    which, choice = place % len(chunks), place // len(chunks)
    kind, body = chunks[which]
    packed = {b"IDAT": 0, b"iCCP": body.find(b"\0") + 2}.get(kind)
    if packed is not None and choice % 2:
        body = body[:packed] + zlib.compress(edited(zlib.decompress(body[packed:]), edits))
    else:
        body = edited(body, edits[:2])
    chunks[which] = kind, body
    if choice % 5 == 0:
        chunks.insert(choice % len(chunks), chunks[choice // 5 % len(chunks)])
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _numbers(coded: bytes) -> list[int]:
    """The LEB128 numbers of a head."""
    numbers, value, shift = [], 0, 0
    for byte in coded:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    return numbers


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    return bytes([value & 0x7F | 0x80]) + _varint(value >> 7)
