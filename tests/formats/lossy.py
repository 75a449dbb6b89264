"""JPEG, WebP, AVIF, HEIC and JPEG 2000, cell by cell."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.image_files.profiles import power

from . import cells
from .by_hand import exif, in_jpeg, with_jp2_colours
from .cells import CLOSE, P3, P3_PROFILE, SCENE, SMOOTH, UPRIGHT, cell, in_srgb, large, saved

LEAD = b"Exif\0\0"


def jpeg(samples: np.ndarray = SMOOTH, **options) -> bytes:
    return imagecodecs.jpeg8_encode(samples, level=100, subsampling="444", **options)


@cell("JPEG", "8 bits")
def _():
    yield jpeg(), SMOOTH, 2
    yield jpeg(SMOOTH[..., 0].copy()), SMOOTH[..., 0], 2
    yield jpeg(colorspace="RGB", outcolorspace="RGB"), SMOOTH, 2


@cell("JPEG", "9 to 16 bits")
def _():
    data = jpeg(SMOOTH[..., 0].astype(np.uint16) * 16, bitspersample=12)
    yield data, "not a picture.*JPEG of another kind than 8"


@cell("JPEG", "CMYK")
def _():
    for space in ("CMYK", "YCCK"):  # Adobe stores paper as 255
        data = jpeg(255 - cells.INKS, colorspace="CMYK", outcolorspace=space)
        stored = 255 - imagecodecs.jpeg8_decode(data, outcolorspace="CMYK").astype(float)
        wanted = (255 - stored[..., :3]) * (255 - stored[..., 3:]) / 255
        assert np.abs(wanted - cells.OF_INKS).max() < 12
        yield data, wanted, 3, "CMYK without a colour profile"
        at = data.index(b"Adobe") - 4
        yield data[:at] + data[at + 16 :], "four inks without Adobe"


@cell("JPEG", "ICC profile")
def _():
    parts = P3_PROFILE[:9000], P3_PROFILE[9000:]
    first, second = (b"ICC_PROFILE\0" + bytes([n, 2]) + p for n, p in enumerate(parts, 1))
    half = in_jpeg(jpeg(), second, 0xE2)
    yield half, SMOOTH, 2, "damaged or incomplete"
    yield in_jpeg(half, first, 0xE2), cells.of_p3(SMOOTH), 6


@cell("JPEG", "other statements of colour")
def _():
    for block in cells.ADOBE_EXIF.values():
        yield in_jpeg(jpeg(), LEAD + block), cells.of_adobe(SMOOTH), 6
    yield in_jpeg(jpeg(), LEAD + cells.UNCALIBRATED), SMOOTH, 2, "not sRGB, but not what"
    yield in_jpeg(jpeg(), LEAD + cells.P3_EXIF), cells.of_p3(SMOOTH), 6
    yield in_jpeg(jpeg(), LEAD + cells.SRGB_EXIF), SMOOTH, 2


@cell("JPEG", "orientation")
def _():
    for number, upright in UPRIGHT.items():
        for order in "<>":
            yield in_jpeg(jpeg(), LEAD + exif({274: ("H", number)}, order)), upright(SMOOTH), 2
    odd = [("I", 6), ("B", 6), ("s", b"6\0"), ("R", [6, 1]), ("H", [6, 6]), ("U", b"\6")]
    none = [("H", 0), ("H", 9), ("s", b"up\0"), ("R", [0, 0]), ("h", -6)]
    for value in (*odd, *none):
        upright = UPRIGHT[6 if value in odd else 1](SMOOTH)
        yield in_jpeg(jpeg(), LEAD + exif({274: value})), upright, 2


@cell("JPEG", "several pictures")
def _():
    yield jpeg() + jpeg(255 - SMOOTH), SMOOTH, 2
    more = {"save_all": True, "append_images": [Image.fromarray(255 - SMOOTH)]}
    yield saved(SMOOTH, "MPO", quality=100, subsampling=0, **more), SMOOTH, 3


def usual(form: str, make: Callable[..., bytes], pixels: np.ndarray, loss: float) -> None:
    """The cells that formats which Pillow writes have in common."""
    alpha = cells.ALPHA if pixels is SCENE else large(cells.ALPHA)

    @cell(form, "transparency")
    def _():
        data = make(np.dstack([pixels, alpha]))
        yield data, cells.over_white(pixels, alpha), loss + 1

    @cell(form, "ICC profile")
    def _():
        yield make(pixels, icc_profile=P3_PROFILE), cells.of_p3(pixels), 2 * loss + 2

    @cell(form, "orientation")
    def _():
        for number, upright in UPRIGHT.items():
            block = LEAD + exif({274: ("H", number)})
            yield make(pixels, exif=block), upright(pixels), loss

    @cell(form, "several pictures")
    def _():
        more = {"save_all": True, "append_images": [Image.fromarray(255 - pixels)]}
        yield make(pixels, **more), pixels, loss, "the first is taken"


def webp(samples: np.ndarray = SCENE, **options) -> bytes:
    return saved(samples, "WEBP", lossless=True, exact=True, **options)


@cell("WebP", "8 bits")
def _():
    yield webp(), SCENE
    yield (lossy := imagecodecs.webp_encode(SMOOTH, level=95)), imagecodecs.webp_decode(lossy), 2


@cell("WebP", "other statements of colour")
def _():
    for block in cells.ADOBE_EXIF.values():
        yield webp(exif=block), cells.of_adobe(SCENE), 1.1


def avif(samples: np.ndarray = SMOOTH, **options) -> bytes:
    return imagecodecs.avif_encode(samples, level=100, speed=8, **options)


def avif_by_pillow(samples: np.ndarray, **options) -> bytes:
    return saved(samples, "AVIF", quality=100, subsampling="4:4:4", speed=8, **options)


def with_code_points(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


@cell("AVIF", "8 bits")
def _():
    yield avif(), SMOOTH, 3


@cell("AVIF", "9 to 16 bits")
def _():
    for bits in (10, 12):
        stored = np.round(SMOOTH / 255 * ((1 << bits) - 1)).astype(np.uint16)
        yield avif(stored, bitspersample=bits), SMOOTH, 3


@cell("AVIF", "other statements of colour")
def _():
    plain = avif()
    stored = imagecodecs.avif_decode(plain)
    for transfer, curve in ((13, cells.srgb_light), (4, power(2.2)), (8, power(1.0))):
        yield with_code_points(plain, 12, transfer), in_srgb(stored, P3, curve), 3
    yield with_code_points(plain, 77, 13), SMOOTH, 3, "77/13"
    without = plain.replace(b"colrnclx", b"freenclx")
    yield without, imagecodecs.avif_decode(without), 3, "in its stream alone"


@cell("AVIF", "HDR (PQ, HLG)")
def _():
    plain = avif(np.full_like(SMOOTH, 191))  # 75 %: white paper
    yield with_code_points(plain, 9, 18), np.full(SMOOTH.shape, 255), 3, "HDR"


# 16x16 pixels, of which the property clap leaves 8x8
CUT = b"""0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh10003LZDn*}000000000XXk=`10000000000aA{+700000000000000000000
4sdC7Z2$lO000310016oY;R)#0000)000310RR910RR92JOBUy6#xJLC~0YKW&i*H00031000_kZf0cy000000RRADb}%tRZ)|UJ
00000lWA~rZ~y=Rb7^p6ZvX%Q6lrsCWdHyG000005C8xG5C8xG5O8UDX#fBK00RgJ2mk;83}JRLLxCUw000006Ju{|a&BX6cmM(b
0ssbp0000eV{Bn?00008000010000800001000000000100000000010000OX>e^}0000000001009L70)qsF0000TZDe6|5&#MX
I1K;TBr*yfKtKQg!~g)PdH"""


@cell("AVIF", "a picture that cuts off its borders")
def _():
    yield base64.b85decode(CUT.replace(b"\n", b"")), "cuts off its borders"


def heic(samples: np.ndarray = SMOOTH, **options) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    return saved(samples, "HEIF", quality=100, chroma=444, **options)


@cell("HEIC", "8 bits")
def _():
    yield heic(), SMOOTH, 4


@cell("HEIC", "other statements of colour")
def _():
    yield with_code_points(heic(), 12, 13), in_srgb(SMOOTH, P3, cells.srgb_light), 10


usual("WebP", webp, SCENE, CLOSE)
usual("AVIF", avif_by_pillow, SMOOTH, 3)
usual("HEIC", heic, SMOOTH, 4)


def jp2(samples: np.ndarray = SMOOTH, bits: int = 8, kind: str = "jp2") -> bytes:
    exact = {"level": 0, "reversible": True}
    return imagecodecs.jpeg2k_encode(samples, bitspersample=bits, codecformat=kind, **exact)


@cell("JPEG 2000", "1, 2, 4 bits")
def _():
    for bits in (1, 2, 4):
        stored = large(cells.levels(bits)).astype(np.uint8)
        yield jp2(stored, bits), cells.scaled(stored, (1 << bits) - 1)


@cell("JPEG 2000", "8 bits")
def _():
    for kind in ("jp2", "j2k"):
        yield jp2(kind=kind), SMOOTH
        yield jp2(SMOOTH[..., 0].copy(), kind=kind), SMOOTH[..., 0]


@cell("JPEG 2000", "9 to 16 bits")
def _():
    for bits in (10, 12, 16):
        white = (1 << bits) - 1
        stored = large(cells.levels(bits)).astype(np.uint16)
        yield jp2(stored, bits), cells.scaled(stored, white), 0.01
        yield jp2(np.round(SMOOTH / 255 * white).astype(np.uint16), bits), SMOOTH, 0.2


@cell("JPEG 2000", "signed samples")
def _():
    yield jp2((large(cells.levels(8)) - 128).astype(np.int8)), "signed or unequal"


@cell("JPEG 2000", "ICC profile")
def _():
    yield with_jp2_colours(jp2(), b"\2\0\0" + P3_PROFILE), cells.of_p3(SMOOTH), 1.1


@cell("JPEG 2000", "other statements of colour")
def _():
    yield with_jp2_colours(jp2(), b"\1\0\0" + struct.pack(">I", 16)), SMOOTH
    yield with_jp2_colours(jp2(), b"\1\0\0" + struct.pack(">I", 21)), "colour space 21"
