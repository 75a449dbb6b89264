"""TIFF, cell by cell."""

from __future__ import annotations

import io

import numpy as np
import tifffile
from PIL import Image

from sketchfusion_lite.image_files.profiles import power

from . import by_hand
from .by_hand import tags_of, tiff
from .cells import (
    ADOBE,
    ALPHA,
    GREY,
    GREY_LIGHT,
    GREY_PROFILE,
    IN_P3,
    P3,
    P3_PROFILE,
    RAMP,
    SCENE,
    SMOOTH,
    UPRIGHT,
    Case,
    cell,
    in_srgb,
    inks_and_colours,
    over_white,
    scaled,
    srgb_light,
)


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
    inks, colours = inks_and_colours()
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
    yield Case(stored_tiff(eight + np.array([0, 128, 128]), 8, 9), rgb, 6)
    deep = np.round(lab * [655.35, 256, 256]).astype(int)
    yield Case(stored_tiff(deep & 65535, 16, 8), rgb, 1)
    yield Case(stored_tiff(deep + np.array([0, 32768, 32768]), 16, 9), rgb, 1)


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
