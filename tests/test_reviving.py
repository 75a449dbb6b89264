"""Units that no input reaches: blocks that leak, and the revival of what is dead already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sketchfusion_lite.blocks import BottleneckBlock, blocks, leak
from sketchfusion_lite.codec import SketchFusionCodec, export_weights, load_codec
from sketchfusion_lite.model import SketchFusionModel
from sketchfusion_lite.training.inspection import live_units
from sketchfusion_lite.training.muon import build_optimizers
from sketchfusion_lite.training.reviving import revive
from tests.conftest import TINY, build_tiny_model


def kill(block: BottleneckBlock, units: slice) -> None:
    """Bias so far below zero that nothing reaches it."""
    block.spatial.bias.data[units] = -100.0


def batch(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 16, 12, 12, generator=torch.Generator().manual_seed(seed))


def gradient_of(network: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    network.zero_grad()
    network(batch()).square().mean().backward()
    return weight.grad


def test_a_dead_unit_has_no_gradient_unless_the_block_leaks():
    torch.manual_seed(0)
    stack = blocks(16, 2)
    kill(stack[0], slice(3))
    weight = stack[0].spatial.weight
    assert (
        gradient_of(stack, weight)[:3].abs().max() == 0 < gradient_of(stack, weight)[3:].abs().max()
    )
    leak(stack, 0.02)
    assert gradient_of(stack, weight)[:3].abs().amax(dim=(1, 2, 3)).min() > 0
    leak(stack, 0.0)
    assert gradient_of(stack, weight)[:3].abs().max() == 0, "no ReLU again"


def test_revival_touches_the_dead_alone_and_hardly_changes_what_is_computed():
    torch.manual_seed(0)
    stack = blocks(16, 3)
    kill(stack[0], slice(3))
    kill(stack[2], slice(None))
    before, state = stack(batch()), {k: v.clone() for k, v in stack.state_dict().items()}
    assert revive(stack, batch()) == {"0": 3, "1": 0, "2": 8}
    assert all(alive.all() for alive in live_units(stack, batch(1)).values())
    changed = {k for k, v in stack.state_dict().items() if not torch.equal(v, state[k])}
    assert changed == {
        f"{n}.{k}" for n in (0, 2) for k in ("spatial.weight", "spatial.bias", "expand.weight")
    }
    assert torch.equal(stack[0].spatial.weight[3:], state["0.spatial.weight"][3:])
    apart = (stack(batch()) - before).std() / before.std()
    assert 0 < apart < 0.2
    assert revive(stack, batch()) == {"0": 0, "1": 0, "2": 0}


def test_the_slope_is_stored_with_the_weights_and_zero_is_what_older_ones_had(tmp_path: Path):
    torch.manual_seed(0)
    model = SketchFusionModel(replace(TINY, negative_slope=0.125))
    model.eval()
    path = tmp_path / "leaky.safetensors"
    export_weights(model, path, {"recipe": "none"})
    loaded = load_codec(path, device="cpu").model
    acts = [m.act for m in loaded.modules() if isinstance(m, BottleneckBlock)]
    assert acts and all(act.negative_slope == 0.125 for act in acts)
    old = {k: v for k, v in TINY.to_dict().items() if k != "negative_slope"}
    plain = SketchFusionModel(type(TINY).from_dict(old))
    assert all(
        isinstance(m.act, nn.ReLU) for m in plain.modules() if isinstance(m, BottleneckBlock)
    )


def test_a_leaky_model_codes_like_any_other(photo: torch.Tensor):
    model = build_tiny_model()
    leak(model, 0.125)
    codec = SketchFusionCodec.from_model(model)
    encoded = codec.encode(photo, quality=3.0)
    once, again = (codec.decode(encoded.data).preview.tobytes() for _ in range(2))
    assert once == again and encoded.bpp > 0


@pytest.mark.parametrize(("gain_lr", "groups"), [(0.0, 2), (0.5, 3)])
def test_gain_vectors_may_have_a_rate_of_their_own(gain_lr: float, groups: int):
    model = build_tiny_model()
    optimizers = build_optimizers([("model", model)], 0.1, 0.2, (), ("model.gain",), gain_lr)
    assert len(optimizers) == groups
    sizes = [len(o.param_groups[0]["params"]) for o in optimizers]
    assert sum(sizes) == sum(p.requires_grad for p in model.parameters())
    (own,) = [
        o for o in optimizers if any(p is model.gain.log_gain for p in o.param_groups[0]["params"])
    ]
    assert own.param_groups[0]["lr"] == (gain_lr or 0.2)
    assert (len(own.param_groups[0]["params"]) == 2) == bool(gain_lr)
