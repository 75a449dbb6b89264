"""Notebooks 05 and 06: what a receiver knows of a photo, and crops of it to train a receiver's network on.

    photo --encode--> .skf --entropy decode--> y_hat --+
      |                                                +--> aligned random crops
      +--------------- padded to multiples of 16 ------+

Encoder and entropy model stay as they are, so that no training can change a rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sketchfusion_lite import bitstream
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.images import ImageSource, load_image, pad_to_multiple
from sketchfusion_lite.tiling import STRIDE

__all__ = ["Received", "draw_crops", "receive"]


@dataclass(frozen=True)
class Received:
    """A photo, and what a receiver knows of it.

    Attributes:
        data: the ``.skf`` file.
        image: the photo ``(1, 3, H', W')``, 8 bits, padded to multiples of 16.
        y_hat: decoded latent after inverse gain ``(1, C, H'/16, W'/16)``, on the CPU.
        quality: ``(1,)``.
        size: height and width of the photo.
    """

    data: bytes
    image: Tensor
    y_hat: Tensor
    quality: Tensor
    size: tuple[int, int]


def receive(
    codec: SketchFusionCodec,
    images: Iterable[ImageSource],
    bpp: float | None = None,
    quality: float | None = None,
) -> list[Received]:
    """Encode photos and decode their latents.

    Args:
        codec: with its coder.
        images: photos, as :func:`.load_image` takes them.
        bpp, quality: of each, one of them; see :meth:`.SketchFusionCodec.encode`.

    Raises:
        BudgetTooSmall: a photo does not fit.
    """
    received = []
    for image in images:
        pixels = load_image(image)  # (1, 3, H, W)
        data = codec.encode(pixels, bpp=bpp, quality=quality).data
        y_hat, level = codec.dequantise(bitstream.parse(data))
        padded, size = pad_to_multiple(pixels, STRIDE)
        padded = (padded * 255).round().byte()  # a folder of photos fits the memory
        # Cloned: tensors born in inference mode cannot take part in training.
        y_hat, level = (x.float().cpu().clone() for x in (y_hat, level))
        received.append(Received(data, padded, y_hat, level, size))
    return received


def draw_crops(
    received: Sequence[Received], crop: int, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Aligned random crops: photos ``(B, 3, c, c)`` in [0, 1], y_hat ``(B, C, c/16, c/16)``, quality ``(B,)``.

    Args:
        received: what to draw from.
        crop: side in pixels, a multiple of 16, at most the shortest side of the photos.
        batch: crops B.
        generator: of the choice of photo and place.

    Raises:
        ArgumentError: a crop that does not fit.
    """
    shortest = min(min(each.image.shape[-2:]) for each in received)
    if crop % STRIDE or not STRIDE <= crop <= shortest:
        raise ArgumentError(f"crop={crop}: give a multiple of 16 from 16 to {shortest}.")
    rows, cells = [], crop // STRIDE
    for _ in range(batch):
        each = received[int(torch.randint(len(received), (), generator=generator))]
        room = [side - cells + 1 for side in each.y_hat.shape[-2:]]
        top, left = (int(torch.randint(n, (), generator=generator)) for n in room)
        image = each.image[0, :, STRIDE * top :, STRIDE * left :][:, :crop, :crop]
        y_hat = each.y_hat[0, :, top : top + cells, left : left + cells]
        rows.append((image.float() / 255, y_hat, each.quality[0]))
    images, y_hats, qualities = (torch.stack(column) for column in zip(*rows, strict=True))
    return images, y_hats, qualities
