"""PNG, cell by cell."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from sketchfusion_lite.image_files.profiles import SRGB_POINTS, matrix_profile, power

from .by_hand import exif, png
from .cells import (
    ADOBE,
    ADOBE_EXIF,
    ALPHA,
    GREY,
    GREY_LIGHT,
    GREY_PROFILE,
    IN_P3,
    P3,
    P3_PROFILE,
    RAMP,
    SCENE,
    UPRIGHT,
    Case,
    animation,
    cell,
    in_srgb,
    load_quietly,
    over_white,
    scaled,
    srgb_light,
)


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
    yield Case(animation("PNG"), SCENE, says="the first is taken")
