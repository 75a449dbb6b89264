"""PriorRefiner with tiny random networks: sizes, seeds, step counts, what the picture depends on, loading."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

from sketchfusion_lite.conditioning import RefinementCondition, Refiner
from sketchfusion_lite.errors import ArgumentError, DependencyMissing, WeightsError
from sketchfusion_lite.priors import PriorRefiner, load_prior, schedule_length

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


TOKENS = ("bos", "eos", "pad")


def build_tokenizer(folder: Path) -> transformers.CLIPTokenizer:
    """A byte-level vocabulary of letters, enough for every prompt here."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def build_components(folder: Path, controlnet: bool) -> dict:
    """Everything a Stable Diffusion pipeline consists of, random and tiny; the VAE reduces by 2."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(folder / "tokenizer")
    widths = {"block_out_channels": (4, 8), "norm_num_groups": 2}
    sizes = widths | {"layers_per_block": 1, "cross_attention_dim": 8, "attention_head_dim": 2}
    sizes |= {"in_channels": 4, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    up = ("CrossAttnUpBlock2D", "UpBlock2D")
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 16, "vocab_size": len(tokenizer)}
    text |= {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in TOKENS}
    components = {
        "unet": diffusers.UNet2DConditionModel(
            sample_size=16, out_channels=4, up_block_types=up, **sizes
        ),
        "vae": diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            **widths,
        ),
        "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**text)),
        "tokenizer": tokenizer,
        "scheduler": diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        "safety_checker": None,
        "feature_extractor": None,
    }
    if controlnet:
        control = diffusers.ControlNetModel(conditioning_embedding_out_channels=(4, 8), **sizes)
        # A fresh ControlNet ends in zeros and would change nothing.
        for block in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
            torch.nn.init.normal_(block.weight, std=0.5)
        torch.nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight, std=0.5)
        components["controlnet"] = control
    for part in components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return components


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    components = build_components(tmp_path_factory.mktemp("plain"), controlnet=False)
    return diffusers.StableDiffusionImg2ImgPipeline(**components, requires_safety_checker=False)


@pytest.fixture(scope="module")
def controlled(tmp_path_factory):
    components = build_components(tmp_path_factory.mktemp("controlled"), controlnet=True)
    kind = diffusers.StableDiffusionControlNetImg2ImgPipeline
    return kind(**components, requires_safety_checker=False)


def condition_of(height: int = 18, width: int = 22, seed: int = 7) -> RefinementCondition:
    generator = torch.Generator().manual_seed(1)
    return RefinementCondition(
        preview=torch.rand(1, 3, height, width, generator=generator),
        y_hat=torch.zeros(1, 4, -(-height // 16), -(-width // 16)),
        sketch=torch.rand(1, 1, height, width, generator=generator).round(),
        quality=torch.tensor([2.0]),
        seed=seed,
    )


@pytest.mark.parametrize("size", [(51, 70), (1, 3)])
def test_the_picture_has_the_previews_size_and_range(controlled, size):
    assert isinstance(PriorRefiner(controlled), Refiner)
    picture = PriorRefiner(controlled).refine(condition_of(*size), 2)
    assert picture.shape == (1, 3, *size) and picture.dtype == torch.float32
    assert float(picture.min()) >= 0 and float(picture.max()) <= 1


def test_the_seed_alone_decides_the_noise(plain, capfd):
    refiner = PriorRefiner(plain)
    first = refiner.refine(condition_of(), 2)
    assert "2/2" not in capfd.readouterr().err, "no progress bar unless it was asked for"
    torch.rand(5)  # the global generator must not matter
    assert torch.equal(first, refiner.refine(condition_of(), 2))
    assert not torch.allclose(first, refiner.refine(condition_of(seed=8), 2), atol=1e-3)
    refiner.refine(condition_of(seed=2**32 - 1), 1)


@pytest.mark.parametrize(("steps", "strength"), [(1, 0.05), (3, 0.55)])
def test_steps_are_what_runs(plain, strength, steps, monkeypatch):
    calls, done, forward = [], [], plain.unet.forward
    monkeypatch.setattr(plain.unet, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    refiner = PriorRefiner(plain, strength=strength)
    refiner.refine(condition_of(8, 8), steps, lambda step, _: done.append(step))
    assert done == list(range(1, steps + 1)) and len(calls) == steps


def test_no_rounding_costs_a_step():
    for percent in range(5, 101):
        for steps in range(1, PriorRefiner.max_steps + 1):
            length = schedule_length(steps, percent / 100)
            assert int(length * (percent / 100)) == steps and length <= 1000


def test_progress_pictures_end_in_the_result(controlled):
    seen = []
    picture = PriorRefiner(controlled).refine(
        condition_of(9, 14), 3, lambda _, image: seen.append(image)
    )
    assert all(image.shape == (1, 3, 9, 14) for image in seen)
    assert torch.allclose(seen[-1], picture, atol=1e-5)
    assert not torch.allclose(seen[0], seen[-1], atol=1e-4)


def test_the_dial_mixes_the_preview_with_the_priors_picture(plain):
    condition, seen = condition_of(), []
    refiner = PriorRefiner(plain)
    none = refiner.refine(condition, 2, lambda _, picture: seen.append(picture), realism=0)
    half, whole = (refiner.refine(condition, 2, realism=dial) for dial in (0.5, 1))
    assert torch.equal(none, condition.preview) and all(torch.equal(p, none) for p in seen)
    assert len(seen) == 2 and torch.equal(whole, refiner.refine(condition, 2))
    assert torch.allclose(half, (condition.preview + whole) / 2, atol=1e-6)


def test_the_sketch_matters_with_a_controlnet_only(controlled, plain):
    condition = condition_of()
    redrawn = dataclasses.replace(condition, sketch=1 - condition.sketch)
    refiner = PriorRefiner(controlled)
    difference = (refiner.refine(condition, 2) - refiner.refine(redrawn, 2)).abs().max()
    assert difference > 1e-3
    deaf = PriorRefiner(controlled, control_scale=0.0)
    assert torch.equal(deaf.refine(condition, 2), deaf.refine(redrawn, 2))
    without = PriorRefiner(plain)
    assert torch.equal(without.refine(condition, 2), without.refine(redrawn, 2))
    assert refiner.has_controlnet and not without.has_controlnet


def test_the_controlnet_sees_white_lines_on_black(controlled, monkeypatch):
    seen = []
    forward = controlled.controlnet.forward

    def spy(*args, **options):
        seen.append(options["controlnet_cond"])
        return forward(*args, **options)

    monkeypatch.setattr(controlled.controlnet, "forward", spy)
    condition = condition_of(11, 14)
    PriorRefiner(controlled).refine(condition, 1)
    assert seen[0].shape == (1, 3, 12, 14)
    expected = (1 - condition.sketch).expand(-1, 3, -1, -1)
    assert torch.equal(seen[0][..., :11, :], expected)
    assert torch.equal(seen[0][..., 11, :], expected[..., 10, :]), "padded by the border"


def test_the_preview_matters_and_strength_says_how_little(plain):
    condition = condition_of()
    other = dataclasses.replace(condition, preview=1 - condition.preview)

    def influence(strength: float) -> float:
        refiner = PriorRefiner(plain, strength=strength)
        return float((refiner.refine(condition, 3) - refiner.refine(other, 3)).abs().mean())

    assert influence(0.1) > influence(1.0) and influence(0.1) > 1e-3


def test_prompts_are_read_and_guidance_is_skipped_without_them(plain, monkeypatch):
    batches = []
    forward = plain.unet.forward

    def spy(sample, *args, **options):
        batches.append(len(sample))
        return forward(sample, *args, **options)

    monkeypatch.setattr(plain.unet, "forward", spy)
    condition = condition_of()
    silent = PriorRefiner(plain).refine(condition, 2)
    told = PriorRefiner(plain, prompt="a cat", negative_prompt="dog").refine(condition, 2)
    assert batches == [1, 1, 2, 2] and not torch.equal(silent, told)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"steps": steps} for steps in (0, 51, 2.0, True)),
        {"strength": 0.0},
        {"strength": 1.1},
        {"guidance_scale": float("nan")},
        {"control_scale": -1},
    ],
)
def test_numbers_out_of_range(plain, wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        steps = wrong.pop("steps", 1)
        PriorRefiner(plain, **wrong).refine(condition_of(), steps)


def test_other_pipelines_are_refused(plain, controlled):
    text_to_image = diffusers.StableDiffusionPipeline(
        **plain.components, requires_safety_checker=False
    )
    for pipeline in (text_to_image, object()):
        with pytest.raises(ArgumentError, match=r"StableDiffusion\w*Img2ImgPipeline"):
            PriorRefiner(pipeline)
    parts = controlled.components | {"controlnet": [controlled.controlnet] * 2}
    several = type(controlled)(**parts, requires_safety_checker=False)
    with pytest.raises(ArgumentError, match="several ControlNets"):
        PriorRefiner(several)
    for scheduler in (diffusers.PNDMScheduler(), diffusers.HeunDiscreteScheduler()):
        parts = plain.components | {"scheduler": scheduler}
        with pytest.raises(ArgumentError, match="DDIMScheduler"):
            PriorRefiner(type(plain)(**parts, requires_safety_checker=False))


def test_values_that_are_not_finite_are_reported(plain, monkeypatch):
    monkeypatch.setattr(plain.vae.decoder.conv_out.bias, "data", torch.full((3,), torch.nan))
    with pytest.raises(WeightsError, match="float32"):
        PriorRefiner(plain).refine(condition_of(), 1)


# Loading ------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, controlled):
    """A model as it lies on a disk, with the scheduler that Stable Diffusion 1.5 comes with."""
    parts = {name: part for name, part in controlled.components.items() if name != "controlnet"}
    scheduler = diffusers.PNDMScheduler.from_config(
        controlled.scheduler.config, skip_prk_steps=True, steps_offset=1
    )
    pipeline = diffusers.StableDiffusionPipeline(
        **parts | {"scheduler": scheduler}, requires_safety_checker=False
    )
    pipeline.save_pretrained(tmp_path / "model")
    controlled.controlnet.save_pretrained(tmp_path / "control")
    return tmp_path / "model", tmp_path / "control"


def test_saved_and_loaded_gives_the_same_picture(folders, controlled):
    model, control = folders
    loaded = load_prior(model, control, device="cpu", strength=0.4)
    assert isinstance(loaded.pipeline.scheduler, diffusers.DDIMScheduler)
    assert loaded.pipeline.safety_checker is None and loaded.strength == 0.4
    parts = controlled.components | {"scheduler": loaded.pipeline.scheduler}
    original = PriorRefiner(type(controlled)(**parts, requires_safety_checker=False), strength=0.4)
    expected = original.refine(condition_of(), 2)
    # Not bit by bit: weights mapped from a file may be aligned otherwise, and summed in another order.
    assert torch.allclose(loaded.refine(condition_of(), 2), expected, atol=1e-5)
    without = load_prior(str(model), device="cpu", strength=0.4)
    assert not without.has_controlnet
    assert not torch.allclose(without.refine(condition_of(), 2), expected, atol=1e-3)


def test_loading_leaves_the_meta_device_working(folders):
    torch.utils._device._device_constructors.cache_clear()  # as in a fresh process
    load_prior(folders[0], device="cpu")
    with torch.device("meta"):  # what load_codec builds its model under
        assert torch.linspace(0, 1, 2).is_meta


def test_dtype_is_obeyed(folders):
    pipeline = load_prior(*folders, device="cpu", dtype=torch.bfloat16).pipeline
    assert pipeline.unet.dtype == pipeline.controlnet.dtype == torch.bfloat16


@pytest.mark.parametrize("part", ["model/unet", "model/vae", "model/text_encoder", "control"])
def test_pickles_are_never_loaded(folders, part, monkeypatch):
    (weights,) = (folders[0].parent / part).glob("*.safetensors")
    weights.unlink()
    for name in (weights.with_suffix(".bin").name, "pytorch_model.bin"):
        weights.with_name(name).write_bytes(b"a pickle that must not be opened")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened a pickle"))
    with pytest.raises(WeightsError, match=r"hf download .*safetensors"):
        load_prior(*folders, device="cpu")


def test_missing_weights_name_the_id_and_the_command(folders, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"^some/model: .*hf download some/model --local-dir"):
        load_prior("some/model", device="cpu")
    with pytest.raises(WeightsError, match=r"^some/lines: .*hf download some/lines --local-dir"):
        load_prior(folders[0], "some/lines", device="cpu")


def test_missing_and_damaged_folders(folders, tmp_path):
    weights = folders[0] / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for folder, message in (
        (tmp_path / "nothing", r"no such folder.*hf download"),
        (tmp_path, r"model_index\.json"),
        (folders[0], "cannot be had"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_prior(folder, device="cpu")


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_missing_packages_say_what_to_install(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyMissing, match=rf"{package}.*\[priors\]"):
        load_prior("some/model")
