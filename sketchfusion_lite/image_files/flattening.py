"""Samples and their meaning -> one RGB tensor: sRGB, upright, over white."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .colours import Samples, to_srgb, white_of


def flattened(samples: Samples, name: str) -> Tensor:
    """Samples of a file -> sRGB -> upright -> over white."""
    colour, alpha = to_srgb(samples, name), samples.alpha
    if alpha is not None:
        if colour.dtype != alpha.dtype:  # a profile makes 16 bits of floats
            colour, alpha = (x.astype(np.float32) / white_of(x) for x in (colour, alpha))
        grey = colour.shape[2] == 1
        colour = np.dstack([colour, alpha])[..., [0, 0, 0, 1] if grey else slice(None)]
    number = samples.orientation  # as EXIF counts: which of rows, columns and diagonal are turned
    if number > 4:
        colour = colour.swapaxes(0, 1)
    rows, columns = -1 if number in (3, 4, 7, 8) else 1, -1 if number in (2, 3, 6, 7) else 1
    return over_white(colour[::rows, ::columns])


def over_white(pixels: np.ndarray) -> Tensor:
    """Checked ``(H, W)`` or ``(H, W, 1 | 3 | 4)`` -> ``(1, 3, H, W)`` float32 in [0, 1]."""
    # A copy in either case; torch has no uint16 arithmetic, and floats come in any byte order.
    kind = np.uint8 if pixels.dtype == np.uint8 else np.float32
    copy = np.array(pixels, kind, order="C")
    image = torch.from_numpy(copy).view(*pixels.shape[:2], -1).permute(2, 0, 1)[None]
    image = image.to(torch.float32, memory_format=torch.contiguous_format)  # (1, 1 | 3 | 4, H, W)
    image = image.clamp_(0, 1) if pixels.dtype.kind == "f" else image.div_(white_of(pixels))
    if image.shape[1] == 1:
        return image.repeat(1, 3, 1, 1)
    if image.shape[1] == 4:
        alpha = image[:, 3:]
        image = image[:, :3] * alpha + (1 - alpha)
    return image.contiguous()
