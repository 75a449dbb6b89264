"""What is done to seeds. All randomness comes from the generator that is passed in.

any bytes:   flips, edges of integers, insertions, deletions, repetitions, cuts, a splice with another seed
.skf:        a stream as (head, hyper, structure, tone); parts are edited and the checksums *repaired*, or
             every mutation would end at the first of them
PNG:         the same with its chunks
"""

from __future__ import annotations

import binascii
import random
import struct
import zlib
from collections.abc import Sequence

from sketchfusion_lite.bitstream import parse

__all__ = ["assemble", "damage", "forge_png", "forge_stream", "take_apart"]

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
_PNG_HEAD = 8
Parts = tuple[bytes, bytes, bytes, bytes]


def damage(data: bytes, rng: random.Random, others: Sequence[bytes] = (), times: int = 4) -> bytes:
    """Damage bytes up to ``times`` times, without any knowledge of their format."""
    out = bytearray(data)
    for _ in range(rng.randint(1, times)):
        at = rng.randrange(len(out) + 1)
        choice = rng.randrange(8)
        if choice == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif choice == 1 and at < len(out):
            out[at] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
        elif choice == 2:
            size = rng.choice((1, 2, 3, 4))
            edge = rng.choice(_EDGES) & (1 << 8 * size) - 1
            out[at : at + size] = edge.to_bytes(size, rng.choice(("little", "big")))
        elif choice == 3:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        elif choice == 4:
            del out[at : at + rng.randint(1, 16)]
        elif choice == 5:
            out[at:at] = out[at : at + rng.randint(1, 32)] * rng.randint(1, 8)
        elif choice == 6:
            del out[at:]
        elif others:
            other = rng.choice(others)
            out[at:] = other[rng.randrange(len(other)) :]
    return bytes(out)


def take_apart(data: bytes) -> Parts:
    """Head, hyper, structure and tone of a whole stream, without its checksums."""
    stream = parse(data, max_pixels=1 << 40)
    head = data[: stream.section_bytes["header"]]
    return head, stream.hyper, stream.structure, stream.tone


def assemble(head: bytes, hyper: bytes, structure: bytes, tone: bytes) -> bytes:
    """A stream of any parts, however impossible, whose checksums are right."""
    crc = binascii.crc_hqx(hyper, binascii.crc_hqx(head, 0xFFFF))
    out = [head, struct.pack("<H", crc), hyper]
    for content in (structure, tone):
        if content:
            crc = binascii.crc_hqx(content, crc)
            out += [content, struct.pack("<H", crc)]
    return b"".join(out)


def forge_stream(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Edit fields and sections of a whole stream, and repair its checksums."""
    head, *sections = take_apart(data)
    fixed, numbers = bytearray(head[:5]), _numbers(head[5:])
    for _ in range(rng.randint(1, 2)):
        part = rng.randrange(8)
        if part == 0:
            fixed[rng.randrange(len(fixed))] ^= 1 << rng.randrange(8)
        elif part == 1:
            fixed[4] = rng.randrange(256)  # quality
        elif part == 2:
            edges = (0, 1, 16, 64, 65, 255, 65535, 1 << 20, (1 << 20) + 1, rng.randrange(1 << 21))
            side = rng.randrange(2)
            numbers[side] = rng.choice((*edges, max(0, numbers[side] + rng.randint(-40, 40))))
        elif part == 3:
            which = rng.randrange(2, 5)
            numbers[which] = rng.choice((0, numbers[which] + rng.choice((-1, 1, 200)), 1 << 27))
            numbers[which] = max(0, numbers[which])
        else:
            which = rng.randrange(3)
            sections[which] = _edit_section(sections[which], rng, others)
            numbers[2 + which] = len(sections[which]) // 4
    coded = b"".join(map(_varint, numbers))
    if rng.randrange(12) == 0:
        coded = damage(coded, rng, times=1)
    out = assemble(bytes(fixed) + coded, *sections)
    return out[: rng.randrange(len(out) + 1)] if rng.randrange(5) == 0 else out


def _edit_section(section: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Another section of whole words."""
    choice = rng.randrange(6)
    if choice == 0:
        section = damage(section, rng, times=2)
    elif choice == 1 and section:
        at = rng.randrange(len(section))
        section = section[:at] + bytes([section[at] ^ 1 << rng.randrange(8)]) + section[at + 1 :]
    elif choice == 2:
        fill = bytes([rng.choice((0, 0xFF, 0xFF, rng.randrange(256)))])
        section = fill * rng.choice((len(section), 4, 64, 2048))
    elif choice == 3:
        section = rng.randbytes(rng.choice((len(section), 8, 400)))
    elif choice == 4:
        section = section + bytes(4) if rng.randrange(2) else section[:-4]
    elif others:
        section = take_apart(rng.choice(others))[rng.randrange(1, 4)]
    return section[: len(section) // 4 * 4]


def forge_png(data: bytes, rng: random.Random) -> bytes:
    """Damage one chunk's body and repair its checksum; a compressed body is damaged inside at times."""
    chunks, at = [], _PNG_HEAD
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    which = rng.randrange(len(chunks))
    kind, body = chunks[which]
    if kind == b"IDAT" and rng.randrange(2):
        body = zlib.compress(damage(zlib.decompress(body), rng))
    elif kind == b"iCCP" and rng.randrange(2):
        name, _, packed = body.partition(b"\0")
        body = name + b"\0\0" + zlib.compress(damage(zlib.decompress(packed[1:]), rng))
    else:
        body = damage(body, rng, times=2)
    chunks[which] = (kind, body)
    if rng.randrange(4) == 0:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    out = [data[:_PNG_HEAD]]
    for kind, body in chunks:
        out += [
            struct.pack(">I", len(body)),
            kind,
            body,
            struct.pack(">I", zlib.crc32(kind + body)),
        ]
    return b"".join(out)


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
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
