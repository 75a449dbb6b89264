"""WebP, AVIF and HEIC, cell by cell."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.image_files.profiles import power

from . import by_hand
from .by_hand import exif, in_webp
from .cells import (
    ADOBE,
    ADOBE_EXIF,
    ALPHA,
    IN_P3,
    P3,
    P3_PROFILE,
    SCENE,
    SMOOTH,
    UPRIGHT,
    Case,
    animation,
    cell,
    in_srgb,
    over_white,
    srgb_light,
)


def webp(samples: np.ndarray) -> bytes:
    return imagecodecs.webp_encode(samples, lossless=True)


@cell("WebP", "8 bits")
def _():
    yield Case(webp(SCENE), SCENE)
    lossy = imagecodecs.webp_encode(SMOOTH, level=95)
    yield Case(lossy, imagecodecs.webp_decode(lossy), 2)


@cell("WebP", "transparency")
def _():
    data = webp(np.dstack([SCENE, np.maximum(ALPHA, 1)]))
    yield Case(data, over_white(SCENE, np.maximum(ALPHA, 1) / 255))


@cell("WebP", "ICC profile")
def _():
    yield Case(in_webp(webp(SCENE), b"ICCP", P3_PROFILE), IN_P3, 1.1)


@cell("WebP", "other statements of colour")
def _():
    for block in ADOBE_EXIF.values():
        yield Case(
            in_webp(webp(SCENE), b"EXIF", block), in_srgb(SCENE, ADOBE, power(2.19921875)), 1.1
        )


@cell("WebP", "orientation")
def _():
    for number, upright in UPRIGHT.items():
        yield Case(in_webp(webp(SCENE), b"EXIF", exif({274: ("H", number)})), upright(SCENE))


@cell("WebP", "several pictures")
def _():
    yield Case(animation("WEBP", lossless=True), SCENE, says="the first is taken")


def avif(samples: np.ndarray, **options) -> bytes:
    return imagecodecs.avif_encode(samples, level=100, speed=8, **options)


@cell("AVIF", "8 bits")
def _():
    yield Case(avif(SMOOTH), SMOOTH, 3)


@cell("AVIF", "9 to 16 bits")
def _():
    for bits in (10, 12):
        white = (1 << bits) - 1
        deep = np.round(SMOOTH / 255 * white).astype(np.uint16)
        yield Case(avif(deep, bitspersample=bits), SMOOTH, 3)


@cell("AVIF", "transparency")
def _():
    alpha = np.repeat(np.repeat(ALPHA, 8, 0), 8, 1)
    yield Case(avif(np.dstack([SMOOTH, alpha])), over_white(SMOOTH, alpha / 255), 4)


def _with_code_points(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def _by_pillow(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, kind, **options)
    return buffer.getvalue()


@cell("AVIF", "ICC profile")
def _():
    data = _by_pillow("AVIF", quality=100, subsampling="4:4:4", icc_profile=P3_PROFILE)
    yield Case(data, in_srgb(SMOOTH, P3, power(2.2)), 8)


@cell("AVIF", "other statements of colour")
def _():
    plain = avif(SMOOTH)
    for transfer, curve in ((13, srgb_light), (4, power(2.2)), (8, power(1.0))):
        stored = imagecodecs.avif_decode(plain)
        yield Case(_with_code_points(plain, 12, transfer), in_srgb(stored, P3, curve), 3)
    yield Case(_with_code_points(plain, 77, 13), SMOOTH, 3, says="77/13")
    without = plain.replace(b"colrnclx", b"freenclx")
    yield Case(without, imagecodecs.avif_decode(without), 3, says="in its stream alone")


@cell("AVIF", "HDR (PQ, HLG)")
def _():
    plain = avif(np.full_like(SMOOTH, 191))  # 75 %: white paper
    yield Case(_with_code_points(plain, 9, 18), np.full(SMOOTH.shape, 255), 3, says="HDR")


@cell("AVIF", "orientation")
def _():
    for number, upright in UPRIGHT.items():
        block = Image.Exif()
        block[274] = number
        yield Case(
            _by_pillow("AVIF", quality=100, subsampling="4:4:4", exif=block), upright(SMOOTH), 3
        )


@cell("AVIF", "a picture that cuts off its borders")
def _():
    height, width = SMOOTH.shape[:2]
    clap = struct.pack(">I4s8I", 40, b"clap", width - 8, 1, height - 8, 1, 0, 1, 0, 1)
    yield Case(by_hand.with_avif_property(avif(SMOOTH), clap), "cuts off its borders")


@cell("AVIF", "several pictures")
def _():
    first, second = SMOOTH, 255 - SMOOTH
    data = avif(np.stack([first, second]))
    yield Case(data, SMOOTH, 3, says="the first is taken")


def heic(samples: np.ndarray, **options) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "HEIF", quality=100, chroma=444, **options)
    return buffer.getvalue()


@cell("HEIC", "8 bits")
def _():
    yield Case(heic(SMOOTH), SMOOTH, 4)


@cell("HEIC", "transparency")
def _():
    alpha = np.repeat(np.repeat(ALPHA, 8, 0), 8, 1)
    yield Case(heic(np.dstack([SMOOTH, alpha])), over_white(SMOOTH, alpha / 255), 5)


@cell("HEIC", "ICC profile")
def _():
    yield Case(heic(SMOOTH, icc_profile=P3_PROFILE), in_srgb(SMOOTH, P3, power(2.2)), 10)


@cell("HEIC", "other statements of colour")
def _():
    yield Case(_with_code_points(heic(SMOOTH), 12, 13), in_srgb(SMOOTH, P3, srgb_light), 10)


@cell("HEIC", "orientation")
def _():
    for number, upright in UPRIGHT.items():
        block = Image.Exif()
        block[274] = number
        yield Case(heic(SMOOTH, exif=block.tobytes()), upright(SMOOTH), 4)


@cell("HEIC", "several pictures")
def _():
    yield Case(
        heic(SMOOTH, save_all=True, append_images=[Image.fromarray(255 - SMOOTH)]),
        SMOOTH,
        4,
        "the first is taken",
    )
