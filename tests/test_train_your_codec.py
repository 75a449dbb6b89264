"""What stands around notebook 09's loop: photos, pulls, one photo at equal budgets, a committed checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from sketchfusion_lite import load_codec
from sketchfusion_lite.files import sha256_of
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.samples import SAMPLES, Photo, load_photo
from sketchfusion_workbook.lessons.train_your_codec import photo_folders, pull, side_by_side

LESSONS = Path(__file__).parents[1] / "data" / "lessons"


def test_the_photo_that_is_shown_is_not_trained_on(tmp_path):
    train, held = map(Path, photo_folders("", load_photo("rocket"), tmp_path))
    assert {path.stem for path in train.iterdir()} == {*SAMPLES} - {"rocket"}
    assert [path.stem for path in held.iterdir()] == ["rocket"]

    mine = Photo("mine", Image.new("RGB", (40, 30)))
    assert photo_folders("a, b", mine, tmp_path / "x") == ["a", "b", str(tmp_path / "x/held_out")]


def test_a_pull_is_the_gradient_and_leaves_the_graph():
    layer, stranger = nn.Linear(3, 2), nn.Linear(2, 2)
    parameters = [*layer.parameters(), *stranger.parameters()]
    out = layer(torch.rand(5, 3))
    first, second = (pull(term, parameters) for term in (out.sum(), out.square().mean()))
    (out.sum() + out.square().mean()).backward()
    found = torch.cat([p.grad.flatten() for p in layer.parameters()])
    assert torch.allclose((first + second)[: len(found)], found, atol=1e-5)
    assert not first[len(found) :].any(), "it does not reach the other layer"


def test_a_codec_that_keeps_no_budget_shows_its_smallest_file(tiny_codec, photo):
    picture = to_pil(photo)
    smallest = tiny_codec.encode(picture, quality=0.0).bpp
    budgets = (smallest / 2, smallest + 0.5)
    rows, pictures = side_by_side({"tiny": (tiny_codec, "preview")}, picture, budgets, ("psnr",))
    assert [row["fits"] for row in rows] == [False, True]
    assert rows[0]["bpp"] == smallest and smallest <= rows[1]["bpp"] <= budgets[1]
    assert all(
        row["psnr"] > 0 and pictures["tiny", row["budget"]].size == picture.size for row in rows
    )


@pytest.mark.parametrize("file", sorted(LESSONS.glob("*.safetensors")), ids=lambda file: file.stem)
def test_a_committed_checkpoint_is_what_its_page_says(file):
    said = re.search(
        rf"`{file.name}`.*?`([0-9a-f]{{64}})`", (LESSONS / "README.md").read_text("utf-8")
    )
    assert said is not None and said[1] == sha256_of(file)
    assert file.stat().st_size < 4_000_000
    assert load_codec(file, "cpu", "float32").model_id
