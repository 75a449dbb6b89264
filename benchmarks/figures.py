"""Draw README's figures from the results: ``python -m benchmarks.figures``.

    docs/rate_distortion.png   PSNR and LPIPS over rate: ours, classical codecs, published points apart
    docs/equal_bytes.jpg       one photo through several codecs within the same bytes, as real files

Each says in its metadata what it was drawn from, so that a test can tell whether it still is what it shows.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, PngImagePlugin

from sketchfusion_lite import load_codec
from sketchfusion_lite.files import sha256_of
from sketchfusion_lite.samples import sample_path
from sketchfusion_workbook.lessons.published import load_published
from sketchfusion_workbook.lessons.side_by_side import side_by_side
from sketchfusion_workbook.viz import figures, rate_distortion, strips

from .rate_distortion import TABLE
from .summaries import rows

DOCS = Path(__file__).parents[1] / "docs"
SOURCE = "Source"  # key of the metadata
PHOTO, WINDOW, RATE = "coffee", (300, 120, 450, 230), 0.045
SIDES = ("avif/auto", "vvc/auto", "preview", "refined")


def _model() -> str:
    return f"{load_codec(device='cpu', dtype='float32').model_id:#06x}"


# Figure -> what it depends on: the table's hash, or the model that made the pictures.
SOURCES = {"rate_distortion.png": lambda: sha256_of(TABLE), "equal_bytes.jpg": _model}


def source_of(figure: Path) -> str:
    """What a figure says that it was drawn from; empty if nothing."""
    with Image.open(figure) as picture:
        return picture.info.get(SOURCE) or picture.info.get("comment", b"").decode()


def main() -> None:
    published = [
        point
        for point in load_published("kodak_perceptual")
        if point["method"] in rate_distortion.SHOWN_PUBLISHED
    ]
    path = sample_path(PHOTO)
    drawn = {
        "rate_distortion.png": rate_distortion.curves(rows(), published=published, ours="refined"),
        "equal_bytes.jpg": strips.strip(
            Image.open(path).convert("RGB"),
            side_by_side(path, SIDES, RATE, metrics=("psnr", "lpips_alex", "dists")),
            {"detail": WINDOW},
        ),
    }
    for name, source in SOURCES.items():
        kind = "png" if name.endswith(".png") else "jpeg"
        image = Image.open(io.BytesIO(figures.render(drawn[name], kind).data))
        about, made_from = PngImagePlugin.PngInfo(), source()
        about.add_text(SOURCE, made_from)
        image.save(DOCS / name, pnginfo=about, comment=made_from, quality=85, optimize=True)
        print(f"docs/{name}: {(DOCS / name).stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
