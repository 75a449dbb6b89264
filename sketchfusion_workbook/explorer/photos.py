"""Photos that a page is given: samples, paths, and uploads, of which nothing is trusted."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from sketchfusion_lite.errors import ImageError
from sketchfusion_lite.images import load_image, to_pil
from sketchfusion_lite.samples import Photo, load_photo

from .state import Upload

__all__ = ["MAX_UPLOAD_BYTES", "open_photo"]

MAX_UPLOAD_BYTES = 8_000_000  # a Jupyter server cuts the connection at 10 MiB
MAX_UPLOAD_PIXELS = 24_000_000
WORK_PIXELS = 800_000  # larger photos are shrunk to this, or a slider's answer would take seconds


def open_photo(source: str | Upload) -> tuple[Photo, str]:
    """Load a photo within bounds, and shrink it where sliders would become slow.

    Returns:
        the photo, and what was done to it.

    Raises:
        ImageError: an upload over the limits, or no picture.
    """
    if isinstance(source, Upload):
        if len(source.data) > MAX_UPLOAD_BYTES:
            raise ImageError(
                f"{source.name}: {len(source.data):,} bytes; an upload may have "
                f"{MAX_UPLOAD_BYTES:,}. Downscale it, or store it as a JPEG."
            )
        image = to_pil(load_image(source.data, MAX_UPLOAD_PIXELS, source.name))
        photo = Photo(_file_name(source.name), image)
    else:
        photo = load_photo(source)
    factor = (WORK_PIXELS / photo.pixels) ** 0.5
    if factor >= 1:
        return photo, ""
    size = [max(1, int(side * factor)) for side in photo.image.size]
    remark = f"shrunk from {photo.image.width} x {photo.image.height} to keep the sliders quick"
    small = photo.image.resize(size, Image.Resampling.LANCZOS)
    return replace(photo, image=small), remark


def _file_name(name: str) -> str:
    """A short name, fit for a file, of whatever a browser says."""
    stem = name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or name
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in stem)[:40] or "upload"
