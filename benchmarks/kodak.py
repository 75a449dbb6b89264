"""Quality on the 24 Kodak photos at native size: real files, decoded from their bytes.

All stages at 0.045 bpp, the preview at the other rates. One row per photo, rate and stage in
``data/results/kodak.csv``, means in ``data/results/kodak_means.csv``. The rate is ``8 * file bytes / pixels``; every
metric is the mean of the per-photo values.
"""

from __future__ import annotations

import math

from sketchfusion_lite import load_codec
from sketchfusion_lite.datasets import fetch
from sketchfusion_lite.errors import BudgetTooSmall
from sketchfusion_lite.evaluation.comparison import Comparison
from sketchfusion_lite.evaluation.metrics import METRICS
from sketchfusion_lite.files import list_images

from .common import machine, markdown, write_rows

RATES = (0.02, 0.03, 0.045, 0.07, 0.10, 0.15)
STAGES = ("preview", "refined")
STEPS = 2
ALL_METRICS_AT = (0.045,)  # the two VGG16 metrics take seconds a picture, refining one
QUICK = ("psnr", "ms_ssim", "lpips_alex")


def measure_photo(codec, path, rate: float, only, stages=STAGES, steps: int = STEPS) -> list[dict]:
    """Encode, decode and measure one photo; ``fits`` is false where quality 0 needs more than the rate."""
    try:
        encoded, fits = codec.encode(path, bpp=rate), True
    except BudgetTooSmall:
        encoded, fits = codec.encode(path, quality=0), False
    decoded = codec.decode(encoded.data, stage=stages[-1], steps=steps)
    comparison, rows = Comparison(path, only), []
    for stage in stages:
        row = {
            "photo": path.stem,
            "rate": rate,
            "stage": stage,
            "fits": fits,
            "bytes": len(encoded.data),
            "bpp": round(encoded.bpp, 5),
            "estimated_bpp": round(encoded.estimated_bpp, 5),
            "quality": round(encoded.quality, 3),
        }
        metrics = comparison.measure(getattr(decoded, stage)).as_dict()
        rows.append(row | {name: round(metrics[name], 4) for name in METRICS})
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


def main() -> None:
    print(machine())
    codec = load_codec(device="cpu")
    photos = list_images(fetch("kodak"))
    rows, table = [], []
    for rate in RATES:
        everything = rate in ALL_METRICS_AT
        only, stages = (METRICS, STAGES) if everything else (QUICK, STAGES[:1])
        measured = [
            row for path in photos for row in measure_photo(codec, path, rate, only, stages)
        ]
        rows += measured
        for stage in stages:
            chosen = [row for row in measured if row["stage"] == stage]
            table.append({"rate": rate, "stage": stage} | means(chosen))
            print(markdown([table[-1]]).splitlines()[-1], flush=True)
        write_rows("kodak", rows)  # a benchmark that is stopped keeps what it has
    print(f"written to {write_rows('kodak_means', table).name}")


if __name__ == "__main__":
    main()
