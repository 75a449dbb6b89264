"""Which photos a training takes, and what it says of the others; what may never be saved of one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sketchfusion_lite.codec import export_weights
from sketchfusion_lite.errors import RecipeError, SketchFusionWarning, WeightsError
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.refiner_io import save_refiner
from sketchfusion_lite.training import data
from sketchfusion_lite.training.photo_sets import write_held_out
from sketchfusion_lite.training.recipe import load_recipe
from sketchfusion_lite.weights_io import save_weights

from .conftest import build_tiny_model


def test_one_bad_photo_does_not_end_a_training(tmp_path, photo_folder):
    for file in data.training_files([photo_folder]):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    to_pil(torch.rand(1, 3, 20, 30)).save(tmp_path / "small.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "again.png").symlink_to("photo0.png")
    to_pil(torch.rand(1, 3, 80, 90)).save(tmp_path / "sky_boundary.png")
    with pytest.warns(SketchFusionWarning, match=r"photo0.png \(listed already"):
        files = data.training_files([tmp_path])
    assert "sky_boundary.png" in [f.name for f in files], "it belongs to no other photo"
    with pytest.warns(SketchFusionWarning) as said:
        photos = data.load_photos(files, lambda _, image: image[:, :1], 48, 64)
    assert len(photos) == 7
    (line,) = (str(each.message) for each in said)
    assert "small.png (a side is shorter than 48 pixels)" in line
    assert "bad.png, gone.jpg (unreadable: " in line and "not a picture" in line
    with pytest.raises(RecipeError, match=r"all 1 photos are .* or unreadable"):
        data.load_photos([tmp_path / "bad.png"], lambda _, image: image[:, :1], 48, 64)


def test_held_out_photos_are_those_asked_for_or_it_is_said(tmp_path, photo_folder):
    recipe = load_recipe("cues", photos=[str(photo_folder)], hold_out=2, phases=[[0.0, 48, 2]])
    _, held = data.photos_of(recipe, data.human_boundaries, (16, 64))
    assert [photo.name for photo in held] == ["photo0", "photo3"]
    to_pil(torch.rand(1, 3, 80, 90)).save(tmp_path / "mine.png")
    few = dataclasses.replace(recipe, photos=[str(photo_folder), str(tmp_path)])
    with pytest.warns(SketchFusionWarning, match=r"mine\.png \(all of the last folder"):
        sampler, held = data.photos_of(few, lambda _, image: image[:, :1], (16, 64))
    assert [photo.name for photo in held] == ["mine"] and len(sampler.sizes) == 6


def test_held_out_photos_of_one_stem_are_all_written(tmp_path, photo_folder):
    mine = tmp_path / "mine"
    mine.mkdir()
    for suffix in ("png", "jpg", "webp", "bmp"):
        to_pil(torch.rand(1, 3, 40, 40)).save(mine / f"one.{suffix}")
    (mine / "bad.png").write_bytes(b"no picture")
    with pytest.warns(SketchFusionWarning, match="held-out photos: bad"):
        out = write_held_out([photo_folder, mine], 5, tmp_path / "out", 32)
    assert len(list(out.iterdir())) == 4


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    path = tmp_path / "x.safetensors"
    save_weights(path, {"a": torch.ones(3)}, {})
    before = path.read_bytes()
    for wrong in (torch.tensor([1.0, torch.nan]), torch.tensor([1e9])):
        with pytest.raises(WeightsError, match=r"layer\.weight holds values"):
            save_weights(path, {"layer.weight": wrong}, {})
    model = build_tiny_model()
    with torch.no_grad():
        model.encoder.to_latent.weight[0] = torch.nan
    with pytest.raises(WeightsError, match=r"encoder\.to_latent\.weight"):
        export_weights(model, path, {})
    unet = RefinerUNet(RefinerConfig(widths=(8, 8, 8), depths=(1, 1, 1)))
    with torch.no_grad():
        next(unet.parameters()).fill_(torch.inf)
    with pytest.raises(WeightsError, match="no numbers"):
        save_refiner(unet, tmp_path / "refiner", {})
    assert path.read_bytes() == before and not (tmp_path / "refiner").exists()
