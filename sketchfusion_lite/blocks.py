"""Building blocks shared by the encoder, the preview decoder and the sketch renderer.

Every change of resolution is a lossless pixel (un)shuffle followed or preceded by a 1x1 convolution:
no strided or transposed convolutions, hence no checkerboard artefacts and no wasted multiplications.

References
    [1] He et al., "ELIC: Efficient Learned Image Compression", CVPR 2022, section 3.3
        (stacked bottleneck residual blocks in place of GDN).
    [2] Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
        Convolutional Neural Network", CVPR 2016 (pixel shuffle).
    [3] Elfwing, Uchibe, Doya, "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in
        Reinforcement Learning", Neural Networks 107, 2018 (SiLU).
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

_M = TypeVar("_M", bound=nn.Module)

ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU}


def bias_of(conv: nn.Conv2d) -> Tensor:
    """The bias ``(out,)`` of a convolution that has one, as all of ours do."""
    assert conv.bias is not None
    return conv.bias


def channels_last(module: _M) -> _M:
    """The module, its weights from now on in the layout that convolutions are fastest in."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


class BottleneckBlock(nn.Module):
    """Residual bottleneck ``x + 1x1(act(3x3(act(1x1(x)))))`` with half the channels inside [1].

    Args:
        channels: channels C of input and output; the inner width is ``C // 2``.
        activation: one of ``ACTIVATIONS``. SiLU [3] passes a gradient below zero too; whole stacks of ReLUs died under
            Muon, whose updates keep their size however small a gradient becomes.

    Shape:
        ``(B, C, h, w)`` -> ``(B, C, h, w)``.

    Raises:
        ValueError: unknown activation.
    """

    def __init__(self, channels: int, activation: str = "silu") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {tuple(ACTIVATIONS)}, not {activation!r}")
        inner = channels // 2
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.spatial = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, channels, 1)
        self.act = ACTIVATIONS[activation](inplace=True)
        # A block starts as a small correction of the identity, so that deep stacks train at once.
        nn.init.zeros_(bias_of(self.expand))
        self.expand.weight.data.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.reduce(x))  # (B, C/2, h, w)
        h = self.act(self.spatial(h))  # (B, C/2, h, w)
        return self.expand(h).add_(x)  # (B, C, h, w), in memory that exists already


def blocks(channels: int, count: int, activation: str) -> nn.Sequential:
    """Stack ``count`` bottleneck blocks of ``channels`` channels."""
    return nn.Sequential(*(BottleneckBlock(channels, activation) for _ in range(count)))


def downsample(in_channels: int, out_channels: int) -> nn.Sequential:
    """Halve the resolution: ``(B, in, h, w)`` -> ``(B, out, h/2, w/2)`` by unshuffle and 1x1 convolution."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, out_channels, 1))


def upsample(in_channels: int, out_channels: int) -> nn.Sequential:
    """Double the resolution: ``(B, in, h, w)`` -> ``(B, out, 2h, 2w)`` by 1x1 convolution and shuffle [2]."""
    return nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))
