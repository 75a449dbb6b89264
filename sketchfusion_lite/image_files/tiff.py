"""TIFF by its own specification (TIFF 6.0, its supplements, BigTIFF): tags and raw samples from tifffile, their meaning
from here.

    tags --> refused by name?   raw files, thumbnails, signed samples, inks of unknown kind ...
      |
      +--> samples as stored (tifffile) --> full range, black is 0 --> colour + alpha + profile + orientation
      +--> compressed by a picture codec (JPEG, fax, WebP) or subsampled: Pillow, whose libtiff reads their 1 and 8 bits

Pillow alone would leave 16-bit and float samples inverted, take signed for unsigned and a preview for the photo.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .colours import Samples, check_floats, white_of
from .kinds import CheckSize, opened
from .profiles import SRGB_POINTS, lab_to_srgb, matrix_profile, srgb_curve, tell
from .statements import exif_profile, orientation_of, pairs
from .tiff_kinds import (
    CHANNELS,
    CIELAB,
    ICCLAB,
    LZW,
    MINISBLACK,
    MINISWHITE,
    PALETTE,
    RGB,
    YCBCR,
    refuse_kinds,
    refuse_previews,
)

if TYPE_CHECKING:
    from tifffile import TiffPage

# What is wrong with a file is raised or warned of from here; tifffile would print it besides.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def read_tiff(file: BinaryIO, name: str, check_size: CheckSize) -> Samples:
    """The samples of the first page of a TIFF; no pixel, but a profile, where Pillow shall decode them.

    Raises:
        ImageError: of a kind that is not read, by name, or damaged; over the limit.
    """
    from tifffile import TiffFile

    with TiffFile(file) as tiff:
        page = tiff.pages.first
        refuse_previews(page, name)
        check_size(page.imagewidth, page.imagelength)
        by_pillow = refuse_kinds(page, name)
        _say_what_is_left(tiff, page, name)
        meaning: dict[str, Any] = {
            "profile": _profile(page, name),
            "orientation": orientation_of(page.tags.valueof(274, 1)),
        }
        if by_pillow:
            nothing = np.empty((0, 0, 1), np.uint8)
            return Samples(nothing, **meaning)
        stored = _unpacked(page, name) if page.compression == LZW else page.asarray(squeeze=False)
        # (S, 1, H, W, C), one of S and C being 1
        stored = np.moveaxis(stored[:, 0], 0, -1).reshape(*stored.shape[2:4], -1)  # (H, W, S * C)
        colour, alpha = _meaning(page, stored, name)
    return Samples(colour, alpha, **meaning)


def _unpacked(page: TiffPage, name: str) -> np.ndarray:
    """What ``page.asarray`` returns, LZW being unpacked by libtiff: on damaged data imagecodecs leaves its buffer."""
    from tifffile import imwrite

    reverse = page.fillorder == 2
    page.compression = page.fillorder = 1  # all that is left to do for tifffile
    stored = np.zeros(page.shaped, page.dtype)
    parts = int(np.prod(page.chunked))
    file = page.parent.filehandle
    for packed, index in file.read_segments(
        page.dataoffsets, page.databytecounts, length=parts, flat=True
    ):
        if not isinstance(packed, bytes):
            raise ValueError("a strip without content")
        if reverse:
            packed = packed.translate(_REVERSED)
        _, _, (_, rows, width, channels) = page.decode(None, index)
        # the part's bytes as a grey picture of their own
        shape = rows, -(-width * channels * page.bitspersample // 8)
        wrapped = io.BytesIO()
        imwrite(
            wrapped,
            iter([packed]),
            shape=shape,
            dtype="u1",
            compression="lzw",
            rowsperstrip=rows,
            metadata=None,
        )
        with opened(wrapped, wrapped.getvalue()[:8], name) as picture:
            data, (s, _, y, x, _), _ = page.decode(np.asarray(picture).tobytes(), index)
        assert data is not None
        data = data[0, : page.imagelength - y, : page.imagewidth - x]
        stored[s, 0, y : y + data.shape[0], x : x + data.shape[1]] = data
    return stored


def _say_what_is_left(tiff: Any, page: TiffPage, name: str) -> None:
    try:
        second = tiff.pages[1]
    except IndexError:
        second = None
    # a page of another kind may be a smaller copy or a mask
    if second is not None and not second.tags.valueof(254, 0) & 5:
        tell(name, "holds several pages; the first is taken.")
    kinds = _extra_kinds(page)
    if kinds and not page.extrasamples:
        tell(name, "does not say what its last channel is; it is taken as transparency.")
    if left := len(kinds) - (1 in kinds or 2 in kinds):
        what = "neither its colours nor transparency"
        tell(name, f"{left} of its channels are {what}; they are left out.")


def _extra_kinds(page: TiffPage) -> list[int]:
    """The channels behind the colours: 0 anything, 1 transparency that is multiplied into them, 2 that is not."""
    extra = page.samplesperpixel - CHANNELS[int(page.photometric)]
    kinds = [int(kind) for kind in page.extrasamples] or ([2] if extra == 1 else [])
    return (kinds + [0] * extra)[:extra]


def _profile(page: TiffPage, name: str) -> bytes | None:
    """ICC, else primaries and transfer function, else what its EXIF says."""
    if icc := page.tags.valueof(34675):
        return bytes(icc)
    photometric = int(page.photometric)
    if photometric not in (MINISWHITE, MINISBLACK, RGB, PALETTE, YCBCR):
        return None
    points = None
    white, primaries = page.tags.valueof(318), page.tags.valueof(319)  # rationals
    try:
        if white is not None and primaries is not None:
            points = pairs([a / b for a, b in pairs((*primaries, *white))])
        if (table := page.tags.valueof(301)) is not None or points is not None:
            grey = photometric in (MINISWHITE, MINISBLACK)
            curves = (
                [srgb_curve] if table is None else _curves(np.asarray(table), page.bitspersample)
            )
            return matrix_profile(
                None if grey else points or SRGB_POINTS, *(curves[:1] if grey else curves)
            )
    except (ValueError, TypeError, ArithmeticError):
        tell(name, "its primaries or transfer function are impossible; colours are taken as sRGB.")
        return None
    exif = page.tags.valueof(34665)
    if not isinstance(exif, dict):
        return None
    inner = exif.get("InteroperabilityTag")
    index = inner.get("InteroperabilityIndex") if isinstance(inner, dict) else None
    return exif_profile(exif.get("ColorSpace"), index, None, None, name)


def _curves(table: np.ndarray, bits: int) -> list[Callable[[np.ndarray], np.ndarray]]:
    rows = table.reshape(-1, 1 << bits).astype(np.float64) / 65535
    if len(rows) not in (1, 3) or bits > 16:
        raise ValueError("transfer function of another size")
    at = np.linspace(0, 1, 1 << bits)
    return [partial(np.interp, xp=at, fp=row) for row in rows]


def _meaning(page: TiffPage, stored: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples ``(H, W, S)`` as stored -> colour ``(H, W, 1 | 3 | 4)`` and alpha ``(H, W)``, full range, black is 0."""
    photometric, bits = int(page.photometric), page.bitspersample
    channels = CHANNELS[photometric]
    kinds = _extra_kinds(page)
    which = next((i for i, kind in enumerate(kinds) if kind in (1, 2)), None)
    colour, alpha = stored[..., :channels], None
    if which is not None:
        alpha = _full_range(stored[..., channels + which], bits, name)
    if photometric == PALETTE:
        palette = np.asarray(page.colormap)
        if palette.max() < 256:
            palette = palette * 257  # written by programs that took it for 8 bits
        if not (palette % 257).any():
            palette = (palette // 257).astype(np.uint8)
        colour = palette.T[colour[..., 0].astype(np.intp)]
    elif photometric in (CIELAB, ICCLAB):
        colour = lab_to_srgb(_lab(colour, bits, photometric == ICCLAB))
    else:
        colour = _full_range(colour, bits, name)
        if photometric == MINISWHITE:
            colour = white_of(colour) - colour
    if alpha is not None and which is not None and kinds[which] == 1:
        share = np.maximum(alpha[..., None].astype(np.float32) / white_of(alpha), 1e-6)
        whole = np.minimum(colour / share, white_of(colour))
        colour = (np.round(whole) if colour.dtype.kind == "u" else whole).astype(colour.dtype)
    return colour, alpha


def _full_range(samples: np.ndarray, bits: int, name: str) -> np.ndarray:
    """Unsigned integers of any number of bits -> uint8 or uint16, floats -> float32, checked."""
    if samples.dtype.kind == "f":
        check_floats(float(samples.min()), float(samples.max()), name)
        return np.clip(samples, 0, 1).astype(np.float32)
    if bits in (8, 16):
        return samples
    target = np.uint8 if bits < 8 else np.uint16
    white, scale = (1 << bits) - 1, np.iinfo(target).max
    return np.round(samples.astype(np.float64) * (scale / white)).astype(target)


def _lab(stored: np.ndarray, bits: int, offset: bool) -> np.ndarray:
    """CIELab has signed a and b, ICCLab adds half their range."""
    white, step = (1 << bits) - 1, 1 << (bits - 8)
    lightness = stored[..., :1] * (100 / white)
    rest = stored[..., 1:]
    chroma = rest / step - 128 if offset else rest.view(f"i{bits // 8}") / step
    return np.concatenate([lightness, chroma], axis=-1)
