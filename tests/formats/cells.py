"""The cells of the table of formats: how they are registered, and the pictures and colours that they share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from sketchfusion_lite.image_files.profiles import SRGB_POINTS, matrix_profile, power

from .by_hand import exif

HEIGHT, WIDTH = 9, 12
CLOSE = 0.51  # of 255


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
    tolerance: float = CLOSE
    says: str = ""


CELLS: dict[tuple[str, str], Callable[[], Iterator[tuple]]] = {}


def cell(form: str, feature: str):
    """Register what makes the cases of a cell: tuples of the fields of :class:`Case`."""

    def register(make: Callable[[], Iterator[tuple]]) -> Callable[[], Iterator[tuple]]:
        CELLS[form, feature] = make
        return make

    return register


# --------------------------------------------------------------------------------------------------
# Pictures without any symmetry


def _scene() -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), 255 - x * 200 // (WIDTH - 1)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def large(samples: np.ndarray) -> np.ndarray:
    """Of every pixel a block of 8x8, so that codecs that lose something keep their colours."""
    return samples.repeat(8, 0).repeat(8, 1)


def levels(bits: int) -> np.ndarray:
    """The grey picture in integers of so many bits."""
    return np.round(RAMP * ((1 << bits) - 1)).astype(np.int64)


def scaled(stored: np.ndarray, white: int) -> np.ndarray:
    """Integers of 0 to ``white`` in 0..255."""
    return stored.astype(float) * 255 / white


def deep(samples: np.ndarray) -> np.ndarray:
    """8 bits in 16."""
    return samples.astype(int) * 257


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """In floats; ``alpha`` in 0..255."""
    colour, share = (colour[..., None] if colour.ndim == 2 else colour), alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def palette(colours: int) -> np.ndarray:
    """Random colours, ``(N, 3)`` uint8."""
    return np.random.default_rng(colours).integers(0, 256, (colours, 3), np.uint8)


def saved(picture: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """The bytes of a file that Pillow writes."""
    buffer = io.BytesIO()
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind: str, **options) -> bytes:
    """Two frames, of which the second is the negative of the scene."""
    return saved(
        SCENE, kind, save_all=True, append_images=[Image.fromarray(255 - SCENE)], **options
    )


SCENE, RAMP = _scene(), np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
RAMP[3:5, 4:7] = 0.75
GREY, SMOOTH = levels(8).astype(np.uint8), large(SCENE)
ALPHA = np.linspace(255, 0, GREY.size).astype(np.uint8).reshape(GREY.shape)
INKS = np.concatenate([255 - SMOOTH, np.full_like(SMOOTH[..., :1], 40)], -1)  # 0 is paper
OF_INKS = SMOOTH * ((255 - 40) / 255)
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

# --------------------------------------------------------------------------------------------------
# Colours by their definition, without any library

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290))


def to_xyz(points) -> np.ndarray:
    """The matrix of three primaries and their white, all of Y = 1."""
    x, y = np.array(points).T
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])


def in_srgb(pixels: np.ndarray, points, curve) -> np.ndarray:
    """Colours of primaries ``points`` and a curve, in 0..255, in sRGB; all white points are D65."""
    light = curve(pixels / 255) @ to_xyz(points).T @ np.linalg.inv(to_xyz(SRGB_POINTS)).T
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def srgb_light(value: np.ndarray) -> np.ndarray:
    """The curve of sRGB."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def of_p3(pixels: np.ndarray) -> np.ndarray:
    """What ``P3_PROFILE`` makes of pixels."""
    return in_srgb(pixels, P3, power(2.2))


def of_adobe(pixels: np.ndarray) -> np.ndarray:
    """What Adobe RGB makes of pixels."""
    return in_srgb(pixels, ADOBE, power(2.19921875))


def rationals(points, unit: int = 10_000) -> tuple[str, list[int]]:
    """Points as a tag of TIFF."""
    return "R", [v for point in points for x in point for v in (round(x * unit), unit)]


P3_PROFILE, GREY_PROFILE = matrix_profile(P3, power(2.2)), matrix_profile(None, power(1.0))
GREY_LIGHT = in_srgb(np.stack([RAMP * 255] * 3, -1), SRGB_POINTS, power(1.0))[..., 0]
ADOBE_EXIF = {
    "R03": exif({0x8769: ("I", {0xA001: ("H", 65535), 0xA005: ("I", {1: ("s", b"R03\0")})})}),
    "2": exif({0x8769: ("I", {0xA001: ("H", 2)})}, "<"),
}
UNCALIBRATED = exif({0x8769: ("I", {0xA001: ("H", 65535)})})
P3_EXIF = exif(
    {0x13E: rationals(P3[3:]), 0x13F: rationals(P3[:3])}
    | {0x8769: ("I", {0xA001: ("H", 65535), 0xA500: ("R", [22, 10])})}
)
SRGB_EXIF = exif({0x8769: ("I", {0xA001: ("H", 1)})})
