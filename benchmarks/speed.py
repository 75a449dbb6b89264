"""Seconds and memory of our codec: encode, sketch, preview, refine in 1 to 8 steps, at three sizes; encode and preview
in bfloat16 beside it; search with effort; cold start, in parts; a training step; peak memory.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

from sketchfusion_lite import load_codec
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.samples import load_photo

from .common import machine, markdown, write_rows
from .timing import in_process, median_seconds
from .training_step import BATCH, CROP, in_precisions

SIZES = ((384, 256), (768, 512), (1536, 1024))
PHOTO = (768, 512)  # of effort and memory
RATE = 0.045
STEPS = (1, 2, 4, 8)
EFFORTS = (1, 5)
IN_BOTH = 2  # sizes measured in bfloat16, too


def row(picture: str, step: str, value: float, unit: str = "s") -> dict[str, str]:
    """A row of the table: milliseconds shown of seconds, whole megabytes."""
    return {
        "picture": picture,
        "step": step,
        "value": f"{value:.3f} s" if unit == "s" else f"{value:.0f} {unit}",
    }


def coding(
    codec: SketchFusionCodec, picture: Image.Image, repeats: int = 7, steps: Sequence[int] = STEPS
) -> list[dict[str, str]]:
    """Every stage on one picture; what is not float32 says so."""
    data = codec.encode(picture, bpp=RATE).data
    actions: dict[str, Callable[[], object]] = {
        "encode, quality given": lambda: codec.encode(picture, quality=2.0),
        "encode, rate search": lambda: codec.encode(picture, bpp=RATE),
        "decode sketch": lambda: codec.decode(data, stage="sketch"),
        "decode preview": lambda: codec.decode(data, stage="preview"),
    }
    for n in steps:
        name = f"decode refined, {n} step{'s' if n > 1 else ''}"
        actions[name] = lambda n=n: codec.decode(data, stage="refined", steps=n)
    size = f"{picture.width}x{picture.height}"
    number = "" if codec.dtype == torch.float32 else ", bfloat16"
    return [row(size, name + number, median_seconds(run, repeats)) for name, run in actions.items()]


def searching(
    codec: SketchFusionCodec, picture: Image.Image, efforts: Sequence[int] = EFFORTS
) -> list[dict[str, str]]:
    """The latent search, once: seconds on the wall, and of processors."""
    size, rows = f"{picture.width}x{picture.height}", []
    for effort in efforts:
        walls, processors = time.perf_counter(), time.process_time()
        codec.encode(picture, bpp=RATE, effort=effort)
        name = f"encode, rate search, effort {effort}"
        rows.append(row(size, name, time.perf_counter() - walls))
        rows.append(row(size, f"{name}, processor time", time.process_time() - processors))
    return rows


def cold_start(repeats: int = 3) -> list[dict[str, str]]:
    """Parts of a first start, medians over fresh processes."""
    found = [in_process("benchmarks.alone", "load") for _ in range(repeats)]
    return [row("any", name, statistics.median(one[name] for one in found)) for name in found[0]]


def training(repeats: int = 3, crop: int = CROP, batch: int = BATCH) -> list[dict[str, str]]:
    """Seconds and memory of a training step."""
    size, rows = f"{batch} x {crop}x{crop}", []
    for number, found in in_precisions(repeats, crop, batch).items():
        rows.append(row(size, f"training step, {number}", found["seconds"]))
        rows.append(row(size, f"peak memory, training, {number}", found["peak MB"], "MB"))
    return rows


def memory(picture: Image.Image) -> list[dict[str, str]]:
    """Peak memory of a process that loads, encodes and decodes."""
    size = f"{picture.width}x{picture.height}"
    budget = int(RATE * picture.width * picture.height / 8)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.png"
        picture.save(path)
        for name, steps in (("encode and preview", 0), ("encode and refine", 1)):
            found = in_process("benchmarks.alone", "ours", path, budget, steps)
            rows.append(row(size, f"peak memory, {name}", found["peak MB"], "MB"))
    return rows


def main(
    sizes: Sequence[tuple[int, int]] = SIZES,
    photo: tuple[int, int] = PHOTO,
    repeats: int = 7,
    efforts: Sequence[int] = EFFORTS,
) -> None:
    print(machine())
    image = load_photo("coffee").image
    codec, rows = load_codec(device="cpu", dtype="float32"), []
    for size in sizes:
        rows += coding(codec, image.resize(size), repeats)
    half = load_codec(device="cpu", dtype="bfloat16")
    for size in sizes[:IN_BOTH]:
        rows += coding(half, image.resize(size), repeats, steps=())
    rows += searching(codec, image.resize(photo), efforts)
    rows += cold_start(min(repeats, 3)) + training(min(repeats, 3)) + memory(image.resize(photo))
    print(markdown(rows))
    write_rows("speed", rows)


if __name__ == "__main__":
    main()
