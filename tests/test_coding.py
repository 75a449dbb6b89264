"""The entropy model in integers and the coder on top: exactness, code length, partial streams."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import norm

from sketchfusion_lite import bitstream
from sketchfusion_lite.codec import SketchFusionCodec, load_codec
from sketchfusion_lite.entropy import SCALE_LEVELS, scale_of_index
from sketchfusion_lite.integer import IntegerConv, export_entropy_model, model_id
from tests.conftest import build_tiny_model


def latent_of(codec, photo, index: int = 128):
    return codec.quantise(codec.latent(photo), index)


def integer_conv(*arguments: int, **options: int) -> tuple[IntegerConv, dict[str, torch.Tensor]]:
    """An integer convolution, and the tensors that it was made of."""
    torch.manual_seed(0)
    stored = IntegerConv.quantise(torch.nn.Conv2d(*arguments, **options))
    return IntegerConv(stored["weight"], stored["bias"], int(stored["shift"])), stored


def test_decoded_symbols_equal_encoded_ones(tiny_codec, photo):
    """Of a photo, and of a latent with absurd values, which is escaped throughout."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1, 8, 5, 6, generator=generator) * 300
    z = torch.randn(1, 4, 2, 2, generator=generator) * 200
    sent = {index: latent_of(tiny_codec, photo, index) for index in (0, 100, 255)}
    for index, symbols in (sent | {7: tiny_codec.coder.quantise(y, z, 7)}).items():
        assert any(s.abs().max() > 0 for s in symbols.symbols), "nothing but zeros proves nothing"
        payload, sides = b"".join(tiny_codec.coder.encode(symbols)), symbols.y_hat.shape[-2:]
        assert torch.equal(tiny_codec.coder.decode(payload, index, *sides, ()), symbols.y_hat)


def test_sections_are_a_prefix_code(tiny_codec, photo):
    """Hyper + structure bytes alone decode the structure group exactly, whatever follows."""
    symbols = latent_of(tiny_codec, photo)
    hyper, structure, _ = tiny_codec.coder.encode(symbols)
    sides, split = symbols.y_hat.shape[-2:], tiny_codec.entropy.structure_channels
    partial = tiny_codec.coder.decode(hyper + structure, 128, *sides, ("tone",))
    assert torch.equal(partial[:, :split], symbols.y_hat[:, :split])
    assert not torch.equal(partial[:, split:], symbols.y_hat[:, split:])
    nothing = tiny_codec.coder.decode(hyper, 128, *sides, ("structure", "tone"))
    assert torch.isfinite(nothing).all()


def test_estimate_is_the_stream_to_within_one_percent(shipped_codec):
    image = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(3))
    image = torch.nn.functional.interpolate(image, size=(512, 768), mode="bicubic").clamp(0, 1)
    for quality in (0.0, 2.0, 5.0):
        encoded = shipped_codec.encode(image, quality=quality)
        stream = bitstream.parse(encoded.data)
        overhead = stream.section_bytes["header"] + stream.section_bytes["crc"]
        estimated = encoded.estimated_bpp * 512 * 768 / 8
        # One percent, and rANS's final state of 8 bytes.
        assert estimated <= len(encoded.data) - overhead <= 1.01 * estimated + 8


def test_code_length_agrees_with_the_gaussian(tiny_codec):
    """Table bits against -log2 of the normal distribution's integral, computed by SciPy."""
    tables, z = tiny_codec.coder.tables, tiny_codec.entropy.hyper_channels
    assert len(tables.cdf_lists) == z + SCALE_LEVELS
    for cdf in tables.cdf_lists:
        assert (cdf[0], cdf[-1]) == (0, 2**16)
        assert all(b > a for a, b in itertools.pairwise(cdf)), "a symbol cannot be coded"
    for index in (10, 30, 50, 63):
        scale = float(scale_of_index(torch.tensor(float(index))))
        symbols = torch.arange(-3, 4)
        bits = tables.bits(symbols, torch.full_like(symbols, index + z)).numpy()
        s = symbols.numpy()
        p = norm.cdf((s + 0.5) / scale) - norm.cdf((s - 0.5) / scale)
        probable = p > 1e-3  # 16-bit frequencies cannot say more
        assert np.allclose(bits[probable], -np.log2(p[probable]), atol=0.03)


def test_integer_networks_follow_the_float_ones(tiny_model, photo):
    """Code length of the export within 0.5 % of what training saw, per image."""
    codec = SketchFusionCodec.from_model(tiny_model)
    with torch.no_grad():
        y = codec.latent(photo)
        quality = torch.tensor([bitstream.index_to_quality(102)])
        gain, _ = tiny_model.gain(quality)
        trained = tiny_model.entropy(y * gain, quality)
    symbols = codec.quantise(y, 102)
    assert sum(symbols.bits) == pytest.approx(float(trained.bits_sections.sum()), rel=0.005)
    equal = (trained.y_hat * 8 == symbols.y_hat).float().mean()
    assert equal > 0.9  # the rest are ties of a mean's rounding


def test_integer_convolution_is_exact_in_any_order():
    """Permuting the channels changes the order of summation, and must change nothing."""
    integer, stored = integer_conv(40, 16, 5, padding=2)
    shift, x = int(stored["shift"]), torch.randint(-32767, 32768, (1, 40, 12, 14)).double()
    order = torch.randperm(40)
    permuted = IntegerConv(stored["weight"][:, order], stored["bias"], shift)
    assert torch.equal(integer(x), permuted(x[:, order]))
    # Against Python's unbounded integers, at one place.
    patch = x[0, :, 2:7, 3:8].long().flatten().tolist()
    weights = stored["weight"][5].long().flatten().tolist()
    exact = sum(a * b for a, b in zip(patch, weights, strict=True)) + int(stored["bias"][5])
    expected = max(-32767, min(32767, (exact + (1 << (shift - 1))) >> shift))
    assert int(integer(x)[0, 5, 4, 5]) == expected
    points, _ = integer_conv(24, 12, 1)
    x = torch.randint(-5000, 5000, (1, 24, 6, 7)).double()
    assert torch.equal(points.points(x[0].flatten(1)), points(x)[0].flatten(1))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_bands_of_rows_give_the_whole(monkeypatch, kernel, rows):
    """Large pictures are convolved in bands, to bound the memory; small ones in the tests would not notice."""
    integer, _ = integer_conv(7, 6, kernel, padding=kernel // 2)
    x = torch.randint(-32767, 32768, (1, 7, 11, 9)).double()
    raw = torch.nn.functional.conv2d(x, integer.weight, integer.bias, padding=kernel // 2)
    shift = 2.0**integer.shift
    whole = torch.floor((raw + shift / 2) / shift).clamp(-32767, 32767)
    monkeypatch.setattr(
        "sketchfusion_lite.integer._BAND_BYTES", 8 * 7 * kernel**2 * (8 + kernel) * rows
    )
    assert torch.equal(integer(x), whole)


def test_a_bfloat16_encoder_makes_a_stream_that_float32_decodes(tiny_weights, photo):
    """What the encoder's arithmetic picks may differ; how it decodes may not."""
    bf16 = load_codec(tiny_weights, device="cpu", dtype=torch.bfloat16)
    symbols = latent_of(bf16, photo)
    payload = b"".join(bf16.coder.encode(symbols))
    fp32 = load_codec(tiny_weights, device="cpu", dtype="float32")
    height, width = symbols.y_hat.shape[-2:]
    decoded = fp32.coder.decode(payload, 128, height, width, ())
    assert torch.equal(decoded, symbols.y_hat)


def test_model_id_follows_what_codes_and_nothing_else():
    model = build_tiny_model()
    first = model_id(export_entropy_model(model.entropy))
    with torch.no_grad():
        model.preview.stem.weight.mul_(1.1)
    assert model_id(export_entropy_model(model.entropy)) == first
    with torch.no_grad():
        model.entropy.tone_context.mix.weight.mul_(1.1)
    assert model_id(export_entropy_model(model.entropy)) != first
