"""Symbols unfolded into planes, and quantisers of the entropy model."""

from __future__ import annotations

import pytest
import torch

from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.entropy import add_noise, round_ste, symbol_likelihood
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_workbook.lessons.sketch_encoder import symbol_planes

from .conftest import build_tiny_model


@pytest.mark.parametrize("quality", [0.0, 2.0, 5.0])
def test_planes_are_what_is_coded(tiny_codec: SketchFusionCodec, photo, quality):
    planes = symbol_planes(tiny_codec, photo, quality)
    assert planes.symbols.shape == planes.y.shape == (1, 8, 6, 9)
    assert torch.equal(planes.symbols, torch.round(planes.y - planes.means))
    assert torch.equal(planes.means * 8, torch.round(planes.means * 8)), "multiples of 1/8"
    ideal = tiny_codec.encode(photo, quality=quality).estimated_bpp * photo[0, 0].numel()
    bits = planes.hyper_bits + float(planes.bits.double().sum())
    assert bits == pytest.approx(ideal, rel=1e-5)
    assert planes.zeros == (planes.symbols == 0).float().mean()
    with pytest.raises(ArgumentError):
        symbol_planes(tiny_codec, photo, 5.5)


def test_bits_are_the_gaussian_of_these_scales(shipped_codec, photo):
    planes = symbol_planes(shipped_codec, photo, 2.0)
    likely = planes.symbols.abs() <= planes.scales  # the tables round improbable symbols up
    gaussian = -symbol_likelihood(planes.symbols, planes.scales).log2()
    assert torch.allclose(planes.bits[likely], gaussian[likely], atol=0.02)


def test_planes_of_the_receiver_are_the_encoders(tiny_codec: SketchFusionCodec, photo):
    from sketchfusion_lite.bitstream import parse

    stream = parse(tiny_codec.encode(photo, quality=3.0).data)
    units = tiny_codec.coder.decode(stream.payload, stream.header.quality_index, 6, 9, ())
    assert torch.equal(symbol_planes(tiny_codec, photo, 3.0).y_hat, units.float() / 8)


def test_noise_stays_within_half_a_step_and_passes_the_gradient():
    x = torch.linspace(-2, 2, 1000, requires_grad=True)
    noisy = add_noise(x)
    assert 0.4 < (noisy - x).abs().max() <= 0.5 and (noisy - x).mean().abs() < 0.05
    noisy.sum().backward()
    assert torch.equal(x.grad, torch.ones(1000))


def test_the_quantiser_is_one_for_all_symbols_and_no_part_of_the_weights():
    model = build_tiny_model()
    y, quality = 2 * torch.randn(1, 8, 6, 9), torch.tensor([2.0])
    with torch.no_grad():
        rounded = model.entropy(y, quality)
        model.entropy.quantiser = lambda x: x
        as_it_is = model.entropy(y, quality)
        model.entropy.quantiser = add_noise
        noisy = model.entropy(y, quality)
        model.entropy.quantiser, model.entropy.rate_quantiser = round_ste, add_noise
        mixed = model.entropy(y, quality)
    assert torch.allclose(as_it_is.y_hat, y, atol=1e-6)
    assert 0 < (rounded.y_hat - y).abs().max() <= 0.5 + 1e-6
    assert 0 < (noisy.y_hat - y).abs().max() <= 0.5 + 1e-6
    assert torch.equal(mixed.y_hat, rounded.y_hat), "bits alone are counted with another one"
    assert (mixed.bits_sections != rounded.bits_sections).all()
    assert not any("quantiser" in key for key in model.state_dict())
    assert build_tiny_model().entropy.quantiser is round_ste
