"""RefinerUNet: the network of the second receiver stage, a small conditional U-Net that predicts the photo.

    x_t, preview --s2d 4--> [stride 4] -> [stride 8] -> [stride 16] -> [stride 8] -> [stride 4] --> residual
                                 |             |          + y_hat          |             |
                                 +-------------+------- skips -------------+-------------+
    x0_hat = preview + residual

It predicts the clean picture itself ("x-prediction"), which a few steps need; the pipeline turns that into
the velocity that the scheduler asks for. Convolutions only and no normalisation over space, so that a large picture
can be refined tile by tile with the same result.

References
    [1] Ghouse et al., "A Residual Diffusion Model for High Perceptual Quality Codec Augmentation" (DIRAC), 2023.
    [2] Yue et al., "ResShift: Efficient Diffusion Model for Image Super-resolution by Residual Shifting", 2023.
    [3] Hoogeboom et al., "High-Fidelity Image Compression with Score-based Generative Models" (HFD), 2023.
    [4] Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .blocks import BottleneckBlock, downsample, upsample

SHUFFLE = 4  # space to depth


class ConditionedBlocks(nn.Module):
    """Bottleneck blocks, each preceded by a bias that time and quality set: ``(B, C, h, w)`` -> same."""

    def __init__(self, channels: int, count: int, embedding: int, activation: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BottleneckBlock(channels, activation) for _ in range(count))
        self.bias = nn.Linear(embedding, count * channels)
        nn.init.zeros_(self.bias.weight)
        nn.init.zeros_(self.bias.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        biases = self.bias(embedding)[..., None, None].chunk(
            len(self.blocks), dim=1
        )  # (B, C, 1, 1)
        for number, (block, bias) in enumerate(zip(self.blocks, biases, strict=True)):
            # What a block returned is ours to change; the argument is not.
            x = block(x.add_(bias) if number else x + bias)
        return x


class RefinerUNet(ModelMixin, ConfigMixin):
    """Conditional U-Net of the rectified flow from preview to photo.

    Args:
        latent_channels: channels C of ``y_hat``.
        widths: channels at strides 4, 8 and 16.
        depths: blocks at strides 4, 8 and 16, on the way up.
        down_depths: blocks at strides 4 and 8 on the way down; None for as many as on the way up.
        noise: standard deviation of the noise added to the preview at the start of the flow, of pictures in
            [-1, 1].
        codec_id: model id of the codec whose previews it was trained on.
        activation: of the blocks, see :class:`.BottleneckBlock`; refiners up to 0.6.0, which do not say theirs, had
            ``"relu"``.

    Shape:
        sample (x_t) and preview ``(B, 3, H, W)`` in about [-1, 1], timestep ``(B,)`` in [0, 1] (1 = preview +
        noise, 0 = photo), y_hat ``(B, C, H/16, W/16)``, quality ``(B,)`` in [0, 5] -> x0_hat ``(B, 3, H, W)``.
        H and W are multiples of 16.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 36,
        widths: tuple[int, int, int] = (80, 176, 320),
        depths: tuple[int, int, int] = (4, 4, 6),
        down_depths: tuple[int, int] | None = None,
        noise: float = 0.1,
        codec_id: int = 0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        w4, w8, w16 = widths
        d4, d8, d16 = depths
        down4, down8 = down_depths or (d4, d8)
        embedding = 64
        self.embed = nn.Sequential(
            nn.Linear(4, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = nn.Conv2d(2 * 3 * SHUFFLE**2, w4, 3, padding=1)
        self.down4 = ConditionedBlocks(w4, down4, embedding, activation)
        self.to8 = downsample(w4, w8)
        self.down8 = ConditionedBlocks(w8, down8, embedding, activation)
        self.to16 = downsample(w8, w16)
        self.latent = nn.Conv2d(latent_channels, w16, 3, padding=1)
        self.middle = ConditionedBlocks(w16, d16, embedding, activation)
        self.back8 = upsample(w16, w8)
        self.up8 = ConditionedBlocks(w8, d8, embedding, activation)
        self.back4 = upsample(w8, w4)
        self.up4 = ConditionedBlocks(w4, d4, embedding, activation)
        self.to_pixels = nn.Conv2d(w4, 3 * SHUFFLE**2, 3, padding=1)
        # Untrained, it returns the preview: refinement starts from what is there.
        nn.init.zeros_(self.to_pixels.weight)
        nn.init.zeros_(self.to_pixels.bias)

    @property
    def margin(self) -> int:
        """Radius of the receptive field in pixels, rounded up to whole latent positions."""
        d4, d8, d16 = self.config.depths
        down4, down8 = self.config.down_depths or (d4, d8)
        radius = 4 * (down4 + d4 + 2) + 8 * (down8 + d8) + 16 * (d16 + 1)
        return -(-radius // 16) * 16

    def forward(
        self, sample: Tensor, timestep: Tensor, preview: Tensor, y_hat: Tensor, quality: Tensor
    ) -> Tensor:
        t, q = timestep.to(sample.dtype), quality.to(sample.dtype) / 5
        embedding = self.embed(torch.stack([t, t.square(), q, q.square()], dim=1))  # (B, E)
        pixels = torch.cat([sample, preview], dim=1)  # (B, 6, H, W)
        x4 = self.stem(F.pixel_unshuffle(pixels, SHUFFLE))  # (B, w4, H/4, W/4)
        x4 = self.down4(x4, embedding)
        x8 = self.down8(self.to8(x4), embedding)  # (B, w8, H/8, W/8)
        x16 = self.to16(x8) + self.latent(y_hat)  # (B, w16, H/16, W/16)
        x16 = self.middle(x16, embedding)
        x8 = self.up8(x8 + self.back8(x16), embedding)
        x4 = self.up4(x4 + self.back4(x8), embedding)
        residual = F.pixel_shuffle(self.to_pixels(x4), SHUFFLE)  # (B, 3, H, W)
        return preview + residual
