"""Damaged copies of a photo, and a picture that pleases one metric alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.metrics import measure, psnr
from sketchfusion_lite.images import to_pil
from sketchfusion_workbook.lessons.distortions import distortions, please


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=int)


def test_each_damage_does_what_it_says(photo):
    original, damaged = array(to_pil(photo)), distortions(photo)
    assert all(image.size == (144, 96) and image.mode == "RGB" for image in damaged.values())
    assert (array(damaged["shift"])[1:, 1:] == original[:-1, :-1]).all()
    cast = array(damaged["colour cast"]) - original
    assert (
        np.median(cast[..., 0]) == 20
        and (cast[..., 1] == 0).all()
        and np.median(cast[..., 2]) == -20
    )
    assert np.std(array(damaged["noise"]) - original) == pytest.approx(14, rel=0.15)
    gradient = [np.abs(np.diff(a, axis=1)).mean() for a in (array(damaged["blur"]), original)]
    assert gradient[0] < gradient[1]
    assert all(psnr(photo, image) < 45 for image in damaged.values())


def test_noise_repeats(photo):
    first, second, other = (distortions(photo, seed)["noise"].tobytes() for seed in (3, 3, 4))
    assert first == second != other


def test_pleasing_lowers_one_number_within_reach(photo):
    bad = distortions(photo)["blur"]
    pleasing = please(photo, bad, steps=4, reach=5)
    assert np.abs(array(pleasing) - array(bad)).max() <= 5
    before, after = (measure(photo, image, "lpips_alex").lpips_alex for image in (bad, pleasing))
    assert after < 0.9 * before


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"reach": 0}, {"reach": 300}, {"net": "squeeze"}])
def test_pleasing_refuses(photo, wrong: dict):
    with pytest.raises(ArgumentError):
        please(photo, photo, **wrong)


def test_pleasing_refuses_another_size(photo):
    with pytest.raises(ArgumentError, match="differ"):
        please(photo, photo[..., :64])
