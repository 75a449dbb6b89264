"""Which kind of picture a file is, by its first bytes: opened by Pillow, or refused by name.

Only formats that Pillow decodes by itself are opened: its EPS reader would start Ghostscript.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from ..errors import ImageError

__all__ = ["CONVERT", "FORMATS", "TIFF_MARKS", "CheckSize", "opened", "refuse"]

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "QOI")
CheckSize = Callable[[int, int], None]

_DEVELOP = "Develop it with a raw converter and pass the TIFF, PNG or JPEG."
CONVERT = "Convert it to PNG."
# offset, first bytes, what it is, remedy
_REFUSED: tuple[tuple[int, bytes, str, str], ...] = (
    (8, b"CR\x02", "a raw picture of a Canon camera (CR2)", _DEVELOP),
    (4, b"ftypcrx ", "a raw picture of a Canon camera (CR3)", _DEVELOP),
    (0, b"FUJIFILM", "a raw picture of a Fujifilm camera (RAF)", _DEVELOP),
    (0, b"IIRO", "a raw picture of an Olympus camera (ORF)", _DEVELOP),
    (0, b"IIRS", "a raw picture of an Olympus camera (ORF)", _DEVELOP),
    (0, b"MMOR", "a raw picture of an Olympus camera (ORF)", _DEVELOP),
    (0, b"IIU\0", "a raw picture of a Panasonic camera (RW2)", _DEVELOP),
    (0, b"FOVb", "a raw picture of a Sigma camera (X3F)", _DEVELOP),
    (0, b"\0MRM", "a raw picture of a Minolta camera (MRW)", _DEVELOP),
    (0, b"\xff\x0a", "JPEG XL", CONVERT),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL", CONVERT),
    (0, b"II\xbc", "JPEG XR", CONVERT),
    (0, b"8BPS", "a Photoshop document", CONVERT),
    (0, b"gimp xcf", "a GIMP document", CONVERT),
    (0, b"%PDF", "a PDF document", CONVERT),
    (0, b"%!PS", "PostScript", CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", CONVERT),
    (0, b"<svg", "an SVG drawing", CONVERT),
    (0, b"\0\0\1\0", "an icon (ICO)", CONVERT),
    (0, b"\0\0\2\0", "a cursor (CUR)", CONVERT),
    (0, b"DDS ", "a DDS texture", CONVERT),
    (0, b"v/1\x01", "OpenEXR", "Map its tones, and store it as PNG."),
    (0, b"#?RADIANCE", "Radiance HDR", "Map its tones, and store it as PNG."),
    (0, b"#?RGBE", "Radiance HDR", "Map its tones, and store it as PNG."),
    (0, b"PF", "a PFM of three colours", "Map its tones, and store it as PNG."),
    (0, b"P7\n", "a PAM", CONVERT),
    (0, b"SIMPLE  =", "a FITS picture", CONVERT),
    (128, b"DICM", "a DICOM picture", CONVERT),
    (4, b"ftypqt  ", "a film", "Take a picture out of it."),
    (4, b"ftypisom", "a film", "Take a picture out of it."),
    (4, b"ftypmp4", "a film", "Take a picture out of it."),
)
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_PILLOW_LIMIT_LOCK = threading.Lock()


def refuse(head: bytes, name: str) -> None:
    for offset, magic, what, remedy in _REFUSED:
        if head[offset:].startswith(magic):
            raise ImageError(f"{name}: {what}, not a picture of a kind that is read. {remedy}")
    if _is_heif(head) and importlib.util.find_spec("pillow_heif") is None:
        raise ImageError(
            f"{name}: a HEIC picture, which the package pillow-heif reads. "
            "Install it (pip install pillow-heif), or convert the picture to JPEG or PNG."
        )


def _is_heif(head: bytes) -> bool:
    size = int.from_bytes(head[:4], "big")
    return head[4:8] == b"ftyp" and any(
        head[i : i + 4] in _HEIF_BRANDS for i in range(8, min(size, 256), 4)
    )


def opened(file: BinaryIO, head: bytes, name: str) -> Image.Image:
    """Let Pillow read the header of a file whose first bytes are ``head``.

    Raises:
        ImageError: none of its formats.
    """
    # What is a TIFF by a damaged mark alone would go past the reader of TIFFs.
    formats = ("TIFF",) if head.startswith(TIFF_MARKS) else tuple(f for f in FORMATS if f != "TIFF")
    if _is_heif(head):
        from pillow_heif import register_heif_opener

        register_heif_opener()
        formats = ("HEIF",)
    elif head.startswith((b"P0", b"Py")):  # kinds of PPM that are Pillow's own
        formats = ()
    try:
        # Our limit rules, so Pillow's own (a warning at 89 megapixels, an error at 179) must rest
        # while it reads the header. The lock keeps two threads from restoring each other's value.
        with _PILLOW_LIMIT_LOCK:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(file, formats=formats)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError as error:
        kind = " (or a JPEG of another kind than 8 bits)" if head.startswith(b"\xff\xd8") else ""
        raise ImageError(
            f"{name}: not a picture{kind}, or cut off within its first bytes. "
            f"Pass one of {', '.join((*FORMATS, 'HEIC'))}."
        ) from error
