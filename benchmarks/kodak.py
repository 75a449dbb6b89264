"""Quality on the 24 Kodak photos at native size: real files, decoded from their bytes.

One row per photo and rate in ``data/results/kodak.csv``, means in ``data/results/kodak_means.csv``. The rate is
``8 * file bytes / pixels``; every metric is the mean of the per-photo values.
"""

from __future__ import annotations

import math

from sketchfusion_lite import load_codec
from sketchfusion_lite.datasets import fetch
from sketchfusion_lite.errors import BudgetTooSmall
from sketchfusion_lite.evaluation.metrics import METRICS, measure
from sketchfusion_lite.files import list_images

from .common import machine, markdown, write_rows

RATES = (0.02, 0.03, 0.045, 0.07, 0.10, 0.15)
ALL_METRICS_AT = (0.045,)  # the two VGG16 metrics take 10 s a photo
QUICK = ("psnr", "ms_ssim", "lpips_alex")


def measure_photo(codec, path, rate: float, only) -> dict:
    """Encode, decode and measure one photo; ``fits`` is false where quality 0 needs more than the rate."""
    try:
        encoded, fits = codec.encode(path, bpp=rate), True
    except BudgetTooSmall:
        encoded, fits = codec.encode(path, quality=0), False
    decoded = codec.decode(encoded.data, stage="preview")
    row = {
        "photo": path.stem,
        "rate": rate,
        "fits": fits,
        "bytes": len(encoded.data),
        "bpp": round(encoded.bpp, 5),
        "estimated_bpp": round(encoded.estimated_bpp, 5),
        "quality": round(encoded.quality, 3),
    }
    metrics = measure(path, decoded.preview, only).as_dict()
    return row | {name: round(metrics[name], 4) for name in METRICS}


def means(rows: list[dict], rate: float) -> dict:
    """Mean row of one rate."""
    chosen = [row for row in rows if row["rate"] == rate]

    def mean(key: str, digits: int) -> float | str:
        value = sum(row[key] for row in chosen) / len(chosen)
        return "" if math.isnan(value) else round(value, digits)

    return {
        "rate": rate,
        "fits": f"{sum(row['fits'] for row in chosen)}/{len(chosen)}",
        "bytes": round(sum(row["bytes"] for row in chosen) / len(chosen)),
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
    rows = []
    for rate in RATES:
        only = METRICS if rate in ALL_METRICS_AT else QUICK
        rows += [measure_photo(codec, path, rate, only) for path in photos]
        print(markdown([means(rows, rate)]).splitlines()[-1], flush=True)
    write_rows("kodak", rows)
    table = [means(rows, rate) for rate in RATES]
    print(markdown(table), f"\nwritten to {write_rows('kodak_means', table).name}")


if __name__ == "__main__":
    main()
