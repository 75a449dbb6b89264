"""TIFF, cell by cell."""

from __future__ import annotations

import io

import numpy as np
import tifffile
from PIL import Image

from . import cells
from .by_hand import packed, stored_tiff, tags_of, tiff
from .cells import ALPHA, CLOSE, GREY, P3, P3_PROFILE, RAMP, SCENE, SMOOTH, UPRIGHT, cell


def written(pixels: np.ndarray, **options) -> bytes:
    """By tifffile."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", **options)
    return buffer.getvalue()


def floats(samples: np.ndarray, kind: str, photometric: int = 1) -> bytes:
    """A TIFF of floating point samples."""
    tags = tags_of(
        samples.shape, int(kind[2]) * 8, photometric, t339=("H", [3] * samples[0, 0].size)
    )
    return tiff(tags, samples.astype(kind).tobytes(), kind[0])


@cell("TIFF", "1, 2, 4 bits")
def _():
    for bits in (1, 2, 4):
        stored, colours = cells.levels(bits), cells.palette(1 << bits).astype(int)
        wanted = cells.scaled(stored, (1 << bits) - 1)
        for order in "<>":
            yield stored_tiff(stored, bits, 1, order), wanted
        yield stored_tiff(stored, bits, 0), 255 - wanted
        yield stored_tiff(stored, bits, 3, t320=("H", colours.T.ravel() * 257)), colours[stored]
    ones = cells.levels(1).astype(np.uint8)
    reversed_bits = np.packbits(ones, axis=1, bitorder="little").tobytes()
    yield tiff(tags_of(ones.shape, 1, 1, t266=("H", 2)), reversed_bits), ones * 255.0
    for kind in ("group3", "group4", "tiff_ccitt"):
        fax = cells.saved(Image.fromarray(ones * 255).convert("1"), "TIFF", compression=kind)
        yield fax, ones * 255.0


@cell("TIFF", "8 bits")
def _():
    for order in "<>":
        for big in (False, True):
            yield stored_tiff(SCENE, 8, 2, order, big=big), SCENE
    colours = cells.palette(256).astype(int)
    for scale in (257, 1):  # the second is a common mistake
        yield stored_tiff(GREY, 8, 3, t320=("H", colours.T.ravel() * scale)), colours[GREY]
    for name in ("lzw", "deflate", "zstd", "lzma"):
        for predictor in (False, True):
            yield written(SCENE, compression=name, predictor=predictor), SCENE
    yield written(SCENE, compression="packbits"), SCENE


@cell("TIFF", "9 to 16 bits")
def _():
    for bits in (10, 12, 14, 16):
        stored = cells.levels(bits)
        yield stored_tiff(stored, bits, 1, ">"), cells.scaled(stored, (1 << bits) - 1), 0.01
    stored = SCENE.astype(int) * 256 + 100
    for order in "<>":
        yield stored_tiff(stored, 16, 2, order), stored / 257, 0.01
        yield stored_tiff(cells.levels(16), 16, 1, order), RAMP * 255, 0.01
    yield written(stored.astype(np.uint16), compression="lzw", rowsperstrip=4), stored / 257, 0.01


@cell("TIFF", "32 bits and floats")
def _():
    yield stored_tiff(cells.levels(32), 32, 1), RAMP * 255, 0.01
    for kind in ("<f2", ">f4", "<f8"):
        yield floats(RAMP, kind), RAMP * 255, 0.1
        yield floats(SCENE / 255, kind, 2), SCENE, 0.1
    for odd, words in ((255, "from 0 to 255"), (-0.5, "from -0.5"), (np.nan, "nan")):
        yield floats(RAMP * odd, "<f4"), f"{words}.*lie in .0, 1."


@cell("TIFF", "white is 0")
def _():
    for bits in (1, 4, 8, 12, 16, 32):
        stored = cells.levels(bits)
        wanted = 255 - cells.scaled(stored, (1 << bits) - 1)
        yield stored_tiff(stored, bits, 0), wanted, 0.01
    yield floats(RAMP, "<f4", 0), 255 - RAMP * 255, 0.01


@cell("TIFF", "signed samples")
def _():
    for bits in (8, 16, 32):
        yield stored_tiff(GREY // 2, bits, 1, t339=("H", 2)), "signed or complex samples"


@cell("TIFF", "CMYK")
def _():
    says = "CMYK without a colour profile"
    yield stored_tiff(cells.INKS, 8, 5), cells.OF_INKS, CLOSE, says
    yield stored_tiff(cells.deep(cells.INKS), 16, 5), cells.OF_INKS, 0.01, says
    yield stored_tiff(cells.INKS, 8, 5, t332=("H", 2)), "inks other than CMYK"
    yield stored_tiff(cells.INKS[..., :3].copy(), 8, 5), "3 samples a pixel where 4"


def jpeg_in_tiff(**options) -> tuple[bytes, np.ndarray]:
    """The file, whose colours are shared by two by two pixels, and its pixels as imagecodecs decodes them."""
    data = written(SMOOTH, compression="jpeg", compressionargs={"level": 98}, **options)
    return data, tifffile.imread(io.BytesIO(data))


@cell("TIFF", "YCbCr")
def _():
    data, pixels = jpeg_in_tiff()
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 3
    yield data, pixels, 3
    matrix = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    stored = np.clip(np.round(SCENE @ np.array(matrix).T + [0, 128, 128]), 0, 255).astype(int)
    yield stored_tiff(stored, 8, 6, t530=("H", [1, 1])), SCENE, 2
    yield stored_tiff(cells.deep(stored), 16, 6, t530=("H", [1, 1])), "YCBCR in 16 bits"


@cell("TIFF", "L*a*b*")
def _():
    # a grey, and colours whose values in sRGB are known to any colour calculator under D50
    colours = [[54.29, 80.81, 69.89], [29.57, 68.30, -112.03]]
    lab = np.array([[[100, 0, 0], [0, 0, 0], [53.585, 0, 0], *colours]])
    rgb = np.array([[[255] * 3, [0] * 3, [128] * 3, [255, 0, 0], [0, 0, 255]]])
    for bits, scale, tolerance in ((8, [2.55, 1, 1], 6), (16, [655.35, 256, 256], 1)):
        stored, half = np.round(lab * scale).astype(int), 1 << (bits - 1)
        yield stored_tiff(stored & ((1 << bits) - 1), bits, 8), rgb, tolerance
        yield stored_tiff(stored + np.array([0, half, half]), bits, 9), rgb, tolerance


@cell("TIFF", "other photometric interpretations")
def _():
    for photometric in (4, 10, 32844, 34892 - 1, 51177):
        yield stored_tiff(GREY, 8, photometric), "photometric interpretation"
    tags = tags_of(GREY.shape, 8, 1)
    del tags[262]
    yield tiff(tags, GREY.tobytes()), "does not say what its samples mean"


@cell("TIFF", "transparency")
def _():
    left = "neither its colours nor transparency"
    for samples, kind in ((SCENE, 2), (GREY, 1)):
        straight, wanted = np.dstack([samples, ALPHA]), cells.over_white(samples, ALPHA)
        colours = straight[..., :-1]
        ahead = np.dstack([np.round(colours * (ALPHA / 255)[..., None]), ALPHA]).astype(int)
        for scale, bits in ((1, 8), (257, 16)):
            yield stored_tiff(straight.astype(int) * scale, bits, kind, t338=("H", 2)), wanted
            yield stored_tiff(ahead * scale, bits, kind, t338=("H", 1)), wanted, 1.1
        yield stored_tiff(straight, 8, kind), wanted, CLOSE, "taken as transparency"
        yield stored_tiff(straight, 8, kind, t338=("H", 0)), samples, CLOSE, left
        two = np.dstack([straight, ALPHA // 2])
        yield stored_tiff(two, 8, kind, t338=("H", [2, 0])), wanted, CLOSE, left
        two = np.dstack([colours, ALPHA // 2, ALPHA])
        yield stored_tiff(two, 8, kind, t338=("H", [0, 2])), wanted, CLOSE, left


@cell("TIFF", "planes, tiles, strips")
def _():
    for bits, scale in ((8, 1), (16, 257)):
        samples = SCENE.astype(int) * scale
        planes = [packed(samples[..., i].ravel(), bits, "<") for i in range(3)]
        yield tiff(tags_of(SCENE.shape, bits, 2, t284=("H", 2)), planes), SCENE
        tile = packed(np.pad(samples, ((0, 7), (0, 4), (0, 0))).ravel(), bits, "<")
        tags = tags_of(SCENE.shape, bits, 2, t322=("H", 16), t323=("H", 16))
        del tags[278]
        yield tiff(tags, tile, tiled=True), SCENE
        strips = [packed(samples[i : i + 4].ravel(), bits, "<") for i in (0, 4, 8)]
        tags = tags_of(SCENE.shape, bits, 2, t278=("H", 4))
        yield tiff(tags, strips), SCENE
        yield tiff(tags, strips[:2]), "parts of its pixels are missing"
        yield tiff(tags, [*strips[:2], strips[2][:5]]), "damaged"


@cell("TIFF", "ICC profile")
def _():
    icc, grey = ("U", P3_PROFILE), ("U", cells.GREY_PROFILE)
    yield stored_tiff(SCENE, 8, 2, t34675=icc), cells.of_p3(SCENE), 1.1
    yield stored_tiff(cells.deep(SCENE), 16, 2, t34675=icc), cells.of_p3(SCENE), 0.3
    stored = cells.levels(16)
    yield stored_tiff(stored, 16, 1, t34675=grey), cells.GREY_LIGHT, 0.3
    yield stored_tiff(65535 - stored, 16, 0, t34675=grey), cells.GREY_LIGHT, 0.3
    none = stored_tiff(SCENE, 8, 2, t34675=("U", b"nothing" * 30))
    yield none, SCENE, CLOSE, "profile cannot be used"


@cell("TIFF", "other statements of colour")
def _():
    points = {"t318": cells.rationals(P3[3:]), "t319": cells.rationals(P3[:3])}
    table = np.round((np.arange(256) / 255) ** 2.2 * 65535).astype(int)
    for curve in (table, np.concatenate([table] * 3)):
        data = stored_tiff(SCENE, 8, 2, **points, t301=("H", curve))
        yield data, cells.of_p3(SCENE), 1.2
    yield stored_tiff(SCENE, 8, 2, **points), cells.in_srgb(SCENE, P3, cells.srgb_light), 1.1
    impossible = stored_tiff(SCENE, 8, 2, **points | {"t319": ("R", [0, 1] * 6)})
    yield impossible, SCENE, CLOSE, "impossible"
    adobe, other = (stored_tiff(SCENE, 8, 2, t34665=("I", {0xA001: ("H", n)})) for n in (2, 65535))
    yield adobe, cells.of_adobe(SCENE), 1.1
    yield other, SCENE, CLOSE, "not sRGB, but not what"


@cell("TIFF", "orientation")
def _():
    for number, upright in UPRIGHT.items():
        yield stored_tiff(SCENE, 8, 2, t274=("H", number)), upright(SCENE)
        yield stored_tiff(cells.deep(GREY), 16, 1, ">", t274=("H", number)), upright(GREY)
        data, pixels = jpeg_in_tiff(extratags=[(274, 3, 1, number, True)])
        yield data, upright(pixels), 3


@cell("TIFF", "several pictures")
def _():
    second = (tags_of(SCENE.shape, 8, 2), (255 - SCENE).tobytes())
    yield stored_tiff(SCENE, 8, 2, then=[second]), SCENE, CLOSE, "the first is taken"


@cell("TIFF", "a picture and its reduced copies")
def _():
    small = (tags_of((3, 4, 3), 8, 2, t254=("I", 1)), bytes(36))
    yield stored_tiff(SCENE, 8, 2, then=[small]), SCENE
    yield stored_tiff(SCENE, 8, 2, inside=[small]), SCENE


@cell("TIFF", "a preview of the picture, or of raw data (DNG)")
def _():
    thumb, raw, copy = SCENE[:4, :4].copy(), "raw picture.*converter", "reduced copy"
    reduced, version = {"t254": ("I", 1)}, {"t50706": ("B", [1, 4, 0, 0])}
    sensor = (
        tags_of(GREY.shape, 16, 32803, t254=("I", 0)),
        cells.deep(GREY).astype("<u2").tobytes(),
    )
    for more in ({}, reduced, version, reduced | version):
        yield stored_tiff(thumb, 8, 2, inside=[sensor], **more), raw
    yield stored_tiff(GREY, 8, 32803), "raw picture"
    full = (tags_of(SCENE.shape, 8, 2, t254=("I", 0)), SCENE.tobytes())
    yield stored_tiff(thumb, 8, 2, inside=[full], **reduced), copy
    yield stored_tiff(thumb, 8, 2, then=[full], **reduced), copy
    yield stored_tiff(thumb, 8, 2, then=[full], t255=("H", 2)), copy
    yield stored_tiff(thumb, 8, 2, inside=[full]), copy
