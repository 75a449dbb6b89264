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
STEPS, EFFORTS = (1, 2, 4, 8), (1, 5)
IN_BOTH = 2  # sizes measured in bfloat16, too
PARTS = ("import torch", "import the library", "load the codec", "load the refiner")


def row(picture: str, step: str, value: float, unit: str = "s") -> dict[str, str]:
    """A row of the table: milliseconds shown of seconds, whole megabytes."""
    shown = f"{value:.3f} s" if unit == "s" else f"{value:.0f} {unit}"
    return {"picture": picture, "step": step, "value": shown}


def coding(
    codec: SketchFusionCodec, picture: Image.Image, repeats: int, steps: Sequence[int]
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


def main(
    sizes: Sequence[tuple[int, int]] = SIZES, photo: tuple[int, int] = PHOTO, repeats: int = 7
) -> None:
    print(machine())
    image, few = load_photo("coffee").image, min(repeats, 3)
    codec, rows = load_codec(device="cpu", dtype="float32"), []
    for size in sizes:
        rows += coding(codec, image.resize(size), repeats, STEPS)
    half = load_codec(device="cpu", dtype="bfloat16")
    for size in sizes[:IN_BOTH]:
        rows += coding(half, image.resize(size), repeats, STEPS[:2])
    picture, shown = image.resize(photo), f"{photo[0]}x{photo[1]}"
    for effort in EFFORTS:  # the latent search, once: seconds on the wall, and of processors
        walls, processors = time.perf_counter(), time.process_time()
        codec.encode(picture, bpp=RATE, effort=effort)
        name = f"encode, rate search, effort {effort}"
        rows.append(row(shown, name, time.perf_counter() - walls))
        rows.append(row(shown, f"{name}, processor time", time.process_time() - processors))
    starts = [in_process("benchmarks.alone", "load") for _ in range(few)]
    rows += [row("any", part, statistics.median(one[part] for one in starts)) for part in PARTS]
    for number, found in in_precisions(few).items():
        crops = f"{BATCH} x {CROP}x{CROP}"
        rows.append(row(crops, f"training step, {number}", found["seconds"]))
        rows.append(row(crops, f"peak memory, training, {number}", found["peak MB"], "MB"))
    with tempfile.TemporaryDirectory() as folder:
        picture.save(path := Path(folder) / "photo.png")
        budget = int(RATE * picture.width * picture.height / 8)
        for name, steps in (("encode and preview", 0), ("encode and refine", 1)):
            found = in_process("benchmarks.alone", "ours", path, budget, steps)
            rows.append(row(shown, f"peak memory, {name}", found["peak MB"], "MB"))
    print(markdown(rows))
    write_rows("speed", rows)


if __name__ == "__main__":
    main()
