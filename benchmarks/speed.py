"""Time and memory for a 768x512 photo: load, encode with rate search, sketch, preview; and by picture size."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import torch

from sketchfusion_lite import load_codec
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.samples import load_photo

from .common import machine, markdown, write_rows

_PEAK = """
import time
started = time.perf_counter()
from sketchfusion_lite import load_codec
codec = load_codec(device="cpu")
loaded = time.perf_counter() - started
import torch
picture = torch.nn.functional.interpolate(
    torch.rand(1, 3, 32, 48), size=(512, 768), mode="bicubic").clamp(0, 1)
codec.decode(codec.encode(picture, quality=2.0).data)
from benchmarks.common import peak_megabytes
print(loaded, peak_megabytes())
"""


def median_seconds(action, repeats: int = 7) -> float:
    """Median wall time after one warm-up."""
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    print(machine())
    photo = load_photo("coffee").image
    codec = load_codec(device="cpu")
    rows = []
    for width, height in ((384, 256), (768, 512), (1536, 1024)):
        picture = to_pil(photo) if isinstance(photo, torch.Tensor) else photo
        picture = picture.resize((width, height))
        data = codec.encode(picture, bpp=0.045).data
        timings = {
            "encode, quality given": lambda p=picture: codec.encode(p, quality=2.0),
            "encode, rate search": lambda p=picture: codec.encode(p, bpp=0.045),
            "decode sketch": lambda d=data: codec.decode(d, stage="sketch"),
            "decode preview": lambda d=data: codec.decode(d, stage="preview"),
            "decode refined, 1 step": lambda d=data: codec.decode(d, stage="refined", steps=1),
            "decode refined, 2 steps": lambda d=data: codec.decode(d, stage="refined", steps=2),
            "decode refined, 4 steps": lambda d=data: codec.decode(d, stage="refined", steps=4),
        }
        for name, action in timings.items():
            seconds = median_seconds(action)
            rows.append({"picture": f"{width}x{height}", "step": name, "value": f"{seconds:.3f} s"})
    result = subprocess.run(
        [sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True
    )
    loaded, peak = (float(value) for value in result.stdout.split())
    rows.append({"picture": "any", "step": "import and load", "value": f"{loaded:.2f} s"})
    print(markdown(rows))
    print(f"peak memory of a process that loads, encodes and decodes 768x512: {peak:.0f} MB")
    rows.append({"picture": "768x512", "step": "peak memory, all of it", "value": f"{peak:.0f} MB"})
    write_rows("speed", rows)


if __name__ == "__main__":
    main()
