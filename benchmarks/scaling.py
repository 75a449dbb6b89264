"""Time and memory over picture size, 0.1 to 12 megapixels: encode, preview, refine.

A fresh process per size, so that its peak memory is its own. Draws ``docs/scaling.png``.
"""

from __future__ import annotations

from pathlib import Path

from .common import machine, markdown, write_rows
from .timing import in_process

SIZES = ((384, 256), (768, 512), (1536, 1024), (2400, 1600), (4000, 3000))
STAGES = ("encode", "preview", "refined")
FIGURE = Path(__file__).parents[1] / "docs" / "scaling.png"


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
        found = in_process("benchmarks.alone", "size", width, height)
        row = {"picture": f"{width}x{height}", "megapixels": f"{width * height / 1e6:.2f}"}
        row |= {f"{name} s": f"{found[name]:.2f}" for name in STAGES}
        row["peak MB"] = f"{found['peak MB']:.0f}"
        rows.append(row)
        print("\n".join(markdown([row]).splitlines()[-1 if len(rows) > 1 else 0 :]), flush=True)
    write_rows("scaling", rows)
    draw(rows)


if __name__ == "__main__":
    main()
