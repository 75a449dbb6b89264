"""Training, part by part: recipes, photos, draws, losses, discriminators, optimiser, averages, logs, steps."""

from __future__ import annotations

import csv
import dataclasses

import pytest
import torch
from torch import nn

from sketchfusion_lite.codec import export_weights
from sketchfusion_lite.errors import RecipeError, SketchFusionWarning, WeightsError
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.perception import load_lpips
from sketchfusion_lite.preview import PreviewDecoder
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.refiner_io import save_refiner
from sketchfusion_lite.training import adversarial, data, objectives
from sketchfusion_lite.training.averaging import Average
from sketchfusion_lite.training.codec_task import QUANTISERS
from sketchfusion_lite.training.draws import uniform
from sketchfusion_lite.training.grafting import graft
from sketchfusion_lite.training.graphed import Step
from sketchfusion_lite.training.logs import Log
from sketchfusion_lite.training.muon import Muon, orthogonalise
from sketchfusion_lite.training.photo_sets import write_held_out
from sketchfusion_lite.training.recipe import RECIPES, CodecRecipe, load_recipe, shipped_recipes
from sketchfusion_lite.weights_io import save_weights

from .conftest import build_tiny_model

# --------------------------------------------------------------------------------------------------
# Recipes


def test_shipped_recipes_load():
    tasks = {name: load_recipe(name).task for name in shipped_recipes()}
    of_others = {"codec-gpu": "codec", "lines": "codec", "refiner-gpu": "refiner"}
    assert tasks == of_others | {name: name for name in RECIPES}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('task = "cues"\nphotos = []\nstepz = 3', "stepz.*it has photos, hold_out"),
        ('task = "preview"\nphotos = []\nadversarial_lr = 1.0', "PreviewRecipe has no field"),
        ('task = "codec"\nphotos = []\nquantiser = "dice"', "quantiser must be one of .*mixed"),
        ('task = "refiner"\nphotos = []\njudge = "me"', "judge must be one of"),
        ('task = "cues"\nphotos = []\nema = 1.0', "ema must be in"),
        ('task = "cues"\nphotos = []\nsteps = 0', "steps must be at least 1"),
        ('task = "cues"\nphotos = []\nsteps = "many"', "steps must be of type int"),
        ('task = "cues"\nphotos = []\nminutes = true', "minutes"),
        ('task = "cues"\nphotos = []\ncompile = 1', "compile"),
        ('task = "pies"\nphotos = []', "pies"),
        ('task = "cues"', "photos"),
        ("not toml at all", "TOML"),
        ('task = "cues"\nphotos = []\nphases = [[0.5, 64, 2]]', "phases"),
        (None, "no recipe .*wrong.*'codec', "),
    ],
)
def test_a_wrong_recipe_names_its_fault(tmp_path, text, named):
    path = tmp_path / "wrong.toml"
    if text:
        path.write_text(text)
    with pytest.raises(RecipeError, match=named):
        load_recipe(path)


def test_the_adversarial_weight_is_ramped():
    recipe = CodecRecipe(photos=[], adversarial_start=0.4, adversarial_ramp=0.2)
    for progress, weight in ((0.0, 0), (0.39, 0), (0.5, 0.05), (0.6, 0.1), (1.0, 0.1)):
        assert recipe.adversarial_factor(progress) == pytest.approx(weight, abs=1e-9)
        assert recipe.adversary_joins(progress) == (progress >= 0.4)


# --------------------------------------------------------------------------------------------------
# Photos


def test_crops_are_functions_of_seed_and_step_aligned_with_their_boundaries(photo_folder):
    files = data.training_files([photo_folder])
    assert len(files) == 6, "boundary maps are no photos"
    photos = data.load_photos(files, lambda _, image: image[:, :1], 48, 64)
    sampler, other = data.CropSampler(photos, 0), data.CropSampler(photos, 1)
    images, boundaries = sampler.batch(5, 48, 3)
    assert images.shape == (3, 3, 48, 48) and torch.equal(images[:, :1], boundaries)
    assert torch.equal(images, data.CropSampler(photos, 0).batch(torch.tensor(5), 48, 3)[0])
    for another in (sampler.batch(6, 48, 3), other.batch(5, 48, 3)):
        assert not torch.equal(images, another[0]) and torch.equal(another[0][:, :1], another[1])


def test_shrunk_crops_show_more_of_a_photo():
    """Stripes of one pixel become grey where the crop is shrunk, and photos too small for it are left out."""
    stripes = (torch.arange(80) % 2 * 255).byte().expand(4, 80, 80).contiguous()
    for side, blurred in ((80, True), (60, False)):
        photo = data.Photo("stripes", stripes[:, :side, :side].contiguous())
        images, _ = data.CropSampler([photo], seed=0, shrunk=0.5).batch(0, 48, 4)
        contrast = images.std(dim=(1, 2, 3))
        assert contrast[:2].min() > 0.49 and (contrast[2:].max() < 0.45) == blurred


def test_photos_that_are_left_out_are_said(tmp_path, photo_folder):
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


def test_folders_without_photos_are_refused(tmp_path, photo_folder):
    bad, files = tmp_path / "bad.png", data.training_files([photo_folder])
    for folder, message in ((tmp_path / "none", "does not exist"), (tmp_path, "no pictures")):
        with pytest.raises(RecipeError, match=message):
            data.training_files([folder])
    with pytest.raises(RecipeError, match="smaller than the crop"):
        data.load_photos(files, data.human_boundaries, 500, 512)
    bad.write_bytes(b"no picture")
    with pytest.raises(RecipeError, match=r"all 1 photos are .* or unreadable"):
        data.load_photos([bad], data.human_boundaries, 48, 64)
    to_pil(torch.rand(1, 3, 80, 90)).save(bad)
    with pytest.raises(RecipeError, match=r"bad_boundary\.png is missing"):
        data.load_photos([bad], data.human_boundaries, 48, 64)


def test_held_out_photos_are_those_asked_for_or_it_is_said(tmp_path, photo_folder):
    recipe = load_recipe("cues", photos=[str(photo_folder)], hold_out=2, phases=[[0.0, 48, 2]])
    sampler, held = data.photos_of(recipe, data.human_boundaries, (16, 64))
    assert [photo.name for photo in held] == ["photo0", "photo3"] and len(sampler.sizes) == 4
    to_pil(torch.rand(1, 3, 80, 90)).save(tmp_path / "mine.png")
    few = dataclasses.replace(recipe, photos=[str(photo_folder), str(tmp_path)])
    with pytest.warns(SketchFusionWarning, match=r"mine\.png \(all of the last folder"):
        sampler, held = data.photos_of(few, lambda _, image: image[:, :1], (16, 64))
    assert [photo.name for photo in held] == ["mine"] and len(sampler.sizes) == 6
    with pytest.raises(RecipeError, match="leaves no photo of 6"):
        data.photos_of(dataclasses.replace(recipe, hold_out=6), data.human_boundaries, (16, 64))


def test_held_out_photos_of_one_stem_are_all_written(tmp_path, photo_folder):
    mine = tmp_path / "mine"
    mine.mkdir()
    for suffix in ("png", "jpg", "webp", "bmp"):
        to_pil(torch.rand(1, 3, 40, 40)).save(mine / f"one.{suffix}")
    (mine / "bad.png").write_bytes(b"no picture")
    with pytest.warns(SketchFusionWarning, match="held-out photos: bad"):
        out = write_held_out([photo_folder, mine], 5, tmp_path / "out", 32)
    assert len(list(out.iterdir())) == 4


# --------------------------------------------------------------------------------------------------
# Draws and losses


def test_draws_are_uniform_and_functions_of_seed_and_step():
    cpu = torch.device("cpu")
    drawn = torch.stack([uniform(3, step, 4, 64, cpu) for step in range(200)])  # (200, 4, 64)
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = torch.histc(drawn, 16, 0, 1) / drawn.numel()
    assert (counts - 1 / 16).abs().max() < 0.003
    for x, y in ((drawn[:-1], drawn[1:]), (drawn[:, 0], drawn[:, 1])):
        assert torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1].abs() < 0.02
    assert torch.equal(drawn[5], uniform(3, torch.tensor(5), 4, 64, cpu))
    assert not torch.equal(drawn[5], uniform(4, 5, 4, 64, cpu))


def test_qualities_are_drawn_by_step_and_focused():
    recipe = CodecRecipe(photos=[], focus=0.5, focus_quality=2.1)
    drawn = torch.cat([objectives.draw_quality(recipe, 6, step, 8) for step in range(100)])
    near = ((drawn - 2.1).abs() < 0.6).float().mean()
    assert 0.55 < near < 0.7, "half, and a quarter of the rest"
    assert drawn.min() >= 0 and drawn.max() <= 5


def test_rate_controller_moves_lambda_against_the_error():
    """Off in the middle, it moves all; off at the ends, it tilts; both ways, and within bounds."""
    rate = objectives.RateController([0.02, 0.05, 0.1])
    levels, targets = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.02, 0.05, 0.1])

    def after(bpp: list[float], of: torch.Tensor, times: int, factor: float = 1.0) -> torch.Tensor:
        for _ in range(times):
            rate.update(of, torch.tensor(bpp), factor)
        return rate.weight(levels)

    before, ends = rate.weight(levels), levels[[0, 2]]
    higher = after([0.08], levels[1:2], 10)
    assert (higher > before).all() and torch.allclose(higher * targets, (higher * targets)[0])
    assert (after([0.02], levels[1:2], 30) < before).all()
    before = rate.weight(levels)
    low, _, high = after([0.03, 0.1 / 1.5], ends, 20) / before
    assert low > 1.01 and high < 0.99, "the range of rates is held open"
    assert torch.allclose(after([0.02 / 1.5, 0.15], ends, 20), before, rtol=1e-4)
    for factor, bound in ((1e-6, 10.0), (1e6, 0.002)):
        after([0.05, 0.05], ends, 3000, factor)
        assert rate.log_scale.exp().item() == pytest.approx(bound, rel=1e-3)
        assert 1 / 12 - 1e-3 < rate.log_tilt.exp() < 12 + 1e-2


def test_boundary_loss_prefers_the_right_map():
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 16, :] = 1.0
    right, wrong = (
        objectives.balanced_boundary_loss((x * 2 - 1) * 4, truth) for x in (truth, truth.mT)
    )
    assert right < wrong / 3


def test_perceptual_loss_shifts_and_magnifies_its_views():
    seen = []

    class Probe(nn.Module):
        def forward(self, a, b):
            seen.append((a.shape, a[0, 0, 0, 0].item()))
            return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)

    image = torch.rand(4, 3, 32, 32)
    loss = objectives.PerceptualLoss(Probe(), zoom=0.25)
    for _ in range(20):
        assert torch.equal(loss(image, image), torch.zeros(4))
    assert {shape for shape, _ in seen} == {(1, 3, 32, 32), (3, 3, 28, 28)}
    assert len({corner for shape, corner in seen if shape[0] == 3}) > 3


def test_texture_counts_its_strength_and_not_its_place():
    torch.manual_seed(0)
    photo = torch.randn(1, 4, 36, 36)
    moved = photo.view(1, 4, 3, 12, 3, 12).roll((5, 3), dims=(3, 5)).view(photo.shape)
    elsewhere = photo * torch.tensor([0.0, 2.0, 1.0]).repeat_interleave(12).view(1, 1, 36, 1)
    for picture, off in ((moved, 0), (0 * photo, 1), (0.5 * photo, 0.5), (2 * photo, 1)):
        assert objectives.texture_loss([picture], [photo]).item() == pytest.approx(off, abs=0.01)
    assert objectives.texture_loss([elsewhere], [photo]).item() > 0.5, "not only the whole's"
    mist = (0.1 * photo).requires_grad_()
    objectives.texture_loss([mist], [photo]).backward()
    assert (mist.grad * photo).sum() < 0, "the way down is more of the texture that is there"


def test_the_rounded_rate_is_counted_beside():
    """What the controller holds does not depend on how the loss counts."""
    model, found = build_tiny_model(), {}
    image, boundaries = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    for name, (seen, counted) in QUANTISERS.items():
        model.entropy.quantiser, model.entropy.rate_quantiser = seen, counted
        out = model(image, boundaries, torch.tensor([1.0, 4.0]))
        assert not out.rounded_bits.requires_grad and out.bits_sections.requires_grad
        found[name] = (out.bits_sections.sum(dim=1), out.rounded_bits)
    straight = found["straight-through"]
    assert torch.allclose(*straight) and torch.allclose(found["mixed"][1], straight[0])
    assert not torch.allclose(*found["mixed"])


def test_a_dropped_tone_teaches_the_encoder_and_leaves_the_means_to_the_rate():
    model = build_tiny_model()
    image, boundaries = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    drop = torch.ones(2, dtype=torch.bool)
    model(image, boundaries, torch.tensor([1.0, 4.0]), drop).preview.square().sum().backward()
    assert model.encoder.to_latent.weight.grad.abs().sum() > 0
    grads = [p.grad for p in model.entropy.tone_context.parameters() if p.grad is not None]
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads)


# --------------------------------------------------------------------------------------------------
# Discriminators


def test_patch_discriminator_judges_patches_on_a_condition():
    torch.manual_seed(0)
    judge = adversarial.PatchDiscriminator(condition_channels=6).eval()
    image, y_hat = torch.rand(2, 3, 96, 64), torch.randn(2, 6, 6, 4)
    logits = judge(image, y_hat)
    assert logits.shape == (2, 1, 12, 8)
    changed = image.clone()
    changed[..., -4:, -4:] = 0
    away = (judge(changed, y_hat) - logits).abs()[0, 0]
    assert away[-1, -1] > 0 and away[0, 0] == 0, "a corner is no business of the opposite one"
    assert not torch.allclose(judge(image, y_hat + 1), logits)
    layer = judge.train().coarse[2]
    layer.parametrizations.weight.original.data.mul_(1000)
    for _ in range(30):
        layer(torch.rand(1, layer.in_channels, 8, 8))
    largest = torch.linalg.svdvals(layer.weight.flatten(1))[0].item()
    assert largest == pytest.approx(1, abs=0.05), "however large its weights"


def test_augmentation_keeps_picture_and_condition_aligned_and_passes_gradients():
    image, moved = torch.zeros(1, 3, 96, 96, requires_grad=True), set()
    for seed in range(20):
        torch.manual_seed(seed)
        where = torch.zeros(1, 1, 6, 6)
        where[..., 2, 3] = 1
        marked = image + where.repeat_interleave(16, 2).repeat_interleave(16, 3)
        augmented, condition = adversarial.diff_augment(marked, where)
        i, j = condition[0, 0].nonzero()[0].tolist()
        moved.add((i, j))
        at = (0, slice(None), slice(16 * i, 16 * i + 16), slice(16 * j, 16 * j + 16))
        if (block := augmented[at]).abs().min() > 0:  # else cut out
            rest = augmented.detach().clone()
            rest[at] = -9
            assert block.min() > rest.max(), "the mark moves with its latent"
        (gradient,) = torch.autograd.grad(augmented.sum(), image)
        assert gradient.abs().sum() > 0
    assert len(moved) > 3


def test_the_game_trains_each_player_only_for_itself():
    torch.manual_seed(0)
    judge = adversarial.PatchDiscriminator(condition_channels=2)
    real, y_hat = torch.rand(2, 3, 32, 32), torch.randn(2, 2, 2, 2)
    fake = torch.rand(2, 3, 32, 32, requires_grad=True)
    generator, discriminator = adversarial.hinge_game(judge, (real, y_hat), (fake, y_hat))
    generator.backward()
    assert fake.grad.abs().sum() > 0 and all(p.grad is None for p in judge.parameters())
    fake.grad = None
    discriminator.backward()
    assert fake.grad is None and all(p.grad is not None for p in judge.parameters())


def test_the_heads_alone_learn_to_tell_photos_from_blur():
    torch.manual_seed(0)
    judge = adversarial.FeatureDiscriminator(load_lpips("alex"))
    assert all(name.startswith("heads") for name, _ in judge.named_parameters())
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3, betas=(0.5, 0.9))

    def pair() -> list[tuple[torch.Tensor, ...]]:
        real = torch.rand(4, 3, 64, 64)
        return [judge.features(x) for x in (real, nn.functional.avg_pool2d(real, 3, 1, 1))]

    for _ in range(25):
        _, loss = adversarial.hinge_game(judge, *pair())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    on_real, on_fake = (judge(*features).mean() for features in pair())
    assert on_real > on_fake + 0.3


def test_vgg_sees_the_grid_that_alexnet_hardly_does(photo):
    """A pixel shuffle's mistake: every fourth row and column a little brighter."""
    photo, grid, seen = photo[..., :64, :64], torch.zeros(64, 64), {}
    grid[::4] += 0.02
    grid[:, ::4] += 0.02
    for trunk in ("alex", "vgg"):
        features = adversarial.FeatureDiscriminator(load_lpips(trunk), levels=1).features
        seen[trunk] = objectives.texture_loss(features(photo + grid), features(photo)).item()
    assert seen["vgg"] > 2 * seen["alex"]


# --------------------------------------------------------------------------------------------------
# The graft


def test_a_grafted_refiner_returns_the_decoders_picture_and_can_learn():
    torch.manual_seed(0)
    decoder = PreviewDecoder(6, levels=6, widths=(24, 16, 8), depths=(2, 2, 1))
    decoder.quality_bias.data.normal_()
    unet = RefinerUNet(RefinerConfig(6, 6, (12, 20, 32), (2, 3, 2), down_depths=(1, 2)))
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
        ({"widths": (12, 20, 16)}, "channels at stride 16: the refiner has 16, .* 24"),
        ({"depths": (2, 1, 2)}, "blocks at stride 8"),
        ({"levels": 5}, "quality levels"),
        ({"activation": "relu"}, "activation"),
    ],
)
def test_a_refiner_that_cannot_take_the_graft_is_refused(change: dict, message: str):
    decoder = PreviewDecoder(6, levels=6, widths=(24, 16, 8), depths=(2, 2, 1))
    sizes = {"widths": (12, 20, 32), "depths": (2, 2, 2)} | change
    with pytest.raises(RecipeError, match=message):
        graft(RefinerUNet(RefinerConfig(6, **sizes)), decoder)


# --------------------------------------------------------------------------------------------------
# Optimiser, averages, logs, steps, weights files


def test_orthogonalise_flattens_the_singular_values():
    matrices = torch.randn(2, 12, 30, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.5 and values.max() < 1.5
    assert torch.allclose(torch.linalg.svdvals(orthogonalise(matrices.mT)), values, atol=1e-4)


def test_muon_minimises_weights_of_one_size_and_two_shapes():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, *shape)) for shape in ((4, 3, 3), (36, 1, 1))]
    targets = [torch.randn_like(p) for p in weights]
    optimizer = Muon(weights, lr=0.05)
    losses = []
    for _ in range(200):
        errors = [(p - t).square().mean() for p, t in zip(weights, targets, strict=True)]
        optimizer.zero_grad()
        sum(errors).backward()
        optimizer.step()
        losses.append([error.item() for error in errors])
    assert all(last < 0.05 * first for first, last in zip(losses[0], losses[-1], strict=True))


def test_averages_follow_and_step_aside():
    layer = nn.Linear(2, 2)
    average = Average(dict(layer.named_parameters()), decay=0.5)
    before = layer.weight.detach().clone()
    layer.weight.data += 1
    average.pace(1000)
    average.update()
    with average.applied():
        assert torch.allclose(layer.weight, before + 0.5)
    assert torch.allclose(layer.weight, before + 1)
    average.pace(0)
    average.update()
    assert torch.allclose(average.means[0], before + 0.95), "a young average is short"


def test_a_log_takes_late_columns_and_forgets_what_will_be_done_again(tmp_path):
    path = tmp_path / "log.csv"
    log = Log(path, 0)
    assert not path.exists()
    log.append({"step": 50, "loss": "2.5"})
    log.append({"step": 100, "loss": "2.0", "generator": "0.7"})
    log.append({"step": 150, "loss": "1.5"})
    Log(path, 100).append({"step": 150, "loss": "again"})
    expected = ["step", "loss", "generator"], ["50", "2.5", ""], ["100", "2.0", "0.7"]
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [*expected, ["150", "again", ""]]


def test_a_step_is_captured_after_its_warm_up_and_goes_on_where_it_cannot_be():
    calls, replays = [], []
    step = Step(lambda: calls.append(1), lambda function: lambda: replays.append(1), warm_up=2)
    for _ in range(5):
        step()
    assert (len(calls), len(replays)) == (2, 3)

    def impossible(function):
        raise RuntimeError("operation not permitted when stream is capturing")

    step = Step(lambda: calls.append(1), impossible, warm_up=1)
    step()
    with pytest.warns(UserWarning, match="not permitted"):
        step()
    step()
    assert len(calls) == 5


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    path = tmp_path / "x.safetensors"
    save_weights(path, {"a": torch.ones(3)}, {})
    before = path.read_bytes()
    model, unet = build_tiny_model(), RefinerUNet(RefinerConfig(widths=(8, 8, 8), depths=(1, 1, 1)))
    with torch.no_grad():
        model.encoder.to_latent.weight[0] = torch.nan
        next(unet.parameters()).fill_(torch.inf)
    for name, save in {
        r"layer\.weight": lambda: save_weights(path, {"layer.weight": torch.tensor([1e9])}, {}),
        r"encoder\.to_latent\.weight": lambda: export_weights(model, path, {}),
        "no numbers": lambda: save_refiner(unet, tmp_path / "refiner", {}),
    }.items():
        with pytest.raises(WeightsError, match=name):
            save()
    assert path.read_bytes() == before and not (tmp_path / "refiner").exists()
