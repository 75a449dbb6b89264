"""The container: exact round trips, and no damage, cut or forgery that goes unnoticed."""

from __future__ import annotations

import binascii
import struct
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchfusion_lite import bitstream
from sketchfusion_lite.bitstream import (
    SECTIONS,
    Header,
    file_size,
    index_to_quality,
    max_section_words,
    pack,
    parse,
    quality_to_index,
)
from sketchfusion_lite.errors import (
    ArgumentError,
    CorruptStream,
    NotAStream,
    StreamError,
    TruncatedStream,
    UnsupportedStream,
)

NO_LIMIT = 1 << 40
HEADER = Header(width=768, height=512, quality_index=120, model_id=0xBEEF)
PARTS = (bytes(range(24)), bytes(range(100, 140)), bytes(range(200, 252)))

sides = st.one_of(st.integers(1, 300), st.integers(1, bitstream.MAX_SIDE))
headers = st.builds(
    Header,
    width=sides,
    height=sides,
    quality_index=st.integers(0, 255),
    model_id=st.integers(0, 65535),
)
words = st.integers(0, 40).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))


def forge(width: bytes, height: bytes, lengths: bytes, tail: bytes = b"") -> bytes:
    """A stream with hand-made varints and a *valid* head checksum (empty hyper section)."""
    head = b"S\xf1" + struct.pack("<HB", 7, 0) + width + height + lengths
    return head + struct.pack("<H", binascii.crc_hqx(head, 0xFFFF)) + tail


@given(headers, words, words, words)
@settings(max_examples=200, deadline=None)
def test_round_trip_and_every_byte_accounted_for(header, hyper, structure, tone):
    data = pack(header, hyper, structure, tone)
    stream = parse(data, max_pixels=NO_LIMIT)
    assert stream.header == header
    assert (stream.hyper, stream.structure, stream.tone) == (hyper, structure, tone)
    assert stream.payload == hyper + structure + tone
    assert stream.missing == stream.damaged == ()
    assert set(stream.section_bytes) == {"header", "crc", *SECTIONS}
    assert sum(stream.section_bytes.values()) == len(data)
    for section, content in zip(SECTIONS, (hyper, structure, tone), strict=True):
        assert stream.section_bytes[section] == len(content)
    assert file_size(header, len(hyper) // 4, len(structure) // 4, len(tone) // 4) == len(data)


def test_layout_is_frozen():
    """Files made today must open in ten years: the exact bytes are part of the format."""
    data = pack(Header(768, 512, 120, 0xBEEF), b"abcd", b"", b"efghijkl")
    fixed, sides, lengths = "53f1efbe78", "80068004", "010002"
    hyper, tone = "34df" + "61626364", "65666768696a6b6c" + "08a0"  # no structure, no checksum
    assert data.hex() == fixed + sides + lengths + hyper + tone
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1  # the check value of CCITT-FALSE
    assert file_size(Header(768, 512, 0, 1), 60, 150, 260) - 4 * 470 == 20, "1 % of a photo"
    assert file_size(Header(1, 1, 0, 1), 2, 0, 0) - 8 == 12


@pytest.mark.parametrize("parts", [PARTS, (PARTS[0], b"", PARTS[2]), (PARTS[0], PARTS[1], b"")])
def test_every_bit_flip_is_detected(parts):
    data = pack(HEADER, *parts)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError):
            pytest.fail(f"flip of bit {bit} went unnoticed: {parse(damaged)}")


@given(headers, words, words, words)
@settings(max_examples=40, deadline=None)
def test_every_prefix_is_truncated_or_says_what_is_missing(header, hyper, structure, tone):
    data = pack(header, hyper, structure, tone)
    whole = parse(data, max_pixels=NO_LIMIT)
    head = whole.section_bytes["header"] + 2 + len(hyper)
    after_structure = head + (len(structure) + 2 if structure else 0)
    for size in range(len(data)):
        if size < head:
            with pytest.raises(TruncatedStream) as raised:
                parse(data[:size], max_pixels=NO_LIMIT)
            assert size < raised.value.needed_bytes <= head
            continue
        stream = parse(data[:size], max_pixels=NO_LIMIT)
        whole_structure = structure if size >= after_structure else b""
        assert (stream.hyper, stream.structure, stream.tone) == (hyper, whole_structure, b"")
        assert stream.missing == (("tone",) if size >= after_structure else ("structure", "tone"))
        assert stream.damaged == () and sum(stream.section_bytes.values()) == size


def test_not_a_stream_and_versions():
    for data in (b"\x89PNG\r\n\x1a\n", b"X", b"SX", b"S\x01"):
        with pytest.raises(NotAStream, match=r"photo\.png: not a \.skf"):
            parse(data, name="photo.png")
    with pytest.raises(UnsupportedStream, match="version 2"):
        parse(b"S\xf2" + pack(HEADER, *PARTS)[2:])
    for data in (b"", b"S", b"S\xf1"):
        with pytest.raises(TruncatedStream, match="at least 12"):
            parse(data)


def test_huge_declared_picture_is_refused_without_memory():
    data = forge(b"\xff\xff\x3f", b"\xff\xff\x3f", b"\0\0\0")  # 2**20 - 1 pixels a side
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedStream, match="max_pixels"):
            parse(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert parse(data, max_pixels=NO_LIMIT).header.width == (1 << 20) - 1


@pytest.mark.parametrize(
    ("width", "height", "lengths", "message"),
    [
        (b"\x81\x00", b"\x01", b"\0\0\0", "width .*longer than necessary"),
        (b"\x01", b"\x80\x00", b"\0\0\0", "height .*longer than necessary"),
        (b"\x00", b"\x01", b"\0\0\0", "width=0"),
        (b"\x01", b"\x00", b"\0\0\0", "height=0"),
        (b"\xff\xff\xff\x01", b"\x01", b"\0\0\0", "width .*more than 3 bytes"),
        (b"\xff\xff\x7f", b"\x01", b"\0\0\0", "width=2097151"),
        (b"\x01", b"\x01", b"\x80\x00\0\0", "hyper length .*longer than necessary"),
        (b"\x01", b"\x01", b"\xff\xff\xff\xff\x01\0\0", "hyper length .*more than 4 bytes"),
        (b"\x01", b"\x01", b"\x00\x81\x04\x00", "structure length=513"),
    ],
)
def test_impossible_fields_are_refused_despite_a_valid_checksum(width, height, lengths, message):
    assert parse(forge(b"\x01", b"\x01", b"\0\0\0")).header == Header(1, 1, 0, 7), (
        "sane fields pass"
    )
    with pytest.raises(CorruptStream, match=message):
        parse(forge(width, height, lengths, bytes(4096)))


def test_damaged_sections_are_named_and_may_be_dropped():
    data = bytearray(pack(HEADER, *PARTS))
    data[-3] ^= 0x10  # last byte of the tone section
    with pytest.raises(CorruptStream, match="tone section"):
        parse(data)
    stream = parse(data, keep_going=True)
    assert (stream.hyper, stream.structure, stream.tone) == (*PARTS[:2], b"")
    assert stream.missing == stream.damaged == ("tone",)
    assert sum(stream.section_bytes.values()) == len(data)

    data[-1 - 2 - len(PARTS[2]) - 2] ^= 1  # and the last byte of the structure section
    with pytest.raises(CorruptStream, match="structure section"):
        parse(data)
    stream = parse(data, keep_going=True)
    assert stream.damaged == ("structure",)
    assert stream.missing == ("structure", "tone")
    assert stream.payload == PARTS[0]

    data[20] ^= 1  # in the hyper section: nothing can be saved
    with pytest.raises(CorruptStream, match="header or hyper"):
        parse(data, keep_going=True)


def test_sections_of_two_files_cannot_be_mixed_and_nothing_follows():
    one = pack(HEADER, *PARTS)
    assert parse(one) == parse(bytearray(one)) == parse(memoryview(one))
    with pytest.raises(CorruptStream, match="1 bytes follow"):
        parse(one + b"\0")
    other = pack(HEADER, PARTS[0][::-1], PARTS[1], PARTS[2])
    tone = len(PARTS[2]) + 2
    for name, tail in (("tone", tone), ("structure", len(PARTS[1]) + 2 + tone)):
        with pytest.raises(CorruptStream, match=f"{name} section"):
            parse(one[:-tail] + other[-tail:])


def test_header_and_pack_refuse_what_parse_would():
    sound = {"width": 1, "height": 1, "quality_index": 0, "model_id": 0}
    wrong = {"width": (0, 7.0), "height": (bitstream.MAX_SIDE + 1,), "quality_index": (256,)}
    wrong["model_id"] = (-1, 65536)
    for field, values in wrong.items():
        for value in values:
            with pytest.raises(ArgumentError, match=f"{field}={value}"):
                Header(**sound | {field: value})
    with pytest.raises(ArgumentError, match="whole words"):
        pack(HEADER, b"abc", b"", b"")
    tiny = Header(1, 1, 0, 0)
    limit = max_section_words(1, 1)
    assert parse(pack(tiny, b"", b"", bytes(4 * limit))).tone == bytes(4 * limit)
    with pytest.raises(ArgumentError, match=f"tone: {limit + 1} words"):
        pack(tiny, b"", b"", bytes(4 * limit + 4))


def test_quality_index():
    assert [quality_to_index(q) for q in (0, 2.5, 5)] == [0, 128, 255]
    assert all(quality_to_index(index_to_quality(i)) == i for i in range(256))
    assert Header(1, 1, 51, 0).quality == 1.0
    for wrong in (-0.01, 5.01, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match="quality"):
            quality_to_index(wrong)


def test_imports_neither_torch_nor_numpy():
    """A server can read headers without loading a deep-learning framework."""
    code = (
        "import importlib.util as u, sys, types\n"
        "package = types.ModuleType('sketchfusion_lite'); package.__path__ = sys.argv[1:]\n"
        "sys.modules['sketchfusion_lite'] = package\n"
        "import sketchfusion_lite.bitstream\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)\n"
    )
    folder = bitstream.__file__.rpartition("bitstream")[0]
    subprocess.run([sys.executable, "-c", code, folder], check=True)
