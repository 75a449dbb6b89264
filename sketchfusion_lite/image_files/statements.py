"""What a picture file says about its colours and its orientation, found and turned into an ICC profile.

    PNG         cICP, then iCCP, then sRGB, then gAMA with cHRM     BMP   calibrated or embedded, in its header
    AVIF, HEIC  ICC, then nclx                                      GIF   ICC in an application extension
    JPEG, WebP  ICC                                                 QOI   its byte "all channels linear"
    JPEG 2000   ICC, then the enumerated colour space               all   EXIF: ColorSpace, interoperability, Gamma

The first that is there counts. Where none is, colours are sRGB.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from PIL import Image

from ..errors import ImageError
from .boxes import boxes, primary_properties
from .profiles import (
    SRGB_POINTS,
    adobe_rgb,
    cicp_profile,
    matrix_profile,
    power,
    srgb_curve,
    tell,
)

__all__ = ["exif_profile", "orientation_of", "stated_profile"]

_ORIENTATION, _WHITE_POINT, _PRIMARIES = 0x0112, 0x013E, 0x013F
_EXIF, _INTEROPERABILITY = 0x8769, 0xA005
_COLOR_SPACE, _GAMMA = 0xA001, 0xA500
_UNCALIBRATED = 0xFFFF
_SRGB_GAMMA = (0.4500, 0.4600)  # what writers of sRGB state as its gamma, which is none


def stated_profile(picture: Image.Image, file: BinaryIO | None, name: str) -> bytes | None:
    """The ICC profile of a picture's colours, or None where they are sRGB.

    Args:
        picture: opened, with what Pillow found.
        file: the same, for what Pillow does not look at; None for a picture without a file.
        name: of the picture, for warnings.

    Raises:
        ImageError: colours of a kind that is not read.
    """
    info: dict[Any, Any] = picture.info
    found, profile = False, None
    if file is not None and (reader := _READERS.get(picture.format or "")):
        found, profile = reader(file, info, name)
    if found:
        return profile
    if icc := info.get("icc_profile"):
        return icc
    if "icc_profile" in info:
        tell(name, "its colour profile is damaged or incomplete; colours are taken as sRGB.")
        return None
    if "srgb" in info:
        return None
    if "gamma" in info or "chromaticity" in info:
        grey = picture.mode in ("1", "L", "LA", "I", "I;16")
        return _gamma_profile(info.get("gamma"), info.get("chromaticity"), grey, name)
    return _of_exif(picture, name) if "exif" in info else None


def orientation_of(value: Any) -> int:
    """An EXIF orientation of any type, as writers store it; 1, which is upright, for what makes no sense."""
    if isinstance(value, tuple | list) and value:
        value = value[0]
    if isinstance(value, bytes) and len(value) == 1 and value[0] <= 8:
        value = value[0]
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return 1
    return number if 1 <= number <= 8 else 1


def exif_profile(colour_space: Any, index: Any, gamma: Any, points: Any, name: str) -> bytes | None:
    """The profile of what EXIF says.

    Args:
        colour_space: its ColorSpace: 1 sRGB, 2 Adobe RGB, 65535 something else.
        index: its InteroperabilityIndex; ``"R03"`` stands for Adobe RGB.
        gamma: its Gamma, or None.
        points: x and y of red, green, blue and white, or None.
        name: of the picture, for warnings.
    """
    if isinstance(index, bytes):
        index = index.rstrip(b"\0").decode("latin-1")
    if colour_space == 2 or (colour_space != 1 and index == "R03"):
        return adobe_rgb()
    if colour_space != _UNCALIBRATED:
        return None
    try:
        if points is not None:
            return matrix_profile(points, power(float(gamma)) if gamma else srgb_curve)
    except (ValueError, ArithmeticError):
        pass  # said below
    tell(
        name,
        "its EXIF says that its colours are not sRGB, but not what they are; they are taken as sRGB.",
    )
    return None


def _of_exif(picture: Image.Image, name: str) -> bytes | None:
    try:
        exif = picture.getexif()
        inner = exif.get_ifd(_EXIF)
        index = exif.get_ifd(_INTEROPERABILITY).get(1)
        points = None
        if len(exif.get(_PRIMARIES) or ()) == 6 and len(exif.get(_WHITE_POINT) or ()) == 2:
            values = [float(v) for v in (*exif[_PRIMARIES], *exif[_WHITE_POINT])]
            points = list(zip(values[::2], values[1::2], strict=True))
    except Exception:  # unreadable EXIF says nothing about the pixels, which are fine
        return None
    return exif_profile(inner.get(_COLOR_SPACE), index, inner.get(_GAMMA), points, name)


def _gamma_profile(gamma: float | None, chroma: Any, grey: bool, name: str) -> bytes | None:
    """gAMA and cHRM of a PNG."""
    usual = gamma is None or _SRGB_GAMMA[0] <= gamma <= _SRGB_GAMMA[1]
    points: Any = SRGB_POINTS
    if chroma is not None and not grey:
        white, *colours = zip(chroma[::2], chroma[1::2], strict=True)
        points = (*colours, white)
    flat = [
        abs(a - b)
        for one, two in zip(points, SRGB_POINTS, strict=True)
        for a, b in zip(one, two, strict=True)
    ]
    if usual and max(flat) < 0.002:
        return None
    try:
        curve = srgb_curve if gamma is None else power(1 / gamma)
        return matrix_profile(None if grey else points, curve)
    except (ValueError, ArithmeticError):
        tell(name, "its gamma or primaries are impossible; colours are taken as sRGB.")
        return None


# --------------------------------------------------------------------------------------------------
# Format by format: what Pillow does not look at. Each returns whether it found a statement, and its profile.

_Statement = tuple[bool, bytes | None]


def _png(file: BinaryIO, info: dict[str, Any], name: str) -> _Statement:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            break
        if kind == b"cICP" and size == 4 and len(body := file.read(4)) == 4:
            return True, cicp_profile(body[0], body[1], name)
        file.seek(size + 4, 1)
    return False, None


def _avif(file: BinaryIO, info: dict[str, Any], name: str) -> _Statement:
    file.seek(0)
    properties = primary_properties(memoryview(file.read()))
    if any(kind == b"clap" for kind, _ in properties):
        raise ImageError(
            f"{name}: an AVIF that cuts off its borders (clap), which is not read. Convert it to PNG."
        )
    if info.get("icc_profile"):
        return True, info["icc_profile"]
    for kind, body in properties:
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 8:
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return True, cicp_profile(primaries, transfer, name)
    tell(
        name,
        "states its colours in its stream alone, where they are not read; they are taken as sRGB.",
    )
    return False, None


def _heif(file: BinaryIO, info: dict[str, Any], name: str) -> _Statement:
    points = info.get("nclx_profile")
    if info.get("icc_profile") or not points:
        return False, None
    return True, cicp_profile(points["color_primaries"], points["transfer_characteristics"], name)


def _jpeg2000(file: BinaryIO, info: dict[str, Any], name: str) -> _Statement:
    file.seek(0)
    data = memoryview(file.read())
    inner = next((body for kind, body in boxes(data) if kind == b"jp2h"), data[:0])
    for kind, body in boxes(inner):
        if kind != b"colr" or len(body) < 4:
            continue
        if body[0] in (2, 3):
            return True, bytes(body[3:])
        if body[0] == 1 and len(body) >= 7:
            space = struct.unpack_from(">I", body, 3)[0]
            if space not in (12, 16, 17, 18):  # CMYK, sRGB, grey, sYCC
                raise ImageError(
                    f"{name}: JPEG 2000 of colour space {space}, which is not read. Convert it to PNG."
                )
            return True, None
    return False, None


def _bmp(file: BinaryIO, info: dict[str, Any], name: str) -> _Statement:
    file.seek(14)
    head = file.read(124)
    size = struct.unpack_from("<I", head)[0]
    if size < 108 or len(head) < 108:
        return False, None
    kind = head[56:60][::-1]
    if kind == b"\0\0\0\0":
        ends = [v / 2**30 for v in struct.unpack_from("<9i", head, 60)]
        gammas = [v / 2**16 for v in struct.unpack_from("<3I", head, 96)]
        if not any(ends) and not any(gammas):
            return False, None  # left blank by most writers
        try:
            xyz = [*(ends[i : i + 3] for i in (0, 3, 6)), [sum(ends[i::3]) for i in range(3)]]
            points = [(x / (x + y + z), y / (x + y + z)) for x, y, z in xyz]
            if min(gammas) <= 0:
                raise ValueError("no gamma")
            return True, matrix_profile(points, *map(power, gammas))
        except (ValueError, ArithmeticError):
            tell(name, "its primaries or gammas are impossible; colours are taken as sRGB.")
    elif kind == b"MBED" and size >= 124:
        offset, length = struct.unpack_from("<II", head, 112)
        file.seek(14 + offset)
        return True, file.read(length) or b"none"  # what is no profile is said where it is used
    elif kind == b"LINK":
        tell(name, "its colour profile is another file; colours are taken as sRGB.")
    return False, None


def _gif(file: BinaryIO, info: dict[str, Any], name: str) -> _Statement:
    file.seek(0)
    data = file.read()
    at = data.find(b"\x21\xff\x0bICCRGBG1012")
    if at < 0:
        return False, None
    at, profile = at + 14, b""
    while at < len(data) and data[at]:  # blocks, each behind its length
        profile += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    return True, profile


def _qoi(file: BinaryIO, info: dict[str, Any], name: str) -> _Statement:
    file.seek(13)
    return True, matrix_profile(SRGB_POINTS, power(1.0)) if file.read(1) == b"\1" else None


_READERS = {
    "PNG": _png,
    "AVIF": _avif,
    "HEIF": _heif,
    "JPEG2000": _jpeg2000,
    "BMP": _bmp,
    "GIF": _gif,
    "QOI": _qoi,
}
