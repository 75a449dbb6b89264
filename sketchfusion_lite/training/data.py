"""Training photos: decoded once into memory, then random crops.

    folders --training_files--> files --split--> to train on --load_photos--> CropSampler --> a batch of crops
                                        +------> held out ----load_photos--> to validate on

A few thousand small photos fit in memory as bytes, a GPU's too, and a crop then costs microseconds: on two CPU cores
any decoding inside the loop would cost more than the network.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ImageError, RecipeError, SketchFusionWarning
from ..files import list_images, warn_left_out
from ..images import load_image, to_uint8
from .draws import uniform
from .recipe import Recipe

VALIDATION_SIZE = (512, 768)  # held-out photos of natural size are cut to this
BOUNDARY_SUFFIX = "_boundary"  # NAME_boundary.png holds the human boundaries of NAME.*


@dataclass
class Photo:
    """One photo in memory: ``pixels`` uint8 ``(4, H, W)``, RGB and boundary probability."""

    name: str
    pixels: Tensor


def resize_short_side(image: Tensor, short_side: int) -> Tensor:
    """Shrink ``(1, 3, H, W)`` so that the short side is ``short_side``; never enlarge."""
    scale = short_side / min(image.shape[-2:])
    if scale >= 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def training_files(folders: Sequence[str | Path]) -> list[Path]:
    """All pictures under the folders in a fixed order, without the boundary maps of others.

    What is left out is said: files of other kinds, folders inside, and second names of one file.

    Raises:
        RecipeError: a folder is missing, or no folder holds a picture.
    """
    files: dict[str, Path] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise RecipeError(
                f"photo folder {folder} does not exist; pass photos=FOLDER with your own photos"
            )
        listed = list_images(folder)
        stems, again = {file.stem for file in listed}, []
        for file in listed:
            if file.stem.endswith(BOUNDARY_SUFFIX) and file.stem[: -len(BOUNDARY_SUFFIX)] in stems:
                continue
            # One photo under two names could be held out and trained on.
            if files.setdefault(os.path.realpath(file), file) is not file:
                again.append(file.name)
        warn_left_out(folder, {"listed already, under another name or folder": again})
    if not files:
        raise RecipeError(f"no pictures in {', '.join(map(str, folders))}; pass photos=FOLDER")
    return list(files.values())


def load_photos(
    files: Sequence[Path],
    boundaries_of: Callable[[Path, Tensor], Tensor],
    min_side: int,
    short_side: int,
) -> list[Photo]:
    """Decode photos with their boundary maps.

    Args:
        files: picture files.
        boundaries_of: ``(file, image (1, 3, H, W))`` -> boundaries ``(1, 1, H, W)`` in [0, 1].
        min_side: photos with a shorter side are left out (they cannot hold a crop).
        short_side: larger photos are shrunk to this short side.

    Returns:
        At least one photo. Those left out are said: too small, or unreadable, each of these with its error.

    Raises:
        RecipeError: no photo is left.
    """

    def read(file: Path) -> Photo | ImageError | None:
        try:
            image = resize_short_side(load_image(file), short_side)
            if min(image.shape[-2:]) < min_side:
                return None
            pixels = torch.cat([image, boundaries_of(file, image)], dim=1)
        except ImageError as error:  # one bad file must not end the run
            return error
        return Photo(file.stem, to_uint8(pixels)[0])

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = list(zip(files, pool.map(read, files), strict=True))
    photos = [each for _, each in found if isinstance(each, Photo)]
    small = [file.name for file, each in found if each is None]
    bad = {file.name: each for file, each in found if isinstance(each, ImageError)}
    reasons = {f"a side is shorter than {min_side} pixels": small}
    if bad:
        reasons[f"unreadable: {next(iter(bad.values()))}"] = [*bad]
    if not photos:
        why = f"smaller than the crop ({min_side} pixels)"
        raise RecipeError(f"all {len(files)} photos are {' or '.join([why, *[*reasons][1:]])}")
    warn_left_out("the photos", reasons)
    return photos


def human_boundaries(file: Path, image: Tensor) -> Tensor:
    """The mean human boundary map beside a BSDS500 photo, resized like the image.

    Raises:
        RecipeError: there is no ``NAME_boundary.png`` beside the photo.
    """
    path = file.with_name(f"{file.stem}{BOUNDARY_SUFFIX}.png")
    if not path.exists():
        raise RecipeError(
            f"{path.name} is missing beside {file.name}; the cues recipe needs human boundaries"
        )
    boundaries = load_image(path)[:, :1]  # (1, 1, H, W)
    return resize_short_side(boundaries, min(image.shape[-2:]))


class CropSampler(nn.Module):
    """Random aligned crops of photos and boundaries, with horizontal flips.

    All photos are one flat tensor, which moves to a GPU with the module; crops are gathered there. A photo is drawn
    with probability proportional to the square root of its area: large photos hold more to learn, but a few of them
    must not crowd out the rest.

    Args:
        photos: from :func:`load_photos`.
        seed: draws are a function of seed and step only, so a resumed run continues the same sequence.
        shrunk: fraction of every batch that is taken one and a half times larger and shrunk.
    """

    flat: Tensor
    table: Tensor

    def __init__(self, photos: Sequence[Photo], seed: int, shrunk: float = 0.0) -> None:
        super().__init__()
        self.seed, self.shrunk = seed, shrunk
        self.sizes = [tuple(photo.pixels.shape[-2:]) for photo in photos]
        flat = torch.cat(
            [photo.pixels.flatten(1).T for photo in photos]
        )  # four bytes are one pixel
        sizes = torch.tensor(self.sizes)
        ends = sizes.prod(dim=1, keepdim=True).cumsum(0)
        table = torch.cat([ends - sizes.prod(dim=1, keepdim=True), sizes], dim=1)
        flat = flat.contiguous().view(torch.int32).squeeze(1)
        self.register_buffer("flat", flat, persistent=False)
        self.register_buffer("table", table, persistent=False)  # (P, 3): where, height, width
        self._odds: dict[int, Tensor | None] = {}

    def batch(self, step: Tensor | int, crop: int, size: int) -> tuple[Tensor, Tensor]:
        """Draw images ``(size, 3, crop, crop)`` and boundaries ``(size, 1, crop, crop)``, both in [0, 1].

        Args:
            step: of the run; a tensor on the photos' device, or a number.
            crop, size: see above.
        """
        larger = crop * 3 // 2
        some = round(self.shrunk * size) if self._odds_of(larger) is not None else 0
        pixels = self._crops(2 * self.seed, step, crop, size - some)
        if some:
            wide = self._crops(2 * self.seed + 1, step, larger, some)
            wide = F.interpolate(wide, size=(crop, crop), mode="bicubic", antialias=True)
            pixels = torch.cat([pixels, wide.clamp(0, 1)])
        return pixels[:, :3], pixels[:, 3:]

    def _crops(self, seed: int, step: Tensor | int, side: int, count: int) -> Tensor:
        """``(count, 4, side, side)`` in [0, 1]."""
        odds, device = self._odds_of(side), self.flat.device
        which, down, right, flip = uniform(seed, step, 4, count, device).unsqueeze(2)  # (count, 1)
        assert odds is not None  # some photo holds a crop: photos_of sees to it
        chosen = torch.searchsorted(odds, which.flatten() * odds[-1], right=True)
        chosen = chosen.clamp(max=len(self.sizes) - 1)
        offset, height, width = self.table.index_select(0, chosen).unsqueeze(2).unbind(1)
        top = (down * (height - side + 1)).long().minimum(height - side)
        left = (right * (width - side + 1)).long().minimum(width - side)
        across = torch.arange(side, device=device)
        columns = torch.where(flip < 0.5, across, side - 1 - across)  # (count, side)
        rows = offset + left + (top + across) * width
        at = rows.unsqueeze(2) + columns.unsqueeze(1)  # (count, side, side)
        pixels = self.flat.index_select(0, at.flatten()).view(torch.uint8)
        return pixels.view(count, side, side, 4).permute(0, 3, 1, 2).float() / 255

    def _odds_of(self, side: int) -> Tensor | None:
        """Cumulative odds of the photos that hold a crop; None if no photo does."""
        if side not in self._odds:
            weights = [(h * w) ** 0.5 * (min(h, w) >= side) for h, w in self.sizes]
            odds = torch.tensor(weights).cumsum(0).to(self.flat.device)
            self._odds[side] = odds if sum(weights) else None
        return self._odds[side]


def photos_of(
    recipe: Recipe,
    boundaries_of: Callable[[Path, Tensor], Tensor],
    held_size: tuple[int, int],
    rank: int = 0,
) -> tuple[CropSampler, list[Photo]]:
    """Crops of a recipe's training photos, and its held-out photos.

    Args:
        recipe: names folders, crop sizes and seed.
        boundaries_of: see :func:`load_photos`.
        held_size: sides ``(at least, shrunk to)`` of the held-out photos.
        rank: of this process; each draws crops of its own, and the first speaks.
    """
    crop = max(int(row[1]) for row in recipe.phases)
    with warnings.catch_warnings():
        if rank:
            warnings.simplefilter("ignore", SketchFusionWarning)
        train, held = split(training_files(recipe.photos), recipe.hold_out)
        photos = load_photos(train, boundaries_of, crop, recipe.short_side)
        held_out = load_photos(held, boundaries_of, *held_size)
        if len(held) < recipe.hold_out:
            why = f"all of the last folder is held out, and hold_out = {recipe.hold_out} asks for more"
            warn_left_out("the photos to train on", {why: [file.name for file in held]})
    return CropSampler(photos, recipe.seed + 7919 * rank, recipe.shrunk), held_out


def split(files: Sequence[Path], hold_out: int) -> tuple[list[Path], list[Path]]:
    """Training files and held-out files: ``hold_out`` of the last folder, evenly spread in sorted order."""
    last = [f for f in files if f.parent == files[-1].parent]
    held = set(last[:: max(1, len(last) // max(1, hold_out))][:hold_out])
    if len(held) >= len(files):
        raise RecipeError(f"hold_out = {hold_out} leaves no photo of {len(files)} to train on")
    return [f for f in files if f not in held], [f for f in files if f in held]
