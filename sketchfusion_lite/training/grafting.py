"""Grafting: a refiner starts as a preview decoder, not from nothing.

    decoder   stem + quality bias --> stride16 --> up --> stride8 --> up --> stride4 --> pixels
                 |                       |          |        |         |        |          |
    refiner   latent + quality bias -> middle --> back8 --> up8 --> back4 --> up4 --> to_pixels = x0_hat

The way up through the refiner has the decoder's shape, only wider and deeper. Copied into its leading channels, the
decoder goes on computing there what it has always computed: the first picture is exactly the decoder's, at every
quality and at both ends of the dial. The channels beside it and the way down are free to learn; every connection *into*
the leading channels, and from elsewhere into the pixels, starts at zero. What took the decoder hours to learn of photos
need not be learned a second time.

References
    [1] Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016
        (function-preserving growth).
"""

from __future__ import annotations

import torch
from torch import nn

from ..blocks import BottleneckBlock
from ..errors import RecipeError
from ..preview import PreviewDecoder
from ..refiner import ConditionedBlocks, RefinerUNet


@torch.no_grad()
def graft(unet: RefinerUNet, decoder: PreviewDecoder) -> None:
    """Make a fresh refiner return the decoder's picture.

    Args:
        unet: at least as wide and as deep as the decoder at every stride, with as many quality levels.
        decoder: its features become the leading channels of the refiner's.

    Raises:
        RecipeError: the refiner is smaller somewhere, or its blocks have another activation.
    """
    end = unet.faithful
    ours, theirs = (type(blocks[0].act).__name__ for blocks in (end.up4.blocks, decoder.stride4))
    if ours != theirs:
        raise RecipeError(
            f"recipe: a refiner with activation {ours} cannot take over a decoder's features, which has {theirs}; "
            "give RefinerConfig the codec's activation, or set graft = false"
        )
    levels = (decoder.stride16[0], decoder.stride8[0], decoder.stride4)
    ways_up = (unet.middle, end.up8, end.up4)
    for stride, source, target in zip((16, 8, 4), levels, ways_up, strict=True):
        have, need = (
            (len(blocks), blocks[0].expand.out_channels) for blocks in (target.blocks, source)
        )
        if have[0] < need[0] or have[1] < need[1]:
            raise RecipeError(
                f"recipe: a refiner with {have[0]} blocks of {have[1]} channels at stride {stride} cannot take "
                f"over the decoder's {need[0]} of {need[1]}; raise depths or widths, or set graft = false"
            )
    w16, w8, w4 = (source[0].expand.out_channels for source in levels)
    if len(unet.quality_bias) != len(decoder.quality_bias):
        raise RecipeError(
            f"recipe: a refiner of {len(unet.quality_bias)} quality levels cannot take over the bias of a decoder of "
            f"{len(decoder.quality_bias)}; give RefinerConfig the codec's levels, or set graft = false"
        )
    _copy(unet.latent, decoder.stem)
    unet.quality_bias[:, :w16] = decoder.quality_bias
    for source, target in zip(levels, ways_up, strict=True):
        _copy_blocks(target, source)
    _copy(end.back8[0], decoder.stride16[1][0])
    _copy(end.back4[0], decoder.stride8[1][0])
    _copy(end.to_pixels, decoder.to_pixels[0])
    # Nothing else may flow into the leading channels yet: the way down meets the way up at three places.
    _silence(unet.to16[1], w16)
    for entry, blocks, width in ((unet.to8[1], unet.down8, w8), (unet.stem, unet.down4, w4)):
        _silence(entry, width)
        for block in blocks.blocks:
            _silence(block.expand, width)
    unet.skip.zero_()
    unet.realistic.load_state_dict(end.state_dict())


def _copy_blocks(target: ConditionedBlocks, source: nn.Sequential) -> None:
    """Leading blocks, leading channels; further blocks leave the leading channels alone."""
    width = source[0].expand.out_channels
    for index, block in enumerate(target.blocks):
        if index < len(source):
            _copy_block(block, source[index])
        else:
            _silence(block.expand, width)


def _copy_block(target: BottleneckBlock, source: BottleneckBlock) -> None:
    for name in ("reduce", "spatial", "expand"):
        _copy(getattr(target, name), getattr(source, name))


def _copy(target: nn.Conv2d, source: nn.Conv2d) -> None:
    """The leading outputs of ``target`` become those of ``source``, of its leading inputs only."""
    out_channels, in_channels = source.weight.shape[:2]
    _silence(target, out_channels)
    target.weight[:out_channels, :in_channels] = source.weight
    target.bias[:out_channels] = source.bias


def _silence(conv: nn.Conv2d, outputs: int) -> None:
    conv.weight[:outputs] = 0
    conv.bias[:outputs] = 0
