"""PNG, BMP, GIF, PPM and QOI, cell by cell."""

from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np

from sketchfusion_lite.image_files.profiles import SRGB_POINTS, matrix_profile, power

from . import cells
from .by_hand import bmp, exif, packed, png, with_gif_profile
from .cells import ALPHA, CLOSE, GREY, P3, P3_PROFILE, RAMP, SCENE, cell, deep, levels

FIRST = "the first is taken"
OF_P3, LINEAR = cells.of_p3(SCENE), cells.in_srgb(SCENE, SRGB_POINTS, power(1.0))


@cell("PNG", "1, 2, 4 bits")
def _():
    for bits in (1, 2, 4):
        stored, colours = levels(bits), cells.palette(1 << bits)
        for interlaced in (False, True):
            yield png(stored, bits, 0, interlaced=interlaced), cells.scaled(stored, (1 << bits) - 1)
        yield png(stored, bits, 3, (b"PLTE", colours.tobytes())), colours[stored]


@cell("PNG", "8 bits")
def _():
    for interlaced in (False, True):
        yield png(SCENE, 8, 2, interlaced=interlaced), SCENE
        yield png(GREY, 8, 0, interlaced=interlaced), GREY


@cell("PNG", "9 to 16 bits")
def _():
    stored = SCENE.astype(int) * 256 + 100
    for interlaced in (False, True):
        yield png(stored, 16, 2, interlaced=interlaced), stored / 257, 0.01
        yield png(levels(16), 16, 0, interlaced=interlaced), RAMP * 255, 0.01


@cell("PNG", "transparency")
def _():
    for samples, kind in ((SCENE, 6), (GREY, 4)):
        yield png(np.dstack([samples, ALPHA]), 8, kind), cells.over_white(samples, ALPHA)
        yield png(deep(np.dstack([samples, ALPHA])), 16, kind), cells.over_white(samples, ALPHA)
    stored, colours = levels(2), cells.palette(4)
    chunks = (b"PLTE", colours.tobytes()), (b"tRNS", bytes([255, 0, 100]))
    seen = np.array([255, 0, 100, 255])[stored]
    yield png(stored, 2, 3, *chunks), cells.over_white(colours[stored], seen)


@cell("PNG", "one transparent colour")
def _():
    for bits in (1, 2, 4, 8, 16):
        stored = levels(bits)
        clear = int(stored[4, 4])
        wanted = np.where(stored == clear, 255, cells.scaled(stored, (1 << bits) - 1))
        yield png(stored, bits, 0, (b"tRNS", struct.pack(">H", clear))), wanted
    for bits in (8, 16):
        stored = SCENE.astype(int) * (1 if bits == 8 else 257)
        stored[3, 3] += bits == 16  # differs by less than 8 bits can tell
        hit = (stored == stored[2, 3]).all(-1)
        chunk = b"tRNS", struct.pack(">3H", *stored[2, 3])
        yield png(stored, bits, 2, chunk), np.where(hit[..., None], 255, SCENE)


@cell("PNG", "ICC profile")
def _():
    def with_profile(samples: np.ndarray, bits: int, kind: int, profile: bytes) -> bytes:
        return png(samples, bits, kind, (b"iCCP", b"x\0\0" + zlib.compress(profile)))

    grey = cells.GREY_PROFILE
    yield with_profile(SCENE, 8, 2, P3_PROFILE), OF_P3, 1.1
    yield with_profile(deep(SCENE), 16, 2, P3_PROFILE), OF_P3, 0.3
    light = cells.in_srgb(np.stack([GREY] * 3, -1), SRGB_POINTS, power(1.0))
    yield with_profile(GREY, 8, 0, grey), light, 1.1
    yield with_profile(levels(16), 16, 0, grey), cells.GREY_LIGHT, 0.3
    yield with_profile(SCENE, 8, 2, matrix_profile(SRGB_POINTS, cells.srgb_light)), SCENE
    yield with_profile(SCENE, 8, 2, grey), SCENE, CLOSE, "cannot be used .for GRAY, not RGB"
    yield with_profile(SCENE, 8, 2, P3_PROFILE[:300]), SCENE, CLOSE, "profile cannot be used"


@cell("PNG", "other statements of colour")
def _():
    chrm = b"cHRM", struct.pack(">8I", *(round(v * 100_000) for xy in (P3[3], *P3[:3]) for v in xy))
    one, usual = (b"gAMA", struct.pack(">I", 100_000)), (b"gAMA", struct.pack(">I", 45_455))
    srgb_of_p3 = cells.in_srgb(SCENE, P3, cells.srgb_light)
    yield png(deep(SCENE), 16, 2, one), LINEAR, 0.3
    yield png(levels(16), 16, 0, one), cells.GREY_LIGHT, 0.3
    for pixels, *chunks in (
        (LINEAR, one),
        (SCENE, usual),
        (OF_P3, usual, chrm),
        (srgb_of_p3, chrm),
        (SCENE, (b"sRGB", b"\0"), one, chrm),
        (srgb_of_p3, (b"cICP", bytes([12, 13, 0, 1])), one),
        (cells.of_adobe(SCENE), (b"eXIf", cells.ADOBE_EXIF["R03"])),
    ):
        yield png(SCENE, 8, 2, *chunks), pixels, CLOSE if pixels is SCENE else 1.1
    for words, *chunks in (
        ("12/99", (b"cICP", bytes([12, 99, 0, 1]))),
        ("impossible", (b"gAMA", bytes(4)), chrm),
        ("impossible", one, (b"cHRM", bytes(32))),
    ):
        yield png(SCENE, 8, 2, *chunks), SCENE, CLOSE, words


@cell("PNG", "HDR (PQ, HLG)")
def _():
    # the white of paper has 203 cd/m2, which is 58.07 % of PQ and 75 % of HLG; here is a tenth of its light, too
    root = (20.3 / 10_000) ** 0.1593017578125
    pq = ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375
    hlg = (3 * (20.3 / 1000) ** (1 / 1.2)) ** 0.5
    wanted = np.full((9, 12), 255 * (1.055 * 0.1 ** (1 / 2.4) - 0.055))
    wanted[:, 6:] = 255
    for transfer, tenth, white in ((16, pq, 0.5808), (18, hlg, 0.7501)):
        stored = np.full((9, 12, 3), tenth)
        stored[:, 6:] = np.linspace(white, 1, 6)[:, None]
        chunk = b"cICP", bytes([9, transfer, 0, 1])
        yield png(np.round(stored * 65535), 16, 2, chunk), wanted, 1, "HDR"


@cell("PNG", "orientation")
def _():
    for number, upright in cells.UPRIGHT.items():
        yield png(SCENE, 8, 2, (b"eXIf", exif({274: ("H", number)}))), upright(SCENE)
        chunk = b"eXIf", exif({274: ("H", number)}, "<")
        yield png(deep(SCENE), 16, 2, chunk), upright(SCENE)


@cell("PNG", "several pictures")
def _():
    yield cells.animation("PNG"), SCENE, CLOSE, FIRST


# --------------------------------------------------------------------------------------------------
# BMP

BGR = SCENE[..., ::-1]
TWO = np.array([[0, 0, 0, 0], [255, 255, 255, 0]], np.uint8).tobytes()


def rows(samples: np.ndarray, bits: int = 0) -> list[bytes]:
    return [packed(row, bits) if bits else row.tobytes() for row in samples]


@cell("BMP", "1, 2, 4 bits")
def _():
    for bits in (1, 4):
        stored, colours = levels(bits), np.pad(cells.palette(1 << bits), ((0, 0), (0, 1)))
        data = bmp(rows(stored, bits), bits, colours.tobytes())
        yield data, colours[stored][..., 2::-1]
    yield bmp(rows(levels(1), 4), 4, TWO, used=2), "palette of greys"


@cell("BMP", "8 bits")
def _():
    yield bmp(rows(BGR), 24), SCENE
    yield bmp(rows(BGR), 24, top_down=True), SCENE
    yield bmp(rows(np.dstack([BGR, ALPHA])), 32), SCENE  # its fourth byte means nothing
    yield bmp(rows(levels(1), 8), 8, TWO, used=2), cells.scaled(levels(1), 1)
    greys = np.stack([np.arange(256)] * 3 + [np.zeros(256)], -1).astype(np.uint8)
    yield bmp(rows(GREY), 8, greys.tobytes()), GREY
    five = SCENE.astype(int) >> 3
    stored = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2")
    yield bmp(rows(stored), 16), five * 255 / 31, 1


@cell("BMP", "transparency")
def _():
    more = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs"
    data = bmp(rows(np.dstack([BGR, ALPHA])), 32, compression=3, size=108, more=more)
    yield data, cells.over_white(SCENE, ALPHA)


@cell("BMP", "ICC profile")
def _():
    more = bytes(16) + b"MBED"[::-1] + bytes(48)
    place = struct.pack("<4I", 4, len(bmp(rows(BGR), 24, size=124)) - 14, len(P3_PROFILE), 0)
    yield bmp(rows(BGR), 24, size=124, more=more + place, tail=P3_PROFILE), OF_P3, 1.1
    linked = bmp(rows(BGR), 24, size=124, more=bytes(16) + b"LINK"[::-1])
    yield linked, SCENE, CLOSE, "another file"


@cell("BMP", "other statements of colour")
def _():
    ends = np.round(cells.to_xyz(P3).T.ravel() * 2**30).astype(int)
    more = bytes(20) + struct.pack("<9i", *ends)
    gammas = struct.pack("<3I", *[round(2.2 * 65536)] * 3)
    yield bmp(rows(BGR), 24, size=108, more=more + gammas), OF_P3, 1.1
    yield bmp(rows(BGR), 24, size=108, more=more + bytes(12)), SCENE, CLOSE, "impossible"
    yield bmp(rows(BGR), 24, size=108), SCENE


# --------------------------------------------------------------------------------------------------
# GIF, PPM, QOI


GIF_COLOURS = cells.palette(256)
GIF, OF_GIF = imagecodecs.gif_encode(GREY, colormap=GIF_COLOURS), GIF_COLOURS[GREY]
_BEHIND_PALETTE = 13 + 768


@cell("GIF", "8 bits")
def _():
    yield GIF, OF_GIF


@cell("GIF", "one transparent colour")
def _():
    at = GIF.find(b"\x21\xf9\x04")
    start, end = (at, at + 8) if at >= 0 else (_BEHIND_PALETTE, _BEHIND_PALETTE)
    control = b"\x21\xf9\x04" + bytes([1, 0, 0, int(GREY[4, 4]), 0])
    wanted = np.where((GREY[4, 4] == GREY)[..., None], 255, OF_GIF)
    yield GIF[:start] + control + GIF[end:], wanted


@cell("GIF", "ICC profile")
def _():
    yield with_gif_profile(GIF, P3_PROFILE), cells.of_p3(OF_GIF), 1.1


@cell("GIF", "several pictures")
def _():
    yield GIF[:-1] + GIF[_BEHIND_PALETTE:-1] + b";", OF_GIF, CLOSE, FIRST


def as_text(values: np.ndarray) -> bytes:
    return b" ".join(b"%d" % v for v in values.ravel())


@cell("PPM", "1, 2, 4 bits")
def _():
    black = 1 - levels(1)  # 1 is black
    yield b"P4\n12 9\n" + b"".join(rows(black, 1)), cells.scaled(levels(1), 1)
    yield b"P1\n# text\n12 9\n" + as_text(black), cells.scaled(levels(1), 1)
    for bits in (1, 2, 4):
        stored, white = levels(bits).astype(np.uint8), (1 << bits) - 1
        yield b"P5\n12 9\n%d\n" % white + stored.tobytes(), cells.scaled(stored, white)


@cell("PPM", "8 bits")
def _():
    yield b"P6\n12 9\n255\n" + SCENE.tobytes(), SCENE
    yield b"P3\n12 9\n255\n" + as_text(SCENE), SCENE
    few = np.round(SCENE / 255 * 100).astype(np.uint8)
    yield b"P6\n12 9\n100\n" + few.tobytes(), cells.scaled(few, 100)


@cell("PPM", "9 to 16 bits")
def _():
    for white in (1000, 1023, 65535):
        stored = np.round(RAMP * white).astype(">u2")
        yield b"P5\n12 9\n%d\n" % white + stored.tobytes(), cells.scaled(stored, white), 0.01
        colours = np.round(SCENE / 255 * white).astype(">u2")
        yield b"P6\n12 9\n%d\n" % white + colours.tobytes(), SCENE


@cell("PPM", "32 bits and floats")
def _():
    for kind, scale in (("<f4", b"-1.0"), (">f4", b"1.0")):
        data = RAMP[::-1].astype(kind).tobytes()
        yield b"Pf\n12 9\n" + scale + b"\n" + data, RAMP * 255, 0.01
    yield b"Pf\n12 9\n-1.0\n" + (RAMP * 3).astype("<f4").tobytes(), "from 0 to 3"
    yield b"PF\n12 9\n-1.0\n" + bytes(12 * 9 * 12), "PFM of three colours"


@cell("QOI", "8 bits")
def _():
    yield imagecodecs.qoi_encode(SCENE), SCENE


@cell("QOI", "transparency")
def _():
    yield imagecodecs.qoi_encode(np.dstack([SCENE, ALPHA])), cells.over_white(SCENE, ALPHA)


@cell("QOI", "other statements of colour")
def _():
    data = imagecodecs.qoi_encode(SCENE)
    yield data[:13] + b"\1" + data[14:], LINEAR, 1.1
