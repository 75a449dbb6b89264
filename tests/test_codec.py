"""The codec as users meet it: any picture in, bytes within the budget, the picture back, clear errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchfusion_lite import load_codec, read_info
from sketchfusion_lite.codec import export_weights
from sketchfusion_lite.errors import (
    ArgumentError,
    BudgetTooSmall,
    ModelMismatch,
    WeightsError,
)
from sketchfusion_lite.images import load_image
from sketchfusion_lite.samples import load_photo
from tests.conftest import build_tiny_model


def smooth_picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 16 + 2, width // 16 + 2, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("size", [(1, 1), (7, 1000), (1000, 7), (513, 767), (512, 768)])
def test_round_trip_of_any_size(shipped_codec, size):
    encoded = shipped_codec.encode(smooth_picture(*size), quality=1.0)
    decoded = shipped_codec.decode(encoded.data, "preview")
    height, width = size
    assert decoded.image.size == decoded.sketch.size == decoded.preview.size == (width, height)
    assert (decoded.info.width, decoded.info.height) == (width, height)
    assert sum(decoded.info.section_bytes.values()) == len(encoded.data)
    assert encoded.bpp == len(encoded.data) * 8 / (height * width)
    assert decoded.info.missing == ()


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(budget=st.integers(100, 3000), seed=st.integers(0, 3))
def test_the_budget_is_never_exceeded(shipped_codec, budget, seed):
    picture = smooth_picture(128, 192, seed)
    try:
        encoded = shipped_codec.encode(picture, max_bytes=budget)
    except BudgetTooSmall as error:
        smallest = len(shipped_codec.encode(picture, quality=0).data)
        assert error.needed_bytes == smallest > budget
        assert str(smallest) in str(error)
    else:
        assert len(encoded.data) <= budget
        assert shipped_codec.decode(encoded.data, "preview").image.size == (192, 128)


def test_the_budget_is_used_to_within_five_percent_and_quality_costs_bytes(shipped_codec):
    noise = torch.rand(1, 3, 256, 384, generator=torch.Generator().manual_seed(0)) * 0.3
    picture = (smooth_picture(256, 384) * 0.7 + noise).clamp(0, 1)
    sizes = [len(shipped_codec.encode(picture, quality=q).data) for q in range(6)]
    assert sizes == sorted(sizes) and sizes[-1] > 2 * sizes[0]
    for share in (0.25, 0.5, 0.9):
        budget = round(sizes[0] + share * (sizes[-1] - sizes[0]))
        assert 0.95 * budget <= len(shipped_codec.encode(picture, max_bytes=budget).data) <= budget
    bpp = budget * 8 / (256 * 384)
    assert 0.95 * bpp <= shipped_codec.encode(picture, bpp=bpp).bpp <= bpp
    with pytest.raises(ArgumentError, match="bpp and quality exclude"):
        shipped_codec.encode(picture, bpp=0.1, quality=1.0)


def test_the_rate_search_runs_the_encoder_once(tiny_codec, photo, monkeypatch):
    calls = []
    forward = type(tiny_codec.model.encoder).forward
    monkeypatch.setattr(
        type(tiny_codec.model.encoder),
        "forward",
        lambda self, *a: calls.append(1) or forward(self, *a),
    )
    low, high = (len(tiny_codec.encode(photo, quality=q).data) for q in (0, 5))
    calls.clear()
    tiny_codec.encode(photo, max_bytes=(low + high) // 2)
    assert len(calls) == 1


def test_stages_of_the_bytes_alone(tiny_weights, tiny_codec, photo, tmp_path):
    data = tiny_codec.encode(photo, quality=1.0).data
    sketch, first = (tiny_codec.decode(data, stage=stage) for stage in ("sketch", "preview"))
    assert sketch.image.tobytes() == sketch.sketch.tobytes() == first.sketch.tobytes()
    assert sketch.preview is None
    second = load_codec(tiny_weights, device="cpu", dtype="float32").decode(bytes(data), "preview")
    assert first.image.tobytes() == second.image.tobytes(), "decoding does not repeat"
    with pytest.raises(WeightsError, match="refiner"):
        tiny_codec.decode(data, stage="refined")
    with pytest.raises(ArgumentError, match="sketch, preview, refined"):
        tiny_codec.decode(data, stage="final")
    path = tmp_path / "other.safetensors"
    assert export_weights(build_tiny_model(seed=5), path, {}) != tiny_codec.model_id
    with pytest.raises(ModelMismatch, match=f"{tiny_codec.model_id:#06x}"):
        load_codec(path, device="cpu", dtype="float32").decode(data, "preview")


def test_the_saved_file_is_the_stream_and_says_what_it_is(tiny_codec, photo, tmp_path):
    encoded = tiny_codec.encode(photo, quality=2.0)
    path = encoded.save(tmp_path / "photo.skf")
    assert path.read_bytes() == encoded.data
    info = read_info(path)
    assert info == tiny_codec.decode(encoded.data, "preview").info
    assert (info.model_id, info.bpp) == (tiny_codec.model_id, encoded.bpp)
    assert info.quality == pytest.approx(2.0, abs=0.01)


def test_weights_that_are_no_weights(tmp_path):
    with pytest.raises(WeightsError, match="not found"):
        load_codec(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x80\x04 not safetensors at all")
    with pytest.raises(WeightsError, match=r"broken\.safetensors"):
        load_codec(broken)


def test_effort_finds_a_better_preview_within_the_same_bytes(tiny_codec):
    photo = smooth_picture(70, 90, 4)
    budget = len(tiny_codec.encode(photo, quality=3.0).data)
    plain = tiny_codec.encode(photo, max_bytes=budget)
    told: list[int] = []
    better = tiny_codec.encode(
        photo, max_bytes=budget, effort=2, on_progress=lambda done, total, _: told.append(done)
    )
    first, second = (tiny_codec.decode(e.data, "preview") for e in (plain, better))
    errors = [(load_image(d.image) - photo).square().mean() for d in (first, second)]
    assert errors[1] < errors[0]
    assert len(better.data) <= budget and better.quality == plain.quality
    assert first.info.model_id == second.info.model_id and second.info.missing == ()
    assert abs(better.estimated_bpp - better.bpp) * 70 * 90 / 8 < 40
    assert told == list(range(len(told))) and len(told) > 1


@pytest.mark.slow
def test_the_shipped_lines_only_codec_is_told_no_colour(shipped_codec):
    """The baseline on equal terms: lines cost bytes, too, and do not say what colour anything has."""
    from sketchfusion_lite.evaluation.metrics import psnr

    lines = load_codec("lines", device="cpu", dtype="float32")
    assert lines.model_id != shipped_codec.model_id
    picture = load_photo("coffee").image
    photo = load_image(picture)
    decoded = [
        c.decode(c.encode(picture, bpp=0.045).data, "preview") for c in (lines, shipped_codec)
    ]
    assert (
        decoded[0].info.section_bytes["tone"] == 0
        and decoded[0].info.section_bytes["structure"] > 200
    )
    poor, good = (psnr(photo, load_image(d.preview)) for d in decoded)
    mean_colour = psnr(photo, photo.mean(dim=(2, 3), keepdim=True).expand_as(photo))
    assert good > poor + 6 and good > mean_colour + 7
