"""Every peer on a small photo: real files, real decoders, odd sizes, budgets, and what is said when one is absent."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.errors import BudgetTooSmall, DependencyMissing, PeerError
from sketchfusion_lite.evaluation.peers import PEERS, Peer, PeerTrials, encode_at_most
from sketchfusion_lite.samples import load_photo

EXTRA = {"JPEG XL": "pillow_jxl", "HEIC": "pillow_heif", "VVC": "imageio_ffmpeg"}
BUDGETS = (900, 1300, 1900)


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


def test_all_seven_are_there():
    assert set(PEERS) == {"JPEG", "WebP", "AVIF", "JPEG 2000", "JPEG XL", "HEIC", "VVC"}


def test_budgets_hold_and_bytes_buy_quality(peer, photo):
    trials = PeerTrials(photo, peer)
    files = [trials.at_most(budget, scales=(1.0,)) for budget in BUDGETS]
    values = [psnr(photo, file.image) for file in files]
    for file, budget in zip(files, BUDGETS, strict=True):
        assert 0.5 * budget < len(file.data) <= budget
        assert file.image.size == photo.size and file.image.mode == "RGB" and file.scale == 1
        assert file.bpp == len(file.data) * 8 / (144 * 96)
        assert file.encode_s > 0 and file.decode_s > 0
        assert np.array_equal(peer.decode(file.data), file.image), "decoded from the bytes"
    assert 18 < values[0] < values[1] < values[2]
    best = peer.qualities.index(files[-1].quality)
    assert all(peer.qualities.index(file.quality) <= best for file in files)


def test_what_was_asked_before_does_not_matter(peer, photo):
    small = photo.resize((96, 64))
    trials = PeerTrials(small, peer)
    trials.at_most(1400, scales=(1.0,))
    again = trials.at_most(1000, scales=(1.0,))
    fresh = encode_at_most(small, 1000, peer, scales=(1.0,))
    assert (again.quality, again.data) == (fresh.quality, fresh.data)


@pytest.mark.parametrize("size", [(97, 75), (33, 18)])
def test_odd_sizes(peer, photo, size):
    small = photo.resize(size, Image.Resampling.LANCZOS)
    file = encode_at_most(small, 1000, peer, scales=(1.0,))
    assert file.image.size == size
    assert psnr(small, file.image) > 22, "not shifted by the padding"


def test_a_budget_below_the_smallest_file(peer, photo):
    trials = PeerTrials(photo, peer)
    with pytest.raises(BudgetTooSmall) as caught:
        trials.at_most(20, scales=(1.0, 0.5))
    needed = caught.value.needed_bytes
    assert len(trials.at_most(needed, scales=(1.0, 0.5)).data) <= needed


def test_half_size_is_enlarged(peer, photo):
    file = encode_at_most(photo, 900, peer, scales=(0.5,))
    assert file.scale == 0.5 and file.image.size == photo.size
    decoded = peer.decode(file.data)
    assert decoded.size == (72, 48)


def test_versions_name_what_does_the_work(peer):
    assert any(character.isdigit() for character in peer.version())


def test_heic_without_the_encoders_description(photo):
    heic = PEERS["HEIC"]
    if not heic.available():
        pytest.skip("install the extra 'peers'")
    data = heic.encode(photo, 0)
    assert b"x265" not in data and len(data) < 1200


def test_vvc_is_a_raw_stream_of_even_size(photo):
    vvc = PEERS["VVC"]
    if not vvc.available():
        pytest.skip("install the extra 'peers'")
    assert vvc.encode(photo, 63)[:4] == b"\0\0\0\1"
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
