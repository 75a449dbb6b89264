"""The activation of the blocks: given to them, stored with the weights, and ReLU for weights that do not say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sketchfusion_lite.blocks import ACTIVATIONS, BottleneckBlock, blocks
from sketchfusion_lite.codec import export_weights, load_codec
from sketchfusion_lite.errors import WeightsError
from sketchfusion_lite.model import ModelConfig, SketchFusionModel
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.training.muon import build_optimizers
from tests.conftest import TINY, build_tiny_model


def activations(network: nn.Module) -> set[type]:
    return {type(m.act) for m in network.modules() if isinstance(m, BottleneckBlock)}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_block_has_the_activation_that_was_asked_for(name: str):
    torch.manual_seed(0)
    kind = ACTIVATIONS[name]
    assert activations(SketchFusionModel(replace(TINY, activation=name))) == {kind}
    assert activations(RefinerUNet(RefinerConfig(widths=(8, 8, 8), activation=name))) == {kind}
    block, x = BottleneckBlock(8, name), torch.randn(2, 8, 6, 6)
    act = {"relu": torch.relu, "silu": nn.functional.silu}[name]
    with torch.no_grad():
        expected = x + block.expand(act(block.spatial(act(block.reduce(x)))))
        assert torch.allclose(block(x.clone()), expected, atol=1e-6)
    with pytest.raises(ValueError, match="activation must be one of"):
        blocks(8, 1, "tanh")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_activation_is_stored_with_the_weights(name: str, tmp_path: Path):
    torch.manual_seed(0)
    model = SketchFusionModel(replace(TINY, activation=name)).eval()
    path = tmp_path / "model.safetensors"
    export_weights(model, path, {"recipe": "none"})
    loaded = load_codec(path, "cpu", "float32")
    assert activations(loaded.model) == {ACTIVATIONS[name]}
    y_hat, quality = torch.randn(1, TINY.latent_channels, 4, 6), torch.tensor([2.0])
    with torch.no_grad():
        ours, theirs = (m.preview(y_hat, quality) for m in (model.half().float(), loaded.model))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_weights_of_older_releases_have_relus():
    """0.1 to 0.6 did not say; 0.6 had a slope below zero, which no release was trained with."""
    old = {k: v for k, v in TINY.to_dict().items() if k != "activation"}
    assert ModelConfig.from_dict(old) == replace(TINY, activation="relu")
    assert ModelConfig.from_dict(old | {"negative_slope": 0.0}).activation == "relu"
    with pytest.raises(WeightsError, match=r"0\.6\.0"):
        ModelConfig.from_dict(old | {"negative_slope": 0.125})
    with pytest.raises(WeightsError, match="wavelets"):
        ModelConfig.from_dict(old | {"wavelets": 3})


@pytest.mark.parametrize(("gain_lr", "groups"), [(0.0, 2), (0.5, 3)])
def test_gain_vectors_may_have_a_rate_of_their_own(gain_lr: float, groups: int):
    model = build_tiny_model()
    optimizers = build_optimizers([("model", model)], 0.1, 0.2, (), ("model.gain",), gain_lr)
    assert len(optimizers) == groups
    sizes = [len(o.param_groups[0]["params"]) for o in optimizers]
    assert sum(sizes) == sum(p.requires_grad for p in model.parameters())
    (own,) = [
        o for o in optimizers if any(p is model.gain.log_gain for p in o.param_groups[0]["params"])
    ]
    assert own.param_groups[0]["lr"] == (gain_lr or 0.2)
    assert (len(own.param_groups[0]["params"]) == 2) == bool(gain_lr)
