"""Draw the picture at the top of the README: ``python tools/make_overview.py [PHOTO ...]``."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sketchfusion_lite import load_codec
from sketchfusion_lite.samples import load_photo

TARGET = Path(__file__).parents[1] / "docs" / "overview.jpg"
WIDTH, MARGIN, CAPTION = 400, 6, 24
COLUMNS = 2


def row(codec, name: str) -> list[tuple[str, Image.Image]]:
    """Captioned pictures of one photo: original, sketch, preview, refined picture."""
    photo = load_photo(name)
    encoded = codec.encode(photo.image, bpp=0.045)
    decoded, size = codec.decode(encoded.data, "refined"), f"{len(encoded.data):,} bytes"
    return [
        (f"{name}, {photo.image.width}x{photo.image.height}", photo.image),
        (f"sketch, from part of {size}", decoded.sketch.convert("RGB")),
        (f"preview, from {size}", decoded.preview),
        (f"refined, from the same {size}", decoded.refined),
    ]


def main(names: list[str]) -> None:
    codec = load_codec(device="cpu", dtype="float32")
    pictures = [entry for name in names for entry in row(codec, name)]
    lines = [pictures[i : i + COLUMNS] for i in range(0, len(pictures), COLUMNS)]
    heights = [round(WIDTH * line[0][1].height / line[0][1].width) for line in lines]
    canvas = Image.new(
        "RGB",
        (
            COLUMNS * (WIDTH + MARGIN) + MARGIN,
            sum(heights) + len(lines) * (CAPTION + MARGIN) + MARGIN,
        ),
        "white",
    )
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    top = MARGIN
    for line, height in zip(lines, heights, strict=True):
        for column, (caption, picture) in enumerate(line):
            left = MARGIN + column * (WIDTH + MARGIN)
            canvas.paste(picture.resize((WIDTH, height), Image.Resampling.LANCZOS), (left, top))
            draw.text((left + 2, top + height + 3), caption, fill="black", font=font)
        top += height + CAPTION + MARGIN
    TARGET.parent.mkdir(exist_ok=True)
    canvas.save(TARGET, quality=85)
    print(f"{TARGET.name}: {TARGET.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(sys.argv[1:] or ["coffee"])
