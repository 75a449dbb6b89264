"""Entropy model: how likely every symbol of the sketch is, in four parallel passes.

    y --> HyperAnalysis --> z --round--> z_hat --> HyperSynthesis --> psi        (what the region is like)
    pass 0  structure, anchors       <- psi
    pass 1  structure, the others    <- psi, structure anchors
    pass 2  tone, anchors            <- psi, structure
    pass 3  tone, the others         <- psi, structure, tone anchors

Anchors are the black fields of a checkerboard [2]. Two simpler models are for ablations: without context
(``"hyperprior"``) every pass sees psi alone; without hyper latent too (``"factorised"``) psi is the quality's only.

Every symbol is ``round(y - mean)``, a zero-mean Gaussian of the predicted scale, integrated over the unit bin [1].
The float networks here are what training sees; what codes is their integer export in :mod:`.integer`.

References
    [1] Minnen et al., "Joint Autoregressive and Hierarchical Priors for Learned Image Compression", NeurIPS 2018.
    [2] He et al., "Checkerboard Context Model for Efficient Learned Image Compression", CVPR 2021.
    [3] Balle et al., "Variational image compression with a scale hyperprior", ICLR 2018 (appendix 6.1: prior of z).
    [4] Minnen, Singh, "Channel-wise Autoregressive Entropy Models for Learned Image Compression", ICIP 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import bias_of, downsample
from .images import pad_to_multiple

MEAN_STEP = 1 / 8  # means are multiples of this, so that the decoder can reproduce them as integers
SCALE_LEVELS = 64
SCALE_MIN, SCALE_MAX = 0.11, 16.0
_LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1)
LIKELIHOOD_MIN = 2.0**-16  # what the 16-bit coder can express
PSI_CHANNELS = 48  # P: of what the hyper latent says
Proxy = Callable[[Tensor], Tensor]  # of one shape
CONTEXTS = ("checkerboard", "hyperprior", "factorised")


def scale_of_index(index: Tensor) -> Tensor:
    """Standard deviation of (possibly fractional) table index, log-spaced from 0.11 to 16."""
    return SCALE_MIN * torch.exp(_LOG_SCALE_STEP * index)


def checkerboard(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Boolean ``(1, 1, height, width)`` mask, true at the anchors (row + column even)."""
    rows, columns = (torch.arange(side, device=device) for side in (height, width))
    return ((rows[:, None] + columns) % 2 == 0)[None, None]


def round_ste(x: Tensor) -> Tensor:
    """Round; the gradient passes straight through (Bengio et al., 2013)."""
    return x + (x.round() - x).detach()


def add_noise(x: Tensor) -> Tensor:
    """Uniform noise of one step in place of rounding (Balle et al., ICLR 2017), for comparison: see notebook 02."""
    return x + torch.empty_like(x).uniform_(-0.5, 0.5)


def symbol_likelihood(symbols: Tensor, scales: Tensor) -> Tensor:
    """Probability of integer symbols under a zero-mean Gaussian over unit bins [1], at least 2^-16."""
    magnitude = symbols.abs()  # by symmetry, in the tail where erfc keeps its precision
    edges = ((magnitude + half) / (scales * math.sqrt(2.0)) for half in (-0.5, 0.5))
    upper, lower = (0.5 * torch.erfc(edge) for edge in edges)
    return (upper - lower).clamp_min(LIKELIHOOD_MIN)


class HyperAnalysis(nn.Module):
    """The scaled latent, four times coarser: ``(B, C, h, w)`` -> z ``(B, Z, ceil(h/4), ceil(w/4))``."""

    def __init__(self, latent_channels: int, hyper_channels: int, width: int = 96) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            nn.ReLU(),
            downsample(width, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            downsample(width, hyper_channels),
        )

    def forward(self, y: Tensor) -> Tensor:
        return self.net(pad_to_multiple(y, 4)[0])


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 1/8, which is easy in integers."""
    return F.leaky_relu(x, 0.125)


class HyperSynthesis(nn.Module):
    """What the hyper latent says about each place; without hyper channels the quality alone, the same everywhere.

    Shape:
        z_hat ``(B, Z, h/4, w/4)`` integers, quality ``(B,)`` -> psi ``(B, P, h, w)``.
    """

    def __init__(self, hyper_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hyper_channels + 1, 96, 3, padding=1)
        self.up1 = nn.Conv2d(96, 4 * 64, 1)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=1)
        self.up2 = nn.Conv2d(64, 4 * PSI_CHANNELS, 1)

    def forward(self, z_hat: Tensor, quality: Tensor) -> Tensor:
        plane = quality.to(z_hat.dtype).view(-1, 1, 1, 1).expand(-1, 1, *z_hat.shape[-2:])
        x = leaky(self.conv1(torch.cat([z_hat, plane], dim=1)))  # (B, 96, h/4, w/4)
        x = leaky(F.pixel_shuffle(self.up1(x), 2))  # (B, 64, h/2, w/2)
        x = leaky(self.conv2(x))  # (B, 64, h/2, w/2)
        psi = F.pixel_shuffle(self.up2(x), 2)  # (B, P, h, w)
        return psi if z_hat.shape[1] else everywhere_alike(psi)


def everywhere_alike(psi: Tensor) -> Tensor:
    """The corner's features at every place: borders and the phases of pixel shuffles would tell places apart."""
    return psi[..., :1, :1].expand_as(psi)


class GroupContext(nn.Module):
    """Means and scale indices of one channel group from psi and the symbols decoded so far.

    Args:
        known_channels, group_channels: of all that may be known (earlier group, this one's anchors); of this group.
        sees: with false nothing known is looked at, only psi.

    Shape:
        psi ``(B, P, h, w)``, known ``(B, K, h, w)`` with zeros where unknown, mask ``(B, 1, h, w)`` with ones where
        this group is known -> means, rounded as the decoder has them, and indices ``(B, group_channels, h, w)``.
    """

    def __init__(self, known_channels: int, group_channels: int, sees: bool = True) -> None:
        super().__init__()
        self.context = nn.Conv2d(known_channels + 1, 48, 5, padding=2) if sees else None
        self.mix = nn.Conv2d(PSI_CHANNELS + (48 if sees else 0), 128, 1)
        self.hidden = nn.Conv2d(128, 96, 1)
        self.head = nn.Conv2d(96, 2 * group_channels, 1)
        # Start at a unit scale: symbols are neither free nor absurdly dear while the latent finds its size.
        self.head.weight.data.mul_(0.1)
        bias_of(self.head).data[group_channels:] = 28.0 / 8.0

    def forward(self, psi: Tensor, known: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = psi  # (B, P, h, w)
        if self.context is not None:
            x = leaky(self.context(torch.cat([known, mask], dim=1)))  # (B, 48, h, w)
            x = torch.cat([x, psi], dim=1)  # (B, 48 + P, h, w)
        x = leaky(self.mix(x))  # (B, 128, h, w)
        x = leaky(self.hidden(x))  # (B, 96, h, w)
        means, indices = self.head(x).chunk(2, dim=1)
        indices = indices * 8.0  # they span 0..63: the factor keeps weights small
        return round_ste(means / MEAN_STEP) * MEAN_STEP, indices.clamp(0, SCALE_LEVELS - 1)


class Quantised(NamedTuple):
    """What training needs of one pass through the entropy model.

    Attributes:
        y_hat: quantised latent ``(B, C, h, w)``, gradients straight through.
        y_mean: ``y_hat`` with predicted means for the tone group, as after a truncated stream. No gradient goes into
            these: they are the rate's business, and means that please a decoder cost bits.
        bits_sections: bits ``(B, 3)`` of hyper, structure, tone.
        rounded_bits: all bits ``(B,)`` with rounded symbols, without gradient.
    """

    y_hat: Tensor
    y_mean: Tensor
    bits_sections: Tensor
    rounded_bits: Tensor


class Walked(NamedTuple):
    """What the four passes found, each ``(B, C, h, w)``; ``blind_means`` are of the passes that see no anchors."""

    symbols: Tensor
    means: Tensor
    indices: Tensor
    blind_means: Tensor


class EntropyModel(nn.Module):
    """Hyperprior with two channel groups and checkerboard context (float, for training).

    Args:
        structure_channels, tone_channels: sizes of the two ordered groups of the latent; tone may have none.
        hyper_channels: channels of ``z``; a factorised model has none, whatever is asked for.
        trainable: with false only ``analysis`` exists, all that a codec needs beside the integer export.
        context: what predicts the symbols, one of ``CONTEXTS``, see above; another word is a ``ValueError``.

    Attributes:
        quantiser: what stands for rounding in :meth:`forward`, differentiable: :func:`round_ste`, or another proxy such
            as :func:`add_noise`. Means stay rounded, and coding always rounds, whatever a model was trained with.
        rate_quantiser: what stands for rounding where bits are counted, if that is to be another; None for the same.
            With :func:`add_noise` here and :func:`round_ste` above it is the mixed scheme of [4].
    """

    quantiser: Proxy = staticmethod(round_ste)
    rate_quantiser: Proxy | None = None

    def __init__(
        self,
        structure_channels: int,
        tone_channels: int,
        hyper_channels: int,
        trainable: bool = True,
        context: str = "checkerboard",
    ) -> None:
        super().__init__()
        if context not in CONTEXTS:
            raise ValueError(f"context must be one of {CONTEXTS}, not {context!r}")
        hyper_channels = 0 if context == "factorised" else hyper_channels
        self.structure_channels, self.tone_channels = structure_channels, tone_channels
        channels = structure_channels + tone_channels
        self.analysis = HyperAnalysis(channels, hyper_channels) if hyper_channels else None
        if not trainable:
            return
        from compressai.entropy_models import EntropyBottleneck  # takes seconds to import

        sees = context == "checkerboard"
        self.prior = EntropyBottleneck(hyper_channels) if hyper_channels else None
        self.synthesis = HyperSynthesis(hyper_channels)
        self.structure_context = GroupContext(structure_channels, structure_channels, sees=sees)
        if tone_channels:  # a lines-only codec has none
            self.tone_context = GroupContext(channels, tone_channels, sees=sees)

    def hyper_latent(self, y: Tensor) -> Tensor:
        """Hyper latent ``(B, Z, ceil(h/4), ceil(w/4))`` of a scaled latent ``(B, C, h, w)``, not rounded."""
        if self.analysis is not None:
            return self.analysis(y)
        return y.new_zeros(len(y), 0, -(-y.shape[-2] // 4), -(-y.shape[-1] // 4))

    def hyper_likelihood(self, z_hat: Tensor) -> Tensor:
        """Probability of integer hyper symbols ``(B, Z, h, w)`` under the factorised prior [3]."""
        if self.prior is None:
            return torch.ones_like(z_hat)
        planes = z_hat.transpose(0, 1)  # (Z, B, h, w)
        likelihood, _, _ = self.prior._likelihood(planes.flatten(1).unsqueeze(1))  # (Z, 1, B*h*w)
        return likelihood.view_as(planes).transpose(0, 1).clamp_min(LIKELIHOOD_MIN)

    def forward(self, y: Tensor, quality: Tensor) -> Quantised:
        """Quantise a scaled latent ``(B, C, h, w)`` at quality ``(B,)`` and count its bits."""
        z = self.hyper_latent(y)  # (B, Z, h/4, w/4)
        z_hat = self.quantiser(z)
        psi = self.synthesis(z_hat, quality)[..., : y.shape[-2], : y.shape[-1]]  # (B, P, h, w)
        walked = self.walk(psi, lambda own, means: self.quantiser(y[:, own] - means))
        symbols, means, scales = walked.symbols, walked.means, scale_of_index(walked.indices)
        bits = [self._count(z, z_hat, self.hyper_likelihood)]
        split = self.structure_channels
        for own in (slice(0, split), slice(split, None)):
            given = partial(symbol_likelihood, scales=scales[:, own])
            bits.append(self._count((y - means)[:, own], symbols[:, own], given))
        sections, rounded = torch.stack(bits, dim=2).unbind(0)  # (B, 3)
        y_hat = symbols + means
        y_mean = torch.cat([y_hat[:, :split], walked.blind_means[:, split:].detach()], dim=1)
        return Quantised(y_hat, y_mean, sections, rounded.sum(dim=1).detach())

    def walk(self, psi: Tensor, symbols_of: Callable[[slice, Tensor], Tensor]) -> Walked:
        """The four passes, for training and for the search of a latent (in integers: :class:`.SketchCoder`).

        Args:
            psi: hyper features ``(B, P, h, w)``.
            symbols_of: ``(channels, means (B, c, h, w))`` -> symbols ``(B, c, h, w)`` of a group; asked in the blind
                pass and in the one that sees the anchors.
        """
        anchors = checkerboard(psi.shape[2], psi.shape[3], psi.device)  # (1, 1, h, w)
        mask = anchors.to(psi.dtype).expand(len(psi), -1, -1, -1)
        known = psi[:, :0]  # nothing yet
        found, split = [], self.structure_channels
        nets = [(self.structure_context, slice(0, split))]
        if self.tone_channels:
            nets.append((self.tone_context, slice(split, split + self.tone_channels)))
        for net, own in nets:
            nothing = F.pad(known, (0, 0, 0, 0, 0, own.stop - own.start))  # of this group
            blind, indices = net(psi, nothing, 0 * mask)
            symbols = symbols_of(own, blind)
            decoded = torch.where(anchors, symbols + blind, 0)  # (B, c, h, w)
            seeing, others = net(psi, torch.cat([known, decoded], dim=1), mask)
            symbols = torch.where(anchors, symbols, symbols_of(own, seeing))
            means = torch.where(anchors, blind, seeing)
            known = torch.cat([known, symbols + means], dim=1)
            found.append((symbols, means, torch.where(anchors, indices, others), blind))
        return Walked(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))

    def _count(self, values: Tensor, symbols: Tensor, likelihood: Proxy) -> Tensor:
        """Bits ``(2, B)``: of the symbols, or of ``rate_quantiser`` of the values; and of the rounded values."""

        def bits(priced: Tensor) -> Tensor:
            return -likelihood(priced).log2().sum(dim=(1, 2, 3))

        counted = bits(symbols if self.rate_quantiser is None else self.rate_quantiser(values))
        is_rounded = self.rate_quantiser is None and self.quantiser is round_ste
        with torch.no_grad():
            rounded = counted if is_rounded else bits(values.round())
        return torch.stack([counted, rounded])
