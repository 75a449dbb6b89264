"""Make the pictures that the book's dividers compare, and of the first photo the one at the top of the README.

    photo --> .skf within 0.045 bpp --> sketch, preview, refined --+--> book/_static/compare/*.webp, docs/overview.jpg
          --> AVIF within the same bytes --------------------------+--> pictures.json, with the model's id

Usage: ``python tools/make_book_pictures.py [PHOTO ...]``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from sketchfusion_lite import load_codec
from sketchfusion_lite.evaluation.metrics import measure
from sketchfusion_lite.evaluation.peers import encode_at_most
from sketchfusion_lite.samples import load_photo

ROOT = Path(__file__).parents[1]
TARGET, OVERVIEW = ROOT / "book" / "_static" / "compare", ROOT / "docs" / "overview.jpg"
BPP, STEPS = 0.045, 2
QUALITY = 84  # of the WebP files: what is stored here must not be what is compared


def main(names: list[str]) -> None:
    codec = load_codec(device="cpu", dtype="float32")
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.iterdir():
        old.unlink()
    OVERVIEW.unlink(missing_ok=True)
    entries = {name: entry(codec, name) for name in names}
    manifest = {"model_id": f"{codec.model_id:#06x}", "bpp": BPP, "photos": entries}
    (TARGET / "pictures.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    print(f"{TARGET}: {sum(f.stat().st_size for f in TARGET.iterdir()) // 1024} kB")


def entry(codec: Any, name: str) -> dict[str, Any]:
    """Write one photo's pictures; returns what ``pictures.json`` says of it."""
    photo = load_photo(name)
    encoded = codec.encode(photo.image, bpp=BPP)
    decoded = codec.decode(encoded.data, "refined", steps=STEPS)
    budget = int(BPP * photo.pixels / 8)
    avif = encode_at_most(photo.image, budget)
    size = f"{len(encoded.data):,} bytes"
    pictures = [
        ("photo", "Photo", photo.image, f"{3 * photo.pixels:,} bytes raw"),
        ("avif", avif.label, avif.image, f"{len(avif.data):,} bytes"),
        ("sketch", "Sketch", decoded.sketch.convert("RGB"), f"from part of {size}"),
        ("preview", "Preview", decoded.preview, size),
        ("refined", "Refined", decoded.refined, f"the same {size}, {STEPS} steps"),
    ]
    if not OVERVIEW.exists():
        overview({f"{label}, {numbers}": picture for _, label, picture, numbers in pictures})
    shown = []
    for kind, label, image, numbers in pictures:
        file = f"{name}-{kind}.webp"
        image.save(TARGET / file, quality=QUALITY, method=6)
        if kind not in ("photo", "sketch"):
            scores = measure(photo.image, image, only=["psnr", "lpips_alex"])
            numbers += f" · {scores.psnr:.2f} dB · LPIPS-Alex {scores.lpips_alex:.3f}"
        alt = f"{label} of {name}: {numbers}" if kind != "photo" else f"The photo {name}"
        shown.append({"file": file, "label": label, "alt": alt, "numbers": numbers})
    width, height = photo.image.size
    credit = f"{name}: {photo.credit}, {photo.licence}"
    about = {"name": name, "width": width, "height": height, "credit": credit}
    return about | {"budget": budget, "pictures": shown}


def overview(pictures: dict[str, Image.Image], width: int = 400, gap: int = 6) -> None:
    """Pictures of one size in two columns, each above its caption; AVIF's is left out."""
    shown = {text: picture for text, picture in pictures.items() if "AVIF" not in text}
    first = next(iter(shown.values()))
    cell = width + gap, round(width * first.height / first.width) + 24 + gap
    canvas = Image.new("RGB", (2 * cell[0] + gap, (len(shown) + 1) // 2 * cell[1] + gap), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for number, (text, picture) in enumerate(shown.items()):
        left, top = gap + number % 2 * cell[0], gap + number // 2 * cell[1]
        size = width, cell[1] - 24 - gap
        canvas.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
        draw.text((left + 2, top + size[1] + 3), text, fill="black", font=font)
    canvas.save(OVERVIEW, quality=85)


if __name__ == "__main__":
    main(sys.argv[1:] or ["coffee", "astronaut", "chelsea"])
