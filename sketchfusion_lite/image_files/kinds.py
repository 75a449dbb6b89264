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

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "QOI")
CheckSize = Callable[[int, int], None]

_DEVELOP = "Develop it with a raw converter and pass the TIFF, PNG or JPEG."
CONVERT = "Convert it to PNG."
_TONES = "Map its tones, and store it as PNG."
_CAMERA = "a raw picture of a {} camera ({})"
# what it is, remedy, where its mark begins, its marks
_REFUSED: tuple[tuple[str, str, int, tuple[bytes, ...]], ...] = (
    (_CAMERA.format("Canon", "CR2"), _DEVELOP, 8, (b"CR\x02",)),
    (_CAMERA.format("Canon", "CR3"), _DEVELOP, 4, (b"ftypcrx ",)),
    (_CAMERA.format("Fujifilm", "RAF"), _DEVELOP, 0, (b"FUJIFILM",)),
    (_CAMERA.format("Olympus", "ORF"), _DEVELOP, 0, (b"IIRO", b"IIRS", b"MMOR")),
    (_CAMERA.format("Panasonic", "RW2"), _DEVELOP, 0, (b"IIU\0",)),
    (_CAMERA.format("Sigma", "X3F"), _DEVELOP, 0, (b"FOVb",)),
    (_CAMERA.format("Minolta", "MRW"), _DEVELOP, 0, (b"\0MRM",)),
    ("JPEG XL", CONVERT, 0, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    ("JPEG XR", CONVERT, 0, (b"II\xbc",)),
    ("a Photoshop document", CONVERT, 0, (b"8BPS",)),
    ("a GIMP document", CONVERT, 0, (b"gimp xcf",)),
    ("a PDF document", CONVERT, 0, (b"%PDF",)),
    ("PostScript", CONVERT, 0, (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("an SVG drawing", CONVERT, 0, (b"<svg",)),
    ("an icon (ICO)", CONVERT, 0, (b"\0\0\1\0",)),
    ("a cursor (CUR)", CONVERT, 0, (b"\0\0\2\0",)),
    ("a DDS texture", CONVERT, 0, (b"DDS ",)),
    ("OpenEXR", _TONES, 0, (b"v/1\x01",)),
    ("Radiance HDR", _TONES, 0, (b"#?RADIANCE", b"#?RGBE")),
    ("a PFM of three colours", _TONES, 0, (b"PF",)),
    ("a PAM", CONVERT, 0, (b"P7\n",)),
    ("a FITS picture", CONVERT, 0, (b"SIMPLE  =",)),
    ("a DICOM picture", CONVERT, 128, (b"DICM",)),
    ("a film", "Take a picture out of it.", 4, (b"ftypqt  ", b"ftypisom", b"ftypmp4")),
)
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_PILLOW_LIMIT_LOCK = threading.Lock()


def refuse(head: bytes, name: str) -> None:
    """Refuse, by an :class:`.ImageError`, a file whose first bytes are those of a kind that is not read."""
    for what, remedy, at, marks in _REFUSED:
        if head[at:].startswith(marks):
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
