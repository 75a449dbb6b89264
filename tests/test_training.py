"""Training: recipes, data, objectives, and a loop that can be killed at any moment."""

from __future__ import annotations

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from sketchfusion_lite.codec import load_codec
from sketchfusion_lite.cues import BoundaryDetector
from sketchfusion_lite.errors import RecipeError
from sketchfusion_lite.training import data
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.muon import Muon, orthogonalise
from sketchfusion_lite.training.objectives import (
    PerceptualLoss,
    RateController,
    balanced_boundary_loss,
)
from sketchfusion_lite.training.recipe import (
    CuesRecipe,
    Recipe,
    load_recipe,
    recipe_of,
    shipped_recipes,
)
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]


def cues_recipe(folder: Path, **changes) -> Recipe:
    fields = {
        "photos": [str(folder)],
        "hold_out": 2,
        "steps": 30,
        "phases": [[0.0, 48, 2]],
        "validate_minutes": 60.0,
        "checkpoint_minutes": 60.0,
    }
    return CuesRecipe(**(fields | changes))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_shipped_recipes_load():
    tasks = {name: load_recipe(name).task for name in shipped_recipes()}
    assert tasks == {
        "codec": "codec",
        "codec-gpu": "codec",
        "cues": "cues",
        "lines": "codec",
        "preview": "preview",
        "refiner": "refiner",
        "refiner-gpu": "refiner",
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('task = "cues"\nphotos = []\nstepz = 3', "stepz.*it has photos, hold_out"),
        ('task = "cues"\nphotos = []\nquantiser = "mixed"', "CuesRecipe has no field 'quantiser'"),
        ('task = "codec"\nphotos = []\nquantiser = "dice"', "quantiser must be one of .*mixed"),
        ('task = "refiner"\nphotos = []\njudge = "me"', "judge must be one of"),
        ('task = "cues"\nphotos = []\nema = 1.0', "ema must be in"),
        ('task = "cues"\nphotos = []\nsteps = "many"', "steps"),
        ('task = "cues"\nphotos = []\ncompile = 1', "compile"),
        ('task = "pies"\nphotos = []', "pies"),
        ('task = "cues"', "photos"),
        ("not toml at all", "TOML"),
        ('task = "cues"\nphotos = []\nphases = [[0.5, 64, 2]]', "phases"),
    ],
)
def test_a_wrong_recipe_names_its_fault(tmp_path, text, named):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=named):
        load_recipe(path)


def test_an_unknown_recipe_is_said_to_be_unknown():
    with pytest.raises(RecipeError, match="nowhere"):
        load_recipe("nowhere")


def test_crops_are_a_function_of_seed_and_step(photo_folder):
    files = data.training_files([photo_folder])
    assert len(files) == 6, "boundary maps are no photos"
    photos = data.load_photos(files, data.human_boundaries, 48, 512)
    first, again = data.CropSampler(photos, 0), data.CropSampler(photos, 0)
    a, b = first.batch(5, 48, 3), again.batch(5, 48, 3)
    assert a[0].shape == (3, 3, 48, 48)
    assert a[1].shape == (3, 1, 48, 48)
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[0], first.batch(6, 48, 3)[0])
    assert not torch.equal(a[0], data.CropSampler(photos, 1).batch(5, 48, 3)[0])


def test_crops_and_boundaries_stay_aligned(photo_folder):
    """A boundary map that is a copy of the picture must still be one after cropping and mirroring."""
    files = data.training_files([photo_folder])
    photos = data.load_photos(files, lambda _, image: image[:, :1], 48, 64)
    for step in range(8):
        images, boundaries = data.CropSampler(photos, 3).batch(step, 48, 2)
        assert torch.equal(images[:, :1], boundaries)


def test_held_out_photos_are_not_trained_on(photo_folder):
    files = data.training_files([photo_folder])
    train, held = data.split(files, 2)
    assert len(held) == 2
    assert set(train) | set(held) == set(files)
    assert not set(train) & set(held)


def test_folders_without_photos_are_refused(tmp_path, photo_folder):
    with pytest.raises(RecipeError, match="does not exist"):
        data.training_files([tmp_path / "none"])
    with pytest.raises(RecipeError, match="no pictures"):
        data.training_files([tmp_path])
    with pytest.raises(RecipeError, match="smaller than the crop"):
        files = data.training_files([photo_folder])
        data.load_photos(files, data.human_boundaries, 500, 512)


def test_orthogonalise_flattens_the_singular_values():
    matrices = torch.randn(2, 12, 30, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.5
    tall = torch.linalg.svdvals(orthogonalise(matrices.mT))
    assert torch.allclose(tall, values, atol=1e-4)


def test_muon_minimises():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
    target = torch.randn_like(conv.weight)
    optimizer = Muon(conv.parameters(), lr=0.05)
    losses = []
    for _ in range(200):
        loss = (conv.weight - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_rate_controller_moves_lambda_against_the_error():
    controller = RateController([0.02, 0.05, 0.1])
    quality = torch.tensor([1.0])
    before = controller.weight(quality).item()
    for _ in range(10):
        controller.update(quality, torch.tensor([0.08]), factor=1.0)
    assert controller.weight(quality).item() > before
    lambdas = controller.weight(torch.tensor([0.0, 1.0, 2.0]))
    spent = lambdas * torch.tensor([0.02, 0.05, 0.1])
    assert torch.allclose(spent, spent[0].expand(3)), "errors in the middle tilt nothing"
    for _ in range(30):
        controller.update(quality, torch.tensor([0.02]), factor=1.0)
    assert controller.weight(quality).item() < before


def test_rate_controller_holds_the_range_of_rates_open():
    """The mean rate may be right while both ends have moved inwards: then lambda must fall on top, rise below."""
    controller = RateController([0.02, 0.05, 0.1])
    quality = torch.tensor([0.0, 2.0])
    before = controller.weight(quality)
    for _ in range(20):
        controller.update(quality, torch.tensor([0.03, 0.1 / 1.5]), factor=1.0)
    low, high = controller.weight(quality) / before
    assert low > 1.01 and high < 0.99
    for _ in range(20):
        controller.update(quality, torch.tensor([0.02 / 1.5, 0.15]), factor=1.0)
    assert torch.allclose(controller.weight(quality), before, rtol=1e-4)


def test_rate_controller_stays_within_bounds():
    """A target out of reach must not let the rate term drown the others."""
    controller = RateController([0.02, 0.05, 0.1])
    for factor, extreme in ((1e-6, max), (1e6, min)):
        for _ in range(3000):
            controller.update(torch.tensor([0.0, 2.0]), torch.tensor([0.05, 0.05]), factor)
        reached = controller.log_scale.exp().item()
        assert reached == pytest.approx(extreme(0.002, 10.0), rel=1e-3)
        assert 1 / 12 - 1e-3 < controller.log_tilt.exp() < 12 + 1e-2


def test_boundary_loss_prefers_the_right_map():
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 16, :] = 1.0
    right, wrong = (truth * 2 - 1) * 4, (truth.mT * 2 - 1) * 4
    assert balanced_boundary_loss(right, truth) < balanced_boundary_loss(wrong, truth) / 3


def test_perceptual_loss_is_zero_for_the_same_image_and_shifts_its_view():
    seen = []

    class Probe(torch.nn.Module):
        def forward(self, a, b):
            seen.append(a[0, 0, 0, 0].item())
            return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)

    loss = PerceptualLoss(Probe())
    image = torch.rand(2, 3, 32, 32)
    assert loss(image, image).shape == (2,)
    assert loss(image, image).abs().sum() == 0
    for _ in range(20):
        loss(image, image)
    assert len(set(seen)) > 3


def test_training_learns_and_exports(photo_folder, tmp_path):
    run = TrainingRun(cues_recipe(photo_folder, steps=60, warmup_steps=5), tmp_path / "run")
    before = run.validate()["val_loss"]
    run.run()
    assert run.validate()["val_loss"] < before
    exported = load_part_of(tmp_path / "run" / "detector.safetensors")
    BoundaryDetector().load_state_dict(exported)
    assert [row["step"] for row in rows(tmp_path / "run" / "log.csv")] == ["50", "60"], (
        "the last one, too"
    )


def load_part_of(path: Path) -> dict[str, torch.Tensor]:
    from sketchfusion_lite.weights_io import load_part

    return load_part(path, "boundary_detector")


def test_stopping_and_resuming_equals_running_through(photo_folder, tmp_path):
    recipe = cues_recipe(photo_folder)
    through = TrainingRun(recipe, tmp_path / "through")
    through.run()
    first = TrainingRun(recipe, tmp_path / "halves")
    first.run(max_steps=13)
    with pytest.raises(RecipeError, match="resume=True"):
        TrainingRun(recipe, tmp_path / "halves")
    second = TrainingRun(recipe, tmp_path / "halves", resume=True)
    assert second.step == 13
    assert all(int(row["step"]) <= 13 for row in rows(tmp_path / "halves" / "validation.csv"))
    second.run()
    a, b = through.task.detector.state_dict(), second.task.detector.state_dict()
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_resuming_with_another_model_is_refused(photo_folder, tmp_path):
    recipe = cues_recipe(photo_folder, steps=2)
    TrainingRun(recipe, tmp_path / "run").run()
    other = load_recipe("codec", photos=[str(photo_folder)])
    with pytest.raises(RecipeError, match="task"):
        run = TrainingRun.__new__(TrainingRun)
        run.recipe, run.checkpoint_path = other, tmp_path / "run" / "checkpoint.pt"
        run._load()


def test_a_checkpoint_of_another_release_says_how_to_go_on(photo_folder, tmp_path):
    recipe = cues_recipe(photo_folder, steps=2)
    run = TrainingRun(recipe, tmp_path / "run")
    run.run()
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    old = {name: value for name, value in state.items() if name != "weights"}
    torch.save(old, path)
    with pytest.raises(RecipeError, match=r"release 0\.7 or older.*start_from"):
        TrainingRun(recipe, tmp_path / "run", resume=True)
    state["modules"]["detector"] = {"old": torch.zeros(1)}
    torch.save(state, path)
    with pytest.raises(RecipeError, match=r"another release.*start_from"):
        TrainingRun(recipe, tmp_path / "run", resume=True)


_KILLED = """
import sys
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.recipe import CuesRecipe
recipe = CuesRecipe(photos=[sys.argv[1]], hold_out=2, steps=400, phases=[[0.0, 48, 2]],
                validate_minutes=60.0, checkpoint_minutes=0.0005)
TrainingRun(recipe, sys.argv[2], resume=True).run()
"""


def test_kill_and_resume(photo_folder, tmp_path):
    """kill -9 while checkpoints are written all the time; the run goes on from the last one."""
    command = [sys.executable, "-c", _KILLED, str(photo_folder), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    checkpoint = tmp_path / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] > 0
    recipe = recipe_of(state["recipe"] | {"steps": state["step"] + 3})
    run = TrainingRun(recipe, tmp_path, resume=True)
    assert run.step == state["step"]
    run.run()
    assert run.step == state["step"] + 3


@pytest.mark.parametrize("steps", [2, 6], ids=["in the last step", "before"])
def test_a_run_that_diverges_ruins_no_checkpoint(photo_folder, tmp_path, steps):
    """Weights that blew up are finite at first: only the next loss tells. They were saved over the good ones once."""
    folder = tmp_path / "run"
    TrainingRun(cues_recipe(photo_folder, steps=1), folder).run()
    sound = (folder / "checkpoint.pt").read_bytes()
    wild = cues_recipe(photo_folder, steps=steps, checkpoint_minutes=0.0, muon_lr=1e30)
    wild = dataclasses.replace(wild, adamw_lr=1e30, warmup_steps=0, decay_start=0.99)
    with pytest.raises(
        RecipeError, match=r"diverged.*checkpoint\.pt is from before.*lower muon_lr"
    ):
        TrainingRun(wild, folder, resume=True).run()
    assert (folder / "checkpoint.pt").read_bytes() == sound
    assert not list(folder.glob("*.safetensors.tmp"))
    calm = TrainingRun(cues_recipe(photo_folder, steps=3), folder, resume=True)
    calm.run()
    assert calm.step == 3 and (folder / "checkpoint.previous.pt").read_bytes() == sound


def test_looking_whether_a_state_is_sound_leaves_no_trace(photo_folder, tmp_path, tiny_weights):
    """A run that saves after every step trains as one that saves at its end: rates, noise and the adversary, too."""
    ends = []
    for name, minutes in (("often", 0.0), ("once", 60.0)):
        recipe = load_recipe(
            "codec",
            photos=[str(photo_folder)],
            adversarial_start=0.0,
            hold_out=1,
            steps=3,
            minutes=0.0,
            phases=[[0.0, 64, 2]],
            model=TINY.to_dict() | {"encoder_widths": [8, 8, 8]},
            detector=str(tiny_weights),
            validate_minutes=60.0,
            checkpoint_minutes=minutes,
        )
        run = TrainingRun(recipe, tmp_path / name)
        run.run()
        ends.append({n: m.state_dict() for n, m in run._stateful().items()})
    often, once = ends
    assert {"model", "rate", "adversary"} <= often.keys()
    for name in often:
        assert all(torch.equal(often[name][k], once[name][k]) for k in once[name]), name


def test_the_codec_recipe_trains_validates_with_real_bytes_and_exports(
    photo_folder, tmp_path, tiny_weights
):
    recipe = load_recipe(
        "codec",
        photos=[str(photo_folder)],
        hold_out=1,
        steps=3,
        phases=[[0.0, 64, 2]],
        model=TINY.to_dict() | {"encoder_widths": [8, 8, 8]},
        detector=str(tiny_weights),
        validate_minutes=60.0,
    )
    run = TrainingRun(recipe, tmp_path / "run")
    weights = {k: v.clone() for k, v in run.task.model.state_dict().items()}
    run.run()
    after = run.task.model.state_dict()
    for part in ("encoder", "entropy", "preview", "renderer", "gain"):
        changed = [
            k for k in weights if k.startswith(part) and not torch.equal(weights[k], after[k])
        ]
        assert changed, f"{part} did not learn"
    frozen = [k for k in weights if k.startswith("boundary_detector")]
    assert all(torch.equal(weights[k], after[k]) for k in frozen)
    row = rows(tmp_path / "run" / "validation.csv")[-1]
    assert float(row["actual_bpp_q2"]) > float(row["estimated_bpp_q2"]) > 0
    assert float(row["val_lpips_q2"]) > 0
    codec = load_codec(tmp_path / "run" / "codec.safetensors", device="cpu", dtype="float32")
    picture = Image.open(photo_folder / "photo0.png")
    assert (
        codec.decode(codec.encode(picture, quality=2.0).data, "preview").image.size == picture.size
    )


def test_a_recipe_has_no_field_that_its_task_does_not_read():
    """A preview trains without a discriminator: asking for one is refused, not passed over."""
    with pytest.raises(RecipeError, match="PreviewRecipe has no field 'adversarial_weight'"):
        load_recipe("preview", adversarial_weight=0.1)
