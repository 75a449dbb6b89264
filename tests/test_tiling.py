"""A picture in pieces is the picture as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sketchfusion_lite.cues import DETECTOR_MARGIN
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.model import SketchFusionModel
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.tiling import cores, run_tiled


def blur(radius: int, stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 2, 2 * radius + 1, padding=radius, stride=stride).requires_grad_(False)


@pytest.mark.parametrize("length,tile", [(1, 1), (5, 2), (64, 64), (65, 64), (188, 64)])
def test_cores_cover_everything_once(length, tile):
    pieces = list(cores(length, tile))
    assert [i for a, b in pieces for i in range(a, b)] == list(range(length))
    assert all(0 < b - a <= tile for a, b in pieces)


@pytest.mark.parametrize("shape", [(96, 160), (16, 400), (272, 48)])
@pytest.mark.parametrize("tile", [16, 48, 96])
def test_equals_whole_when_the_margin_covers_the_field(shape: tuple[int, int], tile):
    torch.manual_seed(1)
    image, network = torch.rand(1, 3, *shape), blur(radius=13)
    tiled = run_tiled(network, [(image, 1)], 1, margin=16, tile=tile)
    assert torch.allclose(tiled, network(image), atol=1e-5)
    if min(shape) > tile:  # the comparison can fail
        tiled = run_tiled(network, [(image, 1)], 1, margin=0, tile=tile)
        assert not torch.allclose(tiled, network(image), atol=1e-2)


def test_sides_need_not_be_multiples():
    torch.manual_seed(1)
    image = torch.rand(1, 3, 101, 159)
    fine, coarse = blur(radius=13), blur(radius=8, stride=4)
    for network, stride in ((fine, 1), (coarse, 4)):
        tiled = run_tiled(network, [(image, 1)], stride, margin=16, tile=48)
        whole = network(image)
        assert tiled.shape == whole.shape and torch.allclose(tiled, whole, atol=1e-5)


def test_inputs_and_output_of_different_strides():
    torch.manual_seed(2)
    image, latent = torch.rand(1, 3, 128, 176), torch.rand(1, 5, 8, 11)
    network = blur(radius=8, stride=4)

    def both(pixels: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        total = y.sum(dim=1, keepdim=True)
        return network(pixels) + total.repeat_interleave(4, 2).repeat_interleave(4, 3)

    tiled = run_tiled(both, [(image, 1), (latent, 16)], 4, margin=16, tile=48)
    assert tiled.shape == (1, 2, 32, 44)
    assert torch.allclose(tiled, both(image, latent), atol=1e-5)


def test_pieces_stay_small():
    image, sizes = torch.rand(1, 3, 320, 640), []
    tiled = run_tiled(lambda x: sizes.append(max(x.shape[-2:])) or x, [(image, 1)], 1, 32, 64)
    assert torch.equal(tiled, image) and max(sizes) <= 64 + 2 * 32 and len(sizes) == 50


@pytest.mark.parametrize("tile,margin", [(0, 16), (100, 16), (64, 10), (-16, 16), (64, -16)])
def test_odd_tiles_are_refused(tile, margin):
    with pytest.raises(ArgumentError, match="multiple of 16"):
        run_tiled(lambda x: x, [(torch.rand(1, 1, 64, 64), 1)], 1, margin, tile)


def reach(gradient, low, high) -> int:
    """How far beyond [low, high) an output block looks."""
    touched = gradient.abs().sum(dim=1)[0].nonzero()
    return max(low - int(touched.min()), int(touched.max()) + 1 - high)


@pytest.fixture(scope="module")
def model() -> SketchFusionModel:
    torch.manual_seed(0)
    return SketchFusionModel()


def test_margins_cover_the_receptive_fields(model):
    side, low = 640, 320
    image = torch.rand(1, 3, side, side, requires_grad=True)
    model.boundary_detector(image)[..., low : low + 16, low : low + 16].sum().backward()
    assert reach(image.grad, low, low + 16) <= DETECTOR_MARGIN

    image = torch.rand(1, 3, side, side, requires_grad=True)
    model.encoder(image, image[:, :1])[..., low // 16, low // 16].sum().backward()
    margin = model.encoder.margin
    assert margin - 16 < reach(image.grad, low, low + 16) <= margin, "it follows the depths"

    channels = model.config.latent_channels
    y_hat = torch.randn(1, channels, side // 16, side // 16, requires_grad=True)
    preview = model.preview(y_hat, torch.ones(1))
    preview[..., low : low + 16, low : low + 16].sum().backward()
    assert 16 * reach(y_hat.grad, low // 16, low // 16 + 1) <= model.preview.margin


@pytest.mark.parametrize("down", [(1, 2), (2, 1)])
def test_the_refiner_knows_its_own_margin(down: tuple[int, int]):
    torch.manual_seed(0)
    unet = RefinerUNet(RefinerConfig(4, 6, (8, 8, 8), (1, 2, 3), down))
    torch.nn.init.normal_(unet.realistic.to_pixels.weight)  # zero at first
    sample = torch.rand(1, 3, 480, 480, requires_grad=True)
    y_hat = torch.rand(1, 4, 30, 30, requires_grad=True)
    out = unet(sample, torch.ones(1), torch.rand(1, 3, 480, 480), y_hat, torch.ones(1))
    out[..., 240:256, 240:256].sum().backward()
    assert 0 < reach(sample.grad, 240, 256) <= unet.margin
    assert 16 * reach(y_hat.grad, 15, 16) <= unet.margin
