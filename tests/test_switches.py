"""The switches of an ablation: cues, entropy model, gain vectors. Each variant is a whole codec with real files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sketchfusion_lite import bitstream, load_codec
from sketchfusion_lite.codec import SketchFusionCodec, export_weights
from sketchfusion_lite.entropy import EntropyModel
from sketchfusion_lite.model import ModelConfig, SketchFusionModel

from .conftest import TINY

VARIANTS = {
    "none": {"cues": "none"},
    "hyperprior": {"context": "hyperprior"},
    "factorised": {"context": "factorised"},
    "lines-only factorised": {"context": "factorised", "tone_channels": 0},
    "one step": {"gain_vectors": False},
}


def build(**switches) -> SketchFusionModel:
    torch.manual_seed(0)
    model = SketchFusionModel(replace(TINY, **switches))
    with torch.no_grad():
        model.encoder.to_latent.weight.mul_(8.0)
        if switches.get("gain_vectors") is False:
            model.gain.log_gain.add_(0.3)
    return model


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request, tmp_path_factory) -> tuple[SketchFusionModel, SketchFusionCodec]:
    model = build(**request.param)
    path = tmp_path_factory.mktemp("variant") / "codec.safetensors"
    export_weights(model, path, {})
    return model, load_codec(path, device="cpu", dtype="float32")


def test_a_variant_codes_what_it_quantised(variant):
    _, codec = variant
    photo = torch.rand(1, 3, 72, 104, generator=torch.Generator().manual_seed(1))
    encoded = codec.encode(photo, quality=3.0)
    y_hat, quality = codec.dequantise(bitstream.parse(encoded.data))
    symbols = codec.quantise(codec.latent(photo), bitstream.quality_to_index(3.0))
    _, inverse_gain = codec.model.gain(quality)
    assert symbols.y_hat.abs().sum() > 0
    assert torch.equal(y_hat, symbols.y_hat.float() / 8 * inverse_gain)
    assert abs(len(encoded.data) * 8 - sum(symbols.bits)) < 8 * 40  # header, words, coder's state
    assert codec.decode(encoded.data, "preview").image.size == (104, 72)


def test_integers_agree_with_the_trained_networks(variant):
    model, codec = variant
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    y = codec.latent(photo) * codec.model.gain(torch.tensor([2.0]))[0]
    with torch.no_grad():
        floats = model.entropy(y, torch.tensor([2.0]))
    index = bitstream.quality_to_index(2.0)
    coded = codec.coder.quantise(y, codec.model.entropy.hyper_latent(y), index)
    for ours, theirs in zip(coded.bits, floats.bits_sections[0].tolist(), strict=True):
        assert ours == pytest.approx(theirs, rel=0.05, abs=8)


def test_a_variant_learns_everywhere(variant):
    model, _ = variant
    images, lines = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    out = model.train()(images, lines, torch.tensor([0.5, 4.0]))
    (out.bits_sections.sum() / 1e3 + (out.preview - images).square().sum()).backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None
        and not name.startswith(("boundary_detector", "renderer", "entropy.prior.quantiles"))
    ]
    assert silent == []


def test_without_context_a_symbol_is_priced_by_itself():
    torch.manual_seed(0)
    y = torch.randn(1, 8, 8, 8) * 3
    other = y.clone()
    other[:, :, 3, 3] += 5
    quality = torch.tensor([2.0])
    priced = {}
    # A hyper latent may carry the change, or round it off.
    for context in ("checkerboard", "factorised"):
        torch.manual_seed(0)
        model = EntropyModel(4, 4, 4, context=context)
        with torch.no_grad():
            here, there = (model(x, quality).y_hat - x for x in (y, other))
        elsewhere = torch.ones(8, 8, dtype=torch.bool)
        elsewhere[3, 3] = False
        priced[context] = torch.equal(here[..., elsewhere], there[..., elsewhere])
    assert priced == {"checkerboard": False, "factorised": True}


def test_a_factorised_model_knows_neither_place_nor_photo():
    model = EntropyModel(4, 4, 4, context="factorised")
    psi = model.synthesis(model.hyper_latent(torch.rand(1, 8, 12, 20)), torch.tensor([1.0]))
    assert torch.equal(psi, psi[:, :, :1, :1].expand_as(psi))
    assert model.hyper_latent(torch.rand(1, 8, 9, 9)).shape == (1, 0, 3, 3)
    with torch.no_grad():
        assert model(torch.randn(1, 8, 8, 8), torch.tensor([1.0])).bits_sections[0, 0] == 0


def test_without_gain_vectors_all_channels_share_a_step():
    unit = SketchFusionModel(replace(TINY, gain_vectors=False)).gain
    gain, inverse = unit(torch.tensor([0.0, 5.0]))
    assert gain.shape == inverse.shape == (2, 1, 1, 1)
    assert gain[0] < gain[1]


@pytest.mark.parametrize(("field", "known"), [("context", "checkerboard"), ("cues", "none")])
def test_unknown_switches_are_refused(field, known):
    with pytest.raises(ValueError, match=known):
        SketchFusionModel(replace(TINY, **{field: "other"}))


def test_a_configuration_of_an_older_release_means_what_it_meant():
    old = ModelConfig().to_dict()
    for later in ("context", "gain_vectors"):
        del old[later]
    assert ModelConfig.from_dict(old) == ModelConfig()  # for the activation see test_activations
