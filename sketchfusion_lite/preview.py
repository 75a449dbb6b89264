"""Preview decoder: the first of the two receiver stages, one feed-forward pass.

    y_hat --> [stride 16: 6 blocks] --> [stride 8: 2] --> [stride 4: 1] --> x_preview
 (B,C,H/16,W/16)                                                          (B,3,H,W)

Convolutions only, most of the work at strides 8 and 16, pixel shuffle up.

References
    [1] He et al., "ELIC", CVPR 2022 (bottleneck residual blocks, section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import blocks, upsample
from .sketch import interpolate_levels


class PreviewDecoder(nn.Module):
    """Decode a quantised sketch into a coarse but meaningful image.

    Args:
        latent_channels: channels C of the sketch ``y_hat``.
        levels: trained quality levels; the decoder is told the quality, because the same symbol is worth
            trusting less where it was quantised more coarsely.
        widths: channels at strides 16, 8 and 4.
        depths: bottleneck blocks at strides 16, 8 and 4.
        activation: of the blocks, see :class:`.BottleneckBlock`.

    Shape:
        y_hat ``(B, C, h, w)`` after inverse gain, quality ``(B,)`` -> preview ``(B, 3, 16h, 16w)`` in about
        [0, 1], not clamped.
    """

    def __init__(
        self,
        latent_channels: int,
        levels: int,
        widths: tuple[int, int, int] = (192, 96, 40),
        depths: tuple[int, int, int] = (6, 2, 1),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        w16, w8, w4 = widths
        self.depths = depths
        self.stem = nn.Conv2d(latent_channels, w16, 3, padding=1)
        self.quality_bias = nn.Parameter(torch.zeros(levels, w16))
        self.stride16 = nn.Sequential(blocks(w16, depths[0], activation), upsample(w16, w8))
        self.stride8 = nn.Sequential(blocks(w8, depths[1], activation), upsample(w8, w4))
        self.stride4 = blocks(w4, depths[2], activation)
        self.to_pixels = nn.Sequential(nn.Conv2d(w4, 48, 3, padding=1), nn.PixelShuffle(4))

    @property
    def margin(self) -> int:
        """Radius of the receptive field in pixels, rounded up to whole latent positions."""
        d16, d8, d4 = self.depths
        radius = 16 * (1 + d16) + 8 * d8 + 4 * (d4 + 1)
        return -(-radius // 16) * 16

    def forward(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        bias = interpolate_levels(self.quality_bias, quality)[..., None, None]  # (B, w16, 1, 1)
        features = self.stem(y_hat) + bias  # (B, w16, h, w)
        features = self.stride16(features)  # (B, w8, 2h, 2w)
        features = self.stride8(features)  # (B, w4, 4h, 4w)
        features = self.stride4(features)  # (B, w4, 4h, 4w)
        return self.to_pixels(features) * 0.25 + 0.5  # (B, 3, 16h, 16w)
