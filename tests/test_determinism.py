"""Reference streams decode to the same integers everywhere, and streams of older releases are refused with the way out.

Their sha256 were taken when they were made, so a change of coder, tables or weights that alters what one of them means
fails here, also where encoder and decoder would still agree with each other.
"""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sketchfusion_lite import bitstream, load_codec
from sketchfusion_lite.cli.streams import entropy_model_id
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import ModelMismatch
from sketchfusion_lite.releases import RELEASED, released
from sketchfusion_lite.weights_io import SHIPPED, shipped_weights
from tools import check_streams as tool

ROOT = Path(__file__).parents[1]


MANIFEST = tool.read_manifest()
SHIPPING = {row.model_id: row for row in RELEASED if row.ships}
CURRENT = [entry for entry in MANIFEST if int(entry["model_id"], 16) in SHIPPING]
OLDER = [entry for entry in MANIFEST if entry not in CURRENT]
# Weights of releases that this one does not ship, as git's history has them.
BLOBS = {
    "0x1ee4": "272909a356dbfe677a0ab655075f3cbb88559985",
    "0xa9e6": "32b1cc16868a84f79f0a91cc7a1505e9dc1249c7",
    "0x7d21": "84ac0ca9b4d6994983611f55690a776bc2fc955a",
    "0x0881": "e974923fe13223f8cc5f5a0ab1ee6b0ce7cdf2a8",
}


@pytest.fixture(scope="module")
def codecs(shipped_codec) -> dict[str, SketchFusionCodec]:
    lines = load_codec("lines", device="cpu", dtype="float32")
    return {f"{codec.model_id:#06x}": codec for codec in (shipped_codec, lines)}


@pytest.mark.parametrize("entry", CURRENT, ids=lambda entry: entry["file"])
def test_a_reference_stream_means_what_it_meant(entry, codecs):
    verdict = tool.check(entry, codecs[entry["model_id"]])
    assert verdict.file_equal and verdict.integers_equal
    assert verdict.difference <= tool.TOLERANCE["float32"]
    if "escapes" in entry["file"]:
        codec = codecs[entry["model_id"]]
        units = tool.decoded_integers(codec, (tool.STREAMS / entry["file"]).read_bytes())
        # in units of 1/8: no row of any table reaches as far
        assert units.abs().max() > 8 * max(map(len, codec.coder.tables.cdf_lists))


@pytest.mark.parametrize(
    ("threads", "options"),
    [("1", ["--no-onednn"]), ("2", ["--dtype", "bfloat16"])],
    ids=["1-thread-native", "2-threads-bfloat16"],
)
def test_reference_streams_in_other_processes(threads, options, tmp_path):
    table = tmp_path / "rows.csv"
    command = [sys.executable, str(ROOT / "tools" / "check_streams.py"), *options]
    done = subprocess.run(
        [*command, "--threads", threads, "--out", str(table)],
        env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = csv.DictReader(table.open(encoding="utf-8"))
    assert row["threads"] == threads
    assert row["onednn"] == ("off" if "--no-onednn" in options else "on")
    assert int(row["streams"]) == int(row["equal"]) == len(CURRENT)


def test_one_other_integer_is_noticed(codecs):
    """The check itself can fail: on other integers, other bytes, and another picture."""
    entry = CURRENT[0]
    codec = codecs[entry["model_id"]]
    for field in ("sha256", "integers_sha256"):
        assert not tool.check(entry | {field: "0" * 64}, codec).passes(255)
    inverted = bytes(255 - value for value in bytes.fromhex(entry["thumbnail"])).hex()
    assert not tool.check(entry | {"thumbnail": inverted}, codec).passes(tool.TOLERANCE["bfloat16"])
    try:  # a program's default dtype is no reason for others
        torch.set_default_dtype(torch.bfloat16)
        integers = tool.decoded_integers(codec, (tool.STREAMS / entry["file"]).read_bytes())
    finally:
        torch.set_default_dtype(torch.float32)
    assert tool.sha256_of_integers(integers) == entry["integers_sha256"]
    other = integers.clone()
    other.view(-1)[-1] += 1
    assert tool.sha256_of_integers(other) != tool.sha256_of_integers(integers)


def test_the_manifest_is_complete():
    assert {entry["file"] for entry in MANIFEST} == {p.name for p in tool.STREAMS.glob("*.skf")}
    for entry in MANIFEST:
        data = (tool.STREAMS / entry["file"]).read_bytes()
        header = bitstream.parse(data).header
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
        assert f"{header.model_id:#06x}" == entry["model_id"]
    assert {row.model_id for row in RELEASED} == {int(e["model_id"], 16) for e in MANIFEST}
    assert {section for e in MANIFEST for section in e["missing"]} == {"structure", "tone"}


# --------------------------------------------------------------------------------------------------
# Released models


@pytest.mark.parametrize("name", SHIPPED)
def test_the_table_names_the_shipped_models(name):
    row = released(entropy_model_id(shipped_weights(name)))
    assert row is not None, "a new model: add it to releases.py, and its reference streams"
    assert row.ships and row.weights == name
    assert sum(row.ships and row.weights == name for row in RELEASED) == 1
    assert len({row.model_id for row in RELEASED}) == len(RELEASED), "an id used twice"
    assert BLOBS.keys() == {f"{row.model_id:#06x}" for row in RELEASED if not row.ships}


@pytest.mark.parametrize("entry", OLDER, ids=lambda entry: entry["file"])
def test_a_stream_of_an_older_release_is_refused_by_name(entry, shipped_codec):
    """Streams that the weights of earlier releases made."""
    data = (tool.STREAMS / entry["file"]).read_bytes()
    with pytest.raises(ModelMismatch) as caught:
        shipped_codec.decode(data, "preview", name="holiday.skf")
    message, row = str(caught.value), released(int(entry["model_id"], 16))
    assert message.startswith("holiday.skf: ")
    assert entry["model_id"] in message and f"release {row.last}" in message
    assert "weights=FILE" in message


@pytest.mark.parametrize("model_id", BLOBS)
def test_weights_of_an_older_release_decode_its_streams(model_id, tmp_path):
    """What refusing by name promises: with ``--weights`` the same integers and pictures come out as ever."""
    found = subprocess.run(
        ["git", "cat-file", "blob", BLOBS[model_id]], cwd=ROOT, capture_output=True
    )
    if found.returncode:
        pytest.skip("no git history with the weights of that release")
    weights = tmp_path / "old.safetensors"
    weights.write_bytes(found.stdout)
    verdicts = tool.check_all("cpu", torch.float32, weights)
    assert len(verdicts) == sum(entry["model_id"] == model_id for entry in OLDER) >= 2
    assert all(verdict.passes(tool.TOLERANCE["float32"]) for verdict in verdicts)


def test_a_stream_of_the_other_shipped_model_says_which_weights(codecs):
    base, lines = (
        f"{row.model_id:#06x}" for row in sorted(SHIPPING.values(), key=lambda r: r.weights)
    )
    entry = next(entry for entry in CURRENT if entry["model_id"] == lines)
    data = (tool.STREAMS / entry["file"]).read_bytes()
    with pytest.raises(ModelMismatch, match="weights='lines'"):
        codecs[base].decode(data, "preview")
    assert codecs[lines].decode(data, "preview").image.size == (entry["width"], entry["height"])
    unknown = bitstream.pack(bitstream.Header(16, 16, 100, 0xBEEF), bytes(8), b"", b"")
    with pytest.raises(ModelMismatch, match="weights of model 0xbeef"):
        codecs[base].decode(unknown, "preview")


# --------------------------------------------------------------------------------------------------
# Start-up


def test_loading_a_codec_does_not_import_the_compiler():
    """``torch._dynamo`` and diffusers take longer to import than all else does; coding and refining need neither."""
    code = (
        "import sys, torch\n"
        "from sketchfusion_lite import load_codec\n"
        "codec = load_codec(device='cpu', dtype='float32')\n"
        "data = codec.encode(torch.rand(1, 3, 32, 32), quality=1.0).data\n"
        "assert codec.decode(data, realism=0.5).stage == 'refined'\n"
        "heavy = {'torch._dynamo', 'sympy', 'torchvision', 'diffusers', 'pandas', 'scipy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
