"""The second receiver stage: pipeline, dial, determinism, tiles, and what it may know."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from sketchfusion_lite.codec import SketchFusionCodec, load_codec
from sketchfusion_lite.conditioning import RefinementCondition, Refiner
from sketchfusion_lite.errors import ArgumentError, WeightsError
from sketchfusion_lite.refinement import RefinementPipeline, RefinerModel
from sketchfusion_lite.refiner import RefinerConfig
from sketchfusion_lite.refiner_io import load_refiner, save_refiner, shipped_refiner
from sketchfusion_lite.sampler import FlowRefiner
from tests.conftest import tiny_unet

LATENT = 8  # channels of the tiny codec


@pytest.fixture
def pipeline() -> RefinementPipeline:
    pipeline = RefinementPipeline.of(tiny_unet())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {
        "preview": torch.rand(1, 3, 50, 70),
        "y_hat": torch.randn(1, LATENT, 4, 5),
        "quality": torch.tensor([2.0]),
    }


@pytest.fixture(scope="module")
def codec(tiny_weights, tiny_refiner) -> SketchFusionCodec:
    return load_codec(tiny_weights, device="cpu", dtype="float32", refiner=tiny_refiner)


@pytest.fixture(scope="module")
def stream(codec) -> bytes:
    torch.manual_seed(7)
    return codec.encode(torch.rand(3, 75, 109), quality=3).data


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The network --------------------------------------------------------------------------------------


def test_between_the_ends_lie_pictures_between_theirs(inputs):
    unet, x = tiny_unet(), torch.rand(1, 3, 64, 80)
    told = x, torch.ones(1), x, inputs["y_hat"], inputs["quality"]
    with torch.no_grad():
        at = {realism: unet(*told, realism) for realism in (0, 1e-6, 0.5, 1 - 1e-6, 1)}
        assert torch.equal(unet(*told), at[1]), "the interpolation left something behind"
    for end, near in ((0, 1e-6), (1, 1 - 1e-6)):
        assert torch.allclose(at[end], at[near], atol=1e-4)
    whole, first, second = ((at[a] - at[b]).norm() for a, b in ((0, 1), (0, 0.5), (0.5, 1)))
    assert 0 < max(first, second) < whole


def test_the_network_is_told_quality_and_time(inputs):
    unet, x = tiny_unet(), torch.rand(1, 3, 64, 80)
    torch.nn.init.normal_(unet.quality_bias)
    torch.nn.init.normal_(unet.middle.bias.weight)
    told = torch.tensor([[1.0, 2.0], [0.5, 2.0], [1.0, 2.5]])  # time, quality
    with torch.no_grad():
        first, *others = (unet(x, t, x, inputs["y_hat"], q) for t, q in told.unsqueeze(2))
    assert not any(torch.allclose(first, other, atol=1e-4) for other in others)


# The pipeline -------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5])
def test_steps_callbacks_and_network_calls_agree(pipeline, inputs, steps, monkeypatch):
    calls, seen = [], []
    forward = pipeline.unet.forward
    monkeypatch.setattr(
        pipeline.unet, "forward", lambda *a: calls.append(float(a[1])) or forward(*a)
    )

    def callback(pipe, step, timestep, tensors):
        assert pipe is pipeline and set(tensors) == {"denoised"}
        seen.append(step)
        return {}

    pipeline(**inputs, num_inference_steps=steps, callback_on_step_end=callback)
    assert seen == list(range(steps))
    assert calls == pytest.approx([1 - k / steps for k in range(steps)])


def test_a_callback_may_change_the_sample_and_stop(pipeline, inputs):
    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = step == 1
        return {"sample": torch.zeros_like(tensors["sample"])}

    watched = {"callback_on_step_end": stop, "callback_on_step_end_tensor_inputs": ["sample"]}
    images = pipeline(**inputs, num_inference_steps=8, output_type="pt", **watched).images
    assert torch.equal(images, torch.full_like(images, 0.5))


def test_one_step_by_hand(pipeline, inputs):
    noise = torch.randn((1, 3, 64, 80), generator=seeded(3))
    padded = torch.nn.functional.pad(inputs["preview"], (0, 10, 0, 14), mode="replicate") * 2 - 1
    with torch.no_grad():
        start = padded + pipeline.unet.config.noise * noise
        told = inputs["y_hat"], inputs["quality"]
        x0_hat = pipeline.unet(start, torch.ones(1), padded, *told)
    expected = (x0_hat * 0.5 + 0.5).clamp(0, 1)[..., :50, :70]
    images = {
        kind: pipeline(
            **inputs, num_inference_steps=1, generator=seeded(3), output_type=kind
        ).images
        for kind in ("pil", "np", "pt")
    }
    assert torch.allclose(images["pt"], expected, atol=1e-5)
    assert np.allclose(images["np"], expected.permute(0, 2, 3, 1), atol=1e-5)
    assert np.abs(np.asarray(images["pil"][0]) / 255 - images["np"][0]).max() <= 0.5 / 255 + 1e-6


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DPMSolverMultistepScheduler(**FLOW),
        diffusers.UniPCMultistepScheduler(**FLOW),
        diffusers.FlowMatchHeunDiscreteScheduler(shift=1.0),
    ],
    ids=lambda s: type(s).__name__,
)
def test_schedulers_can_be_swapped(inputs, scheduler):
    """With a network that always names the same end, every solver of the flow must arrive there."""
    unet = tiny_unet()
    unet.skip.data.zero_()
    unet.realistic.to_pixels.weight.data.zero_()
    unet.realistic.to_pixels.bias.data.fill_(0.6)  # x0_hat = 0.3
    pipeline = RefinementPipeline(RefinerModel.of(unet), scheduler)
    images = pipeline(**inputs, num_inference_steps=4, generator=seeded(), output_type="pt").images
    assert torch.allclose(images, torch.full_like(images, 0.65), atol=2e-3)


def test_codec_and_diffusers_read_what_the_other_wrote(inputs, tmp_path):
    unet = tiny_unet(codec_id=7)
    told = RefinementCondition(**inputs, sketch=torch.ones(1, 1, 50, 70), seed=3)
    save_refiner(unet, tmp_path / "ours", {})
    theirs = RefinementPipeline.from_pretrained(tmp_path / "ours", local_files_only=True)
    assert isinstance(theirs.scheduler, diffusers.FlowMatchEulerDiscreteScheduler)
    theirs.save_pretrained(tmp_path / "theirs")
    assert not list(tmp_path.rglob("*.bin"))
    refiner = load_refiner(tmp_path / "theirs")
    assert refiner.unet.config == unet.config and refiner.codec_id == 7
    for steps, realism in ((1, 1.0), (4, 0.3)):
        picture = refiner.refine(told, steps, realism=realism)
        options = {"num_inference_steps": steps, "realism": realism, "generator": seeded(3)}
        (image,) = theirs(**inputs, **options, output_type="pt", return_dict=False)
        assert torch.allclose(picture, image, atol=1e-5)
        expected = FlowRefiner(unet).refine(told, steps, realism=realism)
        assert torch.allclose(picture, expected, atol=5e-3), "stored in float16"


def test_a_refiner_takes_the_place_of_one_that_was_there(tmp_path):
    folder = tmp_path / "refiner"
    save_refiner(tiny_unet(1), folder, {"steps": 1})
    (folder / "old.txt").write_text("of the first")
    save_refiner(tiny_unet(2), folder, {"steps": 2})
    assert load_refiner(folder).codec_id == 2 and not (folder / "old.txt").exists()
    assert json.loads((folder / "training.json").read_text()) == {"steps": 2}
    assert list(tmp_path.iterdir()) == [folder], "nothing else is left"


def test_wrong_arguments_are_refused(pipeline, inputs):
    for name, values in {
        "num_inference_steps": (0, 9),
        "output_type": ("jpeg",),
        "y_hat": (torch.zeros(1, LATENT, 3, 5), torch.zeros(1, LATENT + 1, 4, 5)),
        "callback_on_step_end_tensor_inputs": (["latents"],),
    }.items():
        for value in values:
            with pytest.raises(ArgumentError, match=name):
                pipeline(**(inputs | {name: value}))


# In the codec -------------------------------------------------------------------------------------


def test_the_finest_stage_is_the_default_and_says_so(codec, stream, tiny_codec):
    decoded = codec.decode(stream)
    assert decoded.stage == codec.finest_stage == "refined" and isinstance(codec.refiner, Refiner)
    assert decoded.image.tobytes() == codec.decode(stream, "refined").image.tobytes()
    assert [codec.decode(stream, s).stage for s in ("sketch", "preview")] == ["sketch", "preview"]
    assert tiny_codec.decode(stream).stage == tiny_codec.finest_stage == "preview"
    assert load_codec("lines").finest_stage == "preview"


def test_the_dial_moves_from_one_end_to_the_other(codec, stream):
    pictures = [
        np.asarray(codec.decode(stream, "refined", realism=r).image, float) for r in (0, 0.3, 1)
    ]
    away = [np.abs(picture - pictures[0]).mean() for picture in pictures]
    assert 0 < away[1] < away[2]


def test_decodes_repeat(codec, stream):
    first = codec.decode(stream, "refined", steps=3).image.tobytes()
    torch.manual_seed(999)  # no global state is asked
    assert codec.decode(stream, "refined", steps=3).image.tobytes() == first


class Recorder:
    """A refiner that keeps what it is told."""

    max_steps = 3

    def __init__(self, told: list[RefinementCondition]) -> None:
        self.told = told

    def refine(self, condition, steps, on_step=None, realism=1.0):
        self.told.append(condition)
        return condition.preview


def test_any_refiner_can_be_plugged_in(tiny_weights, stream):
    told: list[RefinementCondition] = []
    codec = load_codec(tiny_weights, device="cpu", dtype="float32", refiner=Recorder(told))
    decoded = codec.decode(stream, "refined", steps=3)
    (condition,) = told
    assert condition.preview.shape == (1, 3, 75, 109) and condition.sketch.shape == (1, 1, 75, 109)
    assert condition.y_hat.shape == (1, LATENT, 5, 7)
    assert condition.preview.min() >= 0 and condition.preview.max() <= 1
    assert decoded.image.tobytes() == decoded.preview.tobytes()
    with pytest.raises(ArgumentError, match="1 to 3"):
        codec.decode(stream, "refined", steps=4)
    codec.decode(codec.encode(torch.rand(3, 75, 109), quality=3).data, "refined")
    assert told[0].seed != told[1].seed, "the stream sets the noise"


@pytest.mark.parametrize("realism", [0, 0.5])
def test_progress_is_shown_step_by_step(codec, stream, realism):
    seen: list[tuple[int, torch.Tensor]] = []
    decoded = codec.decode(
        stream, "refined", steps=4, realism=realism, on_step=lambda n, x: seen.append((n, x))
    )
    assert [n for n, _ in seen] == [1, 2, 3, 4]
    assert all(x.shape == (1, 3, 75, 109) and x.min() >= 0 and x.max() <= 1 for _, x in seen)
    last = seen[-1][1][0].permute(1, 2, 0).numpy() * 255
    assert np.abs(np.asarray(decoded.refined, float) - last).max() <= 0.51


def test_truncated_streams_are_refined_too(codec, stream):
    info = codec.decode(stream).info
    cut = len(stream) - info.section_bytes["tone"] - 2
    decoded = codec.decode(stream[:cut], "refined")
    assert decoded.info.missing == ("tone",) and decoded.refined.size == (109, 75)


def test_large_pictures_in_pieces(codec, tiny_weights, tiny_refiner):
    """Encoding, preview and refinement of a picture in tiles equal those of the whole."""
    torch.manual_seed(8)
    image = torch.nn.functional.interpolate(
        torch.rand(1, 3, 20, 26), size=(330, 405), mode="bicubic"
    )
    image = image.clamp(0, 1)
    pieces = load_codec(tiny_weights, device="cpu", dtype="float32", refiner=tiny_refiner)
    pieces.tile = 96
    data = codec.encode(image, quality=2).data
    assert pieces.encode(image, quality=2).data == data
    assert torch.allclose(pieces.boundaries(image), codec.boundaries(image), atol=1e-5)
    alone = codec.model.boundary_detector(image).sigmoid()  # 330x405: no multiple of 8
    assert torch.allclose(codec.boundaries(image), alone, atol=1e-6)
    whole, tiled = (c.decode(data, "refined") for c in (codec, pieces))
    for name in ("preview", "refined"):
        first, second = (np.asarray(getattr(d, name), int) for d in (whole, tiled))
        assert np.abs(first - second).max() <= 1  # rounding to 8 bits
        assert (first != second).mean() < 1e-3


def test_refiner_of_another_codec_is_refused(tiny_weights, stream, tmp_path):
    save_refiner(tiny_unet(codec_id=0x0BAD), tmp_path / "other", {})
    codec = load_codec(tiny_weights, device="cpu", dtype="float32", refiner=tmp_path / "other")
    for stage in ("refined", None):  # who gives a refiner wants it
        with pytest.raises(WeightsError, match="0x0bad"):
            codec.decode(stream, stage)


def test_missing_and_damaged_refiners(tiny_weights, stream, tiny_refiner, tmp_path):
    with pytest.raises(WeightsError, match="no refiner"):
        load_codec(tiny_weights, refiner=tmp_path / "none").decode(stream, "refined")
    broken = Path(shutil.copytree(tiny_refiner, tmp_path / "broken"))
    (weights,) = broken.rglob("*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(WeightsError, match="damaged"):
        load_refiner(broken)
    weights.write_bytes(whole)
    config = broken / "unet" / "config.json"
    for text in ("{", "[]", "[" * 10_000, " " * 100_000 + "{}"):
        config.write_text(text)
        with pytest.raises(WeightsError, match="damaged"):
            load_refiner(broken)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("widths", [8, 8, 1 << 40]),
        ("widths", [8, 8]),
        ("widths", 8),
        ("depths", [0, 1, 1]),
        ("down_depths", [True, 1]),
        ("latent_channels", "8"),
        ("noise", float("nan")),
        ("codec_id", -1),
        ("activation", ["silu"]),
        ("levels", None),  # of an earlier release, which had no such field
    ],
)
def test_configurations_that_no_refiner_has_are_refused(field, value):
    values = RefinerConfig().to_dict() | {"_class_name": "RefinerModel", field: value}
    message = field
    if value is None:
        del values[field]
        message = r"0\.7\.0 or before.*recipe 'refiner'"
    with pytest.raises(WeightsError, match=message):
        RefinerConfig.from_dict(values)


_ELSEWHERE = """
import sys, hashlib
from pathlib import Path
from sketchfusion_lite import load_codec
codec = load_codec(sys.argv[1], device="cpu", dtype="float32", refiner=sys.argv[2])
image = codec.decode(Path(sys.argv[3]).read_bytes(), "refined", steps=2).image
assert "diffusers" not in sys.modules, "seconds of importing for nothing"
print(hashlib.sha256(image.tobytes()).hexdigest())
"""


def test_a_fresh_process_with_nothing_but_the_bytes_agrees(
    codec, stream, tiny_weights, tiny_refiner, tmp_path
):
    """The refiner never sees the original: the encoder's process has no advantage."""
    path = tmp_path / "photo.skf"
    path.write_bytes(stream)
    command = [sys.executable, "-c", _ELSEWHERE, tiny_weights, tiny_refiner, path]
    there = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    here = codec.decode(stream, "refined", steps=2).image.tobytes()
    assert there.stdout.strip() == hashlib.sha256(here).hexdigest()


# As shipped ---------------------------------------------------------------------------------------


def test_the_shipped_refiner_fits_the_shipped_codec(shipped_codec):
    assert shipped_codec.finest_stage == "refined"
    assert shipped_codec.refiner.codec_id == shipped_codec.model_id
    size = sum(f.stat().st_size for f in shipped_refiner().rglob("*") if f.is_file())
    assert size <= 11_900_000
