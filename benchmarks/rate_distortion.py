"""The 24 Kodak photos through our stages and seven classical codecs at equal bytes: real files, all metrics.

One row per photo, codec and rate in ``data/results/rate_distortion.csv``, from which README, model card, figures and
notebook 07 take their numbers. It goes on where it was stopped; rows of other weights are measured again with
``--renew``. The two metrics of VGG16 are dear: of classical codecs only those that documents show get them, at the rate
``FULL_AT``. Ours are measured in float32, and once in bfloat16.

    python -m benchmarks.rate_distortion [PART ...] [--workers 2] [--renew]
    python -m benchmarks.rate_distortion --others FOLDER

The second form measures our stages on other photos, into ``other_photos.csv``: committed are every tenth of BSDS500's
200 test photos, on which nothing was trained.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from sketchfusion_lite.datasets import fetch
from sketchfusion_lite.evaluation.metrics import METRICS
from sketchfusion_lite.evaluation.operating import OURS, PEER_NAMES, parse_codec
from sketchfusion_lite.evaluation.runner import evaluate
from sketchfusion_lite.evaluation.table import read_table, write_table

from .common import RESULTS, machine

TABLE = RESULTS / "rate_distortion.csv"
OTHERS = RESULTS / "other_photos.csv"
ALL_RATES = (0.02, 0.03, 0.045, 0.07, 0.10, 0.15)
RATES = (0.03, 0.045, 0.07, 0.10)
STAGES = ("preview", "refined")
DIAL = ("refined:realism=0.0", "refined:realism=0.5")  # and 1, the default
STEPS = ("refined:steps=2", "refined:steps=4", "refined:steps=8")
QUICK = ("psnr", "ms_ssim", "lpips_alex")
FULL_AT = 0.045
SIZES = ("", "/2", "/auto")  # native, half, and the largest size that fits
# What is measured: codecs and their rates.
PARTS = {
    "stages": (STAGES, ALL_RATES),
    "sketch": (("sketch",), (FULL_AT,)),
    "lines": (("lines",), (0.02, 0.03)),  # it has no tone to spend more on
    "dial": (DIAL, (FULL_AT,)),
    "steps": (STEPS, (FULL_AT,)),
    "bfloat16": (("refined:dtype=bfloat16",), (FULL_AT,)),
    "peers": (tuple(name + size for name in PEER_NAMES for size in SIZES), RATES),
    "searched": (("refined:effort=5",), (FULL_AT,)),  # slow
}


def measure(part: str, workers: int = 1) -> float:
    """Measure one of ``PARTS`` into the table; seconds it took."""
    codecs, rates = PARTS[part]
    started = time.perf_counter()

    def tell(row: dict, done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            seconds = time.perf_counter() - started
            print(f"{part}: {done} of {total} rows, {seconds:.0f} s", flush=True)

    def run(codecs: Sequence[str], rates: Sequence[float], metrics: Sequence[str]) -> None:
        options = {"metrics": metrics, "workers": workers, "on_row": tell, "report": print}
        evaluate(fetch("kodak"), codecs, rates, TABLE, **options)

    if part == "peers":
        run([codec for codec in codecs if codec.endswith("/auto")], (FULL_AT,), METRICS)
        run(codecs, rates, QUICK)
    else:
        run(codecs, rates, METRICS)
    return time.perf_counter() - started


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--renew", action="store_true", help="measure our rows again")
    parser.add_argument("--others", metavar="FOLDER", help="other photos, whose table is made anew")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"no part {sorted(unknown)}; there are: {', '.join(PARTS)}")
    print(machine())
    if chosen.others:
        OTHERS.unlink(missing_ok=True)
        evaluate(chosen.others, STAGES, RATES, OTHERS, metrics=METRICS, workers=chosen.workers)
        return
    if chosen.renew and TABLE.exists():
        rows = read_table(TABLE)
        kept = [row for row in rows if parse_codec(row["codec"]).name not in OURS]
        write_table(TABLE, kept)
        print(f"{len(rows) - len(kept)} rows of ours dropped")
    for part in chosen.parts or PARTS:
        print(f"{part}: {measure(part, chosen.workers) / 60:.1f} minutes, {chosen.workers} workers")
    TABLE.with_suffix(".machine.txt").write_text(machine() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
