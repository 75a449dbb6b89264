"""Streams coded with float networks, and decoders that differ."""

from __future__ import annotations

import subprocess

import pytest
import torch

from sketchfusion_lite.coding import SketchCoder
from sketchfusion_lite.integer import IntegerEntropyModel, export_entropy_model
from sketchfusion_workbook.lessons.entropy_coding import (
    FloatNets,
    misread,
    on_device,
    reversed_sums,
    run_node,
)

from .conftest import build_tiny_model


@pytest.fixture(scope="module")
def models() -> tuple[IntegerEntropyModel, FloatNets]:
    nets = build_tiny_model().entropy
    integers = IntegerEntropyModel(export_entropy_model(nets))
    return integers, FloatNets(nets, integers.tables)


def coded(entropy: IntegerEntropyModel | FloatNets, index: int = 102) -> tuple[bytes, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y, z = (torch.randn(1, *shape, generator=generator) for shape in ((8, 6, 9), (4, 2, 3)))
    coder = SketchCoder(entropy)
    sent = coder.quantise(3 * y, z, index)
    return b"".join(coder.encode(sent)), sent.y_hat


@pytest.mark.parametrize("kind", [0, 1])
def test_a_decoder_with_the_same_networks_alone_reads_what_was_sent(models, kind: int):
    payload, y_hat = coded(models[kind])
    assert not misread(models[kind], payload, 102, y_hat).any()
    if kind:
        other = FloatNets(build_tiny_model(seed=1).entropy, models[1].tables)
        assert misread(other, payload, 102, y_hat).any()


@pytest.mark.parametrize("moved", [reversed_sums, lambda nets: on_device(nets, "cpu")])
def test_integers_do_not_mind_the_order_of_sums_or_the_device(models, moved):
    payload, y_hat = coded(models[0])
    assert not misread(moved(models[0]), payload, 102, y_hat).any()


def test_reversed_float_sums_are_the_same_function(models):
    nets = models[1].nets
    z, quality = torch.randn(1, 4, 2, 3), torch.tensor([2.0])
    with torch.no_grad():
        ours, theirs = reversed_sums(nets).synthesis(z, quality), nets.synthesis(z, quality)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_module_runs_under_node_where_there_is_one(tmp_path):
    echo = 'import { readFileSync } from "node:fs"; process.stdout.write(readFileSync(0) + process.argv[1])'
    assert run_node(echo, tmp_path / "none", b"in ", "a") == b""
    said = run_node(echo, tmp_path, b"in ", tmp_path / "a")
    assert said in (b"", f"in {tmp_path / 'a'}".encode())
    if said:
        with pytest.raises(subprocess.CalledProcessError):
            run_node("throw 1", tmp_path, b"")
