"""Drawings say the sizes of the codec at hand and read without sight; a stand-in refiner fits any codec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.codec import load_codec
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.model import ModelConfig
from sketchfusion_lite.refiner import RefinerConfig
from sketchfusion_workbook.lessons.refiners import refiner_for
from sketchfusion_workbook.viz import drawings, show
from sketchfusion_workbook.viz.svg import Drawing

CODEC = ModelConfig(17, 33, 19, encoder_widths=(50, 160, 256))
REFINER = RefinerConfig(latent_channels=50, widths=(81, 193, 353), noise=0.3)
SVG = "{http://www.w3.org/2000/svg}"


def words(drawing: Drawing) -> list[str]:
    return [text.text for text in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("drawing", "told"),
    [
        (drawings.gate(CODEC), ["50×H/4×W/4", "1×1: 100 → 50"]),
        (drawings.gate(replace(CODEC, cues="structural")), ["held at 1"]),
        (drawings.passes(CODEC), ["19×H/64×W/64", "17 channels", "33 channels", "its anchors"]),
        (drawings.unet(REFINER), ["81×H/4×W/4", "353×H/16×W/16", "50×H/16×W/16", "5 blocks"]),
        (drawings.sampler(REFINER, 4), ["+ 0.3 · noise", "t − 1/4: nearer", "0.75"]),
        (drawings.sampler(REFINER, 1), ["t = 0: the guess"]),
        (drawings.pipeline("latent"), [*drawings.PARTS, "you are here"]),
    ],
)
def test_a_drawing_tells_the_sizes_of_what_it_draws(drawing: Drawing, told: list[str]):
    assert set(told) <= set(words(drawing))
    data, about = drawing._repr_mimebundle_()
    assert about["image/svg+xml"]["alt"] == data["text/plain"] and len(data["text/plain"]) > 100


def test_passes_leave_out_what_a_model_lacks():
    lines = words(drawings.passes(replace(CODEC, tone_channels=0, context="hyperprior")))
    assert not [line for line in lines if "tone" in line or "its anchors" in line]
    assert "No hyper latent" in words(drawings.passes(replace(CODEC, context="factorised")))


def test_the_pipeline_marks_where_we_are(tiny_weights: Path, capsys):
    drawing = drawings.pipeline("cues file", str(tiny_weights))
    assert words(drawing).count("you are here") == 2 and "You are here: cues, file." in drawing.alt
    latent = load_codec(tiny_weights).model.config.latent_channels
    assert f"{latent}×H/16×W/16" in words(drawing)
    show(drawing)
    assert "Drawing" in capsys.readouterr().out
    with pytest.raises(ArgumentError, match="photo, cues"):
        drawings.pipeline("cues nowhere")


def test_weights_without_a_refiner_get_one_that_returns_the_preview(tiny_weights: Path, capsys):
    assert refiner_for("", "") is None and refiner_for("any", "folder") == "folder"
    refiner = refiner_for(str(tiny_weights), "")
    assert "Markdown" in capsys.readouterr().out, "nothing is said of it"
    codec = load_codec(tiny_weights, "cpu", "float32", refiner)
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    data = codec.encode(Image.fromarray(noise), quality=2.0).data
    for steps, realism in ((1, 1.0), (2, 0.3)):
        decoded = codec.decode(data, steps=steps, realism=realism)
        apart = np.abs(np.subtract(decoded.refined, decoded.preview, dtype=int))
        assert decoded.stage == "refined" and apart.max() <= 1
