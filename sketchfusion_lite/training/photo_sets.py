"""Folders of photos: the bundled samples to train on where there are no others, and held-out photos to measure on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import ImageError
from ..files import warn_left_out
from ..images import load_image, save_image, to_pil
from ..samples import SAMPLES, load_photo
from .data import resize_short_side, split, training_files


def write_samples(folder: str | Path, short_side: int = 256) -> Path:
    """Store the sample photos of installed packages as PNG files; what is there already stays.

    Args:
        folder: made if it is absent.
        short_side: in pixels; larger samples are shrunk to it.

    Returns:
        The folder.

    Raises:
        OutputError: a file cannot be written.
    """
    return _write({name: load_photo(name).image for name in SAMPLES}, Path(folder), short_side)


def write_held_out(
    folders: Sequence[str | Path], hold_out: int, folder: str | Path, short_side: int
) -> Path:
    """Store the photos that a recipe with these folders and ``hold_out`` does not train on, as PNG files.

    Args:
        folders: as in ``Recipe.photos``; the held-out photos come from the last one.
        hold_out: how many.
        folder: made if it is absent; pictures that are there already stay.
        short_side: in pixels; larger photos are shrunk to it.

    Returns:
        The folder. A photo that cannot be read is left out of it, and named.

    Raises:
        RecipeError: no photos, or none left to train on.
        OutputError: a file cannot be written.
    """
    _, held = split(training_files(folders), hold_out)
    stems = Counter(path.stem for path in held)
    names = {path.stem if stems[path.stem] == 1 else path.name: path for path in held}
    return _write(names, Path(folder), short_side)


def _write(photos: dict, folder: Path, short_side: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    bad: dict[str, list[str]] = {}
    for name, photo in photos.items():
        target = folder / f"{name}.png"
        if target.exists():
            continue
        try:
            image = load_image(photo)
        except ImageError as error:
            bad[str(error)] = [name]
        else:
            save_image(to_pil(resize_short_side(image, short_side)), target)
    warn_left_out("the held-out photos", bad)
    return folder
