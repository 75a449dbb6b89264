"""Pictures in and out: any picture -> float RGB tensor ``(1, 3, H, W)`` in [0, 1], and back.

    path, bytes --> Pillow --+--> upright --> sRGB --> over white --+
    PIL image ---------------+                                      +--> (1, 3, H, W) float32
    array, tensor --> checked ---------------> over white ----------+

What is done to a picture, so that nothing is done in silence:

* EXIF orientation is applied; of an animation the first frame counts.
* Transparency (alpha channel or transparent colour, in any mode) is composited over white.
* Grey, palette, 1-bit and CMYK pictures become RGB. 16-bit grey is scaled to [0, 1] in full
  precision; of 16-bit colour Pillow keeps the upper 8 bits.
* An embedded ICC profile of an RGB or CMYK picture is converted to sRGB, unless it is sRGB already
  or unusable; profiles of grey pictures are ignored.
* The pixel limit is checked on the file's header, before a single pixel is decoded; so are the size of a TIFF's tiles
  and the number of a JPEG's scans, which cost memory and time that the size of the picture does not show.

Only formats that Pillow decodes by itself are opened: its EPS reader would start Ghostscript.
"""

from __future__ import annotations

import io
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from . import checks
from .bitstream import DEFAULT_MAX_PIXELS, MAX_SIDE
from .errors import ArgumentError, ImageError, OutputError
from .files import IMAGE_SUFFIXES, atomic_write_bytes, list_images

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "IMAGE_SUFFIXES",
    "ImageSource",
    "crop",
    "image_file",
    "list_images",
    "load_image",
    "pad_to_multiple",
    "save_image",
    "to_pil",
    "to_uint8",
]

ImageSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | np.ndarray | Tensor
)

_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "QOI")
_SAVE_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FLOAT_SLACK = 1e-3  # resampling overshoots a little; less than half an 8-bit step is no mistake
_PILLOW_LIMIT_LOCK = threading.Lock()
_TILE_WIDTH_TAG, _TILE_LENGTH_TAG = 322, 323
_TILE_PIXELS = 1 << 22  # a tile may be larger than its picture, but then no larger than this
_MAX_SCANS = (
    100  # encoders write about ten; each costs a pass over the picture, however short it is
)
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # none of those inside a scan
_SCAN, _END, _START = 0xDA, 0xD9, 0xD8


def load_image(source: ImageSource, max_pixels: int = DEFAULT_MAX_PIXELS, name: str = "") -> Tensor:
    """Load one picture from almost anything.

    Args:
        source: a path; the bytes of a picture file; a PIL image; an array ``(H, W)`` or
            ``(H, W, 1 | 3 | 4)`` of uint8, uint16, or floats in [0, 1]; or a tensor ``(3, H, W)``
            or ``(1, 3, H, W)`` of uint8, or floats in [0, 1].
        max_pixels: refuse anything larger.
        name: what error messages call a picture that is given as bytes.

    Returns:
        Float32 RGB ``(1, 3, H, W)`` in [0, 1], contiguous, sharing no memory with ``source``; on
        the CPU, or on the device of a tensor passed in.

    Raises:
        ImageError: no such file, not a picture, damaged or truncated, over the pixel limit, or an
            array of the wrong shape, type or range.
    """
    max_pixels = checks.whole("max_pixels", max_pixels, 1)
    checks.text("name", name)
    if isinstance(source, Tensor):
        return _from_tensor(source, max_pixels)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_pil(source, max_pixels, "PIL image")
    if isinstance(source, bytes | bytearray | memoryview):
        name = name or f"picture of {len(source)} bytes"
        return _from_file(io.BytesIO(source), max_pixels, name)
    if isinstance(source, str | os.PathLike):
        if os.path.isdir(source):
            raise ImageError(f"{source}: is a folder. Name one picture (list_images finds them).")
        if not os.path.exists(source):
            raise ImageError(f"{source}: no such file. Check the path.")
        return _from_file(Path(source), max_pixels, str(source))
    raise ImageError(
        f"{type(source).__name__} is no picture. Pass a path, the bytes of a picture file, a PIL "
        "image, a numpy array or a torch tensor."
    )


def to_uint8(image: Tensor) -> Tensor:
    """Round floats in [0, 1] to 0..255 (nearest; values outside are clamped); shape unchanged."""
    checks.kind("image", image, Tensor, "a tensor")
    return image.detach().float().clamp(0, 1).mul_(255).round_().to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    """Turn a tensor into an 8-bit PIL image.

    Args:
        image: ``(3, H, W)`` or ``(1, 3, H, W)`` in [0, 1] -> mode "RGB"; with one channel instead
            of three -> mode "L". A uint8 tensor is taken as it is.

    Raises:
        ImageError: another shape.
    """
    checks.kind("image", image, Tensor, "a tensor")
    planes = image[0] if image.ndim == 4 and image.shape[0] == 1 else image
    if planes.ndim != 3 or planes.shape[0] not in (1, 3) or planes.numel() == 0:
        raise ImageError(
            f"image: tensor of shape {tuple(image.shape)}; pass one image, (3, H, W) or (1, 3, H, W)."
        )
    if planes.dtype != torch.uint8:
        planes = to_uint8(planes)
    pixels = planes.permute(1, 2, 0).contiguous().cpu().numpy()  # (H, W, 3 | 1)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def save_image(image: Tensor | Image.Image, path: str | os.PathLike[str]) -> Path:
    """Write a picture; the suffix chooses PNG or WebP (both lossless) or JPEG (quality 95, 4:4:4).

    Args:
        image: a tensor as :func:`to_pil` takes it, or a PIL image.
        path: target with suffix ``.png``, ``.webp``, ``.jpg`` or ``.jpeg``.

    Raises:
        OutputError: another suffix, or the file cannot be written; nothing is left behind.
        ImageError: a tensor of the wrong shape.
    """
    return atomic_write_bytes(path, image_file(image, path))


def image_file(image: Tensor | Image.Image, path: str | os.PathLike[str]) -> memoryview:
    """The bytes that :func:`save_image` writes to ``path``; nothing is written.

    Raises:
        OutputError: the suffix of ``path`` is another, or its format cannot hold the picture.
        ImageError: a tensor of the wrong shape.
    """
    path = checks.path("path", path)
    checks.kind("image", image, (Tensor, Image.Image), "a tensor or a PIL image")
    if path.suffix.lower() not in _SAVE_OPTIONS:
        raise OutputError(
            f"{path}: cannot write {path.suffix or 'a file without suffix'!r}. "
            f"Use one of {', '.join(_SAVE_OPTIONS)}."
        )
    kind, options = _SAVE_OPTIONS[path.suffix.lower()]
    picture = to_pil(image) if isinstance(image, Tensor) else image
    buffer = io.BytesIO()
    try:
        picture.save(buffer, kind, **options)
    except (OSError, ValueError) as error:  # e.g. WebP ends at 16383 pixels a side
        raise OutputError(f"{path}: cannot be stored as {kind} ({error}). Use .png.") from error
    return buffer.getbuffer()


def pad_to_multiple(
    image: Tensor, multiple: int, mode: str = "replicate"
) -> tuple[Tensor, tuple[int, int]]:
    """Grow an image to the right and below until both sides divide by ``multiple``.

    Args:
        image: ``(B, C, H, W)``, any size from 1x1 up.
        multiple: at least 1.
        mode: ``"replicate"`` (repeats the border: cheap to code) or ``"constant"`` (zeros). Not
            ``"reflect"``, which cannot pad by more than the image is wide.

    Returns:
        The padded image, and ``(H, W)`` for :func:`crop`.
    """
    if checks.kind("image", image, Tensor, "a tensor").ndim != 4 or not image.numel():
        raise ArgumentError(f"image: of shape {tuple(image.shape)}; give (B, C, H, W).")
    multiple = checks.whole("multiple", multiple, 1, MAX_SIDE)
    checks.one_of("mode", mode, ("replicate", "constant"))
    height, width = image.shape[-2:]
    right, below = -width % multiple, -height % multiple
    if right or below:
        image = F.pad(image, (0, right, 0, below), mode=mode)
    return image, (height, width)


def crop(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo :func:`pad_to_multiple`: the upper left ``size = (H, W)`` of ``(..., H', W')``."""
    height, width = size
    return image[..., :height, :width]


# --------------------------------------------------------------------------------------------------
# The ways in


def _from_file(file: Path | io.BytesIO, max_pixels: int, name: str) -> Tensor:
    try:
        # Our limit rules, so Pillow's own (a warning at 89 megapixels, an error at 179) must rest
        # while it reads the header. The lock keeps two threads from restoring each other's value.
        with _PILLOW_LIMIT_LOCK:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                picture = Image.open(file, formats=_FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not a picture, or cut off within its first bytes. "
            f"Pass one of {', '.join(_FORMATS)}."
        ) from error
    except Exception as error:  # parsers of damaged files raise nearly anything
        raise _unreadable(name, error) from error
    with picture:
        try:
            _check_cost(picture, file, name)
        except ImageError:
            raise
        except Exception as error:  # a tag that cannot be read
            raise _unreadable(name, error) from error
        return _from_pil(picture, max_pixels, name)


def _from_pil(picture: Image.Image, max_pixels: int, name: str) -> Tensor:
    _check_size(picture.width, picture.height, max_pixels, name)
    try:
        picture.load()  # all pixels: a truncated file fails here
        picture = _upright(picture)
        if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
            return _over_white(_deep_grey(picture, name))
        pixels = np.asarray(_to_rgb(picture))  # (H, W, 3 | 4) uint8
    except ImageError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise _unreadable(name, error) from error
    return _over_white(pixels)


def _from_array(array: np.ndarray, max_pixels: int) -> Tensor:
    name = f"array of shape {array.shape} and type {array.dtype}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"{name}: pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).")
    _check_size(array.shape[1], array.shape[0], max_pixels, name)
    if np.issubdtype(array.dtype, np.floating):
        _check_range(float(array.min()), float(array.max()), name)
    elif array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise ImageError(f"{name}: pass uint8, uint16, or floats in [0, 1].")
    return _over_white(array)


def _from_tensor(tensor: Tensor, max_pixels: int) -> Tensor:
    name = f"tensor of shape {tuple(tensor.shape)} and type {tensor.dtype}"
    image = tensor.detach()
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[:2] != (1, 3):
        raise ImageError(f"{name}: pass one RGB image, (3, H, W) or (1, 3, H, W).")
    _check_size(image.shape[3], image.shape[2], max_pixels, name)
    if image.dtype == torch.uint8:
        return image.float().div_(255).contiguous()
    if not image.is_floating_point():
        raise ImageError(f"{name}: pass uint8, or floats in [0, 1].")
    _check_range(float(image.min()), float(image.max()), name)
    return image.float().clamp(0, 1).contiguous()


# --------------------------------------------------------------------------------------------------
# Steps on the way


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG)
    except Exception:  # unreadable EXIF says nothing about the pixels, which are fine
        return picture
    transpose = _UPRIGHT.get(orientation)
    return picture if transpose is None else picture.transpose(transpose)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode of 8 bits or fewer -> "RGB", or "RGBA" if anything is transparent."""
    profile = picture.info.get("icc_profile")
    alpha = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        picture = picture.convert("RGB")
    elif picture.mode == "P":
        picture = picture.convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK"):
        picture = _to_srgb(picture, profile)
    picture = picture.convert("RGB")
    if alpha is not None:
        picture.putalpha(alpha)
    return picture


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture  # converting would only add rounding
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, source, target, outputMode="RGB") or picture
    except (ImageCms.PyCMSError, OSError):  # a damaged profile, or one of another colour space
        return picture


def _deep_grey(picture: Image.Image, name: str) -> np.ndarray:
    """16-bit, 32-bit integer or float grey -> ``(H, W)`` floats in [0, 1]."""
    grey = np.asarray(picture).astype(np.float32)
    if picture.mode == "F":
        _check_range(float(grey.min()), float(grey.max()), f"{name} (floating point)")
        return grey
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(f"{name}: 32-bit integers have no defined white. Convert it to 16 bit.")
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[grey == transparent] = 65535  # white is what transparent areas become
    return grey / 65535


def _over_white(pixels: np.ndarray) -> Tensor:
    """Checked ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` -> ``(1, 3, H, W)`` float32 in [0, 1]."""
    whole = np.issubdtype(pixels.dtype, np.integer)
    white = np.iinfo(pixels.dtype).max if whole else 1
    # A copy in either case; torch has no uint16 arithmetic, and floats come in any byte order.
    copy = np.array(pixels) if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    image = torch.from_numpy(copy).view(*pixels.shape[:2], -1).permute(2, 0, 1)[None]
    image = image.to(torch.float32, memory_format=torch.contiguous_format)  # (1, 1 | 3 | 4, H, W)
    image = image.div_(white) if whole else image.clamp_(0, 1)
    if image.shape[1] == 1:
        return image.repeat(1, 3, 1, 1)
    if image.shape[1] == 4:
        alpha = image[:, 3:]
        return image[:, :3] * alpha + (1 - alpha)
    return image.contiguous()


def _check_size(width: int, height: int, max_pixels: int, name: str) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width}x{height}).")
    if width > MAX_SIDE or height > MAX_SIDE:
        raise ImageError(f"{name}: {width}x{height}; a side is at most {MAX_SIDE}. Cut it up.")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} = {width * height} pixels, over the limit of {max_pixels}. "
            "Downscale it, or raise max_pixels."
        )


def _check_cost(picture: Image.Image, file: Path | io.BytesIO, name: str) -> None:
    """Refuse what would take far more memory or time to decode than the picture's size says.

    Raises:
        ImageError: TIFF tiles far larger than the picture, or a JPEG of more than ``_MAX_SCANS`` scans.
    """
    if picture.format == "TIFF":
        sides = [picture.tag_v2.get(tag) for tag in (_TILE_WIDTH_TAG, _TILE_LENGTH_TAG)]
        if all(isinstance(side, int) for side in sides):
            tile = sides[0] * sides[1]
            if tile > max(picture.width * picture.height, _TILE_PIXELS):
                raise ImageError(
                    f"{name}: tiles of {sides[0]}x{sides[1]} for a picture of {picture.width}x{picture.height}. "
                    "Convert it to PNG."
                )
    if picture.format in ("JPEG", "MPO"):
        data = file.read_bytes() if isinstance(file, Path) else file.getvalue()
        if _scans(data) > _MAX_SCANS:
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


def _check_range(low: float, high: float, name: str) -> None:
    if not (low >= -_FLOAT_SLACK and high <= 1 + _FLOAT_SLACK):  # false for NaN too
        raise ImageError(
            f"{name}: values run from {low:g} to {high:g}, but floats must lie in [0, 1] "
            "and be finite. Divide by 255, clip, or pass uint8."
        )


def _unreadable(name: str, error: Exception) -> ImageError:
    if isinstance(error, OSError) and error.strerror:  # the system's error, not Pillow's
        return ImageError(f"{name}: cannot be read ({error.strerror}). Check its permissions.")
    reason = str(error) or type(error).__name__
    return ImageError(
        f"{name}: damaged, truncated or unsupported picture ({reason}). "
        "Fetch a whole copy, or convert it to PNG."
    )
