"""Decoded pictures kept on disk, and sets of them: what one codec made of a folder of photos at one rate.

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
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from ..errors import ArgumentError, ImageError, OutputError
from ..files import atomic_write_bytes, list_images, text_of, warn_left_out
from .table import OK, Row

__all__ = ["PictureSet", "check_names", "holds", "keep", "kept_sets", "png", "sets_of_folder"]

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
    """Refuse (:class:`.ArgumentError`) photos whose decoded pictures would have the same name."""
    seen: dict[str, Path] = {}
    for path in photos:
        other = seen.setdefault(os.path.normcase(path.stem), path)
        if other is not path:
            raise ArgumentError(
                f"{other.name} and {path.name}: both decoded pictures would become {path.stem}.png. Rename one of them."
            )


def png(row: Row, picture: Image.Image) -> bytes:
    """The picture of a row as a file that says which row it belongs to."""
    text = PngImagePlugin.PngInfo()
    text.add_text(_KEY, json.dumps(_identity(row)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def keep(folder: str | Path, row: Row, data: bytes | None) -> None:
    """Store what :func:`png` made, or raise :class:`.OutputError`; None takes away what an earlier run left there."""
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
    return _label(picture_path(folder, row)) == _identity(row)


def _label(path: Path) -> dict[str, Any]:
    """What a kept picture says of itself; empty for any other file."""
    try:
        with Image.open(path) as picture:
            found = json.loads(picture.info.get(_KEY, "{}"))
    except (OSError, ValueError, TypeError, Image.DecompressionBombError):
        return {}
    return found if isinstance(found, dict) else {}


def _identity(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in _IDENTITY}


@dataclass(frozen=True)
class PictureSet:
    """What one codec made of a folder of photos at one rate.

    Attributes:
        codec: its name, or that of the folder.
        rate: bits per pixel; None where it is not known.
        pairs: original and decoded picture.
    """

    codec: str
    rate: float | None
    pairs: tuple[tuple[Path, Path], ...]


def kept_sets(photos: str | Path, rows: Iterable[Row], pictures: str | Path) -> list[PictureSet]:
    """What an evaluation of a folder of photos kept below ``pictures``; only what belongs to rows of its table."""
    groups: dict[tuple[str, float], list[tuple[Path, Path]]] = defaultdict(list)
    named = {text_of(path.name): path for path in Path(photos).iterdir()}
    for row in rows:
        if row["status"] == OK and holds(pictures, row):
            original = named.get(row["image"], Path(photos, row["image"]))
            groups[row["codec"], row["rate"]].append((original, picture_path(pictures, row)))
    return [PictureSet(*name, tuple(sorted(pairs))) for name, pairs in sorted(groups.items())]


def sets_of_folder(
    photos: str | Path, decoded: str | Path, report: Callable[[str], None] | None = None
) -> list[PictureSet]:
    """The sets below a folder: every folder that holds pictures named as the photos are, but for the suffix.

    Args:
        photos: folder of the originals.
        decoded: folder of decoded pictures, or of folders of them, such as ``evaluate`` keeps.
        report: receives a line for each picture without an original.

    Raises:
        ImageError: no folder, or no picture in one of the two has a fellow in the other.
        ArgumentError: two originals, or two pictures of a set, that differ in nothing but their suffix.
    """
    photos, decoded = Path(photos), Path(decoded)
    originals = list_images(photos)
    check_names(originals)
    by_stem = {path.stem: path for path in originals}
    groups: dict[Path, list[tuple[Path, Path]]] = defaultdict(list)
    for path in list_images(decoded, recursive=True):
        if path.stem in by_stem:
            groups[path.parent].append((by_stem[path.stem], path))
        elif report:
            report(f"left out: {path}: no original of this name in {photos}")
    if not groups:
        raise ImageError(
            f"{decoded}: holds no picture named as one of {photos}, but for the suffix."
        )
    sets = []
    for folder, pairs in groups.items():
        check_names(path for _, path in pairs)
        absent = sorted({*originals} - {original for original, _ in pairs})
        warn_left_out(photos, {f"no picture in {folder}": [path.name for path in absent]})
        about = _label(pairs[0][1])
        name = folder.relative_to(decoded).as_posix()
        codec = about.get("codec") or (decoded.name if name == "." else name)
        sets.append(PictureSet(codec, about.get("rate"), tuple(sorted(pairs))))
    return sorted(sets, key=lambda each: (each.codec, each.rate or 0.0))
