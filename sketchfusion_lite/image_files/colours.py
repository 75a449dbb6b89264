"""Colours of any kind -> sRGB, whatever states them.

    samples (H, W, C), ICC profile --> to_srgb --> sRGB (H, W, 1 | 3)

What is stated otherwise became a profile before (:mod:`.profiles`), so that there is one way through: Little CMS,
which Pillow calls for 8 bits and imagecodecs for 16. A profile is judged by what it does, never by its name: one that
moves no colour by more than one of 255 levels is sRGB, and then the samples stay as they are.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from ..errors import ImageError
from .profiles import tell

_SLACK = 1e-3  # less than half an 8-bit step is no mistake
_MAX_PROFILE = 1 << 22  # bytes; printers' have two million


def white_of(samples: np.ndarray) -> int:
    """The value of white: 1 of floats."""
    return np.iinfo(samples.dtype).max if samples.dtype.kind in "iu" else 1


def check_floats(low: float, high: float, name: str) -> None:
    """Refuse, by an :class:`.ImageError`, floats outside [0, 1]; resampling may overshoot a little."""
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # false for NaN too
        raise ImageError(
            f"{name}: its values run from {low:g} to {high:g}, but floats must lie in [0, 1] and be finite, 0 being "
            "black and 1 white. Divide by 255, clip, or pass 8 or 16 bits."
        )


@dataclass(frozen=True)
class Samples:
    """One decoded picture with the meaning of its samples.

    Attributes:
        colour: ``(H, W, C)``, uint8 or uint16 in full range, or float32 in [0, 1]; grey (C = 1, black is 0), RGB
            (C = 3) or CMYK (C = 4, paper is 0).
        alpha: ``(H, W)`` of the same kind, not multiplied into the colours; or None.
        profile: an ICC profile of the colours; None is sRGB.
        orientation: as EXIF counts them, 1 to 8.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    profile: bytes | None = None
    orientation: int = 1


def to_srgb(samples: Samples, name: str) -> np.ndarray:
    """The colours of a picture in sRGB, ``(H, W, 1 | 3)``, alpha left aside.

    A profile that cannot be used is said in a :class:`.PictureWarning`; colours are then taken as sRGB.
    """
    colour, profile = samples.colour, samples.profile
    space = {1: "GRAY", 3: "RGB", 4: "CMYK"}[colour.shape[2]]
    if profile is None:
        if space == "CMYK":
            tell(name, "CMYK without a colour profile: the colours are approximate.")
        return _plain(colour) if space == "CMYK" else colour
    try:
        conversion = _conversion(profile)
        if space == "GRAY" and conversion.space == "RGB":  # grey is equal parts of red, green, blue
            colour, space = colour.repeat(3, axis=2), "RGB"
        if space != conversion.space:
            raise ImageCms.PyCMSError(f"for {conversion.space}, not {space}")
        return colour if conversion.nothing else conversion(colour)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        tell(name, f"its colour profile cannot be used ({reason}); colours are taken as sRGB.")
        colour = samples.colour
        return _plain(colour) if colour.shape[2] == 4 else colour


def _plain(cmyk: np.ndarray) -> np.ndarray:
    """CMYK of unknown inks ``(H, W, 4)`` -> RGB ``(H, W, 3)``: each ink takes away its share."""
    white = white_of(cmyk)
    ink = cmyk.astype(np.float32)
    rgb = (white - ink[..., :3]) * ((white - ink[..., 3:]) / white)
    return np.round(rgb).astype(cmyk.dtype) if cmyk.dtype.kind == "u" else rgb


_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}


class _Conversion:
    """One profile, ready for use; whether it does anything is measured on a grid of colours."""

    def __init__(self, profile: bytes) -> None:
        if len(profile) > _MAX_PROFILE:
            raise ValueError(f"{len(profile)} bytes, over {_MAX_PROFILE}")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        self.space = source.profile.xcolor_space.strip()
        if self.space not in _MODES:
            raise ImageCms.PyCMSError(f"for {self.space}")
        self.profile = profile
        target = ImageCms.createProfile("sRGB")
        # of grey, its shortcut through a table is off by up to 10 levels in the shadows
        flags = ImageCms.Flags.NOOPTIMIZE if self.space == "GRAY" else ImageCms.Flags.NONE
        self.transform = ImageCms.buildTransform(
            source, target, _MODES[self.space], "RGB", flags=flags
        )
        self.nothing = self.space != "CMYK" and self._error_of_nothing() <= 1

    def _error_of_nothing(self) -> int:
        """The largest change of a level, over greys and a grid of 18 values a channel."""
        levels = np.arange(256, dtype=np.uint8)[:, None, None]
        if self.space == "RGB":
            grid = np.stack(np.meshgrid(*[levels[::15].ravel()] * 3), -1).reshape(-1, 1, 3)
            levels = np.concatenate([levels.repeat(3, axis=2), grid])
        return int(np.abs(self._eight(levels).astype(int) - levels).max())

    def __call__(self, colour: np.ndarray) -> np.ndarray:
        if colour.dtype == np.uint8:
            return self._eight(colour)
        import imagecodecs

        if colour.dtype != np.uint16:
            colour = np.round(np.clip(colour, 0, 1) * 65535).astype(np.uint16)
        return imagecodecs.cms_transform(
            np.ascontiguousarray(colour[..., 0] if self.space == "GRAY" else colour),
            self.profile,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
            colorspace=self.space.lower(),
            outcolorspace="rgb",
            # else its table of 33**3 colours is off by up to 15 levels in the shadows
            flags=imagecodecs.CMS.FLAGS.NOOPTIMIZE,
        )

    def _eight(self, colour: np.ndarray) -> np.ndarray:
        mode = _MODES[self.space]
        pixels = np.ascontiguousarray(colour[..., 0] if mode == "L" else colour)
        height, width = colour.shape[:2]
        image = Image.frombytes(mode, (width, height), pixels.tobytes())
        return np.asarray(self.transform.apply(image))


@lru_cache(maxsize=8)
def _conversion(profile: bytes) -> _Conversion:
    return _Conversion(profile)
