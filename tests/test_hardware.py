"""Where networks run and in which numbers: what "auto" takes, what is refused, what a precision may change."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sketchfusion_lite import bitstream, load_codec
from sketchfusion_lite.cli import app
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.hardware import bfloat16_units, choose_device, choose_dtype, describe_choice
from sketchfusion_lite.images import save_image, to_pil
from sketchfusion_lite.samples import load_photo

CPU = torch.device("cpu")


def processor(monkeypatch: pytest.MonkeyPatch, **capabilities: object) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


@pytest.mark.parametrize(
    ("capabilities", "units"),
    [
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, "AMX"),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC 9654"}, "AVX512-BF16"),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, ""),
        ({"avx2": True, "cpu_name": "AMD EPYC 7763"}, ""),
        ({}, ""),
    ],
)
def test_auto_takes_bfloat16_where_it_is_faster(monkeypatch, capabilities, units):
    processor(monkeypatch, **capabilities)
    assert bfloat16_units(CPU) == units
    expected = torch.bfloat16 if units else torch.float32
    assert choose_dtype("auto", CPU) == expected
    said = describe_choice(CPU, expected)
    assert str(expected).removeprefix("torch.") in said and units in said


def test_auto_takes_bfloat16_on_a_gpu_that_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        asked = partial(lambda native, including_emulation: native, native)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", asked)
        assert choose_dtype("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", torch.float32, torch.bfloat16])
def test_a_data_type_by_name_or_as_torch_has_it(dtype):
    assert str(choose_dtype(dtype, CPU)).removeprefix("torch.") in str(dtype)


@pytest.mark.parametrize("dtype", ["float16", "single", torch.float64, torch.int8, None, 32])
def test_other_data_types_are_refused_by_name(dtype):
    with pytest.raises(ArgumentError, match=r"dtype=.*bfloat16"):
        choose_dtype(dtype, CPU)


@pytest.mark.parametrize("device", ["foo", "cuda:99", "", 1.5, "cpu:x"])
def test_a_device_that_is_not_there_is_refused_by_name(device):
    with pytest.raises(ArgumentError, match=r"device=.*'cpu'"):
        choose_device(device)


def test_a_codec_says_where_it_runs(tiny_weights):
    text = repr(load_codec(tiny_weights, "cpu", "bfloat16"))
    assert "bfloat16" in text and "cpu" in text and "0x" in text


def test_bfloat16_reads_the_same_integers_and_shows_nearly_the_same_picture(shipped_codec):
    """The promise of ``dtype="auto"``, on one photo; Kodak's means are in the results."""
    half = load_codec(device="cpu", dtype="bfloat16")
    data = shipped_codec.encode(load_photo("chelsea").image, bpp=0.045).data
    decoded = [codec.decode(data, "preview") for codec in (shipped_codec, half)]
    ours, theirs = (np.asarray(d.preview, float) for d in decoded)
    error = np.square(ours - theirs).mean()
    assert error > 0, "bfloat16 was not used"
    assert 10 * math.log10(255**2 / error) >= 40
    stream = bitstream.parse(data)
    size = [-(-side // 16) for side in decoded[0].image.size[::-1]]
    index = stream.header.quality_index
    sent = (c.coder.decode(stream.payload, index, *size, ()) for c in (shipped_codec, half))
    assert torch.equal(*sent)


def test_the_command_line_says_it(tmp_path, tiny_weights, photo):
    save_image(to_pil(photo), tmp_path / "photo.png")

    def run(*arguments: object):
        return CliRunner().invoke(app, [*map(str, arguments)])

    files, options = (tmp_path / "photo.png", tmp_path / "a.skf"), ("--weights", tiny_weights)
    done = run("encode", *files, *options, "--dtype", "bfloat16", "--quality", 2)
    assert done.exit_code == 0 and "bfloat16" in done.stdout and "cpu" in done.stdout
    refused = run("decode", files[1], tmp_path / "a.png", "--dtype", "half")
    assert refused.exit_code == ArgumentError.exit_code and "--dtype half" in refused.stderr
    facts = json.loads(run("info", "--json").stdout)
    chosen = choose_dtype("auto", choose_device("auto"))
    assert str(chosen).removeprefix("torch.") in facts["networks (auto)"]
    assert f"{load_codec(device='cpu').model_id:#06x}" in facts.values()
