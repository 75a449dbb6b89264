"""SketchFusionNet, the encoder network: fuse structural and perceptual cues into a compact, symbolic sketch.

    boundaries --> StructuralCue --> s --+--> gate g = sigmoid(W [s, p]) --> g*s + (1-g)*p
                                         |                                       |
    image -------> PerceptualCue --> p --+          [stride 4] -> [stride 8] -> [stride 16] -> y
                                                                                 (B,C,H/16,W/16)
    y = [structure group | tone group];  SketchRenderer draws the structure group as lines.

The latent ``y`` is scalar-quantised into integer symbols (see :mod:`sketchfusion_lite.entropy`); a gain
per channel and quality level sets how finely.

References
    [1] Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshop 2017 (gated fusion).
    [2] Cui et al., "Asymmetric Gained Deep Image Compression With Continuous Rate Adaptation", CVPR 2021
        (gain vectors, interpolated between levels).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import blocks, downsample
from .cues import PerceptualCue, StructuralCue

CUE_CHOICES = ("fused", "structural", "perceptual", "none")


class GatedFusion(nn.Module):
    """Mix two cues per location and channel: ``g * s + (1 - g) * p`` [1].

    Args:
        channels: channels C of both cues.
        cues: ``"fused"``, or one cue alone for ablations (the gate is then held at 1 or 0).

    Raises:
        ValueError: neither of these.

    Shape:
        structural, perceptual ``(B, C, h, w)`` -> fused ``(B, C, h, w)``, gate ``(B, C, h, w)`` in (0, 1);
        1 passes the structural cue, 0 the perceptual.
    """

    def __init__(self, channels: int, cues: str = "fused") -> None:
        super().__init__()
        if cues not in CUE_CHOICES[:3]:
            raise ValueError(f"cues must be one of {CUE_CHOICES[:3]}, not {cues!r}")
        self.cues = cues
        self.gate = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, structural: Tensor, perceptual: Tensor) -> tuple[Tensor, Tensor]:
        if self.cues == "structural":
            return structural, torch.ones_like(structural)
        if self.cues == "perceptual":
            return perceptual, torch.zeros_like(perceptual)
        gate = torch.sigmoid(self.gate(torch.cat([structural, perceptual], dim=1)))  # (B, C, h, w)
        return gate * structural + (1 - gate) * perceptual, gate


class SketchFusionNet(nn.Module):
    """Encoder: image and its boundary map -> latent sketch ``y``.

    Args:
        latent_channels: channels of ``y``, structure group first.
        widths: channels at strides 4, 8 and 16.
        depths: bottleneck blocks at strides 4, 8 and 16.
        cues: see :class:`GatedFusion`; ``"none"`` puts one plain convolution of the pixels in the place of cues and
            gate (ablations).
        activation: of the blocks, see :class:`.BottleneckBlock`.

    Raises:
        ValueError: another word for ``cues``.

    Shape:
        image ``(B, 3, H, W)`` and boundaries ``(B, 1, H, W)``, both in [0, 1], H and W multiples of 16
        -> y ``(B, latent_channels, H/16, W/16)``, before gain and quantisation.
    """

    def __init__(
        self,
        latent_channels: int,
        widths: tuple[int, int, int] = (48, 160, 256),
        depths: tuple[int, int, int] = (1, 3, 6),
        cues: str = "fused",
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if cues not in CUE_CHOICES:
            raise ValueError(f"cues must be one of {CUE_CHOICES}, not {cues!r}")
        w4, w8, w16 = widths
        self.depths = depths
        self.plain: nn.Sequential | None = None
        if cues == "none":
            self.plain = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, w4, 3, padding=1))
        else:
            self.structural = StructuralCue(w4)
            self.perceptual = PerceptualCue(w4, activation)
            self.fusion = GatedFusion(w4, cues)
        self.stride4 = blocks(w4, depths[0], activation)
        self.stride8 = nn.Sequential(downsample(w4, w8), blocks(w8, depths[1], activation))
        self.stride16 = nn.Sequential(downsample(w8, w16), blocks(w16, depths[2], activation))
        self.to_latent = nn.Conv2d(w16, latent_channels, 1)

    @property
    def margin(self) -> int:
        """Radius of the receptive field in pixels, rounded up to whole latent positions."""
        d4, d8, d16 = self.depths
        radius = 4 * (2 + d4) + 8 * d8 + 16 * d16  # the cues have two 3x3 convolutions
        return -(-radius // 16) * 16

    def fuse(self, image: Tensor, boundaries: Tensor) -> tuple[Tensor, Tensor]:
        """Return fused features and the gate that made them, both ``(B, w4, H/4, W/4)``.

        Without cues the gate is 0.5 everywhere: nothing is preferred.
        """
        if self.plain is not None:
            features = self.plain((image - 0.5) * 4.0)  # (B, w4, H/4, W/4)
            return features, torch.full_like(features, 0.5)
        return self.fusion(self.structural(boundaries), self.perceptual(image))

    def forward(self, image: Tensor, boundaries: Tensor) -> Tensor:
        fused, _ = self.fuse(image, boundaries)  # (B, w4, H/4, W/4)
        features = self.stride8(self.stride4(fused))  # (B, w8, H/8, W/8)
        return self.to_latent(self.stride16(features))  # (B, C, H/16, W/16)


class GainUnit(nn.Module):
    """Per-channel gain for a continuous quality: geometric interpolation between levels [2].

    Args:
        levels: number of trained quality levels L; qualities run over [0, L - 1].
        channels: channels C of the latent.
        low, high: initial gain at the lowest and highest level.

    Shape:
        quality ``(B,)`` -> gain and inverse gain, each ``(B, C, 1, 1)``.
    """

    log_gain: nn.Parameter
    log_inverse_gain: nn.Parameter

    def __init__(self, levels: int, channels: int, low: float, high: float) -> None:
        super().__init__()
        # Computed on the CPU: on "meta", arithmetic imports torch's compiler and SymPy, over a second of it.
        ramp = torch.tensor([i / max(1, levels - 1) for i in range(levels)], device="cpu")  # (L,)
        log_low, log_high = torch.tensor([low, high], device="cpu").log()
        rows = log_low * (1 - ramp) + log_high * ramp
        for name, values in (("log_gain", rows), ("log_inverse_gain", -rows)):
            table = [[value] * channels for value in values.tolist()]  # (L, C)
            setattr(self, name, nn.Parameter(torch.tensor(table)))

    def forward(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        gain = interpolate_levels(self.log_gain, quality).exp()  # (B, C)
        inverse = interpolate_levels(self.log_inverse_gain, quality).exp()  # (B, C)
        return gain[..., None, None], inverse[..., None, None]


def interpolate_levels(table: Tensor, quality: Tensor) -> Tensor:
    """Linear interpolation in a per-level table: ``(L, C)`` at quality ``(B,)`` -> ``(B, C)``.

    Qualities outside [0, L - 1] are clamped to the trained range.
    """
    quality = quality.clamp(0, table.shape[0] - 1)
    lower = quality.floor().long().clamp(max=max(table.shape[0] - 2, 0))  # (B,)
    upper = (lower + 1).clamp(max=table.shape[0] - 1)
    fraction = (quality - lower).unsqueeze(1).to(table.dtype)  # (B, 1)
    # Not table[lower]: the gradient of index_select needs no sorting, which a CUDA graph could not hold.
    below, above = table.index_select(0, lower), table.index_select(0, upper)
    return below * (1 - fraction) + above * fraction


class SketchRenderer(nn.Module):
    """Draw the structure group as a line drawing, the sketch that one can look at.

    Args:
        channels: channels of the structure group.
        width: hidden channels at stride 16.
        activation: of the blocks, see :class:`.BottleneckBlock`.

    Shape:
        y_structure ``(B, channels, h, w)`` -> logits ``(B, 1, 8h, 8w)``: boundary probability at stride 2.
    """

    def __init__(self, channels: int, width: int = 96, activation: str = "silu") -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            *blocks(width, 2, activation),
            nn.Conv2d(width, 64, 1),
            nn.PixelShuffle(8),
        )

    def forward(self, y_structure: Tensor) -> Tensor:
        return self.net(y_structure)
