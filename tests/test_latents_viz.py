"""Figures of the encoder's inside."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
pytest.importorskip("IPython")

from sketchfusion_workbook.viz import figures, latents


@pytest.mark.parametrize("count", [1, 5, 12])
def test_planes_share_one_symmetric_scale(count: int):
    latent = np.random.default_rng(0).normal(size=(count, 6, 9))
    figure = latents.planes(latent, [f"c{i}" for i in range(count)], "a finding", columns=5)
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert len(limits) == 1 and sum(*limits) == pytest.approx(0)
    assert f"{count} planes of 9 x 6" in figure.get_label()
    assert figures.render(figure, "png").data


def test_planes_of_zeros_draw():
    assert latents.planes(np.zeros((3, 4, 4)), ["a", "b", "c"], "nothing").get_suptitle()


def test_maps_say_their_ranges():
    photo = Image.new("RGB", (90, 60))
    layers = {"gate": np.linspace(0.25, 0.75, 24).reshape(4, 6), "flat": np.ones((4, 6))}
    figure = latents.maps(photo, layers, "a finding")
    assert "gate, 0.25 to 0.75; flat, 1.00 to 1.00" in figure.get_label()
    assert figures.render(figure).data


def test_integers_have_integer_ticks():
    symbols = np.random.default_rng(0).integers(-1, 2, size=(2, 6, 9))
    bar = latents.planes(symbols, ["a", "b"], "a finding").axes[-1]
    assert set(bar.get_yticks()) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
