"""The adversarial stage, the lines-only codec, and the refiner's training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sketchfusion_lite.codec import load_codec
from sketchfusion_lite.errors import RecipeError
from sketchfusion_lite.perception import load_lpips
from sketchfusion_lite.preview import PreviewDecoder
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.refiner_io import load_refiner
from sketchfusion_lite.training.adversarial import (
    FeatureDiscriminator,
    PatchDiscriminator,
    diff_augment,
    hinge_game,
)
from sketchfusion_lite.training.grafting import graft
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.objectives import SparseLoss, draw_quality, texture_loss
from sketchfusion_lite.training.recipe import CodecRecipe, PreviewRecipe, Recipe, load_recipe
from tests.conftest import TINY


def codec_recipe(folder: Path, detector: Path, **changes) -> Recipe:
    fields = {
        "photos": [str(folder)],
        "hold_out": 1,
        "steps": 3,
        "phases": [[0.0, 64, 2]],
        "model": TINY.to_dict(),
        "detector": str(detector),
        "validate_minutes": 60.0,
        "lpips_vgg_weight": 0.0,
        "lpips_zoom": 0.0,
        "warmup_steps": 1,
    }
    return load_recipe("codec", **(fields | changes))


@pytest.fixture(scope="module")
def trained(photo_folder, tiny_weights, tmp_path_factory) -> Path:
    """The folder of a tiny codec's run."""
    folder = tmp_path_factory.mktemp("runs") / "codec"
    TrainingRun(codec_recipe(photo_folder, tiny_weights), folder).run()
    return folder


def last_row(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))[-1]


# --------------------------------------------------------------------------------------------------
# Discriminators


@pytest.mark.parametrize("side", [64, 96])
def test_patch_discriminator_judges_patches(side: int):
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(condition_channels=6).eval()
    image, y_hat = torch.rand(2, 3, side, side), torch.randn(2, 6, side // 16, side // 16)
    logits = discriminator(image, y_hat)
    assert logits.shape == (2, 1, side // 8, side // 8)
    changed = image.clone()
    changed[..., -4:, -4:] = 0
    away = (discriminator(changed, y_hat) - logits).abs()[0, 0]
    assert away[-1, -1] > 0 and away[0, 0] == 0, "a corner is no business of the opposite one"
    assert not torch.allclose(discriminator(image, y_hat + 1), logits), "it is conditional"


def test_spectral_norm_bounds_the_discriminator():
    """However large the weights, a layer cannot stretch its input."""
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(condition_channels=2)
    layer = discriminator.coarse[2]
    layer.parametrizations.weight.original.data.mul_(1000)
    for _ in range(30):
        layer(torch.rand(1, layer.in_channels, 8, 8))
    singular = torch.linalg.svdvals(layer.weight.flatten(1))
    assert singular[0].item() == pytest.approx(1, abs=0.05)


def test_augmentation_keeps_picture_and_condition_aligned_and_passes_gradients():
    image = torch.zeros(1, 3, 96, 96, requires_grad=True)
    moved = set()
    for seed in range(20):
        torch.manual_seed(seed)
        where = torch.zeros(1, 1, 6, 6)
        where[..., 2, 3] = 1
        marked = image + where.repeat_interleave(16, 2).repeat_interleave(16, 3)
        augmented, condition = diff_augment(marked, where)
        assert augmented.shape == image.shape
        spot = condition[0, 0].nonzero()[0].tolist()
        moved.add(tuple(spot))
        block = augmented[0, :, spot[0] * 16 : spot[0] * 16 + 16, spot[1] * 16 : spot[1] * 16 + 16]
        if block.abs().min() > 0:  # else cut out
            rest = augmented.detach().clone()
            rest[..., spot[0] * 16 : spot[0] * 16 + 16, spot[1] * 16 : spot[1] * 16 + 16] = -9
            assert block.min() > rest.max(), "the mark moves with its latent"
        (gradient,) = torch.autograd.grad(augmented.sum(), image)
        assert gradient.abs().sum() > 0
    assert len(moved) > 3


def test_the_game_trains_each_player_only_for_itself():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(condition_channels=2)
    real, y_hat = torch.rand(2, 3, 32, 32), torch.randn(2, 2, 2, 2)
    fake = torch.rand(2, 3, 32, 32, requires_grad=True)
    generator_loss, discriminator_loss = hinge_game(discriminator, (real, y_hat), (fake, y_hat))
    generator_loss.backward()
    assert fake.grad.abs().sum() > 0
    assert all(p.grad is None for p in discriminator.parameters())
    fake.grad = None
    discriminator_loss.backward()
    assert fake.grad is None
    assert all(p.grad is not None for p in discriminator.parameters())


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_the_discriminator_learns_to_tell_photos_from_blur(trunk):
    torch.manual_seed(0)
    discriminator = FeatureDiscriminator(load_lpips(trunk))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    for _ in range(25):
        real = torch.rand(4, 3, 64, 64)
        fake = torch.nn.functional.avg_pool2d(real, 3, stride=1, padding=1)
        features = (discriminator.features(x) for x in (real, fake))
        _, loss = hinge_game(discriminator, *features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    real = torch.rand(4, 3, 64, 64)
    fake = torch.nn.functional.avg_pool2d(real, 3, stride=1, padding=1)
    on_real, on_fake = (discriminator(*discriminator.features(x)) for x in (real, fake))
    assert on_real.mean() > on_fake.mean() + 0.3
    assert not [n for n, _ in discriminator.named_parameters() if not n.startswith("heads")]


def test_vgg_sees_the_grid_that_alexnet_hardly_does(photo):
    """A pixel shuffle's mistake: every fourth row and column a little brighter."""
    photo = photo[..., :64, :64]
    grid = torch.zeros(64, 64)
    grid[::4] += 0.02
    grid[:, ::4] += 0.02
    seen = {}
    for trunk in ("alex", "vgg"):
        features = FeatureDiscriminator(load_lpips(trunk), levels=1).features
        seen[trunk] = texture_loss(features(photo + grid), features(photo)).item()
    assert seen["vgg"] > 2 * seen["alex"]


def test_texture_counts_its_strength_and_not_its_place():
    torch.manual_seed(0)
    photo = torch.randn(1, 4, 36, 36)
    moved = photo.view(1, 4, 3, 12, 3, 12).roll((5, 3), dims=(3, 5)).view(photo.shape)
    assert texture_loss([moved], [photo]).item() == pytest.approx(0, abs=1e-5)
    for strength in (0.0, 0.5, 2.0):
        assert texture_loss([photo * strength], [photo]).item() == pytest.approx(
            abs(1 - strength), abs=0.01
        )
    elsewhere = photo.clone()
    elsewhere[..., :12, :] *= 0
    elsewhere[..., 12:24, :] *= 2
    assert texture_loss([elsewhere], [photo]).item() > 0.5, "not only the whole picture's"


def test_texture_pulls_a_mist_back():
    photo = torch.randn(1, 2, 30, 30, generator=torch.Generator().manual_seed(0))
    mist = (0.1 * photo).requires_grad_()
    texture_loss([mist], [photo]).backward()
    assert (mist.grad * photo).sum() < 0, "the way down is more of the texture that is there"


def test_sparse_loss_is_unbiased_over_its_steps():
    class Mean(torch.nn.Module):
        def forward(self, image, reference):
            return (image - reference).mean(dim=(1, 2, 3))

    sparse = SparseLoss(Mean(), every=4)
    image = torch.full((6, 3, 16, 16), 0.5)
    due = [sparse.due(step) for step in range(8)]
    assert due == [True, False, False, False] * 2
    values = [sparse(image, torch.zeros_like(image)).item() for each in due if each]
    assert sum(values) / len(due) == pytest.approx(0.5)


def test_qualities_are_drawn_by_step_and_focused():
    recipe = CodecRecipe(photos=[], focus=0.5, focus_quality=2.1)
    drawn = torch.cat([draw_quality(recipe, 6, step, 8) for step in range(100)])
    assert 0.55 < ((drawn - 2.1).abs() < 0.6).float().mean() < 0.7, (
        "half, and a quarter of the rest"
    )
    assert drawn.min() >= 0 and drawn.max() <= 5
    assert torch.equal(draw_quality(recipe, 6, 3, 8), draw_quality(recipe, 6, torch.tensor(3), 8))


# --------------------------------------------------------------------------------------------------
# Runs


@pytest.mark.parametrize(
    "progress,weight", [(0.0, 0), (0.39, 0), (0.5, 0.05), (0.6, 0.1), (1.0, 0.1)]
)
def test_the_adversarial_weight_is_ramped(progress: float, weight: float):
    recipe = CodecRecipe(
        photos=[],
        adversarial_weight=0.1,
        adversarial_start=0.4,
        adversarial_ramp=0.2,
    )
    assert recipe.adversarial_factor(progress) == pytest.approx(weight, abs=1e-9)
    assert recipe.adversary_joins(progress) == (progress >= 0.4)


def test_the_adversarial_stage_goes_on_from_a_run_and_resumes(
    photo_folder, tiny_weights, trained, tmp_path
):
    recipe = codec_recipe(
        photo_folder,
        tiny_weights,
        start_from=str(trained),
        adversarial_start=0.0,
        adversarial_ramp=0.01,
        steps=4,
    )
    run = TrainingRun(recipe, tmp_path / "gan")
    first = torch.load(trained / "checkpoint.pt", weights_only=True)["modules"]["model"]
    state = run.task.model.state_dict()
    assert all(torch.equal(state[k], first[k]) for k in first)
    judge = {k: v.clone() for k, v in run.task.discriminator.state_dict().items()}
    run.run(max_steps=2)
    after = run.task.discriminator.state_dict()
    assert any(not torch.equal(judge[k], after[k]) for k in judge)
    resumed = TrainingRun(recipe, tmp_path / "gan", resume=True)
    assert resumed.step == 2
    again = resumed.task.discriminator.state_dict()
    assert all(torch.equal(after[k], again[k]) for k in after)
    resumed.run()
    codec = load_codec(tmp_path / "gan" / "codec.safetensors", device="cpu", dtype="float32")
    picture = Image.open(photo_folder / "photo0.png")
    assert (
        codec.decode(codec.encode(picture, quality=2.0).data, "preview").image.size == picture.size
    )


def test_a_run_may_start_from_a_weights_file(photo_folder, tiny_weights, trained, tmp_path):
    weights = trained / "codec.safetensors"
    recipe = codec_recipe(photo_folder, tiny_weights, start_from=str(weights))
    run = TrainingRun(recipe, tmp_path / "run")
    first = torch.load(trained / "checkpoint.pt", weights_only=True)["modules"]["model"]
    key = "preview.stem.weight"
    assert torch.allclose(run.task.model.state_dict()[key], first[key], atol=1e-3)  # float16


def test_a_start_that_does_not_fit_is_refused(photo_folder, tiny_weights, trained, tmp_path):
    for start, message in (
        (tmp_path / "nowhere", "does not exist"),
        (photo_folder / "photo0.png", "damaged or no checkpoint"),
    ):
        recipe = codec_recipe(photo_folder, tiny_weights, start_from=str(start))
        with pytest.raises(RecipeError, match=message):
            TrainingRun(recipe, tmp_path / "run")
    other = TINY.to_dict() | {"structure_channels": 6}
    recipe = codec_recipe(photo_folder, tiny_weights, start_from=str(trained), model=other)
    with pytest.raises(RecipeError, match="does not fit"):
        TrainingRun(recipe, tmp_path / "run")


def test_networks_are_transplanted_into_smaller_ones(photo_folder, tiny_weights, trained, tmp_path):
    smaller = load_recipe("lines").model | {"decoder_widths": TINY.decoder_widths}
    smaller = TINY.to_dict() | smaller
    recipe = codec_recipe(
        photo_folder, tiny_weights, start_from=str(trained), transplant=True, model=smaller
    )
    model = TrainingRun(recipe, tmp_path / "run").task.model.state_dict()
    first = torch.load(trained / "checkpoint.pt", weights_only=True)["modules"]["model"]
    for key in ("preview.stride16.0.0.reduce.weight", "renderer.net.0.weight"):
        assert torch.equal(model[key], first[key])
    kept = TINY.structure_channels
    assert torch.equal(model["preview.stem.weight"], first["preview.stem.weight"][:, :kept])
    assert torch.equal(model["encoder.to_latent.bias"], first["encoder.to_latent.bias"][:kept])


def test_the_lines_only_codec_knows_nothing_but_lines(photo_folder, tiny_weights, tmp_path):
    lines = load_recipe("lines").model
    assert (lines["cues"], lines["tone_channels"]) == ("structural", 0)
    recipe = codec_recipe(photo_folder, tiny_weights, model=TINY.to_dict() | lines)
    TrainingRun(recipe, tmp_path / "lines").run()
    codec = load_codec(tmp_path / "lines" / "codec.safetensors", device="cpu", dtype="float32")
    torch.manual_seed(1)
    data = codec.encode(torch.rand(3, 70, 90), quality=4).data
    info = codec.decode(data, "preview").info
    assert info.section_bytes["tone"] == 0 and info.section_bytes["structure"] > 0
    assert info.missing == () and codec.decode(data, "preview").preview.size == (90, 70)

    class Same(torch.nn.Module):
        """The same lines, whatever the photo."""

        def forward(self, image):
            columns = torch.arange(image.shape[-1]).view(1, 1, 1, -1)
            return ((columns % 16) - 8.0).expand_as(image[:, :1])

    codec.model.boundary_detector = Same()
    colours = [torch.rand(3, 64, 64), torch.zeros(3, 64, 64)]
    first, second = (codec.encode(x, quality=3).data for x in colours)
    assert first == second, "colour reached the stream of a lines-only codec"


def test_a_grafted_refiner_returns_the_decoders_picture():
    torch.manual_seed(0)
    decoder = PreviewDecoder(6, levels=6, widths=(24, 16, 8), depths=(2, 2, 1))
    decoder.quality_bias.data.normal_()
    config = RefinerConfig(6, 6, widths=(12, 20, 32), depths=(2, 3, 2), down_depths=(1, 2))
    unet = RefinerUNet(config)
    graft(unet, decoder)
    y_hat, quality = torch.randn(3, 6, 2, 3), torch.tensor([0.0, 2.3, 5.0])

    def picture(realism: float) -> torch.Tensor:
        x, preview, time = torch.randn(3, 3, 32, 48), torch.rand(3, 3, 32, 48), torch.rand(3)
        return unet(x, time, preview, y_hat, quality, realism) * 0.5 + 0.5

    expected = decoder(y_hat, quality).detach()
    for realism in (0, 0.3, 1):
        assert torch.allclose(picture(realism), expected, atol=1e-5)
    ways_down = (unet.stem, unet.to8[1], unet.to16[1])
    before = [entry.weight.detach().clone() for entry in ways_down]
    optimizer = torch.optim.SGD(unet.parameters(), lr=0.1)
    picture(1).square().mean().backward()
    optimizer.step()
    for entry, old, width in zip(ways_down, before, (8, 16, 24), strict=True):
        moved = (entry.weight.detach() - old)[:width].flatten(1).norm(dim=1)
        assert moved.min() > 0, "what starts at zero can learn"
    assert not torch.allclose(picture(1), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (12, 20, 16)}, "at stride 16"),
        ({"depths": (2, 1, 2)}, "at stride 8"),
        ({"levels": 5}, "quality levels"),
        ({"activation": "relu"}, "activation"),
    ],
)
def test_a_refiner_that_cannot_take_the_graft_is_refused(change: dict, message: str):
    decoder = PreviewDecoder(6, levels=6, widths=(24, 16, 8), depths=(2, 2, 1))
    sizes = {"widths": (12, 20, 32), "depths": (2, 2, 2)} | change
    with pytest.raises(RecipeError, match=message):
        graft(RefinerUNet(RefinerConfig(6, **sizes)), decoder)


@pytest.fixture(scope="module")
def refiner_run(photo_folder, trained, tmp_path_factory) -> tuple[TrainingRun, dict]:
    recipe = load_recipe(
        "refiner",
        photos=[str(photo_folder)],
        codec=str(trained / "codec.safetensors"),
        graft=str(trained / "codec.safetensors"),
        start_from="",
        hold_out=1,
        steps=8,
        minutes=0.0,
        phases=[[0.0, 64, 2]],
        flow_fraction=0.5,
        adversarial_start=0.6,
        adversarial_ramp=0.1,
        lpips_vgg_weight=0.0,
        warmup_steps=1,
        model={"widths": [24, 24, 24], "depths": [1, 1, 1], "down_depths": [1, 1]},
        validate_minutes=60.0,
    )
    run = TrainingRun(recipe, tmp_path_factory.mktemp("refine"))
    before = {k: v.clone() for k, v in run.task.codec.state_dict().items()}
    run.run(max_steps=5)
    run = TrainingRun(recipe, run.folder, resume=True)
    assert run.step == 5, "training resumes"
    run.run()
    return run, before


def test_the_refiner_trains_and_leaves_the_codec_alone(refiner_run):
    run, before = refiner_run
    after = run.task.codec.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before), "refining changed the codec"
    start = run.task.unet.faithful.state_dict(), run.task.unet.realistic.state_dict()
    assert all(
        not torch.equal(start[0][k], start[1][k])
        for k in ("up4.blocks.0.expand.weight", "to_pixels.weight")
    )
    row = last_row(run.folder / "validation.csv")
    assert float(row["psnr_preview"]) > 5
    for end in ("faithful", "realistic"):
        assert float(row[f"lpips_{end}"]) > 0 and float(row[f"dists_{end}"]) > 0


def test_a_small_preview_learns_from_the_large_one(photo_folder, trained, tmp_path):
    recipe = PreviewRecipe(
        photos=[str(photo_folder)],
        codec=str(trained / "codec.safetensors"),
        hold_out=1,
        steps=40,
        phases=[[0.0, 64, 4]],
        warmup_steps=1,
        decay_start=0.9,
        lpips_vgg_weight=0.0,
        taught=1.0,
        model={"decoder_widths": [16, 12, 8], "decoder_depths": [1, 1, 1]},
    )
    run = TrainingRun(recipe, tmp_path / "preview")
    run.run()
    with (run.folder / "log.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["apart"]) > 0
    large, small = (
        load_codec(path, device="cpu", dtype="float32")
        for path in (trained / "codec.safetensors", run.exported)
    )
    assert small.model_id == large.model_id, "the same streams"
    assert small.model.config.decoder_widths == (16, 12, 8)
    data = large.encode(photo_folder / "photo0.png", quality=3.0).data
    pictures = [np.asarray(each.decode(data, "preview").image, float) for each in (large, small)]
    untrained = run.task.preview.__class__(8, 6, (16, 12, 8), (1, 1, 1))
    small.model.preview = untrained
    before = np.asarray(small.decode(data, "preview").image, float)
    assert np.abs(pictures[0] - pictures[1]).mean() < np.abs(pictures[0] - before).mean()


def test_several_steps_learn_in_bfloat16(refiner_run):
    """An autocast forward pass returned bfloat16 where the sampler's state was float32."""
    run, _ = refiner_run
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [run.task.loss(run.task.variant(step, 0.5))[0] for step in range(8)]
    assert torch.stack(losses).isfinite().all()


def test_the_exported_refiner_decodes_with_its_codec(refiner_run, trained, photo_folder):
    run, _ = refiner_run
    folder = run.folder / "refiner"
    codec = load_codec(trained / "codec.safetensors", device="cpu", dtype="float32", refiner=folder)
    assert load_refiner(folder).codec_id == codec.model_id
    picture = Image.open(photo_folder / "photo0.png")
    decoded = codec.decode(codec.encode(picture, quality=2.0).data, "refined")
    assert (
        decoded.image.size == picture.size and decoded.image.tobytes() != decoded.preview.tobytes()
    )
    told = json.loads((folder / "training.json").read_text())
    assert told["recipe"]["task"] == "refiner" and "/" not in told["recipe"]["codec"]
