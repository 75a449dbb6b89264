"""Samples and their meaning -> one RGB tensor: sRGB, upright, over white."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .colours import Samples, to_srgb

__all__ = ["flattened", "over_white"]

_UPRIGHT: dict[
    int, Callable[[np.ndarray], np.ndarray]
] = {  # EXIF orientation -> what makes (H, W, C) upright
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


def flattened(samples: Samples, name: str) -> Tensor:
    """Samples of a file -> sRGB -> upright -> over white."""
    colour = to_srgb(samples, name)
    if samples.alpha is not None:
        colour = np.dstack([_like(colour, samples.alpha), samples.alpha])
        if colour.shape[2] == 2:
            colour = colour[..., [0, 0, 0, 1]]
    return over_white(_UPRIGHT[samples.orientation](colour))


def _like(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours in the type of ``alpha``."""
    if colour.dtype == alpha.dtype:
        return colour
    white, target = (np.iinfo(a.dtype).max if a.dtype.kind == "u" else 1 for a in (colour, alpha))
    scaled = colour.astype(np.float32) * (target / white)
    return (np.round(scaled) if alpha.dtype.kind == "u" else scaled).astype(alpha.dtype)


def over_white(pixels: np.ndarray) -> Tensor:
    """Checked ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` -> ``(1, 3, H, W)`` float32 in [0, 1]."""
    whole = np.issubdtype(pixels.dtype, np.integer)
    white = np.iinfo(pixels.dtype).max if whole else 1
    # A copy in either case; torch has no uint16 arithmetic, and floats come in any byte order.
    copy = (
        np.array(pixels, order="C")
        if pixels.dtype == np.uint8
        else pixels.astype(np.float32, order="C")
    )
    image = torch.from_numpy(copy).view(*pixels.shape[:2], -1).permute(2, 0, 1)[None]
    image = image.to(torch.float32, memory_format=torch.contiguous_format)  # (1, 1 | 3 | 4, H, W)
    image = image.div_(white) if whole else image.clamp_(0, 1)
    if image.shape[1] == 1:
        return image.repeat(1, 3, 1, 1)
    if image.shape[1] == 4:
        alpha = image[:, 3:]
        image = image[:, :3] * alpha + (1 - alpha)
    return image.contiguous()
