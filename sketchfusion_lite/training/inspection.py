"""Look into a trained network: what its stages cost, which of its units fire, and how far one pixel looks.

A ReLU that is negative for every input passes no gradient, so that a unit once dead stays dead, and a block of dead
units is a constant that still costs its multiplications. Losses do not show it; :func:`live_units` does.

References
    [1] Lu et al., "Dying ReLU and Initialization: Theory and Numerical Examples", 2019.
    [2] Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..blocks import BottleneckBlock
from ..preview import PreviewDecoder

__all__ = ["Stage", "influence", "live_units", "muted", "stages"]


@dataclass(frozen=True)
class Stage:
    """What one part of a network costs and does.

    Attributes:
        macs: multiply-accumulates for the inputs it was run with.
        parameters: how many.
        units: inner channels of its bottleneck blocks.
        live: those of ``units`` that fired, see :func:`live_units`.
    """

    macs: int
    parameters: int
    units: int
    live: int


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
        alive = live_units(network, *inputs)
    counts, found = counter.get_flop_counts(), {}
    for name, child in network.named_children():
        flops = sum(counts.get(f"{type(network).__name__}.{name}", {}).values())
        fires = [x for block, x in alive.items() if block == name or block.startswith(f"{name}.")]
        found[name] = Stage(
            flops // 2,  # torch counts multiplication and addition
            sum(p.numel() for p in child.parameters()),
            sum(map(len, fires)),
            sum(int(x.sum()) for x in fires),
        )
    return found


@torch.no_grad()
def live_units(network: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    """Run a network once and see which inner channels of its bottleneck blocks fire anywhere.

    Args:
        network: with :class:`.BottleneckBlock` somewhere inside.
        inputs: of its ``forward``.

    Returns:
        Name of every block, in the order of the network's modules -> boolean ``(C // 2,)``: the units behind the
        block's 3x3 convolution that were above zero anywhere in the batch.
    """
    alive: dict[str, Tensor] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, BottleneckBlock):

            def watch(_: nn.Module, __: tuple, out: Tensor, name: str = name) -> None:
                alive[name] = (out > 0).any(dim=3).any(dim=2).any(dim=0)  # (C // 2,)

            hooks.append(module.spatial.register_forward_hook(watch))
    try:
        network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return alive


def muted(network: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy of a network in which some bottleneck blocks add nothing but a bias.

    For ReLU blocks that :func:`live_units` finds silent this changes nothing: what they compute can go.

    Args:
        network: left as it is.
        names: of its :class:`.BottleneckBlock` modules.
    """
    changed = copy.deepcopy(network)
    for name in names:
        nn.init.zeros_(changed.get_submodule(name).expand.weight)
    return changed


def influence(decoder: PreviewDecoder, y_hat: Tensor, quality: Tensor) -> np.ndarray:
    """How much one pixel in the middle of a picture depends on every latent position around it [2].

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
