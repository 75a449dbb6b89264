"""What ``encode(effort=)`` buys and costs: three Kodak photos at 0.045 bpp, preview stage, real files.

The same budget for every effort; gains are means over the photos against effort 0.
"""

from __future__ import annotations

import sys
import time

from sketchfusion_lite import load_codec
from sketchfusion_lite.datasets import fetch
from sketchfusion_lite.evaluation.metrics import measure
from sketchfusion_lite.files import list_images

from .common import machine, markdown, write_rows

RATE = 0.045
EVERY = 8
EFFORTS = (0, 5)
ONLY = ("psnr", "ms_ssim", "lpips_alex")


def measure_effort(codec, paths, effort: int) -> dict[str, float]:
    """Means over the photos."""
    sums: dict[str, float] = {}
    for path in paths:
        started = time.perf_counter()
        encoded = codec.encode(path, bpp=RATE, effort=effort)
        found = {"seconds": time.perf_counter() - started, "bpp": encoded.bpp}
        metrics = measure(path, codec.decode(encoded.data).preview, ONLY).as_dict()
        found |= {name: metrics[name] for name in ONLY}
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value / len(paths)
    return sums


def main(efforts: tuple[int, ...] = EFFORTS) -> None:
    print(machine())
    codec = load_codec(device="cpu")
    paths = list_images(fetch("kodak"))[::EVERY]
    codec.encode(paths[0], bpp=RATE)  # warm
    rows, plain = [], None
    for effort in efforts:
        found = measure_effort(codec, paths, effort)
        plain = plain or found
        rows.append(
            {
                "effort": effort,
                "bpp": f"{found['bpp']:.4f}",
                "PSNR dB": f"{found['psnr']:.2f}",
                "gain dB": f"{found['psnr'] - plain['psnr']:+.2f}",
                "MS-SSIM": f"{found['ms_ssim']:.4f}",
                "LPIPS-Alex": f"{found['lpips_alex']:.4f}",
                "gain": f"{found['lpips_alex'] - plain['lpips_alex']:+.4f}",
                "seconds": f"{found['seconds']:.1f}",
            }
        )
        print(markdown([rows[-1]]).splitlines()[-1], flush=True)
    write_rows("effort", rows)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or EFFORTS)
