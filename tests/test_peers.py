"""Peers: never over budget, the finest quality that fits, honest about scale and bytes; all of them on a photo."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.errors import (
    ArgumentError,
    BudgetTooSmall,
    DependencyMissing,
    PeerError,
)
from sketchfusion_lite.evaluation.peers import AVIF, PEERS, Peer, PeerTrials, encode_at_most
from sketchfusion_lite.samples import load_photo

EXTRA = {"JPEG XL": "pillow_jxl", "HEIC": "pillow_heif", "VVC": "imageio_ffmpeg"}
FULL = (1.0,)


@pytest.fixture(params=list(PEERS.values()), ids=list(PEERS))
def peer(request) -> Peer:
    if not request.param.available():
        pytest.skip(f"{request.param.name}: install the extra 'peers'")
    return request.param


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """ "coffee", small: 144x96."""
    return load_photo("coffee").image.resize((144, 96), Image.Resampling.LANCZOS)


def psnr(first: Image.Image, second: Image.Image) -> float:
    error = np.asarray(first, float) - np.asarray(second, float)
    return 10 * np.log10(255**2 / np.square(error).mean())


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
    file = encode_at_most(Image.new("RGB", (8, 6)), budget, peer, FULL)
    assert file.quality == max(q for q, size in enumerate(sizes) if size <= budget)
    assert len(file.data) == sizes[file.quality] <= budget
    assert len(asked) == len(set(asked)) <= 5, "a bisection asks few times, and never twice"


def test_smaller_scales_are_tried_only_when_needed(photo):
    peer, asked = counting_peer([100])
    assert encode_at_most(photo, 100, peer).scale == 1 and len(asked) == 1
    with pytest.raises(BudgetTooSmall) as caught:
        encode_at_most(photo, 99, peer)
    assert caught.value.needed_bytes == 100 and caught.value.max_bytes == 99
    for scales in ((), (0.0,), (2.0,)):
        with pytest.raises(ArgumentError, match="scales"):
            encode_at_most(photo, 1000, scales=scales)


@pytest.mark.skipif(not AVIF.available(), reason="this Pillow has no AVIF")
def test_a_label_says_the_size(photo):
    smallest = len(AVIF.encode(photo, 0))
    assert encode_at_most(photo, smallest).label == "AVIF"
    reduced = encode_at_most(photo, smallest - 1)
    assert reduced.scale < 1 and reduced.label == f"AVIF at 1/{round(1 / reduced.scale)} size"


def test_budgets_hold_and_bytes_buy_quality(peer, photo):
    trials = PeerTrials(photo, peer)
    budgets = (900, 1300, 1900)
    files = [trials.at_most(budget, FULL) for budget in budgets]
    values = [psnr(photo, file.image) for file in files]
    for file, budget in zip(files, budgets, strict=True):
        assert 0.5 * budget < len(file.data) <= budget
        assert file.image.size == photo.size and file.image.mode == "RGB" and file.scale == 1
        assert file.bpp == len(file.data) * 8 / (144 * 96)
        assert file.encode_s > 0 and file.decode_s > 0
        assert np.array_equal(peer.decode(file.data), file.image), "decoded from the bytes"
    assert 18 < values[0] < values[1] < values[2]
    again, fresh = trials.at_most(1000, FULL), encode_at_most(photo, 1000, peer, FULL)
    assert (again.quality, again.data) == (fresh.quality, fresh.data), "whatever was asked before"
    assert any(character.isdigit() for character in peer.version())


def test_too_small_a_budget_odd_sides_and_half_size(peer, photo):
    trials = PeerTrials(photo, peer)
    with pytest.raises(BudgetTooSmall) as caught:
        trials.at_most(20, (1.0, 0.5))
    needed = caught.value.needed_bytes
    assert len(trials.at_most(needed, (1.0, 0.5)).data) <= needed
    small = photo.resize((33, 17), Image.Resampling.LANCZOS)
    odd = encode_at_most(small, 1000, peer, FULL)
    assert odd.image.size == (33, 17) and psnr(small, odd.image) > 22, "not shifted by the padding"
    half = trials.at_most(900, (0.5,))
    assert half.scale == 0.5 and half.image.size == photo.size
    assert peer.decode(half.data).size == (72, 48)


def test_settings_that_save_bytes(photo):
    heic, vvc = PEERS["HEIC"], PEERS["VVC"]
    if not (heic.available() and vvc.available()):
        pytest.skip("install the extra 'peers'")
    data = heic.encode(photo, 0)
    assert b"x265" not in data and len(data) < 1200, "without the encoder's description"
    assert vvc.encode(photo, 63)[:4] == b"\0\0\0\1", "a raw stream"
    with pytest.raises(PeerError, match="ffmpeg failed"):
        vvc.decode(b"no stream")


@pytest.mark.parametrize(("name", "module"), EXTRA.items())
def test_absent_packages_are_named(photo, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)  # as if not installed
    with pytest.raises(DependencyMissing, match=rf"{name} needs .*sketchfusion-lite\[peers\]"):
        encode_at_most(photo, 5000, PEERS[name])


def test_foreign_errors_become_ours(photo):
    def fail(*_):
        raise RuntimeError("out of luck")

    broken = Peer("broken", range(3), fail, fail)
    with pytest.raises(PeerError, match=r"broken: failed on a 144x96 picture \(out of luck\)"):
        encode_at_most(photo, 5000, broken)
