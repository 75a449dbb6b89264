"""JPEG 2000, BMP, GIF, PPM and QOI, cell by cell."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np

from sketchfusion_lite.image_files.profiles import SRGB_POINTS, power

from . import by_hand
from .cells import (
    ALPHA,
    GREY,
    IN_P3,
    P3,
    P3_PROFILE,
    RAMP,
    SCENE,
    SMOOTH,
    Case,
    cell,
    in_srgb,
    over_white,
    scaled,
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
    hit = GREY[4, 4] == GREY
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
