"""What notebook 01 stands on: scenes with known boundaries, the equal-bytes gallery, lesions, pictures of features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sketchfusion_lite.cues import sobel
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.images import to_pil
from sketchfusion_workbook.lessons.boundaries import THRESHOLDS, boundary_curve
from sketchfusion_workbook.lessons.cues import blinded

# --------------------------------------------------------------------------------------------------
# Scenes; scikit-image brings the textures


@pytest.fixture(scope="module")
def scenes():
    pytest.importorskip("skimage")
    from sketchfusion_workbook.lessons import cues

    return cues


@pytest.mark.parametrize(("height", "width"), [(160, 240), (33, 300), (600, 32)])
def test_scenes_have_boundaries_where_regions_meet(scenes, height: int, width: int):
    scene = scenes.textured_scene(3, height, width)
    assert scene.image.shape == (1, 3, height, width)
    assert scene.boundaries.shape == (1, 1, height, width)
    assert scene.image.min() >= 0 and scene.image.max() <= 1
    regions, edges = scene.regions, scene.boundaries[0, 0] > 0
    right = regions[:, :-1] != regions[:, 1:]
    below = regions[:-1] != regions[1:]
    assert edges[:, :-1][right].all() and edges[:-1][below].all()
    assert edges.sum() <= right.sum() + below.sum()
    assert 0 < edges.float().mean() < 0.2


def test_scenes_repeat_differ_by_seed_and_half_and_fool_a_fixed_filter(scenes):
    def score(contrast: float) -> float:
        drawn = [scenes.textured_scene(seed, contrast=contrast) for seed in range(3)]
        return boundary_curve((sobel(s.image), s.boundaries) for s in drawn).best.f_measure

    assert score(0.0) > 0.8 and score(0.8) < 0.5, "texture is what fools it"
    first, again, other = (scenes.textured_scene(seed) for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image) and not torch.equal(first.image, other.image)
    other_half = scenes.textured_scene(1, half="train")
    assert torch.equal(first.boundaries, other_half.boundaries)
    assert not torch.equal(first.image, other_half.image)
    for wrong in ({"half": "all"}, {"regions": 1}, {"height": 8}, {"contrast": 1.5}):
        with pytest.raises(ArgumentError, match="give 'train' or 'test'"):
            scenes.textured_scene(0, **wrong)


# --------------------------------------------------------------------------------------------------
# Curves


def test_the_curve_holds_the_best_score_and_all_others():
    truth = torch.zeros(1, 1, 40, 60)
    truth[..., 20, 10:50] = 1.0
    guess = 0.6 * truth + 0.3 * truth.roll(12, 2)  # a weaker line where there is none
    curve = boundary_curve([(guess, truth)])
    assert torch.equal(curve.thresholds, THRESHOLDS)
    assert curve.best.f_measure == pytest.approx(1.0) and 0.3 <= curve.best.threshold < 0.6
    assert float(curve.precision[0]) == pytest.approx(0.5)
    assert float(curve.recall[-1]) == 0
    assert (curve.recall.diff() <= 0).all(), "a higher threshold cannot find more"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x * 255, r"outside of \[0, 1\]"),
        (lambda x: x * torch.nan, r"outside of \[0, 1\]"),
        (lambda x: x.byte(), "uint8"),
        (lambda x: x[0], r"give \(1, 1, H, W\)"),
        (lambda x: x[..., :0], r"give \(1, 1, H, W\)"),
        (lambda x: x[..., :30], "sizes .* differ"),
        (lambda x: x[0, 0].numpy(), "ndarray"),
    ],
)
def test_maps_are_checked(spoil, words: str):
    truth = torch.zeros(1, 1, 40, 60)
    truth[..., 20, 10:50] = 1.0
    for pair in ((spoil(truth), truth), (truth, spoil(truth))):
        with pytest.raises(ArgumentError, match=words):
            boundary_curve([pair])
    for pairs in ([], [(truth, 0 * truth)]):  # nothing marked is no score of zero
        with pytest.raises(ArgumentError, match="marked nothing"):
            boundary_curve(pairs)


# --------------------------------------------------------------------------------------------------
# Lesions


@pytest.mark.parametrize(
    "covered", [(), ("structural",), ("perceptual",), ("structural", "perceptual")], ids=str
)
def test_a_lesion_covers_its_cues_only(tiny_codec, photo, covered: tuple[str, ...]):
    encoder = tiny_codec.model.encoder
    other, lines = torch.rand(1, 3, 32, 48), torch.rand(1, 1, 32, 48)
    with torch.inference_mode(), blinded(tiny_codec, *covered):
        y = tiny_codec.model.encoder(other, lines)
        same_picture = torch.equal(y, tiny_codec.model.encoder(1 - other, lines))
        same_lines = torch.equal(y, tiny_codec.model.encoder(other, 1 - lines))
    assert same_picture == ("perceptual" in covered)
    assert same_lines == ("structural" in covered)
    assert tiny_codec.model.encoder is encoder
    with pytest.raises(RuntimeError), blinded(tiny_codec, "structural"):
        raise RuntimeError
    assert tiny_codec.model.encoder is encoder, "a codec sees again after an error"
    with pytest.raises(ArgumentError, match="smell"), blinded(tiny_codec, "smell"):
        pass


# --------------------------------------------------------------------------------------------------
# Gallery


def test_the_gallery_keeps_to_its_budget(tiny_codec, photo):
    from sketchfusion_workbook.lessons.cues import equal_bytes

    picture = to_pil(photo)
    entries = equal_bytes(picture, "a grey box", 700, tiny_codec)
    assert [e.label.split(" at ")[0] for e in entries] == [
        "text", "JPEG", "AVIF", "bare lines", "fused sketch",
    ]  # fmt: skip
    assert all(0 < e.size <= 700 for e in entries)
    assert entries[0].image is None and entries[0].size == 10
    assert all(e.image.size == picture.size and e.image.mode == "RGB" for e in entries[1:])
    with pytest.raises(ArgumentError, match="Say less"):
        equal_bytes(picture, "word " * 200, 700, tiny_codec)
    with pytest.raises(ArgumentError, match="GIF"):
        equal_bytes(picture, "", 700, tiny_codec, peers=["GIF"])


# --------------------------------------------------------------------------------------------------
# Pictures


@pytest.fixture(scope="module")
def pictures():
    pytest.importorskip("matplotlib")
    pytest.importorskip("seaborn")
    pytest.importorskip("IPython")
    from sketchfusion_workbook.viz import cue_pictures

    return cue_pictures


@pytest.mark.parametrize("text", ["", "one", "a cup of coffee " * 3, "letters " * 300])
def test_text_stays_on_its_page(pictures, text: str):
    page = np.asarray(pictures.text_page(text, (300, 200)).convert("L"))
    assert page.shape == (200, 300)
    assert (page[:, -6:] == 255).all(), "beyond the margin"
    assert (page < 128).any() == bool(text)


def test_false_colours_tell_regions_apart(pictures):
    features = torch.zeros(1, 8, 6, 10)
    features[:, 2, :, 5:] = 1
    features[:, 5, :3] = 2
    picture = pictures.false_colour(features, (40, 24))
    assert picture.size == (40, 24) and picture.mode == "RGB"
    pixels = np.asarray(picture)
    corners = {tuple(pixels[y, x]) for y in (0, -1) for x in (0, -1)}
    assert len(corners) == 4
    assert pictures.false_colour(torch.ones(1, 3, 2, 2)).size == (2, 2), "nothing varies"
    edges = np.zeros((20, 30))
    edges[10, 3] = 0.2
    pixels = np.asarray(pictures.ink(edges))
    assert pixels.shape == (20, 30) and pixels[10, 3] == 0 and pixels[0, 0] == 255
    assert (np.asarray(pictures.ink(torch.zeros(1, 1, 4, 4))) == 255).all()


def test_precision_recall_draws_with_alt_text(pictures):
    from sketchfusion_workbook.viz import figures

    truth = torch.zeros(1, 1, 40, 60)
    truth[..., 20, 10:50] = 0.7
    guesses = {"good": truth, "blank": 0 * truth}
    curves = {name: boundary_curve([(guess, truth)]) for name, guess in guesses.items()}
    figure = pictures.precision_recall(curves, "finding")
    assert "good 1.00 at recall 1.00" in figure.get_label() and "blank 0.00" in figure.get_label()
    assert figures.render(figure, "png").data
