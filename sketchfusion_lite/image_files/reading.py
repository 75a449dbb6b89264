"""Picture files and PIL images -> samples with their meaning.

    bytes, path --> which kind? --+--> TIFF: tiff
                                  +--> 16-bit PNG, odd JPEG 2000 and BMP: imagecodecs
                                  +--> everything else: Pillow
                                  +--> known, but not read: refused by name

Limits are checked on the file's header, before a single pixel is decoded.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from ..errors import ImageError
from .colours import Samples, check_floats
from .kinds import CONVERT, FORMATS, TIFF_MARKS, CheckSize, opened, refuse
from .profiles import lab_to_srgb, tell
from .statements import orientation_of, stated_profile

_MAX_SCANS = 100  # encoders write about ten; each costs a pass over the whole picture
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # none of those inside a scan
_SCAN, _END, _START = 0xDA, 0xD9, 0xD8


def read_file(file: BinaryIO, name: str, check_size: CheckSize) -> Samples:
    """Read a picture file, which must be seekable.

    Raises:
        ImageError: not a picture, of a kind that is not read, over the limit. Damaged and truncated files raise nearly
            anything besides.
    """
    head = file.read(256)
    refuse(head, name)
    file.seek(0)
    if head.startswith(TIFF_MARKS):
        from .tiff import read_tiff

        samples = read_tiff(file, name, check_size)
        if samples.colour.size:
            return samples
        file.seek(0)
        with opened(file, head, name) as picture:
            return read_pil(picture, name, check_size, samples.profile)
    with opened(file, head, name) as picture:
        check_size(*picture.size)
        if picture.format in ("JPEG", "MPO"):
            _check_jpeg(picture, file, name)
        elif getattr(picture, "is_animated", False):
            tell(name, "holds several pictures; the first is taken.")
        profile = stated_profile(picture, file, name)
        other = _OTHER_READERS.get(picture.format or "")
        if other is not None and (found := other(picture, file, head, name)) is not None:
            return replace(found, profile=profile, orientation=_orientation(picture))
        file.seek(0)
        return read_pil(picture, name, check_size, profile)


def read_pil(
    picture: Image.Image, name: str, check_size: CheckSize, profile: bytes | None
) -> Samples:
    """The samples of a PIL image of any mode; :class:`.ImageError` where that has no defined meaning."""
    check_size(*picture.size)
    picture.load()  # all pixels: a truncated file fails here
    return replace(_pixels(picture, name), profile=profile, orientation=_orientation(picture))


def read_image(picture: Image.Image, name: str, check_size: CheckSize) -> Samples:
    """The samples of a PIL image that was handed over; one that is still in its file is read from there.

    Raises:
        ImageError: as above; or Pillow decoded it already, in a way that lost its meaning.
    """
    if (
        isinstance(picture, ImageFile.ImageFile)
        and picture.tile
        and picture.fp
        and not picture.tell()
    ):
        place = picture.fp.tell()
        try:
            picture.fp.seek(0)
            data = io.BytesIO(picture.fp.read())
        finally:
            picture.fp.seek(place)
        # not where another size or mode was asked for (Image.draft)
        if picture.format in (*FORMATS, "MPO", "HEIF") and _is_as_in_file(picture, data, name):
            return read_file(data, name, check_size)
    tags = getattr(picture, "tag_v2", {})
    deep = picture.mode.startswith(("I", "F"))
    if (
        (deep and tags.get(262) == 0)
        or tags.get(339, 1) in (2, (2,))
        or tags.get(254, 0) & 1
        or 50706 in tags
    ):
        raise ImageError(
            f"{name}: a TIFF that Pillow has decoded already, without regard to its meaning. Pass the path of the file."
        )
    return read_pil(picture, name, check_size, stated_profile(picture, None, name))


def _is_as_in_file(picture: Image.Image, data: io.BytesIO, name: str) -> bool:
    with opened(data, data.getvalue()[:256], name) as fresh:
        same = all(getattr(fresh, k) == getattr(picture, k) for k in ("size", "mode", "format"))
    data.seek(0)
    return same


def _check_jpeg(picture: Image.Image, file: BinaryIO, name: str) -> None:
    """Refuse a JPEG that would take far more time than its size says, or that does not say what its inks mean."""
    if picture.mode == "CMYK" and "adobe" not in picture.info:
        raise ImageError(
            f"{name}: a JPEG of four inks without Adobe's marker, which would say whether 0 is ink or paper. "
            "Convert it to PNG."
        )
    file.seek(0)
    if _scans(file.read()) > _MAX_SCANS:
        raise ImageError(
            f"{name}: a JPEG of more than {_MAX_SCANS} scans, which would take very long. Convert it to PNG."
        )


def _scans(data: bytes) -> int:
    """Scans of the first picture in a JPEG file; stops counting above ``_MAX_SCANS``."""
    count, position = 0, 2
    while count <= _MAX_SCANS and (found := _MARKER.search(data, position)):
        marker, position = found[1][0], found.end()
        if marker == _END:
            break
        count += marker == _SCAN
        if marker not in (_START, 0x01):  # all others say how long they are
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return count


# --------------------------------------------------------------------------------------------------
# What Pillow would cut or take for something else


def _png(picture: Image.Image, file: BinaryIO, head: bytes, name: str) -> Samples | None:
    depth, kind = head[24], head[25]
    if depth < 16:
        # the transparent grey is stated in the file's own steps, of which Pillow has made 0 to 255
        if kind == 0 and depth in (2, 4) and "transparency" in picture.info:
            picture.info["transparency"] *= 255 // ((1 << depth) - 1)
        return None
    import imagecodecs

    file.seek(0)
    return _with_alpha(imagecodecs.png_decode(file.read()))


def _jpeg2000(picture: Image.Image, file: BinaryIO, head: bytes, name: str) -> Samples | None:
    file.seek(0)
    data = file.read()
    at = data.index(b"\xff\x4f\xff\x51") + 40  # SIZ: how many channels, then three bytes each
    count = struct.unpack_from(">H", data, at)[0]
    kinds = {struct.unpack_from("3B", data, at + 2 + 3 * i) for i in range(count)}
    depths = {depth for depth, _, _ in kinds}
    if depths == {7}:
        return None  # 8 bits, unsigned
    depth = next(iter(depths)) + 1
    if (
        len(kinds) > 1
        or kinds != {(depth - 1, 1, 1)}
        or depth > 16
        or count > 4
        or b"pclr" in data[:4096]
    ):
        raise ImageError(
            f"{name}: JPEG 2000 of signed or unequal channels, of more than 16 bits or of a palette in other than 8 "
            "bits, which is not read. Convert it to PNG."
        )
    import imagecodecs

    stored = imagecodecs.jpeg2k_decode(data)
    white = np.uint8(255) if depth < 8 else np.uint16(65535)
    return _with_alpha(np.round(stored * (white / ((1 << depth) - 1))).astype(white.dtype))


def _bmp(picture: Image.Image, file: BinaryIO, head: bytes, name: str) -> Samples | None:
    """Pillow takes a palette of two entries, black and white, for a picture of one bit."""
    bits = struct.unpack_from("<H", head, 28)[0] if head[14] >= 40 else head[24]
    if picture.mode not in ("1", "L") or picture.mode == {1: "1", 8: "L"}.get(bits):
        return None
    width, height = picture.size
    start, stride = struct.unpack_from("<I", head, 10)[0], width + -width % 4
    if picture.mode != "1" or bits != 8 or picture.info.get("compression"):
        raise ImageError(
            f"{name}: a BMP of {bits} bits with a palette of greys, which is not read. {CONVERT}"
        )
    file.seek(start)
    rows = np.frombuffer(file.read(stride * height), np.uint8).reshape(height, stride)[:, :width]
    if struct.unpack_from("<i", head, 22)[0] > 0:
        rows = rows[::-1]
    return _with_alpha(np.where(rows > 0, 255, 0).astype(np.uint8))


_OTHER_READERS = {"PNG": _png, "JPEG2000": _jpeg2000, "BMP": _bmp}


def _with_alpha(stored: np.ndarray) -> Samples:
    """``(H, W)`` or ``(H, W, 1 to 4)``; the last of an even number of channels is alpha."""
    stored = stored.reshape(*stored.shape[:2], -1)
    channels = stored.shape[2]
    alpha = stored[..., -1] if channels in (2, 4) else None
    colour = stored[..., : channels - (alpha is not None)]
    return Samples(colour, alpha)


# --------------------------------------------------------------------------------------------------
# PIL images


def _orientation(picture: Image.Image) -> int:
    try:
        return orientation_of(picture.getexif().get(0x0112))
    except Exception:  # unreadable EXIF says nothing about the pixels, which are fine
        return 1


def _pixels(picture: Image.Image, name: str) -> Samples:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        deep, transparent = _deep_grey(picture, name), picture.info.get("transparency")
        alpha = None
        if isinstance(transparent, int) and deep.dtype == np.uint16:
            alpha = np.where(deep[..., 0] == transparent, 0, 65535).astype(np.uint16)
        return Samples(deep, alpha)
    if picture.mode == "LAB":
        lab = np.asarray(picture)
        lab = np.dstack([lab[..., 0] * (100 / 255), lab[..., 1:].view(np.int8)])
        return Samples(lab_to_srgb(lab))
    if picture.mode == "CMYK":
        return Samples(np.asarray(picture))
    grey = picture.mode in ("1", "L", "LA", "La")
    if grey and "transparency" not in picture.info:
        target = "LA" if picture.mode in ("LA", "La") else "L"
    else:
        target = "RGBA" if picture.has_transparency_data else "RGB"
    same = picture.mode == target
    samples = _with_alpha(np.asarray(picture if same else picture.convert(target)))
    return replace(samples, colour=samples.colour[..., :1]) if grey else samples


def _deep_grey(picture: Image.Image, name: str) -> np.ndarray:
    """16-bit, 32-bit integer or float grey -> ``(H, W, 1)`` uint16, or float32 in [0, 1]."""
    grey = np.asarray(picture)[..., None]
    low, high = grey.min(), grey.max()
    if picture.mode == "F":
        check_floats(low, high, name)
        return np.clip(grey, 0, 1).astype(np.float32)
    if low < 0 or high > 65535:
        raise ImageError(f"{name}: 32-bit integers have no defined white. Convert it to 16 bit.")
    if picture.mode == "I" and picture.format is None and 0 < high <= 255:
        raise ImageError(
            f"{name}: mode I with values up to {high}: white may be 255 or 65535. Convert it to mode L or I;16."
        )
    return grey.astype(np.uint16)
