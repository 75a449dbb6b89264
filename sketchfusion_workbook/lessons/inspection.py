"""Look into a trained network: what its stages cost, what a block is worth, and how far one pixel looks.

References
    [1] Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sketchfusion_lite.preview import PreviewDecoder

__all__ = ["Stage", "influence", "muted", "stages"]


@dataclass(frozen=True)
class Stage:
    """What one part of a network costs and does.

    Attributes:
        macs: multiply-accumulates for the inputs it was run with.
        parameters: how many.
    """

    macs: int
    parameters: int


@torch.no_grad()
def stages(network: nn.Module, *inputs: Tensor) -> dict[str, Stage]:
    """Run a network once and account for each of its children.

    Args:
        network: whose ``forward`` calls its children as modules.
        inputs: of its ``forward``.

    Returns:
        Name of every child -> :class:`Stage`.
    """
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    counts, found = counter.get_flop_counts(), {}
    for name, child in network.named_children():
        flops = sum(counts.get(f"{type(network).__name__}.{name}", {}).values())
        found[name] = Stage(
            flops // 2,  # torch counts multiplication and addition
            sum(p.numel() for p in child.parameters()),
        )
    return found


def muted(network: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy of a network in which some bottleneck blocks add nothing but a bias.

    How much worse the result is tells what those blocks are worth to this network, which cannot adapt: an upper bound.

    Args:
        network: left as it is.
        names: of its :class:`.BottleneckBlock` modules.
    """
    changed = copy.deepcopy(network)
    for name in names:
        nn.init.zeros_(changed.get_submodule(name).expand.weight)
    return changed


def influence(decoder: PreviewDecoder, y_hat: Tensor, quality: Tensor) -> np.ndarray:
    """How much one pixel in the middle of a picture depends on every latent position around it [1].

    Args:
        decoder: in evaluation mode.
        y_hat: latent of one picture ``(1, C, h, w)``.
        quality: ``(1,)``.

    Returns:
        Sum over the channels of the gradient's absolute values, a square ``(n, n)`` of the largest odd n that fits,
        the pixel's own latent position in its middle.
    """
    row, column = (side // 2 for side in y_hat.shape[-2:])
    leaf = y_hat.detach().clone().requires_grad_()
    pixel = decoder(leaf, quality)[..., 16 * row + 8, 16 * column + 8].sum()
    (gradient,) = torch.autograd.grad(pixel, leaf)
    total = gradient.abs().sum(dim=(0, 1)).double().cpu().numpy()  # (h, w)
    radius = (min(total.shape) - 1) // 2
    return total[row - radius : row + radius + 1, column - radius : column + radius + 1]
