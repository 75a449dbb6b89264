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

from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import bias_of
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
    old: Any = decoder  # as the next two: torch does not say what a Sequential holds
    levels: list[Any] = [old.stride16[0], old.stride8[0], old.stride4]
    ways_up: list[Any] = [unet.middle, end.up8, end.up4]
    ours, theirs = (type(blocks[0].act).__name__ for blocks in (ways_up[2].blocks, levels[2]))
    _require("activation", ours, theirs, equal=True)
    _require("quality levels", len(unet.quality_bias), len(decoder.quality_bias), equal=True)
    for stride, source, target in zip((16, 8, 4), levels, ways_up, strict=True):
        ours, theirs = (blocks[0].expand.out_channels for blocks in (target.blocks, source))
        _require(f"channels at stride {stride}", ours, theirs)
        _require(f"blocks at stride {stride}", len(target.blocks), len(source))
    w16, w8, w4 = (source[0].expand.out_channels for source in levels)
    _copy(unet.latent, decoder.stem)
    unet.quality_bias[:, :w16] = decoder.quality_bias
    for source, target, width in zip(levels, ways_up, (w16, w8, w4), strict=True):
        _copy_blocks(target, source, width)
    _copy(end.back8[0], old.stride16[1][0])
    _copy(end.back4[0], old.stride8[1][0])
    _copy(end.to_pixels, old.to_pixels[0])
    # Nothing else may flow into the leading channels yet: the way down meets the way up at three places.
    _silence(unet.to16[1], w16)
    for entry, blocks, width in ((unet.to8[1], unet.down8, w8), (unet.stem, unet.down4, w4)):
        _silence(entry, width)
        for block in blocks.blocks:
            _silence(block.expand, width)
    unet.skip.zero_()
    unet.realistic.load_state_dict(end.state_dict())


def _require(what: str, ours: Any, theirs: Any, equal: bool = False) -> None:
    if ours != theirs if equal else ours < theirs:
        rule = "must be the same" if equal else "must be as many or more"
        raise RecipeError(
            f"recipe: {what}: the refiner has {ours}, the decoder that it shall take over {theirs}; they {rule}. "
            'Change model in the recipe, or set graft = ""'
        )


def _copy_blocks(target: ConditionedBlocks, source: nn.Sequential, width: int) -> None:
    """Leading blocks, leading channels; further blocks leave the leading channels alone."""
    for block, old in zip(target.blocks, source, strict=False):
        for name in ("reduce", "spatial", "expand"):
            _copy(getattr(block, name), getattr(old, name))
    for block in target.blocks[len(source) :]:
        _silence(block.expand, width)


def _copy(target: nn.Module, source: nn.Module) -> None:
    """The leading outputs of ``target`` become those of ``source``, of its leading inputs only."""
    assert isinstance(target, nn.Conv2d) and isinstance(source, nn.Conv2d)
    out_channels, in_channels = source.weight.shape[:2]
    _silence(target, out_channels)
    target.weight[:out_channels, :in_channels] = source.weight
    bias_of(target)[:out_channels] = bias_of(source)


def _silence(conv: nn.Module | Tensor, outputs: int) -> None:
    assert isinstance(conv, nn.Conv2d)
    conv.weight[:outputs] = 0
    bias_of(conv)[:outputs] = 0
