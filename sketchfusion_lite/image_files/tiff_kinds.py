"""TIFFs that are refused by name: no photo, or nothing that defines what its samples mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError

if TYPE_CHECKING:
    from tifffile import TiffPage

# PhotometricInterpretation
MINISWHITE, MINISBLACK, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_RAW_PHOTOMETRICS = (32803, 34892)  # colour filter array, linear raw
_DNG_VERSION = 50706
CHANNELS = {MINISWHITE: 1, MINISBLACK: 1, RGB: 3, PALETTE: 1}
CHANNELS |= {SEPARATED: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
# none, LZW, deflate twice, PackBits, LZMA, Zstandard: their size when unpacked is known beforehand
LZW = 5
_LOSSLESS = (1, LZW, 8, 32946, 32773, 34925, 50000)
_BY_PILLOW = {2: (1,), 3: (1,), 4: (1,), 7: (8,), 50001: (8,)}  # fax, JPEG, WebP -> bits
_TILE_PIXELS = 1 << 22  # a tile may be larger than its picture, but then no larger than this
_MAX_BITS = 256  # a pixel: four channels of 64 bits; memory follows it
_MAX_SUB_PAGES = 16  # looked at in search of a larger picture


def refuse_previews(page: TiffPage, name: str) -> None:
    """Refuse files whose first page is not the photo."""
    others: list[Any] = []
    if page.subifds and page.pages is not None:
        others = list(page.pages[:_MAX_SUB_PAGES])
    kinds = {int(each.photometric or 0) for each in (page, *others) if hasattr(each, "photometric")}
    if kinds & set(_RAW_PHOTOMETRICS) or _DNG_VERSION in page.tags:
        raise ImageError(
            f"{name}: a camera's raw picture (DNG or alike), not developed yet; what it shows is a preview. "
            "Develop it with a raw converter and pass the TIFF, PNG or JPEG."
        )
    area = page.imagewidth * page.imagelength
    larger = [
        each for each in others if not each.is_reduced and each.imagewidth * each.imagelength > area
    ]
    if page.is_reduced or page.tags.valueof(255) == 2 or larger:
        raise ImageError(
            f"{name}: a TIFF whose first page is a reduced copy of the picture. "
            "Export the full picture as TIFF, PNG or JPEG."
        )


def refuse_kinds(page: TiffPage, name: str) -> bool:
    """Refuse what has no defined meaning, or none here; return whether Pillow has to decode it."""

    def name_of(value: Any) -> str:
        return getattr(value, "name", str(value))

    def refuse(what: str) -> ImageError:
        return ImageError(
            f"{name}: a TIFF {what}, which is not read. Convert it to PNG, or to a TIFF of RGB."
        )

    if 262 not in page.tags:
        raise refuse("that does not say what its samples mean (no PhotometricInterpretation)")
    photometric, bits = int(page.photometric), page.bitspersample
    if photometric not in CHANNELS:
        raise refuse(f"of photometric interpretation {name_of(page.photometric)}")
    if not isinstance(bits, int) or page.imagedepth != 1:
        raise refuse("of unequal bits per sample, or of several layers")
    needed = CHANNELS[photometric]
    if page.samplesperpixel < needed:
        raise refuse(f"of {page.samplesperpixel} samples a pixel where {needed} are needed")
    if photometric == SEPARATED and page.tags.valueof(332, 1) != 1:
        raise refuse("of inks other than CMYK")
    dots = page.tags.valueof(336)
    if photometric == SEPARATED and dots is not None and tuple(dots[:2]) != (0, (1 << bits) - 1):
        raise refuse(f"whose inks run from {dots[0]} to {dots[1]}")
    if page.sampleformat not in (1, 3):
        raise refuse(
            f"of signed or complex samples (format {name_of(page.sampleformat)}), for which no black is defined"
        )
    if page.samplesperpixel * bits > _MAX_BITS:
        raise refuse(f"of {page.samplesperpixel} samples of {bits} bits a pixel")
    if photometric in (CIELAB, ICCLAB) and (bits not in (8, 16) or page.sampleformat == 3):
        raise refuse(f"of L*a*b* in {bits} bits")
    if photometric == PALETTE and (bits > 16 or page.colormap is None):
        raise refuse("of a palette that is missing or too large")
    compression = int(page.compression)
    if compression in _BY_PILLOW or photometric == YCBCR:
        allowed = _BY_PILLOW.get(compression, (8,) if compression in _LOSSLESS else ())
        if (
            bits not in allowed
            or page.sampleformat == 3
            or photometric in (CIELAB, ICCLAB, SEPARATED)
        ):
            raise refuse(
                f"of {name_of(page.photometric)} in {bits} bits, compressed as {name_of(page.compression)}"
            )
    elif compression not in _LOSSLESS:
        raise refuse(f"compressed as {name_of(page.compression)}")
    if page.is_tiled:
        tile = page.tilewidth * page.tilelength
        if tile > max(page.imagewidth * page.imagelength, _TILE_PIXELS):
            raise ImageError(
                f"{name}: tiles of {page.tilewidth}x{page.tilelength} for a picture of "
                f"{page.imagewidth}x{page.imagelength}. Convert it to PNG."
            )
    parts = int(np.prod(page.chunked))
    if (
        len(page.dataoffsets) < parts
        or not all(page.databytecounts[:parts])
        or not all(page.dataoffsets[:parts])
    ):
        raise ImageError(
            f"{name}: damaged or truncated: parts of its pixels are missing. Fetch a whole copy."
        )
    return compression in _BY_PILLOW or photometric == YCBCR
