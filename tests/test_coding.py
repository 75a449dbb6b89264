"""The entropy model in integers and the coder on top: exactness, code length, partial streams."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

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


def test_decoded_symbols_equal_encoded_ones(tiny_codec, photo):
    for index in (0, 100, 255):
        symbols = latent_of(tiny_codec, photo, index)
        assert any(s.abs().max() > 0 for s in symbols.symbols), "nothing but zeros proves nothing"
        payload = b"".join(tiny_codec.coder.encode(symbols))
        height, width = symbols.y_hat.shape[-2:]
        y_hat = tiny_codec.coder.decode(payload, index, height, width, ())
        assert torch.equal(y_hat, symbols.y_hat)


def test_symbols_far_outside_the_tables_survive(tiny_codec):
    """Escape coding: a latent with absurd values still comes back exactly."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1, 8, 5, 6, generator=generator) * 300
    z = torch.randn(1, 4, 2, 2, generator=generator) * 200
    symbols = tiny_codec.coder.quantise(y, z, 7)
    payload = b"".join(tiny_codec.coder.encode(symbols))
    assert torch.equal(tiny_codec.coder.decode(payload, 7, 5, 6, ()), symbols.y_hat)


def test_sections_are_a_prefix_code(tiny_codec, photo):
    """Hyper + structure bytes alone decode the structure group exactly, whatever follows."""
    symbols = latent_of(tiny_codec, photo)
    hyper, structure, _ = tiny_codec.coder.encode(symbols)
    height, width = symbols.y_hat.shape[-2:]
    partial = tiny_codec.coder.decode(hyper + structure, 128, height, width, ("tone",))
    split = tiny_codec.entropy.structure_channels
    assert torch.equal(partial[:, :split], symbols.y_hat[:, :split])
    assert not torch.equal(partial[:, split:], symbols.y_hat[:, split:])
    nothing = tiny_codec.coder.decode(hyper, 128, height, width, ("structure", "tone"))
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
    for index in (10, 30, 50, 63):
        scale = float(scale_of_index(torch.tensor(float(index))))
        symbols = torch.arange(-3, 4)
        bits = tables.bits(symbols, torch.full_like(symbols, index + z)).numpy()
        s = symbols.numpy()
        p = norm.cdf((s + 0.5) / scale) - norm.cdf((s - 0.5) / scale)
        probable = p > 1e-3  # 16-bit frequencies cannot say more
        assert np.allclose(bits[probable], -np.log2(p[probable]), atol=0.03)


def test_every_table_is_a_distribution(tiny_codec):
    tables = tiny_codec.coder.tables
    assert len(tables.cdf_lists) == tiny_codec.entropy.hyper_channels + SCALE_LEVELS
    for cdf in tables.cdf_lists:
        assert cdf[0] == 0
        assert cdf[-1] == 2**16
        assert all(b > a for a, b in itertools.pairwise(cdf)), "a symbol cannot be coded"


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
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(40, 16, 5, padding=2)
    tensors = IntegerConv.quantise(conv)
    integer = IntegerConv(tensors["weight"], tensors["bias"], int(tensors["shift"]))
    x = torch.randint(-32767, 32768, (1, 40, 12, 14)).double()
    order = torch.randperm(40)
    permuted = IntegerConv(tensors["weight"][:, order], tensors["bias"], int(tensors["shift"]))
    assert torch.equal(integer(x), permuted(x[:, order]))
    # Against Python's unbounded integers, at one place.
    patch = x[0, :, 2:7, 3:8].long().flatten().tolist()
    weights = tensors["weight"][5].long().flatten().tolist()
    exact = sum(a * b for a, b in zip(patch, weights, strict=True)) + int(tensors["bias"][5])
    shift = int(tensors["shift"])
    expected = max(-32767, min(32767, (exact + (1 << (shift - 1))) >> shift))
    assert int(integer(x)[0, 5, 4, 5]) == expected


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_bands_of_rows_give_the_whole(monkeypatch, kernel, rows):
    """Large pictures are convolved in bands, to bound the memory; small ones in the tests would not notice."""
    torch.manual_seed(kernel)
    tensors = IntegerConv.quantise(torch.nn.Conv2d(7, 6, kernel, padding=kernel // 2))
    integer = IntegerConv(tensors["weight"], tensors["bias"], int(tensors["shift"]))
    x = torch.randint(-32767, 32768, (1, 7, 11, 9)).double()
    raw = torch.nn.functional.conv2d(x, integer.weight, integer.bias, padding=kernel // 2)
    shift = 2.0**integer.shift
    whole = torch.floor((raw + shift / 2) / shift).clamp(-32767, 32767)
    width = 9 + kernel - 1
    monkeypatch.setattr("sketchfusion_lite.integer._BAND_BYTES", 8 * 7 * kernel**2 * width * rows)
    assert torch.equal(integer(x), whole)


def test_points_equal_a_one_by_one_convolution():
    torch.manual_seed(1)
    tensors = IntegerConv.quantise(torch.nn.Conv2d(24, 12, 1))
    integer = IntegerConv(tensors["weight"], tensors["bias"], int(tensors["shift"]))
    x = torch.randint(-5000, 5000, (1, 24, 6, 7)).double()
    assert torch.equal(integer.points(x[0].flatten(1)), integer(x)[0].flatten(1))


_DECODE = """
import hashlib, sys, torch
torch.set_num_threads(int(sys.argv[3]))
if sys.argv[4] == "native":
    torch.backends.mkldnn.enabled = False
from pathlib import Path
from sketchfusion_lite import bitstream, load_codec
codec = load_codec(sys.argv[1], device="cpu", dtype=getattr(torch, sys.argv[5]))
stream = bitstream.parse(Path(sys.argv[2]).read_bytes())
h = stream.header
y = codec.coder.decode(stream.payload, h.quality_index, -(-h.height // 16), -(-h.width // 16), ())
print(hashlib.sha256(y.numpy().tobytes()).hexdigest())
"""


def test_symbols_are_bit_exact_across_processes_threads_and_dtypes(tiny_weights, photo, tmp_path):
    """The same stream, decoded in other processes: 1 and 2 threads, with and without oneDNN, bf16."""
    codec = load_codec(tiny_weights, device="cpu", dtype="float32")
    path = tmp_path / "photo.skf"
    path.write_bytes(codec.encode(photo, quality=3.0).data)
    hashes = set()
    for threads, backend, dtype in (
        ("1", "onednn", "float32"),
        ("2", "native", "float32"),
        ("2", "onednn", "bfloat16"),
    ):
        arguments = [str(tiny_weights), str(path), threads, backend, dtype]
        result = subprocess.run(
            [sys.executable, "-c", _DECODE, *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
        hashes.add(result.stdout.strip())
    assert len(hashes) == 1


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
