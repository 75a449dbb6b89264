"""The cells of the table of formats: how they are registered, and what they have in common."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from sketchfusion_lite.image_files.profiles import SRGB_POINTS, matrix_profile, power
from sketchfusion_lite.images import load_image

from . import by_hand
from .by_hand import exif

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


SMOOTH = np.repeat(np.repeat(SCENE, 8, 0), 8, 1)  # blocks of 8x8 keep their colours


def inks_and_colours() -> tuple[np.ndarray, np.ndarray]:
    """CMYK ``(H, W, 4)`` with 0 for paper, and its colours."""
    black = np.full_like(SMOOTH[..., :1], 40)
    inks = np.concatenate([255 - SMOOTH, black], -1)
    return inks, SMOOTH * ((255 - 40) / 255)


def animation(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    second = Image.fromarray(255 - SCENE)
    Image.fromarray(SCENE).save(buffer, kind, save_all=True, append_images=[second], **options)
    return buffer.getvalue()


def load_quietly(data: bytes) -> np.ndarray:
    """``(H, W, 3)`` in 0..255."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_image(data)[0].permute(1, 2, 0).double().numpy() * 255


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
