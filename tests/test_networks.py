"""The learned parts one by one: shapes, invariants, and what each is for."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from sketchfusion_lite.cues import (
    BoundaryDetector,
    difference_of_gaussians,
    sobel,
)
from sketchfusion_lite.entropy import (
    LIKELIHOOD_MIN,
    SCALE_MAX,
    SCALE_MIN,
    scale_of_index,
    symbol_likelihood,
)
from sketchfusion_lite.evaluation.edges import thin
from sketchfusion_lite.images import load_image
from sketchfusion_lite.model import ModelConfig, SketchFusionModel
from sketchfusion_lite.samples import load_photo
from sketchfusion_lite.sketch import GainUnit, GatedFusion, SketchFusionNet, interpolate_levels
from sketchfusion_workbook.lessons.boundaries import boundary_curve, dilate


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 8), (33, 31)])
def test_boundary_detector_takes_any_size(size):
    assert BoundaryDetector()(torch.rand(1, 3, *size)).shape == (1, 1, *size)


def test_naive_cues_answer_edges_and_nothing_else():
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16:] = 1.0
    for cue in (sobel, difference_of_gaussians):
        response = cue(image)
        assert response.shape == (1, 1, 32, 32)
        assert response[..., 14:18].max() > 0.5
        assert response[..., :8].max() < 1e-4
        assert cue(torch.full((1, 3, 9, 9), 0.7)).max() < 1e-4


def test_gated_fusion_mixes_and_can_be_forced():
    torch.manual_seed(0)
    structural, perceptual = torch.randn(2, 1, 8, 5, 5)
    fused, gate = GatedFusion(8)(structural, perceptual)
    assert 0 < gate.min() < gate.max() < 1
    assert torch.allclose(fused, gate * structural + (1 - gate) * perceptual)
    assert torch.equal(GatedFusion(8, "structural")(structural, perceptual)[0], structural)
    assert torch.equal(GatedFusion(8, "perceptual")(structural, perceptual)[0], perceptual)
    with pytest.raises(ValueError, match="fused"):
        GatedFusion(8, "both")


@pytest.mark.parametrize(
    ("cues", "sees_image", "sees_lines"),
    [("structural", 0, 1), ("perceptual", 1, 0), ("none", 1, 0), ("fused", 1, 1)],
)
def test_a_cue_that_is_off_has_no_influence(cues, sees_image, sees_lines):
    torch.manual_seed(0)
    net = SketchFusionNet(6, (8, 8, 8), (1, 1, 1), cues)
    image, lines = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    before = net(image, lines)
    assert torch.equal(net(1 - image, lines), before) != sees_image
    assert torch.equal(net(image, 1 - lines), before) != sees_lines


def test_gain_interpolates_geometrically_and_starts_inverse():
    unit = GainUnit(4, 3, low=0.5, high=4.0)
    quality = torch.tensor([0.0, 1.5, 3.0, 9.0])
    gain, inverse = unit(quality)
    assert gain.shape == (4, 3, 1, 1)
    assert torch.allclose(gain * inverse, torch.ones_like(gain))
    assert torch.allclose(gain[:, 0, 0, 0], torch.tensor([0.5, 0.5 * 8**0.5, 4.0, 4.0]))


def test_interpolation_hits_the_levels_and_is_linear_between():
    table = torch.tensor([[0.0], [1.0], [5.0]])
    values = interpolate_levels(table, torch.tensor([0.0, 0.25, 1.0, 1.5, 2.0]))
    assert values.flatten().tolist() == [0.0, 0.25, 1.0, 3.0, 5.0]
    assert interpolate_levels(table[:1], torch.tensor([0.7])).item() == 0.0


def test_likelihoods_are_a_distribution():
    scales = scale_of_index(torch.tensor([0.0, 20.0, 63.0]))
    assert scales[0] == pytest.approx(SCALE_MIN)
    assert scales[-1] == pytest.approx(SCALE_MAX, rel=1e-4)
    symbols = torch.arange(-200.0, 201.0)
    for scale in scales:
        p = symbol_likelihood(symbols, scale)
        assert p.min() >= LIKELIHOOD_MIN
        assert p[p > LIKELIHOOD_MIN].sum() == pytest.approx(1.0, abs=2e-3)
        assert torch.allclose(p, p.flip(0))


def test_structure_is_coded_without_the_tone():
    """The tone group may use the structure group, never the other way round: streams are cut there."""
    torch.manual_seed(0)
    model = SketchFusionModel(ModelConfig(encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)))
    y = torch.randn(1, 48, 8, 8) * 3
    other = y.clone()
    other[:, 16:] += 0.3 * torch.randn(1, 32, 8, 8)
    quality = torch.tensor([2.0])
    with torch.no_grad():
        z = model.entropy.analysis(y)
        model.entropy.analysis.forward = lambda _: z  # the hyper latent may see everything
        a, b = model.entropy(y, quality), model.entropy(other, quality)
    assert torch.equal(a.bits_sections[:, :2], b.bits_sections[:, :2])
    assert torch.equal(a.y_hat[:, :16], b.y_hat[:, :16])
    assert not torch.equal(a.bits_sections[:, 2], b.bits_sections[:, 2])


def test_context_pays():
    """Trained weights spend fewer bits on a symbol that its neighbours predict: fewer than without context."""
    from sketchfusion_lite import load_codec

    codec = load_codec(device="cpu", dtype="float32")
    image = load_image(load_photo("coffee").image)
    symbols = codec.quantise(codec.latent(image), 128)
    tables = codec.coder.tables
    for section in (1, 2):
        values = symbols.symbols[section]
        _, counts = values.unique(return_counts=True)
        p = counts / counts.sum()
        entropy = -(p * p.log2()).sum() * len(values)  # the best any fixed table could do
        assert symbols.bits[section] < 0.97 * entropy
        assert symbols.bits[section] == pytest.approx(
            float(tables.bits(values, symbols.rows[section]).sum())
        )


def test_dropped_tone_changes_the_preview_only():
    torch.manual_seed(0)
    model = SketchFusionModel(ModelConfig(encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)))
    with torch.no_grad():
        model.encoder.to_latent.weight.mul_(20)
    image, lines = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    quality = torch.tensor([3.0])
    with torch.no_grad():
        whole = model(image, lines, quality, torch.tensor([False]))
        cut = model(image, lines, quality, torch.tensor([True]))
    assert torch.equal(whole.sketch_logits, cut.sketch_logits)
    assert not torch.equal(whole.preview, cut.preview)
    assert torch.equal(whole.bits_sections, cut.bits_sections)


def test_f_measure_of_perfect_shifted_and_empty_predictions():
    truth = torch.zeros(1, 1, 40, 60)
    truth[..., 20, 10:50] = 1.0
    for guess, low, high in (
        (truth, 0.999, 1.0),
        (truth.roll(2, 2), 0.999, 1.0),
        (truth.roll(9, 2), 0.0, 0.05),
        (torch.zeros_like(truth), 0.0, 0.0),
    ):
        assert low <= boundary_curve([(guess, truth)]).best.f_measure <= high


def test_thinning_keeps_the_ridge():
    rows = torch.arange(30.0).view(1, 1, 30, 1).expand(1, 1, 30, 30)
    bump = torch.exp(-((rows - 15) ** 2) / 8)
    ridge = thin(bump) > 1e-3
    assert ridge[0, 0, 15, 5:25].all()
    assert not ridge[0, 0, :13].any()
    assert not ridge[0, 0, 18:].any()
    assert dilate(ridge, 2)[0, 0, 13, 10] == 1


def test_loading_a_codec_does_not_import_all_of_compressai(tiny_weights):
    """It takes seconds and decoding needs only its coder; a later import must still find the same one."""
    code = (
        "import sys; from sketchfusion_lite import load_codec; load_codec(sys.argv[1]);"
        "assert 'torch_geometric' not in sys.modules; assert 'compressai' not in sys.modules;"
        "from sketchfusion_lite.rans import RansDecoder as ours; from compressai.ans import RansDecoder;"
        "assert ours is RansDecoder; import compressai.entropy_models"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_weights)], check=True)
