"""Lessons about the preview decoder: what a receiver knows, what a block is worth, the weave, and their charts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import nn

from sketchfusion_lite.blocks import blocks
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.images import to_pil
from sketchfusion_workbook.lessons.objectives import Received, draw_crops, receive
from sketchfusion_workbook.lessons.preview_decoding import influence, lattice_power, muted, weave
from sketchfusion_workbook.lessons.sketch_encoder import Stage, stages


@pytest.fixture(scope="module")
def school(tiny_codec: SketchFusionCodec) -> list[Received]:
    generator = torch.Generator().manual_seed(1)
    photos = [torch.rand(1, 3, *size, generator=generator) for size in ((70, 83), (96, 64))]
    return receive(tiny_codec, photos[:1], bpp=8.0) + receive(tiny_codec, photos[1:], quality=1.0)


def test_what_is_received_is_what_the_codec_decodes(tiny_codec, school):
    assert school[1].quality.tolist() == [1.0]
    for each in school:
        assert each.image.dtype == torch.uint8
        assert each.image.shape[-2:] == tuple(16 * side for side in each.y_hat.shape[-2:])
        height, width = each.size
        preview = tiny_codec.model.preview(each.y_hat, each.quality)[..., :height, :width]
        assert (
            to_pil(preview).tobytes() == tiny_codec.decode(each.data, "preview").preview.tobytes()
        )


def test_crops_are_aligned_and_repeat(school):
    a, b = (draw_crops(school, 32, 6, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    images, y_hat, quality = a
    assert images.shape == (6, 3, 32, 32) and y_hat.shape[-2:] == (2, 2) and quality.shape == (6,)
    for image, latent in zip(images, y_hat, strict=True):
        assert any(
            torch.equal(latent, each.y_hat[0, :, i : i + 2, j : j + 2])
            and torch.equal(image, each.image[0, :, 16 * i :, 16 * j :][:, :32, :32] / 255)
            for each in school
            for i in range(each.y_hat.shape[-2] - 1)
            for j in range(each.y_hat.shape[-1] - 1)
        )
    for crop in (0, 24, 4096):
        with pytest.raises(ArgumentError, match="multiple of 16"):
            draw_crops(school, crop, 1, torch.Generator())


def test_stages_account_for_cost():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), blocks(8, 2, "silu"))
    found = stages(network, torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)))
    block = 8 * 4 + 4 * 4 * 9 + 4 * 8  # weights
    assert found["0"] == Stage(36 * 3 * 8, 3 * 8 + 8)
    assert found["1"] == Stage(36 * 2 * block, 2 * (block + 4 + 4 + 8))


def test_a_muted_block_adds_its_bias_and_no_more():
    network = blocks(8, 2, "silu")
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    nn.init.constant_(network[1].expand.bias, 0.5)
    with torch.no_grad():
        assert torch.allclose(muted(network, ["1"])(x), network[0](x) + 0.5)
        assert not torch.allclose(muted(network, ["0"])(x), network(x))
    assert network[1].expand.weight.abs().sum() > 0, "the network itself is left alone"


def test_influence_stays_within_the_margin_of_the_decoder(tiny_codec):
    decoder = tiny_codec.model.preview
    reach = decoder.margin // 16
    side = 2 * reach + 4
    y_hat = torch.randn(1, decoder.stem.in_channels, side, side + 3)
    found = influence(decoder, y_hat, torch.tensor([1.0]))
    assert found.shape == (side - 1, side - 1) and found.min() >= 0
    middle = found.shape[0] // 2
    assert np.unravel_index(found.argmax(), found.shape) == pytest.approx((middle, middle), abs=1)
    touched = np.abs(np.argwhere(found > 0) - middle).max()
    assert 1 <= touched <= reach


def noise_picture(lattice: float = 0.0, period: int = 4) -> Image.Image:
    rng = np.random.default_rng(0)
    tile = np.array([[(i * j) % period == 1 for j in range(period)] for i in range(period)], float)
    luma = 128 + 20 * rng.standard_normal((160, 192))
    luma += lattice * (np.tile(tile, (160 // period, 192 // period)) - tile.mean())
    return Image.fromarray(luma.clip(0, 255).astype(np.uint8))


def test_weave_sees_a_lattice_and_lattice_power_does_not_care_for_its_surroundings():
    plain, faint, strong = (weave(noise_picture(level)) for level in (0, 10, 40))
    assert 0.6 < plain < 1.6 and plain < faint < strong and strong > 6
    assert weave(Image.new("RGB", (64, 64))) == pytest.approx(1)
    tiles, noise = noise_picture(10), np.asarray(noise_picture(), float) - 128
    softer = (np.asarray(tiles, float) - 0.8 * noise).round().clip(0, 255).astype(np.uint8)
    softer = Image.fromarray(softer)
    assert weave(softer) > 2 * weave(tiles) and lattice_power(softer) < 1.2 * lattice_power(tiles)
    assert lattice_power(noise_picture(40)) > 3 * lattice_power(tiles)
    assert lattice_power(Image.new("RGB", (64, 64))) < 1e-6
    for measure, window in ((weave, 62), (weave, 256), (weave, 32), (lattice_power, 62)):
        with pytest.raises(ArgumentError, match="window"):
            measure(tiles, window=window)


def test_the_charts_of_a_decoder_say_what_they_show():
    decoding = pytest.importorskip("sketchfusion_workbook.viz.decoding")
    influence = np.zeros((9, 9))
    influence[4, 4], influence[3:6, 3:6], influence[4, 7] = 5.0, influence[3:6, 3:6] + 1.0, 0.5
    figure = decoding.receptive_field(influence, "a finding")
    assert figure.get_suptitle() == "a finding"
    assert "90% of it lies within 16 pixels, all of it within 48" in figure.get_label()
    influence = np.zeros((41, 41))
    influence[20, 20] = 5.0
    for column, side in ((23, 13), (30, 21)):  # the middle of it, and no influence is cut off
        influence[20, column] = 1.0
        shown = decoding.receptive_field(influence, "a finding").axes[0].images[0].get_array()
        assert shown.shape == (side, side)
        assert np.unravel_index(shown.argmax(), shown.shape) == (side // 2, side // 2)
    values = {"a": np.random.default_rng(0).normal(size=500), "b": np.ones(9)}
    figure = decoding.densities(values, "value", "a finding")
    assert len(figure.axes) == 2 and "a: standard deviation" in figure.get_label()
    picture = noise_picture()
    assert decoding.fine_power(picture, picture) == pytest.approx(1)
    assert decoding.fine_power(picture.filter(ImageFilter.GaussianBlur(1.5)), picture) < 0.2
