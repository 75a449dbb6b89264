"""Discriminators: the adversarial half of the codec's and the refiner's training.

    L_D = E[relu(1 - D(x | c))] + E[relu(1 + D(x' | c))]        L_G = -E[D(x' | c)]         (hinge)

Both judge patches, not pictures. One backward pass serves both players, see :func:`hinge_game`.

References
    [1] Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017 (PatchGAN).
    [2] Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.
    [3] Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020.
    [4] Mentzer et al., "High-Fidelity Generative Image Compression", NeurIPS 2020 (condition: the latent).
    [5] Sauer et al., "Projected GANs Converge Faster", NeurIPS 2021 (frozen features).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..tiling import STRIDE
from .objectives import window

if TYPE_CHECKING:
    from lpips import LPIPS


def diff_augment(image: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    """Colour, translation and cutout, differentiable and drawn per image [3].

    A few thousand photos are soon known by heart; augmenting what the discriminator sees, real and fake alike,
    keeps it from that.

    Args:
        image: ``(B, 3, H, W)`` in about [0, 1].
        condition: ``(B, C, H/16, W/16)``; moves with the image, by whole latent positions.
    """
    batch, _, height, width = image.shape

    def uniform() -> Tensor:
        return torch.rand(batch, 1, 1, 1, device=image.device)

    image = image + (uniform() - 0.5) * 0.4  # brightness
    grey = image.mean(dim=1, keepdim=True)
    image = (image - grey) * (uniform() * 1.5 + 0.25) + grey  # saturation
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = (image - mean) * (uniform() * 0.7 + 0.65) + mean  # contrast

    # By -1, 0 or 1 latent positions, zeros coming in at the border.
    rows, columns = torch.randint(3, (2,), device=image.device)
    image = _moved(image, rows * STRIDE, columns * STRIDE, STRIDE)
    condition = _moved(condition, rows, columns, 1)

    def stripe(length: int) -> Tensor:
        """Where a third of a side is cut out: ``(B, 1, 1, length)``."""
        start = (uniform() * (length - length // 3)).long()
        away = torch.arange(length, device=image.device) - start
        return (away >= 0) & (away < length // 3)

    return image * ~(stripe(height).mT & stripe(width)), condition


def _moved(x: Tensor, top: Tensor, left: Tensor, margin: int) -> Tensor:
    padded = F.pad(x, (margin, margin, margin, margin))
    return window(padded, top, left, *x.shape[-2:])


class PatchDiscriminator(nn.Module):
    """Small conditional PatchGAN with spectral norm [1, 2, 4].

    Args:
        condition_channels: channels of the latent that it is told.
        width: channels after the first layer.

    Shape:
        image ``(B, 3, H, W)`` in about [0, 1], y_hat ``(B, C, H/16, W/16)`` -> logits ``(B, 1, H/8, W/8)``.
    """

    def __init__(self, condition_channels: int, width: int = 48) -> None:
        super().__init__()
        self.condition = spectral_norm(nn.Conv2d(condition_channels, 16, 3, padding=1))
        self.fine = nn.Sequential(
            spectral_norm(nn.Conv2d(3, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
        )
        self.coarse = nn.Sequential(
            spectral_norm(nn.Conv2d(2 * width + 16, 4 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(4 * width, 4 * width, 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(4 * width, 1, 3, padding=1)),
        )

    def forward(self, image: Tensor, y_hat: Tensor) -> Tensor:
        features = self.fine((image - 0.5) * 2)  # (B, 2w, H/4, W/4)
        told = F.interpolate(self.condition(y_hat), scale_factor=4, mode="nearest")
        return self.coarse(torch.cat([features, told], dim=1))  # (B, 1, H/8, W/8)


class FeatureDiscriminator(nn.Module):
    """Small heads on the frozen AlexNet or VGG16 features that LPIPS uses [5].

    The trunk knows textures already, so a few minutes teach the heads which of them are fake. AlexNet's first layer has
    a stride of 4 and hardly sees a grid of that period; VGG16 sees every pixel, and costs ten times as much.

    Args:
        lpips: ``lpips.LPIPS(net="alex")`` or ``"vgg"``; its trunk is used as it is and never trained.
        levels: how many of the trunk's five stages get a head; None for four of AlexNet's, three of VGG16's.

    Shape:
        features of :meth:`features` -> logits ``(B, N)`` of all patches of all stages.
    """

    def __init__(self, lpips: LPIPS, levels: int | None = None) -> None:
        super().__init__()
        levels = levels or {"alex": 4, "vgg": 3}[lpips.pnet_type]
        self._trunk = [lpips]  # in a list: not a part of this module, neither trained nor saved
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(channels, 64, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(64, 64, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(64, 1, 1)),
            )
            for channels in lpips.chns[:levels]
        )

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """Feature maps ``(B, C_l, h_l, w_l)`` of images ``(B, 3, H, W)`` in about [0, 1]; both players share them."""
        (lpips,) = self._trunk
        found = [lpips.scaling_layer(image * 2 - 1)]
        for level in range(1, len(self.heads) + 1):  # the stages above would be computed in vain
            found.append(getattr(lpips.net, f"slice{level}")(found[-1]))
        return tuple(found[1:])

    def forward(self, *features: Tensor) -> Tensor:
        pairs = zip(self.heads, features, strict=True)
        return torch.cat([head(f).flatten(1) for head, f in pairs], dim=1)


def hinge_game(
    discriminator: nn.Module, real: tuple[Tensor, ...], fake: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Both players' losses, to be added and differentiated at once.

    The generator's loss sees a discriminator whose weights are held, the discriminator's loss sees a detached
    picture: neither player's gradient reaches the other, so one backward pass and one optimiser step
    each update both.

    Args:
        discriminator: of ``real`` and of ``fake`` (image and condition, or features of an image).
        real, fake: arguments of one call; only those of ``fake`` may carry a gradient.

    Returns:
        generator loss, discriminator loss.
    """
    discriminator.requires_grad_(False)
    generator_loss = -discriminator(*fake).mean()
    discriminator.requires_grad_(True)
    on_real = discriminator(*(x.detach() for x in real))
    on_fake = discriminator(*(x.detach() for x in fake))
    discriminator_loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
    return generator_loss, discriminator_loss
