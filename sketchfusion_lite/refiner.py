"""RefinerUNet: the network of the second receiver stage, a small conditional U-Net that predicts the photo.

    x_t, preview --s2d 4--> [stride 4] -> [stride 8] -> [stride 16]     Finish: faithful, realistic, or between
                                 |             |          + y_hat --> [stride 8] -> [stride 4] --> x0_hat
                                 +-------------+------- skips ------------+-------------+

It predicts the clean picture itself ("x-prediction"), which a few steps need; the sampler moves towards it.
Convolutions only and no normalisation over space, so that a large picture can be refined tile by tile with the same
result. The last levels exist twice, trained from one start for two aims: nearest to this photo, and most like a photo.
Between the two their weights are interpolated [5].

References
    [1] Ghouse et al., "A Residual Diffusion Model for High Perceptual Quality Codec Augmentation" (DIRAC), 2023.
    [2] Yue et al., "ResShift: Efficient Diffusion Model for Image Super-resolution by Residual Shifting", 2023.
    [3] Hoogeboom et al., "High-Fidelity Image Compression with Score-based Generative Models" (HFD), 2023.
    [4] Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
    [5] Wang et al., "Deep Network Interpolation for Continuous Imagery Effect Transition", CVPR 2019.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .blocks import ACTIVATIONS, BottleneckBlock, bias_of, downsample, upsample
from .conditioning import DEFAULT_REALISM
from .errors import WeightsError
from .sketch import interpolate_levels

SHUFFLE = 4  # space to depth
EMBEDDING = 64  # channels of what time and quality become
_MOST = {"latent_channels": 1024, "levels": 64, "widths": 4096, "depths": 64, "down_depths": 64}


@dataclass(frozen=True)
class RefinerConfig:
    """Sizes of the refiner; stored beside its weights.

    Attributes:
        latent_channels: channels C of ``y_hat``.
        levels: quality levels of the codec; ``quality`` runs over [0, levels - 1].
        widths: channels at strides 4, 8 and 16.
        depths: blocks at strides 4, 8 and 16, on the way up.
        down_depths: blocks at strides 4 and 8 on the way down.
        noise: standard deviation of the noise added to the preview at the start of the flow, of pictures in
            [-1, 1].
        codec_id: model id of the codec whose previews it was trained on.
        activation: of the blocks, see :class:`.BottleneckBlock`.
    """

    latent_channels: int = 48
    levels: int = 6
    widths: tuple[int, int, int] = (80, 192, 352)
    depths: tuple[int, int, int] = (4, 5, 6)
    down_depths: tuple[int, int] = (1, 2)
    noise: float = 0.1
    codec_id: int = 0
    activation: str = "silu"

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict, name: str = "refiner") -> RefinerConfig:
        """Inverse of :meth:`to_dict`; JSON's lists become tuples again, diffusers' own entries (``_...``) are left out.

        Args:
            values: nothing in them is trusted.
            name: what error messages call the refiner.

        Raises:
            WeightsError: fields of another release, or a value that no refiner has.
        """
        own = {k: v for k, v in values.items() if k[:1] != "_"}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items()}
        known = [field.name for field in fields(cls)]
        if set(values) != set(known):
            raise WeightsError(
                f"{name}: its configuration has the fields {', '.join(sorted(values))}, this release's has "
                f"{', '.join(known)}. A refiner of 0.7.0 or before fits its own release only: train a new one with "
                "the recipe 'refiner', or decode with stage='preview'."
            )
        for field, value in values.items():
            if not _fits(field, value, getattr(cls, field)):
                shown = f"{field} = {value!s:.60} in its configuration"
                raise WeightsError(f"{name}: {shown}; no refiner has that. Fetch it again.")
        return cls(**values)


def _fits(field: str, value: Any, example: object) -> bool:
    """Whether a value is one that a network of bounded size can be built with."""
    if isinstance(example, tuple):
        alike = isinstance(value, tuple) and len(value) == len(example)
        return alike and all(_fits(field, v, e) for v, e in zip(value, example, strict=True))
    if field == "activation":
        return value in list(ACTIVATIONS)
    if field == "noise":
        return type(value) in (int, float) and 0 <= value <= 10
    if field == "codec_id":
        return type(value) is int and 0 <= value <= 0xFFFF
    return type(value) is int and 1 <= value <= _MOST[field]


class ConditionedBlocks(nn.Module):
    """Bottleneck blocks, each preceded by a bias that time and quality set: ``(B, C, h, w)`` -> same."""

    def __init__(self, channels: int, count: int, embedding: int, activation: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BottleneckBlock(channels, activation) for _ in range(count))
        self.bias = nn.Linear(embedding, count * channels)
        nn.init.zeros_(self.bias.weight)
        nn.init.zeros_(self.bias.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        biases = self.bias(embedding)[..., None, None]  # (B, count * C, 1, 1)
        for number, bias in enumerate(biases.chunk(len(self.blocks), dim=1)):  # (B, C, 1, 1)
            # What a block returned is ours to change; the argument is not.
            x = self.blocks[number](x.add_(bias) if number else x + bias)
        return x


class Finish(nn.Module):
    """The refiner's last levels: from features at stride 16 to the picture.

    Shape:
        x16 ``(B, w16, H/16, W/16)``, skips x8 ``(B, w8, H/8, W/8)`` and x4 ``(B, w4, H/4, W/4)``, embedding
        ``(B, E)`` -> x0_hat ``(B, 3, H, W)`` in about [-1, 1].
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        (w4, w8, w16), (d4, d8, _) = config.widths, config.depths
        self.back8 = upsample(w16, w8)
        self.up8 = ConditionedBlocks(w8, d8, EMBEDDING, config.activation)
        self.back4 = upsample(w8, w4)
        self.up4 = ConditionedBlocks(w4, d4, EMBEDDING, config.activation)
        self.to_pixels = nn.Conv2d(w4, 3 * SHUFFLE**2, 3, padding=1)
        nn.init.zeros_(self.to_pixels.weight)
        nn.init.zeros_(bias_of(self.to_pixels))

    def forward(self, x16: Tensor, x8: Tensor, x4: Tensor, embedding: Tensor) -> Tensor:
        x8 = self.up8(x8 + self.back8(x16), embedding)
        x4 = self.up4(x4 + self.back4(x8), embedding)
        return F.pixel_shuffle(self.to_pixels(x4), SHUFFLE) * 0.5  # (B, 3, H, W)


class RefinerUNet(nn.Module):
    """Conditional U-Net of the rectified flow from preview to photo.

    Attributes:
        config: sizes.
        faithful, realistic: the two :class:`Finish`, equal at first.
        skip: how much of the preview the picture keeps, a scalar: 1 at first, so that untrained it returns the preview;
            0 in one that a decoder was grafted into, which draws the whole picture itself.

    Shape:
        sample (x_t) and preview ``(B, 3, H, W)`` in about [-1, 1], timestep ``(B,)`` in [0, 1] (1 = preview +
        noise, 0 = photo), y_hat ``(B, C, H/16, W/16)``, quality ``(B,)`` in [0, levels - 1], realism in [0, 1] (0 =
        the faithful end, 1 = the realistic end) -> x0_hat ``(B, 3, H, W)``. H and W are multiples of 16.
    """

    def __init__(self, config: RefinerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RefinerConfig()
        (w4, w8, w16), (down4, down8) = config.widths, config.down_depths
        self.embed = nn.Sequential(
            nn.Linear(4, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU()
        )
        self.stem = nn.Conv2d(2 * 3 * SHUFFLE**2, w4, 3, padding=1)
        self.down4 = ConditionedBlocks(w4, down4, EMBEDDING, config.activation)
        self.to8 = downsample(w4, w8)
        self.down8 = ConditionedBlocks(w8, down8, EMBEDDING, config.activation)
        self.to16 = downsample(w8, w16)
        self.latent = nn.Conv2d(config.latent_channels, w16, 3, padding=1)
        self.quality_bias = nn.Parameter(torch.zeros(config.levels, w16))
        self.middle = ConditionedBlocks(w16, config.depths[2], EMBEDDING, config.activation)
        self.skip = nn.Parameter(torch.ones(()))
        self.faithful = Finish(config)
        self.realistic = copy.deepcopy(self.faithful)

    @property
    def margin(self) -> int:
        """Radius of the receptive field in pixels, rounded up to whole latent positions."""
        (d4, d8, d16), (down4, down8) = self.config.depths, self.config.down_depths
        radius = 4 * (down4 + d4 + 2) + 8 * (down8 + d8) + 16 * (d16 + 1)
        return -(-radius // 16) * 16

    def features(
        self, sample: Tensor, timestep: Tensor, preview: Tensor, y_hat: Tensor, quality: Tensor
    ) -> tuple[Tensor, ...]:
        """What both ends start from, see :class:`Finish`; a training step computes it once for the two."""
        t = timestep.to(sample.dtype)
        q = quality.to(sample.dtype) / max(self.config.levels - 1, 1)
        embedding = self.embed(torch.stack([t, t.square(), q, q.square()], dim=1))  # (B, E)
        pixels = torch.cat([sample, preview], dim=1)  # (B, 6, H, W)
        x4 = self.stem(F.pixel_unshuffle(pixels, SHUFFLE))  # (B, w4, H/4, W/4)
        x4 = self.down4(x4, embedding)
        x8 = self.down8(self.to8(x4), embedding)  # (B, w8, H/8, W/8)
        bias = interpolate_levels(self.quality_bias, quality)[..., None, None]  # (B, w16, 1, 1)
        x16 = self.to16(x8) + self.latent(y_hat) + bias  # (B, w16, H/16, W/16)
        return self.middle(x16, embedding), x8, x4, embedding

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        preview: Tensor,
        y_hat: Tensor,
        quality: Tensor,
        realism: float = DEFAULT_REALISM,
    ) -> Tensor:
        features = self.features(sample, timestep, preview, y_hat, quality)
        if realism in (0, 1):
            x0_hat = (self.realistic if realism else self.faithful)(*features)
        else:
            ends = zip(self.faithful.named_parameters(), self.realistic.parameters(), strict=True)
            between = {name: torch.lerp(start, end, realism) for (name, start), end in ends}
            # The interpolated weights live in this call alone: threads may ask for different ones.
            x0_hat = functional_call(self.faithful, between, features)
        return x0_hat.addcmul_(preview, self.skip.to(preview.dtype))  # (B, 3, H, W)
