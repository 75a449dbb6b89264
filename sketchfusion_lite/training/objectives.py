"""Training objectives: rate, distortion, perception, and the controller that holds the rate.

    loss = lambda(quality) * bpp + w_mse * MSE(0..255) + w_lpips * LPIPS + w_sketch * BCE(sketch, boundaries)

References
    [1] Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    [2] Mentzer et al., "High-Fidelity Generative Image Compression", NeurIPS 2020 (rate controller).
    [3] Huang, Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sketch import interpolate_levels
from .draws import uniform
from .recipe import PictureRecipe

FOCUS_WIDTH = 0.6  # of the qualities around a recipe's focus, to both sides
# Of lambda times the target rate. Wide: a run ended with lambda as the power -2.6 of the target rate, a tilt of 0.14.
LOG_SCALE_RANGE = (math.log(0.002), math.log(10.0))
LOG_TILT_LIMIT = math.log(12.0)


class PerceptualLoss(nn.Module):
    """LPIPS on randomly shifted, sometimes magnified views.

    AlexNet's first layer has stride 4: always aligned with the decoder's own pixel lattice it cannot see some
    periodic patterns, and a decoder learns to leave exactly those (a woven texture). A random shift of 0 to 3
    pixels per step takes the alignment away, and a random window seen at twice its size shows the network
    the finest structure, which it otherwise passes over.

    Args:
        net: LPIPS network of images in [-1, 1].
        zoom: fraction of a batch that is magnified, rounded to whole images.
    """

    def __init__(self, net: nn.Module, zoom: float = 0.0) -> None:
        super().__init__()
        self.net, self.zoom = net, zoom

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Mean distance per image ``(B,)`` of images ``(B, 3, H, W)`` in about [0, 1]."""
        large = int(self.zoom * len(image) + 0.5)
        views = []
        if large:
            near = random_windows(image[:large], reference[:large])
            views.append([F.interpolate(x, scale_factor=2, mode="bilinear") for x in near])
        if large < len(image):
            views.append(shifted(image[large:], reference[large:]))
        return torch.cat([self.net(a * 2 - 1, b * 2 - 1).flatten() for a, b in views])


def window(image: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, C, height, width)`` from a place ``()`` that only the device knows."""
    rows, columns = (torch.arange(side, device=image.device) for side in (height, width))
    return image.index_select(2, top + rows).index_select(3, left + columns)


def shifted(*images: Tensor) -> list[Tensor]:
    """All images ``(B, C, H, W)`` without the same margins of 4 in all, moved by 0 to 3 pixels."""
    top, left = torch.randint(4, (2,), device=images[0].device)
    return [window(x, top, left, x.shape[-2] - 4, x.shape[-1] - 4) for x in images]


def random_windows(*images: Tensor) -> list[Tensor]:
    """The same random window of half the sides of all images ``(B, C, H, W)``."""
    height, width = (side // 2 for side in images[0].shape[-2:])
    device = images[0].device
    top, left = (torch.randint(side + 1, (), device=device) for side in (height, width))
    return [window(x, top, left, height, width) for x in images]


def texture_loss(features: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
    """How far the strength of texture is off, wherever its details lie.

    The standard deviation of every feature channel within each of 3x3 parts of the picture, against the
    reference's. Grass that is drawn otherwise costs nothing here, grass averaged to a green mist does; errors
    like LPIPS, which compare place by place, prefer the mist. (The statistic of style transfer's adaptive
    instance normalisation [3], taken locally.)

    Args:
        features, reference: maps ``(B, C_l, h_l, w_l)`` of some stages of a trained network.

    Returns:
        Scalar, 0 for equal statistics, about 1 where all texture is gone.
    """
    parts = []
    for ours, theirs in zip(features, reference, strict=True):
        mine, wanted = (_spread(f.float()) for f in (ours, theirs))
        parts.append((mine - wanted).abs().mean() / wanted.mean())
    return torch.stack(parts).mean()


def _spread(f: Tensor) -> Tensor:
    """Standard deviation within each part: ``(B, C, h, w)`` -> ``(B, C, 3, 3)``."""
    mean, square = (F.adaptive_avg_pool2d(x, 3) for x in (f, f.square()))
    return (square - mean.square()).clamp_min(1e-6).sqrt()


def draw_quality(recipe: PictureRecipe, levels: int, step: Tensor | int, batch: int) -> Tensor:
    """Quality per crop ``(B,)``: uniform over the range, or near the recipe's focus level; on the step's device."""
    device = step.device if isinstance(step, Tensor) else torch.device("cpu")
    kind, place = uniform(recipe.seed * 7_000_003 + 5, step, 2, batch, device)
    near = recipe.focus_quality + (2 * place - 1) * FOCUS_WIDTH
    return torch.where(kind < recipe.focus, near.clamp(0, levels - 1), place * (levels - 1))


def sketch_loss(logits: Tensor, boundaries: Tensor) -> Tensor:
    """Cross entropy of the drawn lines ``(B, 1, H/2, W/2)`` against the structural cue ``(B, 1, H, W)``."""
    target = F.max_pool2d(boundaries, 2)  # lines of one pixel survive
    return F.binary_cross_entropy_with_logits(logits, target)


def balanced_boundary_loss(logits: Tensor, boundaries: Tensor) -> Tensor:
    """Cross entropy for the boundary detector; rare boundary pixels weigh as much as all the rest [HED].

    Args:
        logits: ``(B, 1, H, W)``.
        boundaries: mean of the human annotators, ``(B, 1, H, W)`` in [0, 1]. Pixels that only a few
            of them marked are neither boundary nor background and are left out, as is usual on BSDS500.
    """
    positive = (boundaries > 0.3).to(logits.dtype)
    negative = (boundaries < 0.05).to(logits.dtype)
    share = positive.sum() / (positive.sum() + negative.sum()).clamp_min(1)
    weight = positive * (1 - share) + negative * share * 1.1
    loss = F.binary_cross_entropy_with_logits(logits, positive, weight, reduction="sum")
    return loss / weight.sum().clamp_min(1e-6)


class RateController(nn.Module):
    """Lambda, moved so that the mean rate meets its targets [2], at the low qualities and at the high.

        lambda(quality) = scale * tilt**position / target(quality),    position from -1 (lowest level) to 1

    With a tilt of 1 every quality spends the same loss on its rate, as if distortion fell with the logarithm of the
    rate, whose slope goes as one over the rate; it falls faster. Scale follows the mean error of all qualities. It
    alone lets the range of rates shrink while both ends pull their own way; the tilt pulls the ends apart. With
    targets in geometric order ``log lambda`` is a straight line over the logarithm of the target, and these are its two
    numbers. One lambda per level, each driven to its own target, is unstable: gains that cannot spread far enough
    drive the outer ones apart until the rate term of a few crops drowns the rest.

    State is two buffers, saved and resumed with the checkpoint.

    Args:
        targets: bits per pixel per level.
        scale, tilt: where they start.
        gain: change of log lambda per crop and unit of error of the rate's logarithm.
    """

    log_targets: Tensor
    log_scale: Tensor
    log_tilt: Tensor

    def __init__(
        self, targets: list[float], scale: float = 1.2, tilt: float = 1.0, gain: float = 0.004
    ) -> None:
        super().__init__()
        self.gain, self.top = gain, max(1, len(targets) - 1)
        # Not in checkpoints: a resumed run may aim at other targets.
        self.register_buffer("log_targets", torch.tensor(targets).log(), persistent=False)
        self.register_buffer("log_scale", torch.tensor(scale).log())
        self.register_buffer("log_tilt", torch.tensor(tilt).log())

    def target(self, quality: Tensor) -> Tensor:
        """Bits per pixel at quality ``(B,)`` -> ``(B,)``, geometric between levels."""
        return interpolate_levels(self.log_targets.unsqueeze(1), quality).squeeze(1).exp()

    def position(self, quality: Tensor) -> Tensor:
        """Quality ``(B,)`` -> ``(B,)`` in [-1, 1]."""
        return 2 * quality / self.top - 1

    def weight(self, quality: Tensor) -> Tensor:
        """Lambda at quality ``(B,)`` -> ``(B,)``."""
        spent = (self.log_scale + self.log_tilt * self.position(quality)).exp()
        return spent / self.target(quality)

    @torch.no_grad()
    def update(self, quality: Tensor, bpp: Tensor, factor: float | Tensor) -> None:
        """Move lambda after a step.

        Args:
            quality, bpp: ``(B,)``; of the rounded symbols, whatever the loss counts.
            factor: multiplies the targets (annealing from a generous rate).
        """
        target = self.target(quality) * factor
        error = (bpp.clamp_min(1e-4) / target).log().clamp(-1, 1)  # (B,)
        self.log_scale += self.gain * error.sum()
        self.log_scale.clamp_(*LOG_SCALE_RANGE)
        # Slower: it waits for the gain vectors, which take some hundred steps to follow.
        self.log_tilt += self.gain / 2 * (error * self.position(quality)).sum()
        self.log_tilt.clamp_(-LOG_TILT_LIMIT, LOG_TILT_LIMIT)
