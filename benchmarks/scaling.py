"""Time and memory over picture size, 0.1 to 12 megapixels: encode, preview, refine.

A fresh process per size, so that its peak memory is its own. Draws ``docs/scaling.png``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .common import machine, markdown, write_rows

SIZES = ((384, 256), (768, 512), (1536, 1024), (2400, 1600), (4000, 3000))
STAGES = ("encode", "preview", "refined")
FIGURE = Path(__file__).parents[1] / "docs" / "scaling.png"

_ONE_SIZE = """
import json, sys, time
import torch
from sketchfusion_lite import load_codec
width, height = int(sys.argv[1]), int(sys.argv[2])
codec = load_codec(device="cpu", dtype="float32")
codec.refiner
torch.manual_seed(0)
picture = torch.nn.functional.interpolate(
    torch.rand(1, 3, height // 16, width // 16), size=(height, width), mode="bicubic").clamp(0, 1)
from benchmarks.common import peak_megabytes
result = {}
repeats = 3 if width * height < 2_000_000 else 1
def timed(action):
    if repeats > 1:
        action()
    started = time.perf_counter()
    for _ in range(repeats):
        value = action()
    return value, (time.perf_counter() - started) / repeats
encoded, result["encode"] = timed(lambda: codec.encode(picture, quality=2.0))
del picture
_, result["preview"] = timed(lambda: codec.decode(encoded.data, "preview"))
_, whole = timed(lambda: codec.decode(encoded.data, "refined"))
result["refined"] = whole - result["preview"]
result["peak MB"] = peak_megabytes()
print(json.dumps(result))
"""


def measure_size(width: int, height: int) -> dict[str, float]:
    """Seconds per stage and peak memory in MB, in a process of its own."""
    command = [sys.executable, "-c", _ONE_SIZE, str(width), str(height)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def draw(rows: list[dict]) -> None:
    """Seconds over megapixels, both logarithmic."""
    from sketchfusion_workbook.viz import charts, figures

    megapixels = [float(row["megapixels"]) for row in rows]
    curves = {name: (megapixels, [float(row[f"{name} s"]) for row in rows]) for name in STAGES}
    last = sum(float(rows[-1][f"{name} s"]) for name in STAGES) / megapixels[-1]
    title = f"Cost is linear in pixels: {last:.1f} s per megapixel for all stages, in tiles above 1,024 pixels"
    figure = charts.lines(curves, ("picture size (megapixels)", "seconds"), title, log="xy")
    FIGURE.write_bytes(figures.render(figure, "png").data)


def main() -> None:
    print(machine())
    rows = []
    for width, height in SIZES:
        found = measure_size(width, height)
        row = {"picture": f"{width}x{height}", "megapixels": f"{width * height / 1e6:.2f}"}
        row |= {f"{name} s": f"{found[name]:.2f}" for name in STAGES}
        row["peak MB"] = f"{found['peak MB']:.0f}"
        rows.append(row)
        print("\n".join(markdown([row]).splitlines()[-1 if len(rows) > 1 else 0 :]), flush=True)
    write_rows("scaling", rows)
    draw(rows)


if __name__ == "__main__":
    main()
