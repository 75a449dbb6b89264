"""Pictures in and out: any picture -> float RGB tensor ``(1, 3, H, W)`` in [0, 1], and back.

    path, bytes, PIL image --> samples and their meaning --> sRGB --> upright --+
    array, tensor --> checked --------------------------------------------------+--> over white --> (1, 3, H, W)

What is done to a picture, so that nothing is done in silence; docs/formats.md has the whole table:

* Samples are scaled to [0, 1] as the format defines their black and white.
* Colours become sRGB by whatever states them: ICC profile, primaries and gamma, code points, EXIF. Nothing stated is
  sRGB. What cannot be converted is said in a :class:`.PictureWarning`.
* EXIF orientation is applied; of an animation the first frame counts, of a TIFF the first page.
* Transparency (alpha channel or transparent colour, in any mode) is composited over white.
* What has no defined meaning, or one that is not read here, is refused by name; so are camera raw files, whose preview
  is not the photo.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from . import checks
from .checks import DEFAULT_MAX_PIXELS, MAX_SIDE
from .errors import ArgumentError, ImageError, OutputError
from .files import IMAGE_SUFFIXES, atomic_write_bytes, list_images
from .image_files.colours import Samples, check_floats
from .image_files.flattening import flattened, over_white
from .image_files.kinds import CheckSize
from .image_files.reading import read_file, read_image

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

_SAVE_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}


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
        ImageError: no such file, not a picture, of a kind that is not read, damaged or truncated, over the pixel
            limit, or an array of the wrong shape, type or range.

    Warns:
        PictureWarning: not all that the file says of its colours could be honoured, or it holds more pictures.
    """
    max_pixels = checks.whole("max_pixels", max_pixels, 1)
    checks.text("name", name)
    if isinstance(source, Tensor):
        return _from_tensor(source, max_pixels)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        name = name or f"image: PIL image of mode {source.mode}"
        return _decoded(read_image, source, max_pixels, name)
    if isinstance(source, bytes | bytearray | memoryview):
        name = name or f"picture of {len(source)} bytes"
        return _decoded(read_file, io.BytesIO(source), max_pixels, name)
    if isinstance(source, str | os.PathLike):
        if os.path.isdir(source):
            raise ImageError(f"{source}: is a folder. Name one picture (list_images finds them).")
        if not os.path.exists(source):
            name = os.fspath(source) or "an empty path"
            raise ImageError(f"{name}: no such file. Check the path.")
        return _decoded(_read_path, source, max_pixels, str(source))
    raise ImageError(
        f"image: {type(source).__name__} is no picture. Pass a path, the bytes of a picture file, a PIL "
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


def pad_to_multiple(image: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """Grow an image to the right and below, by its border repeated, until both sides divide by ``multiple``.

    Args:
        image: ``(B, C, H, W)``, any size from 1x1 up.
        multiple: at least 1.

    Returns:
        The padded image, and ``(H, W)`` for :func:`crop`.
    """
    if checks.kind("image", image, Tensor, "a tensor").ndim != 4 or not image.numel():
        raise ArgumentError(f"image: of shape {tuple(image.shape)}; give (B, C, H, W).")
    multiple = checks.whole("multiple", multiple, 1, MAX_SIDE)
    height, width = image.shape[-2:]
    right, below = -width % multiple, -height % multiple
    if right or below:
        image = F.pad(image, (0, right, 0, below), mode="replicate")  # cheap to code
    return image, (height, width)


def crop(image: Tensor, size: Sequence[int]) -> Tensor:
    """Undo :func:`pad_to_multiple`: the upper left ``size = (H, W)`` of ``(..., H', W')``."""
    height, width = size
    return image[..., :height, :width]


# --------------------------------------------------------------------------------------------------
# The ways in


def _decoded(
    read: Callable[[Any, str, CheckSize], Samples], source: Any, max_pixels: int, name: str
) -> Tensor:
    try:
        return flattened(read(source, name, partial(_check_size, max_pixels, name)), name)
    except ImageError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        if isinstance(error, OSError) and error.strerror:  # the system's error, not Pillow's
            text = f"{name}: cannot be read ({error.strerror}). Check its permissions."
            raise ImageError(text) from error
        reason = str(error) or type(error).__name__
        raise ImageError(
            f"{name}: damaged, truncated or unsupported picture ({reason}). "
            "Fetch a whole copy, or convert it to PNG."
        ) from error


def _read_path(path: str | os.PathLike[str], name: str, check_size: CheckSize) -> Samples:
    with open(path, "rb") as file:
        whole = file if file.seekable() else io.BytesIO(file.read())  # a pipe is not
        return read_file(whole, name, check_size)


def _from_array(array: np.ndarray, max_pixels: int) -> Tensor:
    name = f"image: array of shape {array.shape} and type {array.dtype}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"{name}: pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).")
    if np.ma.is_masked(array):
        raise ImageError(f"{name}: some of its values are masked. Fill them: array.filled(...).")
    array = np.asarray(array)
    _check_size(max_pixels, name, array.shape[1], array.shape[0])
    if np.issubdtype(array.dtype, np.floating):
        check_floats(float(array.min()), float(array.max()), name)
    elif array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise ImageError(f"{name}: pass uint8, uint16, or floats in [0, 1].")
    return over_white(array)


def _from_tensor(tensor: Tensor, max_pixels: int) -> Tensor:
    name = f"image: tensor of shape {tuple(tensor.shape)} and type {tensor.dtype}"
    image = tensor.detach()
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[:2] != (1, 3):
        raise ImageError(f"{name}: pass one RGB image, (3, H, W) or (1, 3, H, W).")
    _check_size(max_pixels, name, image.shape[3], image.shape[2])
    if image.layout != torch.strided or image.is_meta:
        raise ImageError(f"{name}: it is sparse or without data. Pass a dense tensor.")
    if image.dtype == torch.uint8:
        return image.float().div_(255).contiguous()
    if not image.is_floating_point():
        raise ImageError(f"{name}: pass uint8, or floats in [0, 1].")
    image = image.float()
    check_floats(float(image.min()), float(image.max()), name)
    return image.clamp(0, 1).contiguous()


# --------------------------------------------------------------------------------------------------
# Steps on the way


def _check_size(max_pixels: int, name: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width}x{height}).")
    if width > MAX_SIDE or height > MAX_SIDE:
        raise ImageError(f"{name}: {width}x{height}; a side is at most {MAX_SIDE}. Cut it up.")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}x{height} = {width * height} pixels, over the limit of {max_pixels}. "
            "Downscale it, or raise max_pixels."
        )
