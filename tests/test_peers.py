"""Peers: never over budget, the finest quality that fits, honest about scale and bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.errors import ArgumentError, BudgetTooSmall, DependencyMissing
from sketchfusion_lite.evaluation.peers import AVIF, PEERS, Peer, encode_at_most

needs_avif = pytest.mark.skipif(not AVIF.available(), reason="this Pillow has no AVIF")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Smooth colours, edges and some texture, 192x128."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((192, 128), Image.Resampling.BICUBIC)).astype(
        int
    )
    image[40:80, 60:140] = 255 - image[40:80, 60:140]
    noise = generator.integers(-12, 13, image.shape)
    return Image.fromarray((image + noise).clip(0, 255).astype(np.uint8))


def counting_peer(sizes: list[int]) -> tuple[Peer, list[int]]:
    """A codec whose file at quality q has sizes[q] bytes, and the qualities it was asked for."""
    asked: list[int] = []

    def encode(image: Image.Image, quality: int) -> bytes:
        asked.append(quality)
        return bytes(sizes[quality])

    return Peer("fake", range(len(sizes)), encode, lambda data: Image.new("RGB", (4, 4))), asked


@pytest.mark.parametrize("budget", [10, 55, 90, 99, 100, 5000])
def test_search_finds_the_finest_quality_that_fits(budget):
    sizes = [10 * (q + 1) for q in range(10)]
    peer, asked = counting_peer(sizes)
    file = encode_at_most(Image.new("RGB", (8, 6)), budget, peer, scales=(1.0,))
    assert file.quality == max(q for q, size in enumerate(sizes) if size <= budget)
    assert len(file.data) == sizes[file.quality] <= budget
    assert len(asked) == len(set(asked)) <= 5, "a bisection asks few times, and never twice"


def test_smaller_scales_are_tried_only_when_needed():
    peer, asked = counting_peer([100])
    image = Image.new("RGB", (64, 64))
    assert encode_at_most(image, 100, peer).scale == 1 and len(asked) == 1
    with pytest.raises(BudgetTooSmall) as caught:
        encode_at_most(image, 99, peer)
    assert caught.value.needed_bytes == 100 and caught.value.max_bytes == 99


@needs_avif
@pytest.mark.parametrize("budget", [450, 700, 1500, 100_000])
def test_avif_within_budget_at_full_size(photo, budget):
    file = encode_at_most(photo, budget)
    assert len(file.data) <= budget
    assert file.image.size == photo.size and file.image.mode == "RGB"
    assert file.bpp == len(file.data) * 8 / (192 * 128)
    coded = Image.open(io.BytesIO(file.data))
    assert coded.format == "AVIF" and coded.width == round(192 * file.scale)


@needs_avif
def test_avif_falls_back_to_smaller_pictures(photo):
    smallest = len(AVIF.encode(photo, 0))
    assert encode_at_most(photo, smallest).label == "AVIF"
    reduced = encode_at_most(photo, smallest - 1)
    assert reduced.scale < 1 and reduced.label == f"AVIF at 1/{round(1 / reduced.scale)} size"


@needs_avif
def test_more_bytes_give_a_better_avif(photo):
    def error(budget: int) -> float:
        decoded = encode_at_most(photo, budget).image
        return float(np.square(np.asarray(decoded, float) - np.asarray(photo, float)).mean())

    assert error(20_000) < error(2_000) < error(600)


def test_wrong_scales_are_refused(photo):
    for scales in ((), (0.0,), (2.0,)):
        with pytest.raises(ArgumentError, match="scales"):
            encode_at_most(photo, 1000, scales=scales)


def test_a_missing_codec_says_what_to_install(photo):
    peer = Peer(
        "JPEG XL", range(1), lambda *_: b"", AVIF.decode, lambda: False, "pillow-jxl-plugin"
    )
    with pytest.raises(DependencyMissing, match=r"pillow-jxl-plugin.*\[peers\]"):
        encode_at_most(photo, 1000, peer)


def test_the_registry_names_its_peers():
    assert all(name == peer.name for name, peer in PEERS.items()) and "AVIF" in PEERS
