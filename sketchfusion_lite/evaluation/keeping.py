"""Decoded pictures kept on disk, so that whole sets of them can be compared afterwards (FID, KID) or looked at.

    FOLDER/preview/0.045/kodim01.png            refined at two steps:  FOLDER/refined_steps=2/0.045/kodim01.png
    FOLDER/avif_2/0.045/kodim01.png             (avif/2)

Each is the very picture that was measured, lossless, and says in a PNG text chunk which row of the table it belongs to:
a picture of other weights or of another photo is never taken for it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from ..errors import ArgumentError, OutputError
from ..files import atomic_write_bytes
from .table import Row

__all__ = ["check_names", "holds", "keep", "keep_file", "label", "picture_path"]

_KEY = "sketchfusion"  # of the text chunk
_IDENTITY = ("image", "image_sha256", "codec", "rate", "model", "peer", "seed")


def picture_path(folder: str | Path, row: Row) -> Path:
    """Where the picture of a row lies: ``FOLDER/CODEC/RATE/IMAGE.png``, with names that any file system takes."""
    name, _, options = row["codec"].partition(":")
    plain = re.sub(r"[^\w.=,+-]", "_", options)
    parts = [name.replace("/", "_"), *([plain] if options else [])]
    if plain != options:  # e.g. the path of a pipeline: two of them must not share a folder
        parts.append(hashlib.sha256(options.encode()).hexdigest()[:8])
    return Path(folder, "_".join(parts), f"{row['rate']:g}", f"{Path(row['image']).stem}.png")


def check_names(photos: Iterable[Path]) -> None:
    """Refuse photos whose decoded pictures would have the same name.

    Raises:
        ArgumentError: names two of them.
    """
    seen: dict[str, Path] = {}
    for path in photos:
        other = seen.setdefault(os.path.normcase(path.stem), path)
        if other is not path:
            raise ArgumentError(
                f"{other.name} and {path.name}: both decoded pictures would become {path.stem}.png. Rename one of them."
            )


def keep(folder: str | Path, row: Row, picture: Image.Image | None) -> None:
    """Store the picture of a row, whole or not at all; None takes away what an earlier run left there.

    Raises:
        OutputError: it cannot be written.
    """
    if picture is None:
        keep_file(folder, row, None)
        return
    text = PngImagePlugin.PngInfo()
    text.add_text(_KEY, json.dumps(_identity(row)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    keep_file(folder, row, buffer.getbuffer())


def keep_file(folder: str | Path, row: Row, data: bytes | memoryview | None) -> None:
    """The same with the PNG file that :func:`keep` wrote elsewhere.

    Raises:
        OutputError: it cannot be written.
    """
    path = picture_path(folder, row)
    try:
        if data is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from error
    atomic_write_bytes(path, data)


def holds(folder: str | Path, row: Row) -> bool:
    """Whether the picture of exactly this row is there."""
    return label(picture_path(folder, row)) == _identity(row)


def label(path: Path) -> dict[str, Any]:
    """What a kept picture says of itself: image, codec, rate, model ...; empty for any other file."""
    try:
        with Image.open(path) as picture:
            found = json.loads(picture.info.get(_KEY, "{}"))
    except (OSError, ValueError, TypeError, Image.DecompressionBombError):
        return {}
    return found if isinstance(found, dict) else {}


def _identity(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in _IDENTITY}
