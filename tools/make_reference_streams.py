"""Make the reference streams in ``tests/streams``, for a new model only: those that exist are there to stay.

    python tools/make_reference_streams.py                # streams of the shipped models that have none yet
    python tools/make_reference_streams.py --thumbnails   # a better decoder: new previews of the same streams

A stream that is made again may differ, because encoders round floats; how it decodes may not, ever.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from check_streams import STREAMS, decoded_integers, read_manifest, sha256_of_integers, thumbnail
from PIL import Image

from sketchfusion_lite import bitstream, load_codec
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import OutputError, SketchFusionError
from sketchfusion_lite.files import atomic_write_bytes
from sketchfusion_lite.samples import load_photo

Make = Callable[[SketchFusionCodec], bytes]


def blobs(width: int, height: int, seed: int) -> torch.Tensor:
    """A smooth picture with one hard edge, ``(1, 3, H, W)``."""
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    picture = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    picture[..., : height // 2, : width // 3] = 1 - picture[..., : height // 2, : width // 3]
    return picture


def escapes(codec: SketchFusionCodec) -> bytes:
    """A stream whose symbols lie far outside the frequency tables: every one is escaped."""
    generator = torch.Generator().manual_seed(3)
    config = codec.model.config
    channels = config.structure_channels + config.tone_channels
    y = torch.randn(1, channels, 1, 2, generator=generator) * 300
    z = torch.randn(1, config.hyper_channels, 1, 1, generator=generator) * 200
    header = bitstream.Header(width=32, height=16, quality_index=200, model_id=codec.model_id)
    return bitstream.pack(header, *codec.coder.encode(codec.coder.quantise(y, z, 200)))


def photo(name: str, width: int, height: int, quality: float, effort: int = 0) -> Make:
    """A maker of a sample photo's stream, at a size of one's own."""

    def made(codec: SketchFusionCodec) -> bytes:
        image = load_photo(name).image.resize((width, height), Image.Resampling.LANCZOS)
        return codec.encode(image, quality=quality, effort=effort).data

    return made


def drawn(picture: torch.Tensor, quality: float) -> Make:
    """A maker of a synthetic picture's stream."""
    return lambda codec: codec.encode(picture, quality=quality).data


def cut(make: Make, section: str) -> Make:
    """A maker of the same stream, cut in the middle of a section."""

    def made(codec: SketchFusionCodec) -> bytes:
        data = make(codec)
        sizes = bitstream.parse(data).section_bytes
        order = [s for s in bitstream.SECTIONS if sizes[s]]
        start = sizes["header"] + sum(2 + sizes[s] for s in order[: order.index(section)])
        return data[: start + sizes[section] // 2]

    return made


BASE: dict[str, Make] = {
    "one-pixel-1x1-q0": drawn(torch.full((1, 3, 1, 1), 0.4), 0.0),
    "blobs-33x17-q2.5": drawn(blobs(33, 17, seed=1), 2.5),
    "blobs-64x64-q0": drawn(blobs(64, 64, seed=2), 0.0),
    "noise-64x64-q5": drawn(
        torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)), 5.0
    ),
    "coffee-97x51-q1": photo("coffee", 97, 51, 1.0),
    "astronaut-160x120-q2": photo("astronaut", 160, 120, 2.0),
    "chelsea-120x160-q3.5": photo("chelsea", 120, 160, 3.5),
    "rocket-17x200-q5": photo("rocket", 17, 200, 5.0),
    "china-160x120-q2-effort1": photo("china", 160, 120, 2.0, effort=1),
    "flower-160x120-q3-cut": cut(photo("flower", 160, 120, 3.0), "tone"),
    "escapes-32x16-q3.9": escapes,
}
LINES: dict[str, Make] = {
    "coffee-97x51-q3": photo("coffee", 97, 51, 3.0),
    "astronaut-160x120-q5": photo("astronaut", 160, 120, 5.0),
    "chelsea-120x160-q2-cut": cut(photo("chelsea", 120, 160, 2.0), "structure"),
}
RECIPES = {"base": BASE, "lines": LINES}  # of all shipped models


def entry(codec: SketchFusionCodec, file: str, data: bytes) -> dict:
    """The manifest's row of a stream."""
    stream = bitstream.parse(data)
    header = stream.header
    # Far outside what it was trained on, the decoder magnifies roundings: such a picture says nothing.
    picture = None if "escapes" in file else codec.decode(data, "preview").image
    shown = picture and thumbnail(picture).hex()
    return {
        "file": file,
        "model_id": f"{codec.model_id:#06x}",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": header.width,
        "height": header.height,
        "quality": round(header.quality, 3),
        "missing": list(stream.missing),
        "integers_sha256": sha256_of_integers(decoded_integers(codec, data)),
        "thumbnail": shown,
    }


def make_streams() -> Iterator[dict]:
    """Write the streams of the shipped models that have none yet, and give the manifest's row of each."""
    for name, recipes in RECIPES.items():
        codec = load_codec(name, device="cpu", dtype="float32")
        if any(STREAMS.glob(f"{codec.model_id:04x}-*")):
            continue
        for stem, make in recipes.items():
            file, data = STREAMS / f"{codec.model_id:04x}-{stem}.skf", make(codec)
            atomic_write_bytes(file, data)
            yield entry(codec, file.name, data)


def look_again() -> Iterator[dict]:
    """Rows of the streams that exist, with the previews of today's decoders.

    Raises:
        OutputError: a stream decodes to other integers.
    """
    for codec in (load_codec(name, device="cpu", dtype="float32") for name in RECIPES):
        for row in read_manifest():
            if row["model_id"] == f"{codec.model_id:#06x}":
                again = entry(codec, row["file"], (STREAMS / row["file"]).read_bytes())
                if again["integers_sha256"] != row["integers_sha256"]:
                    raise OutputError(f"{row['file']}: decodes to other integers; do not release.")
                yield again


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--thumbnails", action="store_true", help="renew previews, not streams")
    try:
        made = look_again() if parser.parse_args().thumbnails else make_streams()
        rows = {row["file"]: row for row in (*read_manifest(), *made)}
    except SketchFusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    text = json.dumps({"format": 1, "streams": [rows[file] for file in sorted(rows)]}, indent=1)
    atomic_write_bytes(STREAMS / "manifest.json", f"{text}\n".encode())
    print(f"{len(rows)} streams, {sum(row['bytes'] for row in rows.values())} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
