"""Training objectives: rate, distortion, perception, and the controller that holds the rate.

    loss = lambda(quality) * bpp + w_mse * MSE(0..255) + w_lpips * LPIPS + w_sketch * BCE(sketch, boundaries)

References
    [1] Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    [2] Mentzer et al., "High-Fidelity Generative Image Compression", NeurIPS 2020 (rate controller).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sketch import interpolate_levels


class PerceptualLoss(nn.Module):
    """LPIPS on randomly shifted views.

    AlexNet's first layer has stride 4: always aligned with the decoder's own pixel lattice it cannot see some
    periodic patterns, and a decoder learns to leave exactly those (a woven texture). A random shift of 0 to 3
    pixels per step takes the alignment away.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Mean distance per image ``(B,)`` of images ``(B, 3, H, W)`` in about [0, 1]."""
        top, left = torch.randint(4, (2,)).tolist()
        bottom, right = image.shape[-2] - (4 - top), image.shape[-1] - (4 - left)
        image, reference = (x[..., top:bottom, left:right] * 2 - 1 for x in (image, reference))
        return self.net(image, reference).flatten()


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
    """Lambda per quality level, moved so that the mean rate of every level meets its target [2].

    State is a buffer, saved and resumed with the checkpoint.

    Args:
        targets: bits per pixel per level.
        gain: relative change of lambda per crop and unit of relative error.
    """

    def __init__(self, targets: list[float], gain: float = 0.004) -> None:
        super().__init__()
        self.gain = gain
        log_targets = torch.tensor(targets).log()
        self.register_buffer("log_targets", log_targets)
        self.register_buffer("log_lambda", (0.5 / torch.tensor(targets)).log())

    def weight(self, quality: Tensor) -> Tensor:
        """Lambda at quality ``(B,)`` -> ``(B,)``, geometric between levels."""
        return interpolate_levels(self.log_lambda.unsqueeze(1), quality).squeeze(1).exp()

    @torch.no_grad()
    def update(self, quality: Tensor, bpp: Tensor, factor: float) -> None:
        """Move lambda after a step.

        Args:
            quality, bpp: ``(B,)``.
            factor: multiplies the targets (annealing from a generous rate).
        """
        target = interpolate_levels(self.log_targets.unsqueeze(1), quality).squeeze(1).exp() * factor
        error = ((bpp - target) / target).clamp(-1, 1)  # (B,)
        levels = torch.arange(len(self.log_lambda), device=quality.device)
        share = (1 - (quality[:, None] - levels).abs()).clamp_min(0)  # (B, L)
        self.log_lambda += self.gain * (share * error[:, None]).sum(dim=0)
