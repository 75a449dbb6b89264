"""What a picture file says about its colours and its orientation, found and turned into an ICC profile.

    PNG         cICP, then iCCP, then sRGB, then gAMA with cHRM     BMP   calibrated or embedded, in its header
    AVIF, HEIC  ICC, then nclx                                      GIF   ICC in an application extension
    JPEG, WebP  ICC                                                 QOI   its byte "all channels linear"
    JPEG 2000   ICC, then the enumerated colour space               all   EXIF: ColorSpace, interoperability, Gamma

The first that is there counts. Where none is, colours are sRGB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image

from ..errors import ImageError
from .profiles import (
    SRGB_POINTS,
    adobe_rgb,
    cicp_profile,
    matrix_profile,
    power,
    srgb_curve,
    tell,
)

_WHITE_POINT, _PRIMARIES, _EXIF, _INTEROPERABILITY = 0x013E, 0x013F, 0x8769, 0xA005
_COLOR_SPACE, _GAMMA = 0xA001, 0xA500
_UNCALIBRATED = 0xFFFF
_SRGB = b""  # a statement: as good as none
_SRGB_GAMMA = (0.4500, 0.4600)  # what writers of sRGB state as its gamma, which is none
_AS_SRGB = "colours are taken as sRGB."


def stated_profile(picture: Image.Image, file: BinaryIO | None, name: str) -> bytes | None:
    """The profile of a picture as Pillow opened it, and of its ``file``, if there is one, for what Pillow leaves.

    Raises:
        ImageError: colours of a kind that is not read.
    """
    info: dict[Any, Any] = picture.info
    if file is not None and (reader := _READERS.get(picture.format or "")):
        file.seek(0)
        found = reader(file, info, name)
        if found is not None:
            return found or None
    if icc := info.get("icc_profile"):
        return icc
    if "icc_profile" in info:
        tell(name, f"its colour profile is damaged or incomplete; {_AS_SRGB}")
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
    what = "says that its colours are not sRGB, but not what they are; they are taken as sRGB."
    tell(name, f"its EXIF {what}")
    return None


def pairs(values: Any) -> list[tuple[Any, Any]]:
    """Flat x, y, x, y, ... as points."""
    return list(zip(values[::2], values[1::2], strict=True))


def _of_exif(picture: Image.Image, name: str) -> bytes | None:
    try:
        exif = picture.getexif()
        inner = exif.get_ifd(_EXIF)
        index = exif.get_ifd(_INTEROPERABILITY).get(1)
        points = None
        if len(exif.get(_PRIMARIES) or ()) == 6 and len(exif.get(_WHITE_POINT) or ()) == 2:
            points = pairs([float(v) for v in (*exif[_PRIMARIES], *exif[_WHITE_POINT])])
    except Exception:  # unreadable EXIF says nothing about the pixels, which are fine
        return None
    return exif_profile(inner.get(_COLOR_SPACE), index, inner.get(_GAMMA), points, name)


def _gamma_profile(gamma: float | None, chroma: Any, grey: bool, name: str) -> bytes | None:
    """gAMA and cHRM of a PNG."""
    points: Any = SRGB_POINTS
    if chroma is not None and not grey:
        white, *colours = pairs(chroma)
        points = (*colours, white)
    usual = gamma is None or _SRGB_GAMMA[0] <= gamma <= _SRGB_GAMMA[1]
    if usual and all(
        abs(a - b) < 0.002
        for one, two in zip(points, SRGB_POINTS, strict=True)
        for a, b in zip(one, two, strict=True)
    ):
        return None
    try:
        curve = srgb_curve if gamma is None else power(1 / gamma)
        return matrix_profile(None if grey else points, curve)
    except (ValueError, ArithmeticError):
        tell(name, f"its gamma or primaries are impossible; {_AS_SRGB}")
        return None


# --------------------------------------------------------------------------------------------------
# Format by format: what Pillow does not look at. A profile, _SRGB where that is stated, None for no statement.


def _png(file: BinaryIO, info: dict[str, Any], name: str) -> bytes | None:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            break
        if kind == b"cICP" and size == 4 and len(body := file.read(4)) == 4:
            return cicp_profile(body[0], body[1], name) or _SRGB
        file.seek(size + 4, 1)
    return None


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and body of the boxes of an ISO file, one after the other; ends at the first that is cut off."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= len(data):
            size, start = struct.unpack_from(">Q", data, at + 8)[0], at + 16
        end = len(data) if size == 0 else at + size
        if end < start or end > len(data):
            return
        yield kind, data[start:end]
        at = end


def _primary_properties(data: memoryview) -> list[tuple[bytes, memoryview]]:
    """The properties of the primary picture of an AVIF file; none if the file is damaged."""
    try:
        meta = dict(_boxes(dict(_boxes(data))[b"meta"][4:]))
        inner = dict(_boxes(meta[b"iprp"]))
        wanted = struct.unpack_from(">H" if meta[b"pitm"][0] == 0 else ">I", meta[b"pitm"], 4)[0]
        properties = list(_boxes(inner[b"ipco"]))
        table = inner[b"ipma"]
        number, link = (">H" if table[0] == 0 else ">I"), (">H" if table[3] & 1 else ">B")
        at, found = 8, []
        for _ in range(struct.unpack_from(">I", table, 4)[0]):
            item = struct.unpack_from(number, table, at)[0]
            at += struct.calcsize(number)
            links = table[at]
            values = struct.unpack_from(f">{links}{link[1]}", table, at + 1)
            at += 1 + links * struct.calcsize(link)
            if item == wanted:
                last = 0x7FFF if link == ">H" else 0x7F
                found += [properties[(v & last) - 1] for v in values if v & last]
        return found
    except (KeyError, IndexError, struct.error):
        return []


def _avif(file: BinaryIO, info: dict[str, Any], name: str) -> bytes | None:
    properties = _primary_properties(memoryview(file.read()))
    if any(kind == b"clap" for kind, _ in properties):
        what = "an AVIF that cuts off its borders (clap), which is not read"
        raise ImageError(f"{name}: {what}. Convert it to PNG.")
    if info.get("icc_profile"):
        return info["icc_profile"]
    for kind, body in properties:
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 8:
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return cicp_profile(primaries, transfer, name) or _SRGB
    what = "states its colours in its stream alone, where they are not read"
    tell(name, f"{what}; they are taken as sRGB.")
    return None


def _heif(file: BinaryIO, info: dict[str, Any], name: str) -> bytes | None:
    points = info.get("nclx_profile")
    if info.get("icc_profile") or not points:
        return None
    code_points = points["color_primaries"], points["transfer_characteristics"]
    return cicp_profile(*code_points, name) or _SRGB


def _jpeg2000(file: BinaryIO, info: dict[str, Any], name: str) -> bytes | None:
    inner = dict(_boxes(memoryview(file.read()))).get(b"jp2h", memoryview(b""))
    for kind, body in _boxes(inner):
        if kind != b"colr" or len(body) < 4:
            continue
        if body[0] in (2, 3):
            return bytes(body[3:])
        if body[0] == 1 and len(body) >= 7:
            space = struct.unpack_from(">I", body, 3)[0]
            if space not in (12, 16, 17, 18):  # CMYK, sRGB, grey, sYCC
                what = f"JPEG 2000 of colour space {space}, which is not read"
                raise ImageError(f"{name}: {what}. Convert it to PNG.")
            return _SRGB
    return None


def _bmp(file: BinaryIO, info: dict[str, Any], name: str) -> bytes | None:
    file.seek(14)
    head = file.read(124)
    size = struct.unpack_from("<I", head)[0]
    if size < 108 or len(head) < 108:
        return None
    kind = head[56:60][::-1]
    if kind == b"\0\0\0\0":
        ends = [v / 2**30 for v in struct.unpack_from("<9i", head, 60)]
        gammas = [v / 2**16 for v in struct.unpack_from("<3I", head, 96)]
        if not any(ends) and not any(gammas):
            return None  # left blank by most writers
        try:
            xyz = [*(ends[i : i + 3] for i in (0, 3, 6)), [sum(ends[i::3]) for i in range(3)]]
            points = [(x / (x + y + z), y / (x + y + z)) for x, y, z in xyz]
            if min(gammas) <= 0:
                raise ValueError("no gamma")
            return matrix_profile(points, *map(power, gammas))
        except (ValueError, ArithmeticError):
            tell(name, f"its primaries or gammas are impossible; {_AS_SRGB}")
    elif kind == b"MBED" and size >= 124:
        offset, length = struct.unpack_from("<II", head, 112)
        file.seek(14 + offset)
        return file.read(length) or b"none"  # what is no profile is said where it is used
    elif kind == b"LINK":
        tell(name, f"its colour profile is another file; {_AS_SRGB}")
    return None


def _gif(file: BinaryIO, info: dict[str, Any], name: str) -> bytes | None:
    data = file.read()
    at = data.find(b"\x21\xff\x0bICCRGBG1012") + 14
    if at < 14:
        return None
    profile = b""
    while at < len(data) and data[at]:  # blocks, each behind its length
        profile += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    return profile


def _qoi(file: BinaryIO, info: dict[str, Any], name: str) -> bytes | None:
    linear = file.read(14)[13:] == b"\1"
    return matrix_profile(SRGB_POINTS, power(1.0)) if linear else _SRGB


_READERS = {"PNG": _png, "AVIF": _avif, "HEIF": _heif, "JPEG2000": _jpeg2000}
_READERS |= {"BMP": _bmp, "GIF": _gif, "QOI": _qoi}
