"""ICC profiles of what a file states otherwise: primaries and curves, or code points.

primaries, white, curve --> matrix_profile ---+--> ICC profile
code points (CICP) --> cicp_profile ----------+
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import PictureWarning

Curve = Callable[[np.ndarray], np.ndarray]  # stored value in [0, 1] -> light in [0, 1]
_D65 = (0.3127, 0.3290)
_D50 = (0.3457, 0.3585)
_CURVE_POINTS = 4096
_SDR_WHITE = 203  # cd/m2 of white paper in HDR pictures, as BT.2408 has it


def tell(name: str, what: str) -> None:
    """Say that something about a picture could not be honoured."""
    warnings.warn(f"{name}: {what}", PictureWarning, stacklevel=3)


def srgb_curve(value: np.ndarray) -> np.ndarray:
    """The curve of sRGB."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def power(exponent: float) -> Curve:
    """Light is the stored value to the power of ``exponent``."""
    return lambda value: value**exponent


def _pq(value: np.ndarray) -> np.ndarray:
    root = value ** (1 / 78.84375)
    light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
    return np.minimum(light ** (1 / 0.1593017578125) * 10_000 / _SDR_WHITE, 1)


def _hlg(value: np.ndarray) -> np.ndarray:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    return np.minimum(scene**1.2 * 1000 / _SDR_WHITE, 1)  # on a screen of 1000 cd/m2


SRGB_POINTS = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)  # red, green, blue, white: x and y
_SMPTE_C = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_CICP_POINTS = {  # ITU-T H.273, table 2
    1: SRGB_POINTS,
    2: SRGB_POINTS,  # "unspecified"
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: _SMPTE_C,
    7: _SMPTE_C,
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: (*_P3, (0.314, 0.351)),
    12: (*_P3, _D65),
}
_CICP_CURVES: dict[int, Curve] = {  # ITU-T H.273, table 3
    # The camera curves of video (1, 6, 14, 15) are meant for a screen that is about one of sRGB.
    **dict.fromkeys((1, 2, 6, 13, 14, 15), srgb_curve),
    4: power(2.2),
    5: power(2.8),
    8: power(1.0),
    16: _pq,
    18: _hlg,
}
_HDR = (16, 18)


def matrix_profile(points: Any, *curves: Curve) -> bytes:
    """An ICC profile of primaries (x and y of red, green, blue and white) or of grey (None), and one curve or three.

    Raises:
        ValueError: no such primaries can be.
    """
    import imagecodecs  # slow to import

    at = np.linspace(0, 1, _CURVE_POINTS)
    table = [np.round(np.clip(curve(at), 0, 1) * 65535).astype(np.uint16) for curve in curves]
    if points is None:
        return imagecodecs.cms_profile("gray", whitepoint=_D50, transferfunction=table[0])
    xy = np.array(points, np.float64)  # (4, 2)
    if xy.shape != (4, 2) or not (np.isfinite(xy).all() and (xy[:, 1] > 1e-6).all()):
        raise ValueError("impossible primaries")
    try:
        return imagecodecs.cms_profile(
            "rgb",
            whitepoint=xy[3].tolist(),
            primaries=xy[:3].ravel().tolist(),
            transferfunction=table[0] if len(table) == 1 else np.stack(table),
        )
    except RuntimeError as error:
        raise ValueError("impossible primaries") from error


@lru_cache(maxsize=1)
def adobe_rgb() -> bytes:
    """The profile of Adobe RGB (1998)."""
    return matrix_profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65), power(563 / 256))


@lru_cache(maxsize=8)
def _cicp(primaries: int, transfer: int) -> bytes:
    return matrix_profile(_CICP_POINTS[primaries], _CICP_CURVES[transfer])


def cicp_profile(primaries: int, transfer: int, name: str) -> bytes | None:
    """The profile of two code points of ITU-T H.273; None for unknown ones, with a warning."""
    if primaries not in _CICP_POINTS or transfer not in _CICP_CURVES:
        points = f"colours of code points {primaries}/{transfer}"
        tell(name, f"{points}, which are unknown here; they are taken as sRGB.")
        return None
    if transfer in _HDR:
        tell(name, "an HDR picture; what is brighter than white paper becomes white.")
    return _cicp(primaries, transfer)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB under D50, ``(H, W, 3)`` with L in 0..100 -> sRGB, float32 in [0, 1]; what sRGB lacks is cut."""
    import imagecodecs

    of_lab, of_srgb = imagecodecs.cms_profile("lab4"), imagecodecs.cms_profile("srgb")
    rgb = imagecodecs.cms_transform(
        lab.astype(np.float32),
        of_lab,
        of_srgb,
        colorspace="lab",
        outcolorspace="rgb",
        outdtype="f4",
    )
    return np.clip(rgb, 0, 1)
