"""PICS: what went in comes out, all bytes count, budgets hold, damaged streams are refused, noise is seeded."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch

from sketchfusion_lite.errors import (
    ArgumentError,
    BudgetTooSmall,
    CorruptStream,
    NotAStream,
    StreamError,
    TruncatedStream,
    UnsupportedStream,
)
from sketchfusion_lite.evaluation import pics
from sketchfusion_lite.evaluation.edges import CODECS, candidates
from sketchfusion_lite.evaluation.pics import decode_pics, encode_pics, parse_pics

CAPTION = "a café by the sea, in the evening"


def detector(image: torch.Tensor) -> torch.Tensor:
    """Gradient magnitude: a boundary detector without weights."""
    rows, columns = torch.gradient(image.mean(1)[0])
    return (rows.square() + columns.square()).sqrt().mul(4).clamp(0, 1)[None, None]


@pytest.fixture(scope="module")
def drawing() -> torch.Tensor:
    """Discs of different contrast, ``(1, 3, 101, 150)``."""
    rows, columns = torch.meshgrid(torch.arange(101.0), torch.arange(150.0), indexing="ij")
    image = torch.ones(101, 150)
    generator = torch.Generator().manual_seed(3)
    for _ in range(12):
        y, x, radius, grey = torch.rand(4, generator=generator).tolist()
        disc = (rows - 101 * y) ** 2 + (columns - 150 * x) ** 2 < (5 + 25 * radius) ** 2
        image[disc] = grey
    return image.expand(1, 3, -1, -1).contiguous()


@pytest.fixture(scope="module")
def stream(drawing) -> pics.PicsStream:
    return encode_pics(drawing, CAPTION, detector, max_side=75)


@pytest.mark.parametrize(
    ("max_side", "caption"),
    [(8, ""), (40, "x"), (149, "雪の富士山"), (150, "a b " * 250), (1000, CAPTION)],
)
def test_edge_map_and_caption_come_back_exactly(drawing, max_side, caption):
    stream = encode_pics(drawing, caption, detector, threshold=0.2, max_side=max_side)
    content = parse_pics(stream.data)
    assert (content.width, content.height, content.caption) == (150, 101, caption)
    assert content.edge_map.dtype == torch.bool and content.edge_map.any()
    assert torch.equal(content.edge_map, stream.edge_map) and not content.edge_map.all()
    shape = (1, 1, -(-101 // stream.divisor), -(-150 // stream.divisor))
    assert content.edge_map.shape == shape and max(shape) <= max_side
    assert stream.data == encode_pics(drawing, caption, detector, 0.2, max_side).data


def test_edges_lie_on_boundaries(stream, drawing):
    near = torch.nn.functional.max_pool2d(detector(drawing), 2, ceil_mode=True) >= 0.5
    assert (near & stream.edge_map).sum() == stream.edge_map.sum()
    assert stream.edge_map.sum() < near.sum(), "thinned"


def test_every_byte_is_counted(stream):
    assert stream.bpp == len(stream.data) * 8 / (150 * 101)
    overhead = len(stream.data) - stream.caption_bytes - stream.edge_bytes
    assert overhead == HEADER.size + 4
    assert len(CAPTION.encode()) * 0.5 < stream.caption_bytes < len(CAPTION.encode()) + 6
    edges = stream.edge_map[0, 0].numpy().astype(np.uint8)
    sizes = {tag: len(payload) for tag, payload in candidates(edges)}
    assert stream.edge_bytes == min(sizes.values()) == sizes[stream.data[3]], "the smaller codec"


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (33, 64), (1, 40)])
def test_each_codec_is_lossless(size):
    single = np.zeros(size, np.uint8)
    single[-1, -1] = 1
    noise = np.random.default_rng(0).integers(0, 2, size).astype(np.uint8)
    for edges in (np.zeros(size, np.uint8), np.ones(size, np.uint8), noise, single):
        payloads = dict(candidates(edges))
        assert set(payloads) == set(CODECS)
        for tag, payload in payloads.items():
            assert np.array_equal(CODECS[tag][1](payload, *size), edges.astype(bool))


@pytest.mark.parametrize("share", [1.0, 0.9, 0.6, 0.35])
def test_the_budget_holds_and_is_used(drawing, stream, share):
    budget = int(share * len(stream.data))
    fitted = encode_pics(drawing, CAPTION, detector, max_side=75, max_bytes=budget)
    assert 0.5 * budget < len(fitted.data) <= budget
    if share == 1:
        assert fitted.data == stream.data
    if share == 0.9:
        assert fitted.divisor == stream.divisor and fitted.threshold > stream.threshold
        assert (fitted.edge_map & ~stream.edge_map).sum() == 0, "lines only go"
    if share == 0.35:
        assert fitted.divisor > stream.divisor
    assert torch.equal(parse_pics(fitted.data).edge_map, fitted.edge_map)


def test_a_budget_too_small_says_what_is_needed(drawing):
    with pytest.raises(BudgetTooSmall) as caught:
        encode_pics(drawing, CAPTION, detector, max_bytes=30)
    needed = caught.value.needed_bytes
    assert len(encode_pics(drawing, CAPTION, detector, max_bytes=needed).data) == needed
    with pytest.raises(BudgetTooSmall):
        encode_pics(drawing, CAPTION, detector, max_bytes=needed - 1)


def test_arguments_out_of_range(drawing):
    wrong = [{"max_side": 0}, {"max_side": 1}, {"caption": "é" * 501}]
    wrong += [{"threshold": 0.0}, {"threshold": 1.0}, {"detector": lambda image: image}]
    for options in wrong:
        with pytest.raises(ArgumentError):
            encode_pics(drawing, **{"caption": "", "detector": detector} | options)


def test_the_shipped_detector_is_the_default(drawing, shipped_codec):
    ours = encode_pics(drawing, "", max_side=50)
    assert ours.data == encode_pics(drawing, "", shipped_codec.boundaries, max_side=50).data


# --------------------------------------------------------------------------------------------------
# Streams from strangers


def test_every_truncation_and_flipped_bit_is_refused(stream):
    for size in range(len(stream.data)):
        with pytest.raises(StreamError) as caught:
            parse_pics(stream.data[:size])
        assert type(caught.value) is (TruncatedStream if size else NotAStream)
        assert not size or size < caught.value.needed_bytes <= len(stream.data)
        damaged = bytearray(stream.data)
        damaged[size] ^= 1 << size % 8
        with pytest.raises(StreamError):
            parse_pics(bytes(damaged))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda data: b"\x89PNG" + data, NotAStream, "does not start"),
        (lambda data: data[:2] + b"\x09" + data[3:], UnsupportedStream, "version 9"),
        (lambda data: data + b"\0", CorruptStream, "checksum"),
    ],
)
def test_what_is_refused_says_why(stream, change, kind, words):
    with pytest.raises(kind, match=words):
        parse_pics(change(stream.data))
    with pytest.raises(UnsupportedStream, match="pixels"):
        parse_pics(stream.data, max_pixels=150 * 101 - 1)


HEADER = struct.Struct("<2sBBBHHHHI")
FIELDS = ("magic", "version", "codec", "divisor", "width", "height", "text", "caption", "edges")


def forge(stream, payload: bytes | None = None, bomb: bytes = b"", **changes: int) -> bytes:
    """A stream with other header fields, caption or edges, and a checksum that fits."""
    fields = dict(zip(FIELDS, HEADER.unpack_from(stream.data), strict=True))
    rest = stream.data[HEADER.size : -4]
    caption, edges = rest[: fields["caption"]], rest[fields["caption"] :]
    if payload is not None:
        edges, fields["edges"] = payload, len(payload)
    body = HEADER.pack(*(fields | changes).values()) + (bomb or caption) + edges
    return body + struct.pack("<I", zlib.crc32(body))


ABSURD = "width=0 height=0 divisor=0 divisor=65 codec=7 text=1001 text=5 caption=2001 caption=3"


@pytest.mark.parametrize("change", [*ABSURD.split(), f"edges={2**32 - 1}", "width=65535"])
def test_absurd_headers_are_refused_before_memory_is_taken(stream, change):
    assert forge(stream) == stream.data
    name, value = change.split("=")
    data = forge(stream, **{name: int(value)})
    tracemalloc.start()
    try:
        with pytest.raises(StreamError):
            parse_pics(data, max_pixels=10**6)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**21


@pytest.mark.parametrize("codec", [0, 1])
def test_forged_payloads_never_escape_as_other_errors(stream, codec):
    generator = np.random.default_rng(codec)
    forged = [forge(stream, generator.bytes(n), codec=codec) for n in (0, 1, 7, 40, 400)]
    forged.append(forge(stream, codec=codec, height=301))
    for data in forged:
        try:
            content = parse_pics(data)  # a strip that ends early may decode to empty rows
        except StreamError:
            continue
        height, width = -(-content.height // stream.divisor), -(-content.width // stream.divisor)
        assert content.edge_map.shape == (1, 1, height, width)


def test_a_caption_bomb_is_not_inflated(stream):
    bomb = zlib.compress(bytes(10**6), 9, -15)
    data = forge(stream, text=1000, caption=len(bomb), bomb=bomb)
    with pytest.raises(CorruptStream):
        parse_pics(data)


# --------------------------------------------------------------------------------------------------
# Decoding with tiny random networks


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    """A text-to-image ControlNet pipeline."""
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from .test_priors import build_components

    parts = build_components(tmp_path_factory.mktemp("painter"), controlnet=True)
    prior = diffusers.StableDiffusionControlNetImg2ImgPipeline(
        **parts, requires_safety_checker=False
    )
    kind = diffusers.StableDiffusionControlNetPipeline  # made of the prior's parts, as documented
    return kind(**prior.components, requires_safety_checker=False)


@pytest.fixture(scope="module")
def small(drawing) -> torch.Tensor:
    return drawing[..., :21, :31]


def test_painting_has_the_originals_size_and_repeats(painter, small):
    data = encode_pics(small, "a disc", detector, 0.2, max_side=16).data
    picture = decode_pics(data, painter, steps=2)
    assert picture.shape == (1, 3, 21, 31) and picture.dtype == torch.float32
    assert float(picture.min()) >= 0 and float(picture.max()) <= 1
    torch.rand(3)  # the global generator must not matter
    assert torch.equal(picture, decode_pics(data, painter, steps=2))
    assert not torch.allclose(picture, decode_pics(data, painter, steps=3), atol=1e-3)


def test_the_painter_gets_exactly_the_stream_and_heeds_it(painter, small, monkeypatch):
    seen = []
    forward = type(painter).__call__

    def spied(self, **options):
        seen.append(options)
        return forward(self, **options | {"generator": torch.Generator().manual_seed(0)})

    monkeypatch.setattr(type(painter), "__call__", spied)
    streams = [encode_pics(x, "a disc", detector, 0.2, 31) for x in (small, small.flip(-1))]
    painted = [decode_pics(each.data, painter, 2, guidance_scale=3.0) for each in streams]
    options = seen[0]
    assert options["prompt"] == "a disc" and options["guidance_scale"] == 3.0
    assert options["image"].shape == (1, 3, 22, 32)
    assert torch.equal(options["image"][0, 1, :21, :31].bool(), streams[0].edge_map[0, 0])
    assert options["generator"].initial_seed() == zlib.crc32(streams[0].data[:-4])
    assert not torch.allclose(*painted, atol=1e-3), "the same noise, other edges"


def test_other_pipelines_and_steps_are_refused(painter, stream):
    with pytest.raises(ArgumentError, match="StableDiffusionControlNetPipeline"):
        decode_pics(stream.data, object())
    with pytest.raises(ArgumentError, match="steps=0"):
        decode_pics(stream.data, painter, steps=0)
    with pytest.raises(NotAStream):
        decode_pics(b"nothing", painter)
