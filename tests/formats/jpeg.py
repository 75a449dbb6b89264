"""JPEG, cell by cell."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
from PIL import Image

from sketchfusion_lite.image_files.profiles import power

from .by_hand import exif, in_jpeg
from .cells import (
    ADOBE,
    ADOBE_EXIF,
    P3,
    P3_EXIF,
    P3_PROFILE,
    SMOOTH,
    SRGB_EXIF,
    UNCALIBRATED,
    UPRIGHT,
    Case,
    cell,
    in_srgb,
    inks_and_colours,
)


def jpeg(samples: np.ndarray, **options) -> bytes:
    return imagecodecs.jpeg8_encode(samples, level=100, subsampling="444", **options)


@cell("JPEG", "8 bits")
def _():
    yield Case(jpeg(SMOOTH), SMOOTH, 2)
    yield Case(jpeg(SMOOTH[..., 0].copy()), SMOOTH[..., 0], 2)
    yield Case(jpeg(SMOOTH, colorspace="RGB", outcolorspace="RGB"), SMOOTH, 2)


@cell("JPEG", "9 to 16 bits")
def _():
    deep = SMOOTH[..., 0].astype(np.uint16) * 16
    yield Case(
        imagecodecs.jpeg8_encode(deep, level=100, bitspersample=12),
        "not a picture.*JPEG of another kind than 8",
    )


@cell("JPEG", "CMYK")
def _():
    inks, colours = inks_and_colours()
    for space in ("CMYK", "YCCK"):
        data = jpeg(255 - inks, colorspace="CMYK", outcolorspace=space)  # Adobe stores paper as 255
        stored = 255 - imagecodecs.jpeg8_decode(data, outcolorspace="CMYK").astype(float)
        wanted = (255 - stored[..., :3]) * (255 - stored[..., 3:]) / 255
        assert np.abs(wanted - colours).max() < 12
        yield Case(data, wanted, 3, says="CMYK without a colour profile")
        at = data.index(b"Adobe") - 4
        yield Case(data[:at] + data[at + 16 :], "four inks without Adobe")


@cell("JPEG", "ICC profile")
def _():
    wanted = in_srgb(SMOOTH, P3, power(2.2))
    parts = [P3_PROFILE[i : i + 9000] for i in range(0, len(P3_PROFILE), 9000)]
    data = whole = jpeg(SMOOTH)
    for number in range(len(parts), 0, -1):
        body = b"ICC_PROFILE\0" + bytes([number, len(parts)]) + parts[number - 1]
        data = in_jpeg(data, body, 0xE2)
        if number == 2:
            yield Case(data, SMOOTH, 2, says="damaged or incomplete")
    yield Case(data, wanted, 6)
    assert len(parts) == 1 or len(data) > len(whole)


@cell("JPEG", "other statements of colour")
def _():
    adobe = in_srgb(SMOOTH, ADOBE, power(2.19921875))
    lead = b"Exif\0\0"
    for block in ADOBE_EXIF.values():
        yield Case(in_jpeg(jpeg(SMOOTH), lead + block), adobe, 6)
    yield Case(in_jpeg(jpeg(SMOOTH), lead + UNCALIBRATED), SMOOTH, 2, says="not sRGB, but not what")
    yield Case(in_jpeg(jpeg(SMOOTH), lead + P3_EXIF), in_srgb(SMOOTH, P3, power(2.2)), 6)
    yield Case(in_jpeg(jpeg(SMOOTH), lead + SRGB_EXIF), SMOOTH, 2)


@cell("JPEG", "orientation")
def _():
    for number, upright in UPRIGHT.items():
        for order in "<>":
            block = b"Exif\0\0" + exif({274: ("H", number)}, order)
            yield Case(in_jpeg(jpeg(SMOOTH), block), upright(SMOOTH), 2)
    odd = [
        ("I", 6),
        ("B", 6),
        ("s", b"6\0"),
        ("R", [6, 1]),
        ("H", [6, 6]),
        ("h", 6),
        ("i", 6),
        ("U", b"\6"),
    ]
    for value in odd:
        yield Case(in_jpeg(jpeg(SMOOTH), b"Exif\0\0" + exif({274: value})), UPRIGHT[6](SMOOTH), 2)
    for value in (("H", 0), ("H", 9), ("s", b"up\0"), ("R", [0, 0]), ("h", -6)):
        yield Case(in_jpeg(jpeg(SMOOTH), b"Exif\0\0" + exif({274: value})), SMOOTH, 2)


@cell("JPEG", "several pictures")
def _():
    yield Case(jpeg(SMOOTH) + jpeg(255 - SMOOTH), SMOOTH, 2)
    yield Case(_mpo(), SMOOTH, 3)


def _mpo() -> bytes:
    buffer = io.BytesIO()
    first, second = Image.fromarray(SMOOTH), Image.fromarray(255 - SMOOTH)
    first.save(buffer, "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    return buffer.getvalue()
