"""Cues: what the encoder looks at before it draws the sketch.

    image --> BoundaryDetector --> boundaries --> StructuralCue --> structural  (where the edges run)
 (B,3,H,W)                        (B,1,H,W)                       (B,C,H/4,W/4)
    image ------------------------------------> PerceptualCue --> perceptual  (colour and texture)
 (B,3,H,W)                                                        (B,C,H/4,W/4)

The structural cue rests on a small boundary detector of our own, trained on the human boundaries of
BSDS500; ``difference_of_gaussians`` and ``sobel`` are the naive cues that it is measured against.

References
    [1] Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011 (BSDS500).
    [2] Xie and Tu, "Holistically-Nested Edge Detection", ICCV 2015 (side outputs at several strides).
    [3] Su et al., "Pixel Difference Networks for Efficient Edge Detection", ICCV 2021 (how small one can be).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import BottleneckBlock, downsample

DETECTOR_MARGIN = 64  # radius of BoundaryDetector's receptive field in pixels, rounded up to whole latent positions


class ResidualConv(nn.Module):
    """Residual pair of 3x3 convolutions, dilated for context: ``(B, C, h, w)`` -> ``(B, C, h, w)``.

    The skip carries ``relu(x)``, not ``x``: the first activation works in place, on the argument.
    """

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(x)
        return self.second(self.act(self.first(x))).add_(x)


class BoundaryDetector(nn.Module):
    """Predict how likely a human would draw a boundary at each pixel (multi-scale, after [2]).

    Fewer than 0.1 M parameters and about 6 kMAC per pixel: features at strides 2, 4 and 8, each
    with a side output, fused at stride 2 and shuffled up to full resolution.

    Args:
        widths: channels at strides 2, 4 and 8.

    Shape:
        image ``(B, 3, H, W)`` in [0, 1] -> logits ``(B, 1, H, W)``; any H, W >= 1.
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 32, 40)) -> None:
        super().__init__()
        w2, w4, w8 = widths
        self.stride2 = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, w2, 3, padding=1), ResidualConv(w2)
        )
        self.stride4 = nn.Sequential(downsample(w2, w4), ResidualConv(w4), ResidualConv(w4))
        self.stride8 = nn.Sequential(downsample(w4, w8), ResidualConv(w8, dilation=2))
        self.side2 = nn.Conv2d(w2, 8, 1)
        self.side4 = nn.Conv2d(w4, 8, 1)
        self.side8 = nn.Conv2d(w8, 8, 1)
        self.fuse = nn.Sequential(nn.ReLU(), nn.Conv2d(24, 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
        f2 = self.stride2((padded - 0.5) * 4.0)  # (B, w2, H/2, W/2)
        f4 = self.stride4(f2)  # (B, w4, H/4, W/4)
        f8 = self.stride8(f4)  # (B, w8, H/8, W/8)
        s4 = F.interpolate(self.side4(f4), scale_factor=2, mode="bilinear")  # (B, 8, H/2, W/2)
        s8 = F.interpolate(self.side8(f8), scale_factor=4, mode="bilinear")  # (B, 8, H/2, W/2)
        logits = self.fuse(torch.cat([self.side2(f2), s4, s8], dim=1))  # (B, 1, H, W)
        return logits[..., :height, :width]


class StructuralCue(nn.Module):
    """Features of the boundary map: ``(B, 1, H, W)`` in [0, 1] -> ``(B, C, H/4, W/4)``; H, W multiples of 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(16, channels, 3, padding=1))

    def forward(self, boundaries: Tensor) -> Tensor:
        return self.net(boundaries * 2.0)


class PerceptualCue(nn.Module):
    """Colour and texture features: ``(B, 3, H, W)`` in [0, 1] -> ``(B, C, H/4, W/4)``; H, W multiples of 4."""

    def __init__(self, channels: int, activation: str = "silu") -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, channels, 3, padding=1),
            BottleneckBlock(channels, activation),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.net((image - 0.5) * 4.0)


def luma(image: Tensor) -> Tensor:
    """BT.601 luma ``(B, 3, H, W)`` -> ``(B, 1, H, W)``, both in [0, 1]."""
    weights = image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True)


def sobel(image: Tensor) -> Tensor:
    """Gradient magnitude of the luma, ``(B, 3, H, W)`` in [0, 1] -> ``(B, 1, H, W)`` in [0, 1]."""
    kernel = image.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 4.0
    kernels = torch.stack([kernel, kernel.T]).unsqueeze(1)  # (2, 1, 3, 3)
    padded = F.pad(luma(image), (1, 1, 1, 1), mode="replicate")
    gradient = F.conv2d(padded, kernels)  # (B, 2, H, W)
    return gradient.square().sum(dim=1, keepdim=True).sqrt().clamp(max=1.0)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur with replicated borders: ``(B, C, H, W)`` -> ``(B, C, H, W)``.

    Args:
        sigma: standard deviation in pixels; the kernel reaches 3 sigma.
    """
    radius = max(1, round(3 * sigma))
    positions = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (positions / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    flat = image.flatten(0, 1).unsqueeze(1)  # (B*C, 1, H, W)
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), mode="replicate"), kernel)
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), mode="replicate"), kernel.transpose(2, 3))
    return flat.view_as(image)


def difference_of_gaussians(image: Tensor) -> Tensor:
    """Fixed difference-of-Gaussians cue, ``(B, 3, H, W)`` in [0, 1] -> ``(B, 1, H, W)`` in [0, 1].

    Standard deviations of 1 and 1.6 pixels: their ratio approximates a Laplacian (Marr and Hildreth, 1980).
    """
    grey = luma(image)
    response = gaussian_blur(grey, 1.0) - gaussian_blur(grey, 1.6)
    return (response.abs() * 8.0).clamp(max=1.0)
