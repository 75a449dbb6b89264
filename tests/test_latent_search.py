"""The search for a better latent: never worse, within its bits, reproducible, an ordinary stream in the end."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from sketchfusion_lite import bitstream, datasets, latent_search
from sketchfusion_lite.errors import WeightsError
from sketchfusion_lite.evaluation.metrics import psnr
from sketchfusion_lite.images import load_image
from sketchfusion_lite.latent_objective import LpipsViews, Objective, cached_lpips
from sketchfusion_lite.latent_search import (
    ITERATIONS,
    MAX_EFFORT,
    SearchResult,
    load_float_entropy,
    optimise_latent,
    soft_round,
)
from sketchfusion_lite.weights_io import save_weights

INDEX = 102
SQUARED_ERROR = Objective(None)


@pytest.fixture(scope="module")
def tiny_entropy(tiny_weights):
    return load_float_entropy(tiny_weights)


@pytest.fixture
def search(tiny_codec, tiny_entropy, photo):
    """``search(effort=..., ...)`` on the synthetic photo."""

    def run(picture=photo, **options) -> SearchResult:
        options = {"objective": SQUARED_ERROR, "effort": 1} | options
        y = tiny_codec.latent(picture)
        return optimise_latent(tiny_codec, tiny_entropy, y, picture, INDEX, **options)

    return run


def stream_of(codec, result: SearchResult, height: int, width: int) -> bytes:
    symbols = codec.quantise(result.y, INDEX, result.z)
    header = bitstream.Header(width, height, INDEX, codec.model_id)
    return bitstream.pack(header, *codec.coder.encode(symbols))


def test_the_stream_is_an_ordinary_one_within_the_bits_with_a_better_preview(
    search, tiny_codec, photo
):
    y, result = tiny_codec.latent(photo), search(effort=3)
    assert result.y.shape == y.shape and result.y.dtype == y.dtype
    assert result.z.shape == tiny_codec.model.entropy.analysis(y).shape
    assert not result.y.requires_grad and not result.z.requires_grad
    assert not any(p.requires_grad for p in tiny_codec.model.parameters())
    before, after = result.before, result.after
    assert after.objective < before.objective and after.distortion < before.distortion
    assert after.bits <= before.bits and math.isnan(after.lpips)
    plain = tiny_codec.encode(photo, quality=bitstream.index_to_quality(INDEX))
    data = stream_of(tiny_codec, result, *photo.shape[-2:])
    assert len(data) <= len(plain.data) + 4 * 3  # three sections of whole words
    shown = [load_image(tiny_codec.decode(d, "preview").image) for d in (plain.data, data)]
    assert psnr(photo, shown[1]) > psnr(photo, shown[0])
    mse = (shown[1] - photo).square().mean().item() * 255**2
    assert mse == pytest.approx(after.mse, rel=0.01), "the numbers are those of the stream"


def test_the_same_call_gives_the_same_latent_and_draws_no_random_numbers(search):
    state = torch.get_rng_state()
    first, second = search(), search()
    assert torch.equal(first.y, second.y) and torch.equal(first.z, second.z)
    assert first.after.objective == second.after.objective
    assert torch.equal(torch.get_rng_state(), state)


def test_effort_0_is_the_start(search, tiny_codec, photo):
    y, result = tiny_codec.latent(photo), search(effort=0)
    assert torch.equal(result.y, y) and result.iterations == 0
    assert result.after is result.before
    plain = tiny_codec.encode(photo, quality=bitstream.index_to_quality(INDEX)).data
    assert stream_of(tiny_codec, result, *photo.shape[-2:]) == plain
    cropped = search(photo[..., :90, :133], effort=0).before
    assert cropped.bpp == pytest.approx(cropped.bits / (90 * 133)), "padding does not count"


def test_progress_is_told_after_every_step(search):
    assert len(ITERATIONS) == MAX_EFFORT + 1 == 11 and ITERATIONS[0] == 0
    assert list(ITERATIONS) == sorted(set(ITERATIONS))
    calls = []
    result = search(effort=2, on_progress=lambda *call: calls.append(call))
    assert [call[0] for call in calls] == list(range(result.iterations + 1))
    assert {call[1] for call in calls} == {ITERATIONS[2]}
    told, *steps = (numbers for _, _, numbers in calls)
    assert told.keys() == {"seconds"} and told["seconds"] > 0, "how long it will take"
    keys = {"objective", "bpp", "mse", "lpips", "rate_weight", "seconds"}
    assert all(numbers.keys() == keys for numbers in steps) and steps[-1]["seconds"] == 0


def test_it_stops_early_when_nothing_is_gained(search, monkeypatch):
    monkeypatch.setattr(latent_search, "_LEARNING_RATE", 0.0)
    monkeypatch.setattr(latent_search, "_HARDENED", 0.1)
    result = search(effort=5)
    assert result.iterations < ITERATIONS[5]
    assert result.after.objective <= result.before.objective


def test_a_lower_target_of_bits_is_met_and_what_is_in_vain_gives_back_the_start(
    search, tiny_codec, photo, monkeypatch
):
    bits = search(effort=0).before.bits
    result = search(effort=3, target_bits=0.9 * bits)
    assert result.after.bits <= 0.9 * bits
    failed = [search(effort=1, target_bits=1.0)]
    monkeypatch.setattr(latent_search, "_LEARNING_RATE", 50.0)
    for result in (*failed, search(effort=1)):
        assert torch.equal(result.y, tiny_codec.latent(photo)) and result.after is result.before


def test_it_works_in_inference_mode_and_without_tone(photo, tmp_path):
    from sketchfusion_lite.codec import SketchFusionCodec
    from sketchfusion_lite.model import SketchFusionModel
    from tests.conftest import TINY

    torch.manual_seed(0)
    model = SketchFusionModel(dataclasses.replace(TINY, tone_channels=0))
    codec = SketchFusionCodec.from_model(model)
    with torch.inference_mode():
        y = codec.latent(photo)
        result = optimise_latent(codec, model.entropy, y, photo, INDEX, 1, SQUARED_ERROR)
    assert result.after.objective <= result.before.objective
    assert all(p.grad is None for p in model.parameters())


def test_what_is_not_there_is_said(monkeypatch, tmp_path):
    """Weights without a codec; no trunk, and no download at encode time."""
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"task": "cues"})
    with pytest.raises(WeightsError, match="no codec"):
        load_float_entropy(tmp_path / "other.safetensors")
    monkeypatch.setenv("SKETCHFUSION_HOME", str(tmp_path))
    monkeypatch.setattr(datasets, "fetch", lambda *_: pytest.fail("a download at encode time"))
    with pytest.warns(UserWarning, match="squared error alone"):
        assert cached_lpips() is None


def test_soft_rounding_hardens():
    x = torch.linspace(-2.3, 2.3, 47)
    assert torch.equal(soft_round(x, 0.0), x.round())
    assert torch.allclose(soft_round(x, 100.0), x, atol=1e-4)
    errors = [(soft_round(x, t) - x.round()).abs().mean().item() for t in (1.0, 0.2, 0.05)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.filterwarnings("ignore:no LPIPS trunk")
def test_the_cached_features_give_lpips_which_takes_part(photo, search):
    lpips = cached_lpips()
    if lpips is None:
        pytest.skip("no LPIPS trunk in the cache")
    other = (photo + 0.1 * torch.sin(40 * photo)).clamp(0, 1)
    ours = LpipsViews(lpips, photo)
    seen = ours(other, (0, 0, 1)).item()
    assert seen == pytest.approx(lpips(other * 2 - 1, photo * 2 - 1).item())
    half = [torch.nn.functional.avg_pool2d(x[..., 1:, 3:], 2) * 2 - 1 for x in (other, photo)]
    assert ours(other, (1, 3, 2)).item() == pytest.approx(lpips(*half).item())
    black = torch.zeros_like(photo, requires_grad=True)
    LpipsViews(lpips, photo)(black, (1, 2, 1)).backward()
    assert torch.isfinite(black.grad).all()
    result = search(effort=1, objective=Objective(lpips))
    assert result.after.lpips > 0 and result.after.objective <= result.before.objective


def test_bits_that_the_float_model_misjudges_are_fitted(search, monkeypatch):
    """The integer model codes, and may count more; searches gave their start back then."""
    walk = latent_search._Search.walk

    def undercounted(self, *variables):
        y_hat, z_hat, bits = walk(self, *variables)
        return y_hat, z_hat, 0.85 * bits

    monkeypatch.setattr(latent_search._Search, "walk", undercounted)
    result = search(effort=3)
    assert result.after is not result.before and result.after.bits <= result.before.bits


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_saved_bytes_alone_are_no_gain(shipped_codec, level):
    """On a flat picture any search finds fewer bytes for a picture further from the photo."""
    photo = torch.full((1, 3, 96, 96), level)
    plain, searched = (shipped_codec.encode(photo, bpp=0.1, effort=e) for e in (0, 1))
    errors = [
        (load_image(shipped_codec.decode(e).image) - photo).square().mean() * 255**2
        for e in (plain, searched)
    ]
    assert errors[1] <= errors[0] + 0.5
