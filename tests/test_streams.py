"""Views of a stream, maps of its bits, and the quality of its starts."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from sketchfusion_lite.bitstream import Header, pack
from sketchfusion_lite.errors import CorruptStream, NotAStream, TruncatedStream
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.results import read_info
from sketchfusion_workbook.lessons.entropy_coding import (
    bits_per_place,
    measure_prefixes,
    prefix_lengths,
)

pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
pytest.importorskip("IPython")

from sketchfusion_workbook.viz import figures, streams

HEADER = Header(768, 512, 102, 0xA9E6)
DATA = pack(HEADER, bytes(range(40)), bytes(800), bytes(120))


def test_fields_tile_the_file_and_agree_with_the_parser():
    fields = streams.dissect(DATA)
    assert fields[0].start == 0 and fields[-1].stop == len(DATA)
    assert all(a.stop == b.start < b.stop for a, b in pairwise(fields))
    sizes = dict.fromkeys(read_info(DATA).section_bytes, 0)
    for field in fields:
        sizes[field.section] += field.stop - field.start
    assert sizes == read_info(DATA).section_bytes


def test_fields_say_their_values():
    text = "; ".join(field.meaning for field in streams.dissect(DATA))
    for said in ("magic 'S'", "version 1", "0xa9e6", "102 of 255", "width 768", "height 512"):
        assert said in text
    assert "structure has 200 words" in text and "tone has 30 words" in text


@pytest.mark.parametrize("tone", [b"", bytes(8)])
def test_fields_of_a_stream_without_structure(tone: bytes):
    data = pack(Header(1, 1, 0, 0), bytes(8), b"", tone)
    fields = streams.dissect(data)
    assert fields[-1].stop == len(data)
    assert {f.section for f in fields} == {"header", "crc", "hyper"} | ({"tone"} if tone else set())


def test_every_start_that_parses_is_dissected_to_its_end():
    with pytest.raises(TruncatedStream):
        streams.dissect(DATA[:20])
    for length in range(58, len(DATA)):
        fields = streams.dissect(DATA[:length])
        assert fields[-1].stop == length
        assert all(a.stop == b.start for a, b in pairwise(fields))
    assert "cut short" in streams.dissect(DATA[:500])[-1].meaning


def test_damage_is_pointed_at():
    damaged = DATA[:300] + b"\xff" + DATA[301:]
    with pytest.raises(CorruptStream):
        streams.dissect(damaged)
    verdicts = [f.meaning.rsplit(" ", 1)[-1] for f in streams.dissect(damaged, keep_going=True)]
    assert "differs" in verdicts and verdicts[-1] == "use"
    with pytest.raises(NotAStream):
        streams.dissect(b"PNG and so on, long enough")


def test_hexdump_shows_the_ends_of_long_sections():
    dump = streams.hexdump(DATA, rows=1)
    lines = dump.splitlines()
    assert lines[0].split("|")[0].split() == ["0", "53", "f1"]
    assert "768 bytes of the same section" in dump  # 800 = 16 + 768 + 16
    assert max(map(len, lines)) < 120
    assert len(streams.hexdump(DATA, rows=99).splitlines()) > len(lines)
    shown = sum(line.split("|")[0].count(" ") > 0 for line in lines)
    assert shown == len(lines)


def test_bit_maps_add_up_to_the_sections(tiny_codec, photo):
    latent = tiny_codec.latent(photo)
    symbols = tiny_codec.quantise(latent, 128)
    maps = bits_per_place(symbols, tiny_codec.coder.tables)
    assert list(maps) == ["structure", "tone"]
    for grid, bits in zip(maps.values(), symbols.bits[1:], strict=True):
        assert grid.shape == latent.shape[-2:]
        assert float(grid.sum()) == pytest.approx(bits)


def test_a_bit_map_shows_where_the_symbols_are(tiny_codec):
    y, z = torch.zeros(1, 8, 6, 8), torch.zeros(1, 4, 2, 2)
    quiet = bits_per_place(tiny_codec.coder.quantise(y, z, 100), tiny_codec.coder.tables)
    y[0, 0, 5, 7], y[0, 6, 0, 0] = 90.0, 90.0  # an anchor each; structure has 4 channels
    loud = bits_per_place(tiny_codec.coder.quantise(y, z, 100), tiny_codec.coder.tables)
    for group, place in (("structure", (5, 7)), ("tone", (0, 0))):
        more = loud[group] - quiet[group]
        assert np.unravel_index(int(more.argmax()), more.shape) == place


def test_prefixes_reach_from_hyper_to_the_whole():
    lengths = prefix_lengths(DATA, 5)
    sections = read_info(DATA).section_bytes
    start = sections["header"] + 2 + sections["hyper"]
    assert lengths[0] == start and lengths[-1] == len(DATA)
    assert {start + 801, start + 802, len(DATA) - 1} <= set(lengths)
    assert lengths == sorted(set(lengths))


def test_quality_of_prefixes_is_that_of_their_decodes(tiny_codec, photo):
    original = to_pil(photo)
    data = tiny_codec.encode(original, quality=3.0).data
    points = measure_prefixes(tiny_codec, original, data, prefix_lengths(data, 3), only=("psnr",))
    assert [n for n, _ in points] == prefix_lengths(data, 3)
    assert all(list(scores) == ["psnr"] for _, scores in points)
    preview = np.asarray(tiny_codec.decode(data[: points[0][0]], "preview").preview, dtype=float)
    error = np.square(preview - np.asarray(original, dtype=float)).mean()
    assert points[0][1]["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


@pytest.mark.parametrize("name", ["bit_maps", "code_lengths", "prefix_quality"])
def test_figures_carry_their_numbers_as_text(name: str):
    photo = Image.new("RGB", (96, 64), "teal")
    grid = np.arange(24.0).reshape(4, 6)
    points = [(100, {"psnr": 15.0, "lpips_alex": 0.6}), (900, {"psnr": 23.0, "lpips_alex": 0.25})]
    models = {"naive": {"tone": 900.0}, "good": {"hyper": 50.0, "structure": 100.0, "tone": 200.0}}
    figure, said = {
        "bit_maps": lambda: (
            streams.bit_maps(photo, {"structure": grid, "tone": 2 * grid}, "finding"),
            ("structure 276 bits", "tone 552 bits"),
        ),
        "code_lengths": lambda: (
            streams.code_lengths(models, "finding"),
            ("naive 900", "good 350"),
        ),
        "prefix_quality": lambda: (
            streams.prefix_quality(points, points[1:], "finding"),
            ("100 to 900 bytes", "from 15 to 23"),
        ),
    }[name]()
    assert all(text in figure.get_label() for text in said) and len(figure.get_label()) > 20
    assert Image.open(io.BytesIO(figures.render(figure, "png").data)).width > 600
