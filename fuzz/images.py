"""Target: reading pictures. A tensor of the promised kind comes out, or an ImageError."""

from __future__ import annotations

import random
import warnings

import torch

from sketchfusion_lite.images import load_image

from .corpus import pictures
from .mutate import damage, forge_png
from .oracle import Case, Target, Wrong

__all__ = ["make"]

MAX_PIXELS = 1 << 20


def make() -> Target:
    """The target."""
    seeds = pictures()

    def mutate(seed: bytes, rng: random.Random) -> Case:
        if seed.startswith(b"\x89PNG") and rng.randrange(2):
            return Case(forge_png(seed, rng), seed)
        # headers are short and pixels many: half of all damage goes to the first bytes
        if rng.randrange(2):
            cut = min(len(seed), rng.choice((32, 128, 512)))
            return Case(damage(seed[:cut], rng, times=2) + seed[cut:], seed)
        return Case(damage(seed, rng, seeds), seed)

    return Target("images", seeds, mutate, run, max_seconds=5.0, max_megabytes=1500)


def run(case: Case) -> bool:
    """Load the picture.

    Raises:
        Wrong: the tensor is not what ``load_image`` promises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of much that it then reads
        image = load_image(case.data, max_pixels=MAX_PIXELS)
    if image.dtype != torch.float32 or image.shape[:2] != (1, 3) or not image.is_contiguous():
        raise Wrong(f"a tensor of shape {tuple(image.shape)} and type {image.dtype}")
    if image[0, 0].numel() > MAX_PIXELS:
        raise Wrong("over the pixel limit")
    if not (image.min() >= 0 and image.max() <= 1):
        raise Wrong("values outside [0, 1]")
    return True
