"""Several trained codecs at equal bytes: ``python -m benchmarks.compare TABLE NAME=WEIGHTS[,REFINER][@BPP] ...``.

Every third Kodak photo, all metrics, real files. Writes ``data/results/TABLE.csv``. The tables of the model card:

    python -m benchmarks.compare adversarial without=runs/plain/codec.safetensors with=runs/gan/codec.safetensors
    python -m benchmarks.compare lines fused=shipped lines-only=runs/lines/codec.safetensors,runs/lines_refiner/refiner
"""

from __future__ import annotations

import sys

from sketchfusion_lite import load_codec
from sketchfusion_lite.datasets import fetch
from sketchfusion_lite.evaluation.metrics import METRICS
from sketchfusion_lite.files import list_images

from .common import machine, markdown, write_rows
from .kodak import means, measure_photo

RATE = 0.045
EVERY = 3


def compare(name: str, weights: str, refiner: str, rate: float) -> list[dict]:
    """Mean rows of one codec, per stage."""
    shipped = weights == "shipped"
    codec = load_codec(None if shipped else weights, device="cpu", refiner=refiner or None)
    stages = ("preview", "refined") if refiner or shipped else ("preview",)
    photos = list_images(fetch("kodak"))[::EVERY]
    rows = [row for path in photos for row in measure_photo(codec, path, rate, METRICS, stages)]
    return [
        {"codec": name, "stage": stage} | means([row for row in rows if row["stage"] == stage])
        for stage in stages
    ]


def main(table: str, entries: list[str]) -> None:
    print(machine())
    rows = []
    for entry in entries:
        name, _, rest = entry.partition("=")
        rest, _, rate = rest.partition("@")
        weights, _, refiner = rest.partition(",")
        rows += compare(name, weights, refiner, float(rate or RATE))
        print(markdown(rows), flush=True)
    write_rows(table, rows)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
