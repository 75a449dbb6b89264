"""Every kind of picture that a format can hold is read as its specification says, or refused by name.

One cell of the table in docs/formats.md is one test here, and the table is written from these. Files are made by hand or
by encoders that are not Pillow's, of pixels that are known.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from sketchfusion_lite.errors import ImageError, PictureWarning
from sketchfusion_lite.image_colours import SRGB_POINTS, matrix_profile, power
from sketchfusion_lite.images import load_image

from . import picture_files as by_hand
from .picture_files import exif, in_jpeg, in_webp, png, tags_of, tiff

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
START, END = "<!-- table of formats -->\n", "<!-- end of table -->\n"
SCENE, RAMP = by_hand.scene(), by_hand.ramp()
GREY = np.round(RAMP * 255).astype(np.uint8)
ALPHA = np.linspace(255, 0, SCENE[..., 0].size).astype(np.uint8).reshape(GREY.shape)


class Case(NamedTuple):
    """One file.

    Attributes:
        data: its bytes.
        pixels: what is in it, ``(H, W)`` or ``(H, W, 3)`` in 0..255; or the words of the refusal.
        tolerance: of 255.
        says: the words of a warning that must come; none may come if empty.
    """

    data: bytes
    pixels: np.ndarray | str
    tolerance: float = 0.51
    says: str = ""


CELLS: dict[tuple[str, str], Callable[[], Iterator[Case]]] = {}


def cell(form: str, feature: str):
    """Register what makes the cases of a cell."""

    def register(make: Callable[[], Iterator[Case]]) -> Callable[[], Iterator[Case]]:
        CELLS[form, feature] = make
        return make

    return register


def scaled(stored: np.ndarray, white: int) -> np.ndarray:
    """Integers of 0 to ``white`` in 0..255."""
    return stored.astype(float) * 255 / white


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """In floats; ``alpha`` in [0, 1]."""
    colour = colour[..., None] if colour.ndim == 2 else colour
    return colour * alpha[..., None] + 255 * (1 - alpha[..., None])


# --------------------------------------------------------------------------------------------------
# Colours by their definition, without any library

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290))


def in_srgb(pixels: np.ndarray, points, curve) -> np.ndarray:
    """Colours of primaries ``points`` and a curve, ``(H, W, 3)`` in 0..255, in sRGB; all white points are D65."""

    def to_xyz(points) -> np.ndarray:
        x, y = np.array(points).T
        xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
        return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])

    light = curve(pixels / 255) @ to_xyz(points).T @ np.linalg.inv(to_xyz(SRGB_POINTS)).T
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def srgb_light(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


P3_PROFILE = matrix_profile(P3, power(2.2))
IN_P3 = in_srgb(SCENE, P3, power(2.2))
GREY_PROFILE = matrix_profile(None, power(1.0))
GREY_LIGHT = in_srgb(np.stack([RAMP * 255] * 3, -1), SRGB_POINTS, power(1.0))[..., 0]
UPRIGHT = {  # what EXIF says of the stored row 0 and column 0, written out
    1: lambda a: a,
    2: lambda a: np.fliplr(a),
    3: lambda a: np.flipud(np.fliplr(a)),
    4: lambda a: np.flipud(a),
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.fliplr(np.swapaxes(a, 0, 1)),
    7: lambda a: np.flipud(np.fliplr(np.swapaxes(a, 0, 1))),
    8: lambda a: np.flipud(np.swapaxes(a, 0, 1)),
}
ADOBE_EXIF = {
    "R03": exif({0x8769: ("I", {0xA001: ("H", 65535), 0xA005: ("I", {1: ("s", b"R03\0")})})}),
    "2": exif({0x8769: ("I", {0xA001: ("H", 2)})}, "<"),
}
UNCALIBRATED = exif({0x8769: ("I", {0xA001: ("H", 65535)})})
P3_EXIF = exif(
    {
        0x13E: ("R", [3127, 10_000, 3290, 10_000]),
        0x13F: (
            "R",
            [v for x, y in P3[:3] for v in (round(x * 1000), 1000, round(y * 1000), 1000)],
        ),
        0x8769: ("I", {0xA001: ("H", 65535), 0xA500: ("R", [22, 10])}),
    }
)
SRGB_EXIF = exif({0x8769: ("I", {0xA001: ("H", 1)})})


# --------------------------------------------------------------------------------------------------
# PNG


@cell("PNG", "1, 2, 4 bits")
def _():
    for depth in (1, 2, 4):
        white = (1 << depth) - 1
        stored = np.round(RAMP * white).astype(int)
        for interlaced in (False, True):
            yield Case(png(stored, depth, 0, interlaced=interlaced), scaled(stored, white))
        palette = np.random.default_rng(depth).integers(0, 256, (white + 1, 3), np.uint8)
        yield Case(png(stored, depth, 3, (b"PLTE", palette.tobytes())), palette[stored])


@cell("PNG", "8 bits")
def _():
    for interlaced in (False, True):
        yield Case(png(SCENE, 8, 2, interlaced=interlaced), SCENE)
        yield Case(png(GREY, 8, 0, interlaced=interlaced), GREY)


@cell("PNG", "9 to 16 bits")
def _():
    deep = SCENE.astype(int) * 256 + 100
    for interlaced in (False, True):
        yield Case(png(deep, 16, 2, interlaced=interlaced), deep / 257, 0.01)
        yield Case(png(np.round(RAMP * 65535), 16, 0, interlaced=interlaced), RAMP * 255, 0.01)


@cell("PNG", "transparency")
def _():
    half = ALPHA / 255
    yield Case(png(np.dstack([SCENE, ALPHA]), 8, 6), over_white(SCENE, half))
    yield Case(png(np.dstack([GREY, ALPHA]), 8, 4), over_white(GREY, half))
    for samples, kind in ((SCENE, 6), (GREY, 4)):
        deep = np.dstack([samples, ALPHA]).astype(np.uint16) * 257
        yield Case(png(deep, 16, kind), over_white(samples, half))
    palette = np.random.default_rng(1).integers(0, 256, (4, 3), np.uint8)
    stored = np.round(RAMP * 3).astype(int)
    shares = bytes([255, 0, 100])
    seen = np.array([255, 0, 100, 255])[stored] / 255
    yield Case(
        png(stored, 2, 3, (b"PLTE", palette.tobytes()), (b"tRNS", shares)),
        over_white(palette[stored], seen),
    )


@cell("PNG", "one transparent colour")
def _():
    for depth in (1, 2, 4, 8, 16):
        white = (1 << depth) - 1
        stored = np.round(RAMP * white).astype(int)
        clear = int(stored[4, 4])
        expected = np.where(stored == clear, 255, scaled(stored, white))
        yield Case(png(stored, depth, 0, (b"tRNS", struct.pack(">H", clear))), expected)
    for depth in (8, 16):
        stored = SCENE.astype(int) * (1 if depth == 8 else 257)
        stored[3, 3] += depth == 16  # differs by less than 8 bits can tell
        clear = tuple(int(v) for v in stored[2, 3])
        hit = (stored == clear).all(-1)
        yield Case(
            png(stored, depth, 2, (b"tRNS", struct.pack(">3H", *clear))),
            np.where(hit[..., None], 255, SCENE),
        )


@cell("PNG", "ICC profile")
def _():
    def iccp(profile: bytes) -> tuple[bytes, bytes]:
        return b"iCCP", b"x\0\0" + zlib.compress(profile)

    yield Case(png(SCENE, 8, 2, iccp(P3_PROFILE)), IN_P3, 1.1)
    yield Case(png(SCENE.astype(int) * 257, 16, 2, iccp(P3_PROFILE)), IN_P3, 0.3)
    yield Case(
        png(GREY, 8, 0, iccp(GREY_PROFILE)),
        in_srgb(np.stack([GREY] * 3, -1), SRGB_POINTS, power(1.0)),
        1.1,
    )
    yield Case(png(np.round(RAMP * 65535), 16, 0, iccp(GREY_PROFILE)), GREY_LIGHT, 0.3)
    yield Case(png(SCENE, 8, 2, iccp(matrix_profile(SRGB_POINTS, srgb_light))), SCENE)
    yield Case(
        png(SCENE, 8, 2, iccp(GREY_PROFILE)), SCENE, says="cannot be used .for GRAY, not RGB"
    )
    yield Case(png(SCENE, 8, 2, iccp(P3_PROFILE[:300])), SCENE, says="profile cannot be used")


@cell("PNG", "other statements of colour")
def _():
    linear = in_srgb(SCENE, SRGB_POINTS, power(1.0))
    chrm = b"cHRM", struct.pack(">8I", *(round(v * 100_000) for xy in (P3[3], *P3[:3]) for v in xy))
    one, usual = (b"gAMA", struct.pack(">I", 100_000)), (b"gAMA", struct.pack(">I", 45_455))
    yield Case(png(SCENE, 8, 2, one), linear, 1.1)
    yield Case(png(SCENE.astype(int) * 257, 16, 2, one), linear, 0.3)
    yield Case(png(np.round(RAMP * 65535), 16, 0, one), GREY_LIGHT, 0.3)
    yield Case(png(SCENE, 8, 2, usual), SCENE)
    yield Case(png(SCENE, 8, 2, usual, chrm), IN_P3, 1.1)
    yield Case(png(SCENE, 8, 2, chrm), in_srgb(SCENE, P3, srgb_light), 1.1)
    yield Case(png(SCENE, 8, 2, (b"sRGB", b"\0"), one, chrm), SCENE)
    yield Case(
        png(SCENE, 8, 2, (b"cICP", bytes([12, 13, 0, 1])), one), in_srgb(SCENE, P3, srgb_light), 1.1
    )
    yield Case(png(SCENE, 8, 2, (b"cICP", bytes([12, 99, 0, 1]))), SCENE, says="12/99")
    yield Case(png(SCENE, 8, 2, (b"gAMA", bytes(4)), chrm), SCENE, says="impossible")
    yield Case(png(SCENE, 8, 2, one, (b"cHRM", bytes(32))), SCENE, says="impossible")
    yield Case(
        png(SCENE, 8, 2, (b"eXIf", ADOBE_EXIF["R03"])),
        in_srgb(SCENE, ADOBE, power(2.19921875)),
        1.1,
    )


@cell("PNG", "HDR (PQ, HLG)")
def _():
    # 203 cd/m2, which is the white of paper, is 58.07 % of PQ and 75 % of HLG
    for transfer, white in ((16, 0.5807), (18, 0.75)):
        stored = np.round(np.clip(RAMP * 2, 0, 1) * white * 65535)
        data = png(np.stack([stored] * 3, -1), 16, 2, (b"cICP", bytes([9, transfer, 0, 1])))
        image = load_quietly(data)
        assert np.abs(image[RAMP >= 0.5] - 255).max() < 1
        assert (image[0, 3] < 10).all()
        yield Case(data, image, says="HDR")


@cell("PNG", "orientation")
def _():
    for number, upright in UPRIGHT.items():
        yield Case(png(SCENE, 8, 2, (b"eXIf", exif({274: ("H", number)}))), upright(SCENE))
        deep = png(SCENE.astype(int) * 257, 16, 2, (b"eXIf", exif({274: ("H", number)}, "<")))
        yield Case(deep, upright(SCENE))


@cell("PNG", "several pictures")
def _():
    yield Case(_animation("PNG"), SCENE, says="the first is taken")


def _animation(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    second = Image.fromarray(255 - SCENE)
    Image.fromarray(SCENE).save(buffer, kind, save_all=True, append_images=[second], **options)
    return buffer.getvalue()


# --------------------------------------------------------------------------------------------------
# JPEG


def jpeg(samples: np.ndarray, **options) -> bytes:
    return imagecodecs.jpeg8_encode(samples, level=100, subsampling="444", **options)


SMOOTH = np.repeat(np.repeat(SCENE, 8, 0), 8, 1)  # blocks of 8x8 keep their colours


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


def _inks() -> tuple[np.ndarray, np.ndarray]:
    """CMYK ``(H, W, 4)`` with 0 for paper, and its colours."""
    black = np.full_like(SMOOTH[..., :1], 40)
    inks = np.concatenate([255 - SMOOTH, black], -1)
    return inks, SMOOTH * ((255 - 40) / 255)


@cell("JPEG", "CMYK")
def _():
    inks, colours = _inks()
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


# --------------------------------------------------------------------------------------------------
# TIFF


def stored_tiff(
    samples: np.ndarray, bits: int, photometric: int, order: str = "<", **more
) -> bytes:
    """Unsigned integers in one strip; rows end at bytes."""
    rows = samples.reshape(samples.shape[0], -1)
    data = b"".join(by_hand.packed(row, bits, order) for row in rows)
    options = {k: more.pop(k) for k in ("big", "then", "inside") if k in more}
    return tiff(tags_of(samples.shape, bits, photometric, **more), data, order, **options)


@cell("TIFF", "1, 2, 4 bits")
def _():
    for bits in (1, 2, 4):
        white = (1 << bits) - 1
        stored = np.round(RAMP * white).astype(int)
        for order in "<>":
            yield Case(stored_tiff(stored, bits, 1, order), scaled(stored, white))
        yield Case(stored_tiff(stored, bits, 0), 255 - scaled(stored, white))
        palette = np.random.default_rng(bits).integers(0, 256, (white + 1, 3))
        yield Case(
            stored_tiff(stored, bits, 3, t320=("H", palette.T.ravel() * 257)), palette[stored]
        )
    bits = np.round(RAMP).astype(np.uint8)
    lsb = np.packbits(bits, axis=1, bitorder="little").tobytes()
    yield Case(tiff(tags_of(bits.shape, 1, 1, t266=("H", 2)), lsb), scaled(bits, 1))
    for kind in ("group3", "group4", "tiff_ccitt"):
        buffer = io.BytesIO()
        Image.fromarray(bits * np.uint8(255)).convert("1").save(buffer, "TIFF", compression=kind)
        yield Case(buffer.getvalue(), scaled(bits, 1))


@cell("TIFF", "8 bits")
def _():
    for order in "<>":
        for big in (False, True):
            yield Case(stored_tiff(SCENE, 8, 2, order, big=big), SCENE)
    palette = np.random.default_rng(0).integers(0, 256, (256, 3))
    yield Case(stored_tiff(GREY, 8, 3, t320=("H", palette.T.ravel() * 257)), palette[GREY])
    yield Case(
        stored_tiff(GREY, 8, 3, t320=("H", palette.T.ravel())), palette[GREY]
    )  # a common mistake
    for name in ("lzw", "deflate", "packbits", "zstd", "lzma"):
        for predictor in (False, True):
            if name == "packbits" and predictor:
                continue
            buffer = io.BytesIO()
            tifffile.imwrite(
                buffer, SCENE, photometric="rgb", compression=name, predictor=predictor
            )
            yield Case(buffer.getvalue(), SCENE)


@cell("TIFF", "9 to 16 bits")
def _():
    for bits in (10, 12, 14, 16):
        white = (1 << bits) - 1
        stored = np.round(RAMP * white).astype(int)
        yield Case(stored_tiff(stored, bits, 1, ">"), scaled(stored, white), 0.01)
    deep = SCENE.astype(int) * 256 + 100
    for order in "<>":
        yield Case(stored_tiff(deep, 16, 2, order), deep / 257, 0.01)
        yield Case(stored_tiff(np.round(RAMP * 65535), 16, 1, order), RAMP * 255, 0.01)


@cell("TIFF", "32 bits and floats")
def _():
    whole = np.round(RAMP * (2**32 - 1))
    yield Case(stored_tiff(whole, 32, 1), RAMP * 255, 0.01)
    for kind in ("<f2", ">f4", "<f8"):
        bits, order = int(kind[2]) * 8, kind[0]
        tags = tags_of(RAMP.shape, bits, 1, t339=("H", 3))
        yield Case(tiff(tags, RAMP.astype(kind).tobytes(), order), RAMP * 255, 0.1)
        tags = tags_of(SCENE.shape, bits, 2, t339=("H", [3, 3, 3]))
        yield Case(tiff(tags, (SCENE / 255).astype(kind).tobytes(), order), SCENE, 0.1)
    tags = tags_of(RAMP.shape, 32, 1, t339=("H", 3))
    for odd, words in (
        (RAMP * 255, "from 0 to 255"),
        (RAMP - 0.5, "from -0.5"),
        (RAMP * np.nan, "nan"),
    ):
        yield Case(tiff(tags, odd.astype("<f4").tobytes()), f"{words}.*lie in .0, 1.")


@cell("TIFF", "white is 0")
def _():
    for bits in (1, 4, 8, 12, 16, 32):
        white = (1 << bits) - 1
        stored = np.round(RAMP * white).astype(np.int64)
        yield Case(stored_tiff(stored, bits, 0), 255 - scaled(stored, white), 0.01)
    tags = tags_of(RAMP.shape, 32, 0, t339=("H", 3))
    yield Case(tiff(tags, RAMP.astype("<f4").tobytes()), 255 - RAMP * 255, 0.01)


@cell("TIFF", "signed samples")
def _():
    for bits in (8, 16, 32):
        yield Case(
            stored_tiff(GREY.astype(int) // 2, bits, 1, t339=("H", 2)), "signed or complex samples"
        )


@cell("TIFF", "CMYK")
def _():
    inks, colours = _inks()
    yield Case(stored_tiff(inks, 8, 5), colours, 0.51, "CMYK without a colour profile")
    yield Case(
        stored_tiff(inks.astype(int) * 257, 16, 5), colours, 0.01, "CMYK without a colour profile"
    )
    yield Case(stored_tiff(inks, 8, 5, t332=("H", 2)), "inks other than CMYK")
    yield Case(stored_tiff(inks[..., :3].copy(), 8, 5), "3 samples a pixel where 4")


def _jpeg_in_tiff(**options) -> tuple[bytes, np.ndarray]:
    """The file, and its pixels as imagecodecs decodes them."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, SMOOTH, compression="jpeg", compressionargs={"level": 98}, **options)
    return buffer.getvalue(), tifffile.imread(io.BytesIO(buffer.getvalue()))


@cell("TIFF", "YCbCr")
def _():
    data, pixels = _jpeg_in_tiff(
        photometric="rgb"
    )  # stored as YCbCr, two by two pixels sharing their colours
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 3
    yield Case(data, pixels, 3)
    matrix = np.array(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    stored = np.clip(np.round(SCENE @ matrix.T + [0, 128, 128]), 0, 255).astype(int)
    yield Case(stored_tiff(stored, 8, 6, t530=("H", [1, 1])), SCENE, 2)
    yield Case(stored_tiff(stored * 257, 16, 6, t530=("H", [1, 1])), "YCBCR in 16 bits")


@cell("TIFF", "L*a*b*")
def _():
    # a grey, and colours whose values in sRGB are known to any colour calculator under D50
    lab = np.array(
        [[[100, 0, 0], [0, 0, 0], [53.585, 0, 0], [54.29, 80.81, 69.89], [29.57, 68.30, -112.03]]]
    )
    rgb = np.array([[[255] * 3, [0] * 3, [128] * 3, [255, 0, 0], [0, 0, 255]]])
    eight = np.round(lab * [2.55, 1, 1]).astype(int)
    yield Case(stored_tiff(eight & 255, 8, 8), rgb, 6)
    yield Case(stored_tiff((eight + [0, 128, 128]), 8, 9), rgb, 6)
    deep = np.round(lab * [655.35, 256, 256]).astype(int)
    yield Case(stored_tiff(deep & 65535, 16, 8), rgb, 1)
    yield Case(stored_tiff(deep + [0, 32768, 32768], 16, 9), rgb, 1)


@cell("TIFF", "other photometric interpretations")
def _():
    for photometric in (4, 10, 32844, 34892 - 1, 51177):
        yield Case(stored_tiff(GREY, 8, photometric), "photometric interpretation")
    tags = tags_of(GREY.shape, 8, 1)
    del tags[262]
    yield Case(tiff(tags, GREY.tobytes()), "does not say what its samples mean")


@cell("TIFF", "transparency")
def _():
    half = ALPHA / 255
    for samples, photometric in ((SCENE, 2), (GREY, 1)):
        straight = np.dstack([samples, ALPHA])
        wanted = over_white(samples, half)
        colours = samples if samples.ndim == 3 else samples[..., None]
        ahead = np.dstack([np.round(colours * half[..., None]), ALPHA]).astype(int)
        for scale, bits in ((1, 8), (257, 16)):
            yield Case(
                stored_tiff(straight.astype(int) * scale, bits, photometric, t338=("H", 2)), wanted
            )
            yield Case(stored_tiff(ahead * scale, bits, photometric, t338=("H", 1)), wanted, 1.1)
        yield Case(stored_tiff(straight, 8, photometric), wanted, says="taken as transparency")
        left = "neither its colours nor transparency"
        yield Case(stored_tiff(straight, 8, photometric, t338=("H", 0)), samples, says=left)
        two = np.dstack([straight, ALPHA // 2])
        yield Case(stored_tiff(two, 8, photometric, t338=("H", [2, 0])), wanted, says=left)
        two = np.dstack([colours, ALPHA // 2, ALPHA])
        yield Case(stored_tiff(two, 8, photometric, t338=("H", [0, 2])), wanted, says=left)


@cell("TIFF", "planes, tiles, strips")
def _():
    for bits, scale in ((8, 1), (16, 257)):
        planes = [
            by_hand.packed(SCENE[..., i].ravel().astype(int) * scale, bits, "<") for i in range(3)
        ]
        yield Case(tiff(tags_of(SCENE.shape, bits, 2, t284=("H", 2)), planes), SCENE)
        padded = np.zeros((16, 16, 3), int)
        padded[:9, :12] = SCENE.astype(int) * scale
        tags = tags_of(SCENE.shape, bits, 2, t322=("H", 16), t323=("H", 16))
        del tags[278]
        yield Case(tiff(tags, by_hand.packed(padded.ravel(), bits, "<"), tiled=True), SCENE)
        strips = [
            by_hand.packed((SCENE[i : i + 4].astype(int) * scale).ravel(), bits, "<")
            for i in (0, 4, 8)
        ]
        yield Case(tiff(tags_of(SCENE.shape, bits, 2, t278=("H", 4)), strips), SCENE)
        yield Case(
            tiff(tags_of(SCENE.shape, bits, 2, t278=("H", 4)), strips[:2]),
            "parts of its pixels are missing",
        )
        yield Case(
            tiff(tags_of(SCENE.shape, bits, 2, t278=("H", 4)), [*strips[:2], strips[2][:5]]),
            "damaged",
        )


@cell("TIFF", "ICC profile")
def _():
    icc = ("U", P3_PROFILE)
    yield Case(stored_tiff(SCENE, 8, 2, t34675=icc), IN_P3, 1.1)
    yield Case(stored_tiff(SCENE.astype(int) * 257, 16, 2, t34675=icc), IN_P3, 0.3)
    grey = ("U", GREY_PROFILE)
    yield Case(stored_tiff(np.round(RAMP * 65535), 16, 1, t34675=grey), GREY_LIGHT, 0.3)
    white = np.round(65535 - RAMP * 65535)
    yield Case(stored_tiff(white, 16, 0, t34675=grey), GREY_LIGHT, 0.3)
    yield Case(
        stored_tiff(SCENE, 8, 2, t34675=("U", b"nothing" * 30)),
        SCENE,
        says="profile cannot be used",
    )


@cell("TIFF", "other statements of colour")
def _():
    white = ("R", [3127, 10_000, 3290, 10_000])
    primaries = (
        "R",
        [v for x, y in P3[:3] for v in (round(x * 1000), 1000, round(y * 1000), 1000)],
    )
    table = np.round((np.arange(256) / 255) ** 2.2 * 65535).astype(int)
    for curve in (table, np.concatenate([table] * 3)):
        data = stored_tiff(SCENE, 8, 2, t318=white, t319=primaries, t301=("H", curve))
        yield Case(data, IN_P3, 1.2)
    data = stored_tiff(SCENE, 8, 2, t318=white, t319=primaries)
    yield Case(data, in_srgb(SCENE, P3, srgb_light), 1.1)
    data = stored_tiff(SCENE, 8, 2, t318=white, t319=("R", [0, 1] * 6))
    yield Case(data, SCENE, says="impossible")
    inner = {0xA001: ("H", 2)}
    yield Case(
        stored_tiff(SCENE, 8, 2, t34665=("I", inner)), in_srgb(SCENE, ADOBE, power(2.19921875)), 1.1
    )
    inner = {0xA001: ("H", 65535)}
    yield Case(stored_tiff(SCENE, 8, 2, t34665=("I", inner)), SCENE, says="not sRGB, but not what")


@cell("TIFF", "orientation")
def _():
    for number, upright in UPRIGHT.items():
        yield Case(stored_tiff(SCENE, 8, 2, t274=("H", number)), upright(SCENE))
        yield Case(
            stored_tiff(GREY.astype(int) * 257, 16, 1, ">", t274=("H", number)), upright(GREY)
        )
        data, pixels = _jpeg_in_tiff(photometric="rgb", extratags=[(274, 3, 1, number, True)])
        yield Case(data, upright(pixels), 3)


@cell("TIFF", "several pictures")
def _():
    second = (tags_of(SCENE.shape, 8, 2), (255 - SCENE).tobytes())
    yield Case(stored_tiff(SCENE, 8, 2, then=[second]), SCENE, says="the first is taken")


@cell("TIFF", "a picture and its reduced copies")
def _():
    small = (tags_of((3, 4, 3), 8, 2, t254=("I", 1)), bytes(36))
    yield Case(stored_tiff(SCENE, 8, 2, then=[small]), SCENE)
    yield Case(stored_tiff(SCENE, 8, 2, inside=[small]), SCENE)


@cell("TIFF", "a preview of the picture, or of raw data (DNG)")
def _():
    thumb = SCENE[:4, :4].copy()
    sensor = (tags_of(GREY.shape, 16, 32803, t254=("I", 0)), (GREY.astype("<u2") * 257).tobytes())
    version = {"t50706": ("B", [1, 4, 0, 0])}
    for more in ({}, version):
        for reduced in ({}, {"t254": ("I", 1)}):
            if more or reduced:
                yield Case(
                    stored_tiff(thumb, 8, 2, inside=[sensor], **more, **reduced),
                    "raw picture.*converter",
                )
    yield Case(stored_tiff(thumb, 8, 2, inside=[sensor]), "raw picture.*converter")
    yield Case(stored_tiff(GREY, 8, 32803), "raw picture")
    full = (tags_of(SCENE.shape, 8, 2, t254=("I", 0)), SCENE.tobytes())
    yield Case(stored_tiff(thumb, 8, 2, t254=("I", 1), inside=[full]), "reduced copy")
    yield Case(stored_tiff(thumb, 8, 2, t254=("I", 1), then=[full]), "reduced copy")
    yield Case(stored_tiff(thumb, 8, 2, t255=("H", 2), then=[full]), "reduced copy")
    yield Case(stored_tiff(thumb, 8, 2, inside=[full]), "reduced copy")


# --------------------------------------------------------------------------------------------------
# WebP, AVIF, HEIC


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
    yield Case(_animation("WEBP", lossless=True), SCENE, says="the first is taken")


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


# --------------------------------------------------------------------------------------------------
# JPEG 2000


def jp2(samples: np.ndarray, bits: int = 8, kind: str = "jp2") -> bytes:
    return imagecodecs.jpeg2k_encode(
        samples, level=0, reversible=True, bitspersample=bits, codecformat=kind
    )


BIG_RAMP = np.repeat(np.repeat(RAMP, 8, 0), 8, 1)


@cell("JPEG 2000", "1, 2, 4 bits")
def _():
    for bits in (1, 2, 4):
        white = (1 << bits) - 1
        stored = np.round(BIG_RAMP * white).astype(np.uint8)
        yield Case(jp2(stored, bits), scaled(stored, white))


@cell("JPEG 2000", "8 bits")
def _():
    for kind in ("jp2", "j2k"):
        yield Case(jp2(SMOOTH, kind=kind), SMOOTH)
        yield Case(jp2(SMOOTH[..., 0].copy(), kind=kind), SMOOTH[..., 0])


@cell("JPEG 2000", "9 to 16 bits")
def _():
    for bits in (10, 12, 16):
        white = (1 << bits) - 1
        stored = np.round(BIG_RAMP * white).astype(np.uint16)
        yield Case(jp2(stored, bits), scaled(stored, white), 0.01)
        deep = np.round(SMOOTH / 255 * white).astype(np.uint16)
        yield Case(jp2(deep, bits), SMOOTH, 0.2)


@cell("JPEG 2000", "signed samples")
def _():
    stored = (np.round(BIG_RAMP * 255) - 128).astype(np.int8)
    yield Case(jp2(stored), "signed or unequal")


@cell("JPEG 2000", "ICC profile")
def _():
    data = by_hand.with_jp2_colours(jp2(SMOOTH), b"\2\0\0" + P3_PROFILE)
    yield Case(data, in_srgb(SMOOTH, P3, power(2.2)), 1.1)


@cell("JPEG 2000", "other statements of colour")
def _():
    yield Case(by_hand.with_jp2_colours(jp2(SMOOTH), b"\1\0\0" + struct.pack(">I", 16)), SMOOTH)
    yield Case(
        by_hand.with_jp2_colours(jp2(SMOOTH), b"\1\0\0" + struct.pack(">I", 21)), "colour space 21"
    )


# --------------------------------------------------------------------------------------------------
# BMP, GIF, PPM, QOI

BGR = SCENE[..., ::-1]


def _rows(samples: np.ndarray) -> list[bytes]:
    return [np.ascontiguousarray(row).tobytes() for row in samples]


@cell("BMP", "1, 2, 4 bits")
def _():
    for bits in (1, 4):
        white = (1 << bits) - 1
        stored = np.round(RAMP * white).astype(int)
        palette = np.random.default_rng(bits).integers(0, 256, (white + 1, 4), np.uint8)
        rows = [by_hand.packed(row, bits) for row in stored]
        yield Case(by_hand.bmp(rows, 12, bits, palette.tobytes()), palette[stored][..., 2::-1])
    two = np.array([[0, 0, 0, 0], [255, 255, 255, 0]], np.uint8).tobytes()
    stored = np.round(RAMP).astype(int)
    rows = [by_hand.packed(row, 4) for row in stored]
    yield Case(by_hand.bmp(rows, 12, 4, two, 2), "palette of greys")


@cell("BMP", "8 bits")
def _():
    yield Case(by_hand.bmp(_rows(BGR), 12, 24), SCENE)
    yield Case(by_hand.bmp(_rows(BGR), 12, 24, top_down=True), SCENE)
    yield Case(
        by_hand.bmp(_rows(np.dstack([BGR, ALPHA])), 12, 32), SCENE
    )  # its fourth byte means nothing
    two = np.array([[0, 0, 0, 0], [255, 255, 255, 0]], np.uint8).tobytes()
    stored = np.round(RAMP).astype(np.uint8)
    yield Case(by_hand.bmp(_rows(stored), 12, 8, two, 2), scaled(stored, 1))
    greys = np.stack([np.arange(256)] * 3 + [np.zeros(256)], -1).astype(np.uint8)
    yield Case(by_hand.bmp(_rows(GREY), 12, 8, greys.tobytes()), GREY)
    five = SCENE.astype(int) >> 3
    stored = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2")
    yield Case(by_hand.bmp(_rows(stored), 12, 16), five * 255 / 31, 1)


@cell("BMP", "transparency")
def _():
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = by_hand.bmp(
        _rows(np.dstack([BGR, ALPHA])), 12, 32, compression=3, size=108, more=masks + b"BGRs"
    )
    yield Case(data, over_white(SCENE, ALPHA / 255))


@cell("BMP", "ICC profile")
def _():
    more = struct.pack("<4I", 0, 0, 0, 0) + b"MBED"[::-1] + bytes(48)
    blank = by_hand.bmp(_rows(BGR), 12, 24, size=124, more=more)
    place = struct.pack("<4I", 4, len(blank) - 14, len(P3_PROFILE), 0)
    yield Case(
        by_hand.bmp(_rows(BGR), 12, 24, size=124, more=more + place, tail=P3_PROFILE), IN_P3, 1.1
    )
    linked = struct.pack("<4I", 0, 0, 0, 0) + b"LINK"[::-1]
    yield Case(by_hand.bmp(_rows(BGR), 12, 24, size=124, more=linked), SCENE, says="another file")


@cell("BMP", "other statements of colour")
def _():
    x, y = np.array(P3).T
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    ends = (xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])).T
    more = struct.pack("<4II", 0, 0, 0, 0, 0) + struct.pack(
        "<9i", *np.round(ends.ravel() * 2**30).astype(int)
    )
    data = by_hand.bmp(
        _rows(BGR), 12, 24, size=108, more=more + struct.pack("<3I", *[round(2.2 * 65536)] * 3)
    )
    yield Case(data, IN_P3, 1.1)
    yield Case(
        by_hand.bmp(_rows(BGR), 12, 24, size=108, more=more + bytes(12)), SCENE, says="impossible"
    )
    yield Case(by_hand.bmp(_rows(BGR), 12, 24, size=108), SCENE)


def gif() -> tuple[bytes, np.ndarray]:
    return imagecodecs.gif_encode(GREY, colormap=_gif_palette()), _gif_palette()[GREY]


def _gif_palette() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (256, 3), np.uint8)


@cell("GIF", "8 bits")
def _():
    yield Case(*gif())


@cell("GIF", "one transparent colour")
def _():
    data, colours = gif()
    at = data.index(b"\x21\xf9\x04") if b"\x21\xf9\x04" in data else None
    control = b"\x21\xf9\x04" + bytes([1, 0, 0, int(GREY[4, 4])]) + b"\0"
    start = 13 + 768
    data = data[:at] + control + data[at + 8 :] if at else data[:start] + control + data[start:]
    hit = GREY == GREY[4, 4]
    yield Case(data, np.where(hit[..., None], 255, colours))


@cell("GIF", "ICC profile")
def _():
    data, colours = gif()
    yield Case(by_hand.with_gif_profile(data, P3_PROFILE), in_srgb(colours, P3, power(2.2)), 1.1)


@cell("GIF", "several pictures")
def _():
    data, colours = gif()
    body = data[13 + 768 : -1]
    yield Case(data[:-1] + body + b";", colours, says="the first is taken")


@cell("PPM", "1, 2, 4 bits")
def _():
    bits = np.round(RAMP).astype(int)
    rows = b"".join(by_hand.packed(1 - row, 1) for row in bits)  # 1 is black
    yield Case(b"P4\n12 9\n" + rows, scaled(bits, 1))
    yield Case(
        b"P1\n# text\n12 9\n" + b" ".join(b"%d" % (1 - v) for v in bits.ravel()), scaled(bits, 1)
    )
    for white in (1, 3, 15):
        stored = np.round(RAMP * white).astype(np.uint8)
        yield Case(b"P5\n12 9\n%d\n" % white + stored.tobytes(), scaled(stored, white))


@cell("PPM", "8 bits")
def _():
    yield Case(b"P6\n12 9\n255\n" + SCENE.tobytes(), SCENE)
    yield Case(b"P3\n12 9\n255\n" + b" ".join(b"%d" % v for v in SCENE.ravel()), SCENE)
    few = np.round(SCENE / 255 * 100).astype(np.uint8)
    yield Case(b"P6\n12 9\n100\n" + few.tobytes(), scaled(few, 100))


@cell("PPM", "9 to 16 bits")
def _():
    for white in (1000, 1023, 65535):
        stored = np.round(RAMP * white).astype(">u2")
        yield Case(b"P5\n12 9\n%d\n" % white + stored.tobytes(), scaled(stored, white), 0.01)
        deep = np.round(SCENE / 255 * white).astype(">u2")
        yield Case(b"P6\n12 9\n%d\n" % white + deep.tobytes(), SCENE)


@cell("PPM", "32 bits and floats")
def _():
    for kind, scale in (("<f4", b"-1.0"), (">f4", b"1.0")):
        yield Case(
            b"Pf\n12 9\n" + scale + b"\n" + RAMP[::-1].astype(kind).tobytes(), RAMP * 255, 0.01
        )
    yield Case(b"Pf\n12 9\n-1.0\n" + (RAMP * 3).astype("<f4").tobytes(), "from 0 to 3")
    yield Case(b"PF\n12 9\n-1.0\n" + bytes(12 * 9 * 12), "PFM of three colours")


@cell("QOI", "8 bits")
def _():
    yield Case(imagecodecs.qoi_encode(SCENE), SCENE)


@cell("QOI", "transparency")
def _():
    yield Case(imagecodecs.qoi_encode(np.dstack([SCENE, ALPHA])), over_white(SCENE, ALPHA / 255))


@cell("QOI", "other statements of colour")
def _():
    data = bytearray(imagecodecs.qoi_encode(SCENE))
    data[13] = 1
    yield Case(bytes(data), in_srgb(SCENE, SRGB_POINTS, power(1.0)), 1.1)


# --------------------------------------------------------------------------------------------------
# The tests


def load_quietly(data: bytes) -> np.ndarray:
    """``(H, W, 3)`` in 0..255."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_image(data)[0].permute(1, 2, 0).double().numpy() * 255


@pytest.mark.parametrize(("form", "feature"), CELLS, ids=lambda value: value)
def test_cell(form, feature, tmp_path):
    for number, case in enumerate(CELLS[form, feature]()):
        path = tmp_path / f"picture {number}"
        path.write_bytes(case.data)
        where = f"case {number}"
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            if isinstance(case.pixels, str):
                with pytest.raises(ImageError, match=f"(?s)^{path}: .*(?:{case.pixels})"):
                    load_image(path)
                continue
            found = load_image(path)[0].permute(1, 2, 0).double().numpy() * 255
        said = [str(each.message) for each in seen if issubclass(each.category, PictureWarning)]
        if case.says:
            assert any(text.startswith(f"{path}: ") for text in said), where
            assert any(re.search(case.says, text) for text in said), (where, said)
        else:
            assert not said, (where, said)
        wanted = case.pixels if case.pixels.ndim == 3 else case.pixels[..., None]
        wanted = np.broadcast_to(wanted, (*wanted.shape[:2], 3)).astype(float)
        assert found.shape == wanted.shape, where
        assert np.abs(found - wanted).max() <= case.tolerance, (where, np.abs(found - wanted).max())


def table() -> str:
    """The table of the page, from the cells: "read", "refused", or nothing where the format knows no such thing."""
    forms = list(dict.fromkeys(form for form, _ in CELLS))
    features = list(dict.fromkeys(feature for _, feature in CELLS))
    lines = ["| | " + " | ".join(forms) + " |", "|---|" + "---|" * len(forms)]
    for feature in features:
        words = []
        for form in forms:
            make = CELLS.get((form, feature))
            read = make and any(not isinstance(case.pixels, str) for case in make())
            words.append("" if make is None else "read" if read else "refused")
        lines.append(f"| {feature} | " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def test_the_page_shows_these_cells():
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(START)[2].partition(END)[0] == table(), (
        "write it: python -m tests.test_image_formats"
    )


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(before + START + table() + END + rest.partition(END)[2], encoding="utf-8")
