"""Seeds, made on the spot: small streams of a codec, and small pictures in every format that is read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from sketchfusion_lite.codec import SketchFusionCodec

_SIZES = ((48, 48), (64, 80), (1, 1), (17, 90), (160, 96))  # (width, height)


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture with one hard-edged patch, without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * 3 + y * 5) % 256]
    pixels = np.stack(planes, axis=-1).astype(np.uint8)
    pixels[height // 4 : height // 2, width // 3 : width // 2] ^= np.uint8(90 + 37 * seed % 120)
    return Image.fromarray(pixels)


def streams(codec: SketchFusionCodec) -> list[bytes]:
    """Whole streams of one codec: five sizes at two qualities each."""
    return [
        codec.encode(scene(width, height, number), quality=quality).data
        for number, (width, height) in enumerate(_SIZES)
        for quality in (0.5, 4.0)
    ]


def pictures() -> list[bytes]:
    """Picture files of all formats and the kinds inside them that take other paths through their readers."""
    photo = scene(33, 24)
    frames = [scene(33, 24, seed) for seed in (1, 2)]
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = Image.fromarray((np.arange(33 * 24, dtype=np.uint16) * 80).reshape(24, 33))
    more = {"save_all": True, "append_images": frames}
    kinds: list[tuple[Image.Image, str, dict]] = [
        (photo, "PNG", {"exif": exif, "icc_profile": profile}),
        (photo.convert("P"), "PNG", {"transparency": 3}),
        (photo.convert("RGBA"), "PNG", {}),
        (photo.convert("1"), "PNG", {}),
        (deep, "PNG", {}),
        (photo, "PNG", more),
        (photo, "JPEG", {"exif": exif, "icc_profile": profile}),
        (photo, "JPEG", {"progressive": True}),
        (photo.convert("CMYK"), "JPEG", {}),
        (photo, "WEBP", {"exif": exif}),
        (photo.convert("RGBA"), "WEBP", {"lossless": True}),
        (photo, "WEBP", more),
        (photo, "AVIF", {}),
        (photo, "TIFF", {"exif": exif}),
        (photo, "TIFF", {"compression": "tiff_lzw"}),
        (photo, "TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {322: 16, 323: 16}}),
        (deep, "TIFF", {}),
        (photo, "BMP", {}),
        (photo.convert("P"), "GIF", more),
        (photo, "PPM", {}),
        (deep, "PPM", {}),
        (photo, "JPEG2000", {}),
    ]
    return [_file(*kind) for kind in kinds] + [_qoi()]


def _file(picture: Image.Image, kind: str, options: dict) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _qoi() -> bytes:
    """A QOI file by hand: two literal pixels, a run and a difference."""
    head = b"qoif" + (4).to_bytes(4, "big") + (2).to_bytes(4, "big") + b"\x03\x00"
    body = b"\xfe\x10\x20\x30" + b"\xff\x40\x50\x60\x80" + b"\xc3" + b"\x7f" + b"\x00"
    return head + body + bytes(7) + b"\x01"
