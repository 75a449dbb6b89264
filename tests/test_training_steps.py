"""The step that a GPU replays as a graph: tried on the CPU with a tape, which replays tensor operations likewise."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sketchfusion_lite.training import loop
from sketchfusion_lite.training.averaging import Average
from sketchfusion_lite.training.data import CropSampler, Photo
from sketchfusion_lite.training.draws import uniform
from sketchfusion_lite.training.graphed import Dials, Step
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.recipe import CodecRecipe, CuesRecipe, Recipe, RefinerRecipe
from tests.conftest import TINY, build_tiny_model


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

    @property
    def names(self) -> set[str]:
        return {str(operation) for operation, *_ in self.operations}


def codec_recipe(folder: Path, detector: Path, **changes) -> CodecRecipe:
    fields = {
        "photos": [str(folder)],
        "hold_out": 1,
        "steps": 12,
        "phases": [[0.0, 48, 2]],
        "shrunk": 0.5,
        "model": TINY.to_dict(),
        "detector": str(detector),
        "vgg_every": 1,
        "adversarial_start": 0.3,
        "rounded_phase": 0.35,
        "warmup_steps": 2,
        "validate_minutes": 60.0,
        "checkpoint_minutes": 60.0,
    }
    return CodecRecipe(**(fields | changes))


def state_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    state = {f"mean.{i}": mean for i, mean in enumerate(run.average.means)}
    for name, module in run._stateful().items():
        state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return state


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5, msg=key)


def test_a_replayed_step_is_the_eager_step(photo_folder, tiny_weights, tmp_path, monkeypatch):
    """With an adversary that joins, shrunk crops, all draws, and a last phase: three variants, each replayed."""
    recipe = codec_recipe(photo_folder, tiny_weights)
    eager = TrainingRun(recipe, tmp_path / "eager")
    eager.run()
    monkeypatch.setattr(loop, "Step", functools.partial(Step, warm_up=1))
    tapes = []
    graphed = TrainingRun(recipe, tmp_path / "graphed")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    graphed.capture = lambda function: tapes.append(Tape(function)) or tapes[-1]
    graphed.run()
    assert len(tapes) == 3
    assert_same(state_of(eager), state_of(graphed))
    rows = [(tmp_path / name / "log.csv").read_text().split() for name in ("eager", "graphed")]
    assert rows[0][0] == rows[1][0] and len(rows[0]) == len(rows[1])


def run_of(task: str, photos: Path, codec: Path, folder: Path) -> TrainingRun:
    """A tiny run in which everything takes part from the first step on."""
    common = {"photos": [str(photos)], "hold_out": 1, "phases": [[0.0, 48, 2]]}
    recipes: dict[str, Recipe] = {
        "cues": CuesRecipe(**common),
        "codec": codec_recipe(photos, codec, adversarial_start=0.0),
        "refiner": RefinerRecipe(
            **common,
            codec=str(codec),
            flow_fraction=0.0,
            adversarial_start=0.0,
            judge="vgg",
            texture_weight=1.0,
            model={"widths": [24, 24, 24], "depths": [1, 1, 1], "down_depths": [1, 1]},
        ),
    }
    return TrainingRun(recipes[task], folder)


@pytest.mark.parametrize("task", ["cues", "codec", "refiner"])
def test_a_step_never_looks_at_a_tensor(task, photo_folder, tiny_weights, tmp_path):
    """Reading a number makes the host wait, and a graph cannot hold it; nor can it draw on the CPU."""
    run = run_of(task, photo_folder, tiny_weights, tmp_path)
    run._train_step()
    tape = Tape(functools.partial(run._step, run.task.variant(0, 0.0)))
    assert "aten.convolution.default" in tape.names, "the tape hears"
    forbidden = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "lift_fresh"}
    forbidden |= {"index_put_", "_index_put_impl_", "index_put"}  # its gradient sorts
    assert not {name for name in tape.names if name.split(".")[1] in forbidden}


@pytest.mark.parametrize("task", ["cues", "codec", "refiner"])
def test_validating_and_saving_leave_the_weights_where_they_are(
    task, photo_folder, tiny_weights, tmp_path
):
    """A codec made of the model moved some of its weights, away from their averages and from a graph."""
    run = run_of(task, photo_folder, tiny_weights, tmp_path)
    run._train_step()
    before = {n: (p.data_ptr(), p.detach().clone()) for n, p in run.average.named.items()}
    run.validate()
    run.save()
    modules = run.task.modules_to_train()
    after = {n: p for prefix, m in modules for n, p in m.named_parameters(prefix=prefix)}
    for name, (place, weight) in before.items():
        assert after[name].data_ptr() == place and torch.equal(after[name], weight), name


def test_a_step_is_captured_after_its_warm_up_and_goes_on_where_it_cannot_be():
    calls, replays = [], []

    def capture(function):
        return lambda: replays.append(1)

    step = Step(lambda: calls.append(1), capture, warm_up=2)
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


def test_resuming_a_codec_equals_running_through(photo_folder, tiny_weights, tmp_path):
    """Stopped before the adversary joins, and again within the last phase."""
    recipe = codec_recipe(photo_folder, tiny_weights)
    through = TrainingRun(recipe, tmp_path / "through")
    through.run()
    folder = tmp_path / "parts"
    TrainingRun(recipe, folder).run(max_steps=3)
    TrainingRun(recipe, folder, resume=True).run(max_steps=7)
    last = TrainingRun(recipe, folder, resume=True)
    assert last.step == 10 and last.last
    last.run()
    assert_same(state_of(through), state_of(last))


def test_the_last_phase_trains_what_follows_the_encoder(photo_folder, tiny_weights, tmp_path):
    recipe = codec_recipe(photo_folder, tiny_weights)
    run = TrainingRun(recipe, tmp_path)
    run.run(max_steps=8)
    means = dict(zip(run.average.named, (m.clone() for m in run.average.means), strict=True))
    assert run.task.variant(8, 8 / 12).rounded
    scale = run.task.rate.log_scale.clone()
    run.run(max_steps=1)
    assert run.task.rate.log_scale == scale, "nothing is left that the controller could move"
    held = (
        "model.encoder",
        "model.gain",
        "model.entropy.analysis",
        "model.entropy.prior.quantiles",
    )
    for name, weight in run.average.named.items():
        assert torch.equal(weight, means[name]) == name.startswith(held), name
    assert run.learning_rate_factor() < 0.25


def test_a_run_validates_and_exports_its_averages(photo_folder, tmp_path):
    fields = {"photos": [str(photo_folder)], "hold_out": 2, "phases": [[0.0, 48, 2]], "steps": 8}
    run = TrainingRun(CuesRecipe(**fields), tmp_path)
    run.run()
    raw = run.task.detector.state_dict()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    averaged = state["modules"]["detector"]
    assert any(not torch.equal(raw[key], averaged[key]) for key in raw)
    assert all(torch.equal(raw[k], state["weights"][f"detector.{k}"]) for k in raw)
    from sketchfusion_lite.weights_io import load_part

    exported = load_part(run.exported, "boundary_detector")
    assert all(torch.allclose(exported[k], averaged[k], atol=1e-3) for k in averaged)  # float16


def test_averages_follow_and_step_aside():
    layer = torch.nn.Linear(2, 2)
    average = Average([("layer", layer)], decay=0.5)
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


def test_shrunk_crops_show_more_of_a_photo():
    """Stripes of one pixel become grey where the crop is shrunk, and photos too small for it are left out."""
    stripes = (torch.arange(80) % 2 * 255).byte().expand(4, 80, 80).contiguous()
    photo = Photo("stripes", stripes)
    images, _ = CropSampler([photo], seed=0, shrunk=0.5).batch(0, 48, 4)
    contrast = images.std(dim=(1, 2, 3))
    assert contrast[:2].min() > 0.49 and contrast[2:].max() < 0.45
    small = Photo("small", stripes[:, :60, :60].contiguous())
    images, _ = CropSampler([small], seed=0, shrunk=0.5).batch(0, 48, 4)
    assert images.std(dim=(1, 2, 3)).min() > 0.49


def test_the_rounded_rate_is_counted_beside():
    """What the controller holds does not depend on how the loss counts."""
    from sketchfusion_lite.training.codec_task import QUANTISERS

    model = build_tiny_model()
    image, boundaries = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    found = {}
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


def test_dials_turn_in_place():
    dials = Dials(step=0, weight=0.0)
    held = dials.step, dials.weight
    dials.turn(step=7, weight=0.25)
    assert (held[0].item(), held[1].item()) == (7, 0.25) and held[0].dtype == torch.int64
