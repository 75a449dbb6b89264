"""Draw README's figures from the results: ``python -m benchmarks.figures``.

    docs/rate_distortion.png   PSNR and LPIPS over rate: ours, classical codecs, published points apart
    docs/equal_bytes.jpg       one photo through several codecs within the same bytes, as real files
    docs/detail.jpg            leaves, fur and petals at 1:1: photo, preview, and the refined picture at both ends

Each says in its metadata what it was drawn from, so that a test can tell whether it still is what it shows.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from sketchfusion_lite import SketchFusionCodec, load_codec
from sketchfusion_lite.files import sha256_of
from sketchfusion_lite.refiner_io import WEIGHTS, shipped_refiner
from sketchfusion_lite.samples import load_photo, sample_path
from sketchfusion_workbook.lessons.published import load_published
from sketchfusion_workbook.lessons.side_by_side import side_by_side
from sketchfusion_workbook.viz import figures, rate_distortion, strips

from .rate_distortion import TABLE
from .summaries import rows

DOCS = Path(__file__).parents[1] / "docs"
SOURCE = "Source"  # key of the metadata
PHOTO, WINDOW, RATE = "coffee", (300, 120, 450, 230), 0.045
SIDES = ("avif/auto", "vvc/auto", "preview", "refined")
# Sample photo -> left and top of its crop of CROP.
DETAILS = {"china": (330, 245), "chelsea": (40, 0), "flower": (250, 150)}
CROP, HEAD = (260, 180), 22


@cache
def _codec() -> SketchFusionCodec:
    return load_codec(device="cpu", dtype="float32")


def _model() -> str:
    """The model of the streams, and the hash of the refiner that drew the pictures."""
    return f"{_codec().model_id:#06x} {sha256_of(shipped_refiner() / WEIGHTS)[:16]}"


# Figure -> what it depends on: the table's hash, or the networks that made the pictures.
SOURCES = {
    "rate_distortion.png": lambda: sha256_of(TABLE),
    "equal_bytes.jpg": _model,
    "detail.jpg": _model,
}


def source_of(figure: Path) -> str:
    """What a figure says that it was drawn from; empty if nothing."""
    with Image.open(figure) as picture:
        return picture.info.get(SOURCE) or picture.info.get("comment", b"").decode()


def detail() -> Image.Image:
    """Crops at 1:1, a row per photo: nothing is scaled, so a pixel of the figure is one of the picture."""
    codec, rows = _codec(), []
    for name, (left, top) in DETAILS.items():
        photo = load_photo(name).image
        data = codec.encode(photo, bpp=RATE).data
        columns = {
            f"photo, {3 * photo.width * photo.height // 1000:,} kB": photo,
            f"preview, {len(data):,} bytes": codec.decode(data, stage="preview").image,
            "refined, realism 0": codec.decode(data, realism=0.0).image,
            "refined, realism 1": codec.decode(data, realism=1.0).image,
        }
        crop = (left, top, left + CROP[0], top + CROP[1])
        rows.append({text: picture.crop(crop) for text, picture in columns.items()})
    sheet = Image.new("RGB", (len(rows[0]) * CROP[0], len(rows) * (CROP[1] + HEAD)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for y, row in enumerate(rows):
        for x, (text, picture) in enumerate(row.items()):
            place = (x * CROP[0], y * (CROP[1] + HEAD))
            draw.text((place[0] + 4, place[1] + 3), text, "black", font)
            sheet.paste(picture, (place[0], place[1] + HEAD))
    return sheet


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
        "detail.jpg": detail(),
    }
    for name, source in SOURCES.items():
        image = drawn[name]
        if not isinstance(image, Image.Image):
            kind = "png" if name.endswith(".png") else "jpeg"
            image = Image.open(io.BytesIO(figures.render(image, kind).data))
        about, made_from = PngImagePlugin.PngInfo(), source()
        about.add_text(SOURCE, made_from)
        image.save(DOCS / name, pnginfo=about, comment=made_from, quality=85, optimize=True)
        print(f"docs/{name}: {(DOCS / name).stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
