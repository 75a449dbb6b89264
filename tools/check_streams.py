"""Decode the reference streams here and compare every integer with what was decoded when they were made.

    tests/streams/*.skf --bytes--> sha256 --integer coder--> y_hat --> sha256 --networks--> preview --> 8x8 thumbnail
                                   equal                     equal                          close

    python tools/check_streams.py [--threads N] [--dtype bfloat16] [--no-onednn] [--device cuda] [--out rows.csv]

Needs the library and this checkout. Prints a line per stream; the exit status is 1 if anything differs. Thumbnails are
compared with a tolerance, because floats differ between machines; integers are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.common import processor, record
from sketchfusion_lite import bitstream, load_codec
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.releases import released
from sketchfusion_lite.tiling import STRIDE

STREAMS = Path(__file__).parents[1] / "tests" / "streams"
THUMBNAIL = (8, 8)
TOLERANCE = {"float32": 2, "bfloat16": 4}  # levels of 255; measured on one machine: 0 and 1


class Verdict(NamedTuple):
    """What one stream did here: whether sha256 are the manifest's, and the thumbnail's largest difference of 255."""

    name: str
    file_equal: bool
    integers_equal: bool
    difference: int

    def passes(self, tolerance: int) -> bool:
        """Whether everything is as it was."""
        return self.file_equal and self.integers_equal and self.difference <= tolerance


def decoded_integers(codec: SketchFusionCodec, data: bytes) -> torch.Tensor:
    """``y_hat`` of a stream in units of 1/8: int64 ``(1, C, ceil(H/16), ceil(W/16))``."""
    stream = bitstream.parse(data)
    header = stream.header
    sides = -(-header.height // STRIDE), -(-header.width // STRIDE)
    y_hat = codec.coder.decode(stream.payload, header.quality_index, *sides, stream.missing)
    return y_hat.long()


def sha256_of_integers(integers: torch.Tensor) -> str:
    """Of the values as little-endian int64, whatever the machine's byte order."""
    return hashlib.sha256(integers.cpu().numpy().astype("<i8").tobytes()).hexdigest()


def thumbnail(picture: Image.Image) -> bytes:
    """192 bytes, 8x8 RGB, that say whether a picture is still the same one."""
    return picture.convert("RGB").resize(THUMBNAIL, Image.Resampling.BOX).tobytes()


def check(entry: dict, codec: SketchFusionCodec) -> Verdict:
    """Decode one stream of the manifest, of the codec's own model, and compare."""
    data = (STREAMS / entry["file"]).read_bytes()
    here = thumbnail(codec.decode(data, "preview").image)
    stored = here if entry["thumbnail"] is None else bytes.fromhex(entry["thumbnail"])
    difference = max(abs(a - b) for a, b in zip(here, stored, strict=True))
    return Verdict(
        entry["file"],
        hashlib.sha256(data).hexdigest() == entry["sha256"],
        sha256_of_integers(decoded_integers(codec, data)) == entry["integers_sha256"],
        difference,
    )


def read_manifest() -> list[dict]:
    """The rows of ``manifest.json``."""
    return json.loads((STREAMS / "manifest.json").read_text(encoding="utf-8"))["streams"]


def check_all(device: str, dtype: torch.dtype, weights: Path | None = None) -> list[Verdict]:
    """Check every stream that the shipped weights decode, or in their place those of an older release's weights."""
    codecs: dict[int, SketchFusionCodec] = {}
    if weights:
        codec = load_codec(weights, device, dtype)
        codecs[codec.model_id] = codec
    verdicts = []
    for entry in read_manifest():
        model_id = int(entry["model_id"], 16)
        row = released(model_id)
        if model_id not in codecs and not weights and row and row.ships:
            codecs[model_id] = load_codec(row.weights, device, dtype)
        if model_id in codecs:
            verdicts.append(check(entry, codecs[model_id]))
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="of the float networks: cpu, cuda, cuda:1")
    parser.add_argument("--dtype", choices=TOLERANCE, default="float32", help="of the same")
    parser.add_argument("--threads", type=int, help="default: as many as torch takes")
    parser.add_argument("--no-onednn", action="store_true", help="convolutions without oneDNN")
    parser.add_argument("--weights", type=Path, help="check the streams of an older model")
    parser.add_argument("--environment", default="default", help="what the table calls this one")
    parser.add_argument("--out", type=Path, help="table (.csv) that gets a row")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.mkldnn.enabled = not options.no_onednn
    verdicts = check_all(options.device, getattr(torch, options.dtype), options.weights)
    tolerance = TOLERANCE[options.dtype]
    for verdict in verdicts:
        file, integers = ("equal" if e else "DIFFERS" for e in verdict[1:3])
        off = f"{verdict.difference} of 255, allowed {tolerance}"
        print(f"{verdict.name:32} file {file:8}integers {integers:8}preview off by {off}")
    equal = sum(verdict.integers_equal for verdict in verdicts)
    cuda = options.device.startswith("cuda")
    where = {
        "environment": options.environment,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": processor(),
        "device": torch.cuda.get_device_name(options.device) if cuda else options.device,
        "threads": str(torch.get_num_threads()),
        "dtype": options.dtype,
        "onednn": "off" if options.no_onednn else "on",
    }
    print(f"{equal} of {len(verdicts)} equal: " + ", ".join(f"{k} {v}" for k, v in where.items()))
    if options.out:
        worst = max((verdict.difference for verdict in verdicts), default=0)
        counts = {"streams": len(verdicts), "equal": equal, "preview_off_by": worst}
        record(options.out, where | counts, list(where))
    return 0 if verdicts and all(verdict.passes(tolerance) for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
