"""Several trained codecs at equal bytes: ``python -m benchmarks.compare TABLE NAME=WEIGHTS[,REFINER][@BPP] ...``.

Every third Kodak photo, all metrics (without those of VGG16 if TABLE ends in ``:quick``), real files. Writes
``data/results/TABLE.csv``. The tables of the model card:

    python -m benchmarks.compare adversarial without=runs/plain/codec.safetensors with=runs/gan/codec.safetensors
    python -m benchmarks.compare lines:quick fused=shipped lines-only=lines,runs/lines_refiner/refiner@0.03
"""

from __future__ import annotations

import math
import sys

from sketchfusion_lite import load_codec
from sketchfusion_lite.datasets import fetch
from sketchfusion_lite.errors import BudgetTooSmall
from sketchfusion_lite.evaluation.comparison import Comparison
from sketchfusion_lite.evaluation.metrics import METRICS
from sketchfusion_lite.files import list_images

from .common import machine, markdown, write_rows

RATE = 0.045
EVERY = 3
STEPS = 2
QUICK = ("psnr", "ms_ssim", "lpips_alex")


def measure_photo(codec, path, rate: float, only, stages) -> list[dict]:
    """Encode, decode and measure one photo; ``fits`` is false where quality 0 needs more than the rate."""
    try:
        encoded, fits = codec.encode(path, bpp=rate), True
    except BudgetTooSmall:
        encoded, fits = codec.encode(path, quality=0), False
    decoded = codec.decode(encoded.data, stage=stages[-1], steps=STEPS)
    comparison, rows = Comparison(path, only), []
    for stage in stages:
        row = {"stage": stage, "fits": fits, "bytes": len(encoded.data), "bpp": encoded.bpp}
        rows.append(row | comparison.measure(getattr(decoded, stage)).as_dict())
    return rows


def means(rows: list[dict]) -> dict:
    """Mean of some rows, as a row of a table."""

    def mean(key: str, digits: int) -> float | str:
        value = sum(row[key] for row in rows) / len(rows)
        return "" if math.isnan(value) else round(value, digits)

    return {
        "fits": f"{sum(row['fits'] for row in rows)}/{len(rows)}",
        "bytes": round(sum(row["bytes"] for row in rows) / len(rows)),
        "bpp": mean("bpp", 4),
        "PSNR dB": mean("psnr", 2),
        "MS-SSIM": mean("ms_ssim", 4),
        "LPIPS-Alex": mean("lpips_alex", 4),
        "LPIPS-VGG": mean("lpips_vgg", 4),
        "DISTS": mean("dists", 4),
    }


def compare(name: str, weights: str, refiner: str, rate: float, only) -> list[dict]:
    """Mean rows of one codec, per stage."""
    shipped = weights == "shipped"
    codec = load_codec(
        None if shipped else weights, device="cpu", dtype="float32", refiner=refiner or None
    )
    stages = ("preview", "refined") if refiner or shipped else ("preview",)
    photos = list_images(fetch("kodak"))[::EVERY]
    rows = [row for path in photos for row in measure_photo(codec, path, rate, only, stages)]
    return [
        {"codec": name, "stage": stage} | means([row for row in rows if row["stage"] == stage])
        for stage in stages
    ]


def main(table: str, entries: list[str]) -> None:
    print(machine())
    table, _, quick = table.partition(":")
    only, rows = QUICK if quick else METRICS, []
    for entry in entries:
        name, _, rest = entry.partition("=")
        rest, _, rate = rest.partition("@")
        weights, _, refiner = rest.partition(",")
        rows += compare(name, weights, refiner, float(rate or RATE), only)
        print(markdown(rows), flush=True)
    write_rows(table, rows)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
