"""ICC profiles of what a file states otherwise: primaries and curves, or code points.

primaries, white, curve --> matrix_profile ---+--> ICC profile
code points (CICP) --> cicp_profile ----------+
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import PictureWarning

__all__ = [
    "ADOBE_RGB",
    "LINEAR",
    "SRGB_POINTS",
    "Curve",
    "cicp_profile",
    "lab_to_srgb",
    "matrix_profile",
    "power",
    "srgb_curve",
    "tell",
]

Curve = Callable[[np.ndarray], np.ndarray]  # stored value in [0, 1] -> light in [0, 1]
_D65 = (0.3127, 0.3290)
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
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
    """An ICC profile of three primaries, or of grey.

    Args:
        points: x and y of red, green, blue and white; None for grey.
        curves: one for all channels, or one each.

    Raises:
        ValueError: no such primaries can be.
    """
    at = np.linspace(0, 1, _CURVE_POINTS)
    tables = []
    for curve in curves:
        table = np.round(np.clip(curve(at), 0, 1) * 65535).astype(">u2").tobytes()
        tables.append(b"curv" + struct.pack(">II", 0, _CURVE_POINTS) + table)
    tags = {b"desc": _description(), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(_D50)}
    if points is None:
        tags[b"kTRC"] = tables[0]
    else:
        for letter, column, table in zip(b"rgb", _columns(points).T, tables * 3, strict=False):
            tags[b"%cXYZ" % letter], tags[b"%cTRC" % letter] = _xyz(column), table
    head = struct.pack(
        ">II4s4s4s12x4s28x3i",
        *(0x02400000, 0, b"mntr", b"GRAY" if points is None else b"RGB ", b"XYZ ", b"acsp"),
        *(round(v * 65536) for v in _D50),
    ).ljust(124, b"\0")
    # the size comes first, preferred CMM is the zero that follows it
    head = head[4:8] + head[:4] + head[8:]
    start = 132 + 12 * len(tags)
    directory, body = b"", b""
    for tag, data in tags.items():
        directory += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    return (
        struct.pack(">I", start + len(body))
        + head
        + struct.pack(">I", len(tags))
        + directory
        + body
    )


def _description() -> bytes:
    text = b"stated by the picture\0"
    return b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78)


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *(round(float(v) * 65536) for v in values))


def _columns(points: Any) -> np.ndarray:
    """XYZ of the primaries under D50, ``(3, 3)``, a column each."""
    xy = np.array(points, np.float64)  # (4, 2)
    if xy.shape != (4, 2) or not (np.isfinite(xy).all() and (xy[:, 1] > 1e-6).all()):
        raise ValueError("impossible primaries")
    xyz = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(1)]) / xy[:, 1]  # (3, 4)
    primaries, white = xyz[:, :3], xyz[:, 3]
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise ValueError("impossible primaries")
    columns = primaries * np.linalg.solve(primaries, white)
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    columns = np.linalg.inv(_BRADFORD) @ (scale[:, None] * (_BRADFORD @ columns))
    if not (np.isfinite(columns).all() and np.abs(columns).max() < 8):
        raise ValueError("impossible primaries")
    return columns


LINEAR = matrix_profile(SRGB_POINTS, power(1.0))
ADOBE_RGB = matrix_profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65), power(563 / 256))


@lru_cache(maxsize=8)
def _cicp(primaries: int, transfer: int) -> bytes:
    return matrix_profile(_CICP_POINTS[primaries], _CICP_CURVES[transfer])


def cicp_profile(primaries: int, transfer: int, name: str) -> bytes | None:
    """The profile of two code points of ITU-T H.273; None, which is sRGB, for unknown ones, with a warning.

    Args:
        primaries, transfer: the code points.
        name: of the picture, for warnings.
    """
    if primaries not in _CICP_POINTS or transfer not in _CICP_CURVES:
        tell(
            name,
            f"colours of code points {primaries}/{transfer}, which are unknown here; they are taken as sRGB.",
        )
        return None
    if transfer in _HDR:
        tell(name, "an HDR picture; what is brighter than white paper becomes white.")
    return _cicp(primaries, transfer)


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB under D50, ``(H, W, 3)`` with L in 0..100 -> sRGB, float32 in [0, 1]; what sRGB lacks is cut."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * _D50
    light = np.clip(xyz @ np.linalg.inv(_columns(SRGB_POINTS)).T, 0, 1)
    low = light <= 0.0031308
    return np.where(low, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)
