"""Training runs: they learn, resume exactly, survive a kill and a divergence, and can be captured as a graph.

The graph is tried on the CPU with a tape, which replays tensor operations likewise.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sketchfusion_lite.codec import load_codec
from sketchfusion_lite.errors import RecipeError
from sketchfusion_lite.preview import PreviewDecoder
from sketchfusion_lite.refiner_io import load_refiner
from sketchfusion_lite.training import loop
from sketchfusion_lite.training.graphed import Step
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.recipe import Recipe, load_recipe, recipe_of
from sketchfusion_lite.weights_io import load_part, load_weights
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
SMALL_UNET = {"widths": [24, 24, 24], "depths": [1, 1, 1], "down_depths": [1, 1]}


def recipe(task: str, photos: Path, codec: Path | None = None, **changes) -> Recipe:
    """A tiny recipe. ``codec`` holds the detector of a codec run, and the codec of the others."""
    fields = {"task": task, "photos": [str(photos)], "hold_out": 1, "phases": [[0.0, 48, 2]]}
    fields |= {"validate_minutes": 60.0, "checkpoint_minutes": 60.0, "warmup_steps": 2}
    if task == "codec":
        fields |= {"detector": str(codec), "model": TINY.to_dict(), "lpips_vgg_weight": 0.0}
    elif task != "cues":
        fields |= {"codec": str(codec), "lpips_vgg_weight": 0.0}
    return recipe_of(fields | changes)


def whole(task: str, photos: Path, codec: Path, **changes) -> Recipe:
    """A recipe in which everything takes part from the first step on."""
    everything = {
        "cues": {},
        "codec": {"shrunk": 0.5, "vgg_every": 1, "adversarial_start": 0.0, "rounded_phase": 0.35},
        "refiner": {"flow_fraction": 0.0, "adversarial_start": 0.0, "judge": "vgg", "vgg_every": 1}
        | {"texture_weight": 1.0, "model": SMALL_UNET},
        "encoder": {"vgg_every": 1},
    }[task]
    everything |= {} if task == "cues" else {"lpips_vgg_weight": 0.7}
    return recipe(task, photos, codec, **(everything | changes))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def state_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    state = {f"mean.{i}": mean for i, mean in enumerate(run.average.means)}
    for name, module in run.stateful().items():
        state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return state


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], rtol: float = 0) -> None:
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=rtol, atol=rtol / 10, msg=key)


@pytest.fixture(scope="module")
def trained(photo_folder, tiny_weights, tmp_path_factory) -> tuple[TrainingRun, dict]:
    """A tiny codec's run, whose adversary joins for its last step, and its networks before."""
    folder = tmp_path_factory.mktemp("runs") / "codec"
    run = TrainingRun(recipe("codec", photo_folder, tiny_weights, steps=3), folder)
    before = {name: value.clone() for name, value in state_of(run).items()}
    run.run()
    return run, before


def modules_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    return torch.load(run.checkpoint_path, weights_only=True)["modules"]["model"]


# --------------------------------------------------------------------------------------------------
# The loop


def test_a_run_learns_validates_and_exports_its_averages(photo_folder, tmp_path):
    run = TrainingRun(recipe("cues", photo_folder, steps=60), tmp_path)
    before = run.validate()["val_loss"]
    run.run()
    raw, state = run.task.detector.state_dict(), torch.load(run.checkpoint_path, weights_only=True)
    averaged = state["modules"]["detector"]
    assert any(not torch.equal(raw[key], averaged[key]) for key in raw)
    assert all(torch.equal(raw[k], state["weights"][f"detector.{k}"]) for k in raw)
    exported = load_part(run.exported, "boundary_detector")
    assert all(torch.allclose(exported[k], averaged[k], atol=1e-3) for k in averaged)  # float16
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == ["50", "60"], "the last, too"
    assert float(rows(tmp_path / "validation.csv")[-1]["val_loss"]) < before


@pytest.fixture
def one_thread():
    """Sums over several threads may differ in their last bit from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("task", "stops"), [("cues", [5]), ("codec", [3, 7]), ("refiner", [4])])
def test_stopping_and_resuming_equals_running_through(
    task, stops, photo_folder, tiny_weights, tmp_path, one_thread
):
    """The codec stops before the adversary joins, and again within the last phase."""
    late = {} if task == "cues" else {"adversarial_start": 0.3, "steps": 12}
    planned = whole(task, photo_folder, tiny_weights, **{"steps": 8} | late)
    through = TrainingRun(planned, tmp_path / "through")
    through.run()
    folder = tmp_path / "parts"
    for index, stop in enumerate(stops):
        TrainingRun(planned, folder, resume=bool(index)).run(max_steps=stop)
    with pytest.raises(RecipeError, match="resume=True"):
        TrainingRun(planned, folder)
    last = TrainingRun(planned, folder, resume=True)
    assert last.step == sum(stops) and last.last == (task == "codec")
    assert all(int(row["step"]) <= last.step for row in rows(folder / "validation.csv"))
    last.run()
    assert_same(state_of(through), state_of(last))


def test_a_checkpoint_of_another_recipe_or_release_says_how_to_go_on(photo_folder, tmp_path):
    planned = recipe("cues", photo_folder, steps=1)
    run = TrainingRun(planned, tmp_path)
    run.run()
    with pytest.raises(RecipeError, match=r"trained with task = 'cues'.*another folder"):
        TrainingRun(recipe("codec", photo_folder, detector=""), tmp_path, resume=True)
    state = torch.load(run.checkpoint_path, weights_only=True)
    older = {name: value for name, value in state.items() if name != "weights"}
    other = state | {"modules": {"detector": {"old": torch.zeros(1)}}}
    for of_another_release in (older, other):
        torch.save(of_another_release, run.checkpoint_path)
        with pytest.raises(RecipeError, match=r"another release.*start_from"):
            TrainingRun(planned, tmp_path, resume=True)


_KILLED = """
import json, sys
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.recipe import recipe_of
TrainingRun(recipe_of(json.loads(sys.argv[1])), sys.argv[2], resume=True).run()
"""


def test_kill_and_resume(photo_folder, tmp_path):
    """kill -9 while checkpoints are written all the time; the run goes on from the last one."""
    planned = recipe("cues", photo_folder, steps=400, checkpoint_minutes=0.0005)
    command = [sys.executable, "-c", _KILLED, json.dumps(planned.to_dict()), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    checkpoint, deadline = tmp_path / "checkpoint.pt", time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] > 0
    run = TrainingRun(recipe_of(state["recipe"] | {"steps": state["step"] + 3}), tmp_path, True)
    assert run.step == state["step"]
    run.run()
    assert run.step == state["step"] + 3


@pytest.mark.parametrize("steps", [2, 6], ids=["in the last step", "before"])
def test_a_run_that_diverges_ruins_no_checkpoint(photo_folder, tmp_path, steps):
    """Weights that blew up are finite at first: only the next loss tells. They were saved over the good ones once."""
    TrainingRun(recipe("cues", photo_folder, steps=1), tmp_path).run()
    sound = (tmp_path / "checkpoint.pt").read_bytes()
    wild = {"muon_lr": 1e30, "adamw_lr": 1e30, "warmup_steps": 0, "decay_start": 0.99}
    wild = recipe("cues", photo_folder, steps=steps, checkpoint_minutes=0.0, **wild)
    advice = r"diverged.*checkpoint\.pt is from before.*lower muon_lr"
    with pytest.raises(RecipeError, match=advice):
        TrainingRun(wild, tmp_path, resume=True).run()
    assert (tmp_path / "checkpoint.pt").read_bytes() == sound
    assert not list(tmp_path.glob("*.safetensors.tmp"))
    calm = TrainingRun(recipe("cues", photo_folder, steps=3), tmp_path, resume=True)
    calm.run()
    assert calm.step == 3 and (tmp_path / "checkpoint.previous.pt").read_bytes() == sound


@pytest.mark.parametrize("task", ["cues", "codec", "refiner", "encoder"])
def test_validating_and_saving_leave_no_trace(
    task, photo_folder, tiny_weights, tiny_refiner, tmp_path
):
    """Neither in the weights nor in where they lie, which a graph writes to; nor in draws, rates or the adversary."""
    named = {"refiner": str(tiny_refiner)} if task == "encoder" else {}
    run = TrainingRun(whole(task, photo_folder, tiny_weights, **named), tmp_path)
    run.train_step()
    before = {name: value.clone() for name, value in state_of(run).items()}
    places, draws = [p.data_ptr() for p in run.weights.values()], torch.get_rng_state()
    run.save()
    assert torch.equal(torch.get_rng_state(), draws)
    run.validate()
    assert_same(before, state_of(run))
    networks = run.task.networks.items()
    after = {n: p for prefix, m in networks for n, p in m.named_parameters(prefix=prefix)}
    assert [after[name].data_ptr() for name in run.weights] == places
    assert run.task.training


# --------------------------------------------------------------------------------------------------
# The step as a graph


class Tape(TorchDispatchMode):
    """Records every tensor operation with its arguments and does it again, into the same memory.

    As in a CUDA graph, numbers that Python computed keep the value that they had when they were recorded.
    """

    def __init__(self, function) -> None:
        super().__init__()
        self.operations, self.recorded = [], True
        with self:
            function()

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        keywords = keywords or {}
        result = operation(*arguments, **keywords)
        self.operations.append((operation, arguments, keywords, result))
        return result

    @torch.no_grad()
    def __call__(self) -> None:
        if self.recorded:  # a capture computes nothing; the recording has made this step
            self.recorded = False
            return
        for operation, arguments, keywords, result in self.operations:
            again = tree_leaves(operation(*arguments, **keywords))
            for old, new in zip(tree_leaves(result), again, strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def test_a_replayed_step_is_the_eager_step(photo_folder, tiny_weights, tmp_path, monkeypatch):
    """With an adversary that joins, shrunk crops, all draws, and a last phase: three variants, each replayed."""
    planned = whole("codec", photo_folder, tiny_weights, steps=12, adversarial_start=0.3)
    eager = TrainingRun(planned, tmp_path / "eager")
    eager.run()
    monkeypatch.setattr(loop, "Step", functools.partial(Step, warm_up=1))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    tapes = []
    graphed = TrainingRun(planned, tmp_path / "graphed")
    graphed.capture = lambda function: tapes.append(Tape(function)) or tapes[-1]
    graphed.run()
    assert len(tapes) == 3
    assert_same(state_of(eager), state_of(graphed), rtol=1e-4)
    logs = [(tmp_path / name / "log.csv").read_text().split() for name in ("eager", "graphed")]
    assert logs[0][0] == logs[1][0] and len(logs[0]) == len(logs[1])


@pytest.mark.parametrize("task", ["cues", "codec", "refiner", "encoder"])
def test_a_step_never_looks_at_a_tensor(task, photo_folder, tiny_weights, tiny_refiner, tmp_path):
    """Reading a number makes the host wait, and a graph cannot hold it; nor can it draw on the CPU."""
    named = {"refiner": str(tiny_refiner)} if task == "encoder" else {}
    run = TrainingRun(whole(task, photo_folder, tiny_weights, **named), tmp_path)
    run.train_step()
    tape = Tape(functools.partial(run._step, run.task.variant(1, 0.0)))
    names = {str(operation).split(".")[1] for operation, *_ in tape.operations}
    assert "convolution" in names, "the tape hears"
    forbidden = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "lift_fresh"}
    forbidden |= {"index_put_", "_index_put_impl_", "index_put"}  # its gradient sorts
    assert not names & forbidden


# --------------------------------------------------------------------------------------------------
# The codec


def test_the_codec_trains_validates_with_real_bytes_and_exports(trained, photo_folder):
    run, before = trained
    after = state_of(run)
    changed = {".".join(k.split(".")[:2]) for k in before if not torch.equal(before[k], after[k])}
    assert {"rate.log_scale", "adversary.fine", "adversary.coarse"} <= changed
    networks = {name[6:] for name in changed if name.startswith("model.")}
    assert networks == {"encoder", "entropy", "preview", "renderer", "gain"}, "no detector"
    row = {k: float(v) for k, v in rows(run.folder / "validation.csv")[-1].items()}
    assert row["actual_bpp_q2"] > row["estimated_bpp_q2"] > 0 and row["val_lpips_q2"] > 0
    codec = load_codec(run.exported, device="cpu", dtype="float32")
    picture = photo_folder / "photo0.png"
    assert codec.decode(codec.encode(picture, quality=2.0).data, "preview").image.size == (112, 80)


def test_the_last_phase_trains_what_follows_the_encoder(photo_folder, tiny_weights, tmp_path):
    run = TrainingRun(whole("codec", photo_folder, tiny_weights, steps=12), tmp_path)
    run.run(max_steps=8)
    means = [mean.clone() for mean in run.average.means]
    assert run.task.variant(8, 8 / 12).rounded
    scale = run.task.rate.log_scale.clone()
    run.run(max_steps=1)
    assert run.task.rate.log_scale == scale, "nothing is left that the controller could move"
    held = ("model.encoder", "model.gain", "model.entropy.analysis")
    held += ("model.entropy.prior.quantiles",)
    for (name, weight), mean in zip(run.weights.items(), means, strict=True):
        assert torch.equal(weight, mean) == name.startswith(held), name
    assert run.learning_rate_factor() < 0.25


def test_a_run_may_start_from_another_or_from_a_weights_file_and_it_must_fit(
    photo_folder, tiny_weights, trained, tmp_path
):
    def started(start: object, **changes) -> dict[str, torch.Tensor]:
        planned = recipe("codec", photo_folder, tiny_weights, start_from=str(start), **changes)
        return TrainingRun(planned, tmp_path / "run").task.model.state_dict()

    first, key = modules_of(trained[0]), "preview.stem.weight"
    assert_same(started(trained[0].folder), first)
    assert torch.allclose(started(trained[0].exported)[key], first[key], atol=1e-3)  # float16
    other = {"model": TINY.to_dict() | {"structure_channels": 6}}
    for start, changes, message in (
        (tmp_path / "nowhere", {}, "does not exist"),
        (photo_folder / "photo0.png", {}, "damaged, or no checkpoint"),
        (trained[0].folder, other, "does not fit"),
    ):
        with pytest.raises(RecipeError, match=message):
            started(start, **changes)
    smaller = load_recipe("lines").model | {"decoder_widths": TINY.decoder_widths}
    model = started(trained[0].folder, transplant=True, model=TINY.to_dict() | smaller)
    kept = TINY.structure_channels
    for key in ("preview.stride16.0.0.reduce.weight", "renderer.net.0.weight"):
        assert torch.equal(model[key], first[key])
    assert torch.equal(model["preview.stem.weight"], first["preview.stem.weight"][:, :kept])
    assert torch.equal(model["encoder.to_latent.bias"], first["encoder.to_latent.bias"][:kept])


def test_the_lines_only_codec_knows_nothing_but_lines(photo_folder, tiny_weights, tmp_path):
    lines = load_recipe("lines").model
    assert (lines["cues"], lines["tone_channels"]) == ("structural", 0)
    run = TrainingRun(
        recipe("codec", photo_folder, tiny_weights, steps=3, model=TINY.to_dict() | lines), tmp_path
    )
    run.run()
    codec = load_codec(run.exported, device="cpu", dtype="float32")
    decoded = codec.decode(codec.encode(torch.rand(3, 70, 90), quality=4).data, "preview")
    sections = decoded.info.section_bytes
    assert sections["tone"] == 0 and sections["structure"] > 0 and decoded.info.missing == ()
    assert decoded.preview.size == (90, 70)

    class Same(nn.Module):
        """The same lines, whatever the photo."""

        def forward(self, image):
            columns = torch.arange(image.shape[-1]).view(1, 1, 1, -1)
            return ((columns % 16) - 8.0).expand_as(image[:, :1])

    codec.model.boundary_detector = Same()
    colours = [torch.rand(3, 64, 64), torch.zeros(3, 64, 64)]
    first, second = (codec.encode(x, quality=3).data for x in colours)
    assert first == second, "colour reached the stream of a lines-only codec"


# --------------------------------------------------------------------------------------------------
# The receiver's stages


def test_a_small_preview_learns_from_the_large_one(photo_folder, trained, tmp_path):
    small_sizes = {"decoder_widths": [16, 12, 8], "decoder_depths": [1, 1, 1]}
    changes = {"steps": 40, "phases": [[0.0, 64, 4]], "decay_start": 0.9, "taught": 1.0}
    planned = recipe("preview", photo_folder, trained[0].exported, model=small_sizes, **changes)
    run = TrainingRun(planned, tmp_path)
    run.run()
    assert float(rows(tmp_path / "log.csv")[-1]["apart"]) > 0
    large, small = (
        load_codec(path, device="cpu", dtype="float32")
        for path in (trained[0].exported, run.exported)
    )
    assert small.model_id == large.model_id, "the same streams"
    assert small.model.config.decoder_widths == (16, 12, 8)
    data = large.encode(photo_folder / "photo0.png", quality=3.0).data

    def picture(codec) -> np.ndarray:
        return np.asarray(codec.decode(data, "preview").image, float)

    aim, learned = picture(large), picture(small)
    small.model.preview = PreviewDecoder(8, 6, (16, 12, 8), (1, 1, 1))
    assert np.abs(learned - aim).mean() < np.abs(picture(small) - aim).mean()


@pytest.fixture(scope="module")
def refined(photo_folder, trained, tmp_path_factory) -> tuple[TrainingRun, dict]:
    """A refiner's run, grafted and resumed on the way, and its codec's networks before."""
    codec = trained[0].exported
    changes = {"graft": str(codec), "flow_fraction": 0.5, "adversarial_start": 0.6}
    planned = recipe("refiner", photo_folder, codec, steps=8, model=SMALL_UNET, **changes)
    run = TrainingRun(planned, tmp_path_factory.mktemp("refine"))
    before = {k: v.clone() for k, v in run.task.model.state_dict().items()}
    run.run()
    return run, before


def test_the_refiner_trains_both_ends_and_leaves_the_codec_alone(refined):
    run, before = refined
    assert_same(before, run.task.model.state_dict())
    ends = run.task.unet.faithful.state_dict(), run.task.unet.realistic.state_dict()
    for key in ("up4.blocks.0.expand.weight", "to_pixels.weight"):
        assert not torch.equal(*(end[key] for end in ends))
    row = {k: float(v) for k, v in rows(run.folder / "validation.csv")[-1].items()}
    assert row["psnr_preview"] > 5
    for end in ("faithful", "realistic"):
        assert row[f"lpips_{end}"] > 0 and row[f"dists_{end}"] > 0


def test_several_steps_learn_in_bfloat16(refined):
    """An autocast forward pass returned bfloat16 where the sampler's state was float32."""
    run, _ = refined
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        losses = [run.task.loss(run.task.variant(step, 0.5))[0] for step in range(8)]
    assert torch.stack(losses).isfinite().all()


def test_the_exported_refiner_decodes_with_its_codec(refined, trained, photo_folder):
    folder, weights = refined[0].exported, trained[0].exported
    codec = load_codec(weights, device="cpu", dtype="float32", refiner=folder)
    assert load_refiner(folder).codec_id == codec.model_id
    data = codec.encode(photo_folder / "photo0.png", quality=2.0).data
    decoded = codec.decode(data, "refined")
    assert decoded.image.size == (112, 80)
    assert decoded.image.tobytes() != decoded.preview.tobytes()
    told = json.loads((folder / "training.json").read_text())
    assert told["recipe"]["task"] == "refiner" and "/" not in told["recipe"]["codec"]


def test_an_encoder_learns_for_its_receiver_at_the_same_rate(
    refined, trained, photo_folder, tmp_path
):
    """What it reads and what reads it stay: id, old files, every tensor but its own."""
    weights, folder = trained[0].exported, refined[0].exported
    changes = {"steps": 100, "phases": [[0.0, 64, 4]], "decay_start": 0.9, "refiner": str(folder)}
    changes |= {"muon_lr": 0.01, "mse_weight": 0.05, "lpips_weight": 0.0, "rate_gain": 0.05}
    run = TrainingRun(recipe("encoder", photo_folder, weights, **changes), tmp_path)
    run.run()
    old, new = (load_weights(path)[0] for path in (weights, run.exported))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert old.keys() == new.keys() and changed
    assert all(name.startswith(("encoder.", "entropy.analysis.")) for name in changed)
    before, after = (
        load_codec(path, device="cpu", dtype="float32", refiner=folder)
        for path in (weights, run.exported)
    )
    assert after.model_id == before.model_id
    data = before.encode(photo_folder / "photo0.png", quality=3.0).data
    assert after.decode(data).image.tobytes() == before.decode(data).image.tobytes()
    log = rows(tmp_path / "log.csv")
    errors = [float(row["mse_preview"]) for row in log]
    assert errors[-1] < errors[0]
    assert 0.8 < float(log[-1]["spent"]) < float(log[0]["spent"])
    row = {k: float(v) for k, v in rows(tmp_path / "validation.csv")[-1].items()}
    assert row["bpp"] > 0 and row["dists_realistic"] > 0


def test_an_encoder_is_not_trained_for_a_strangers_refiner(photo_folder, tiny_weights, tmp_path):
    with pytest.raises(RecipeError, match="--refiner"):
        TrainingRun(recipe("encoder", photo_folder, tiny_weights), tmp_path)
