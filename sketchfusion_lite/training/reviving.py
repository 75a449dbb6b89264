"""Bring dead units of trained networks back: fresh weights in, next to nothing out.

A unit behind the 3x3 convolution of a bottleneck block is dead if it is below zero everywhere, for every crop of a
batch. It gets new incoming weights and small outgoing ones, so that the network computes nearly what it did before,
and training can put the unit to use.

References
    [1] Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023 (ReDo).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..blocks import BottleneckBlock
from .inspection import live_units

__all__ = ["revive"]


@torch.no_grad()
def revive(network: nn.Module, *inputs: Tensor) -> dict[str, int]:
    """Re-initialise the dead units of a network's bottleneck blocks [1].

    Args:
        network: changed in place.
        inputs: a batch of its ``forward``, large enough to tell who is dead.

    Returns:
        Name of every block -> number of units that were revived.
    """
    named = dict(network.named_modules())
    counts = {}
    for name, alive in live_units(network, *inputs).items():
        block, dead = named[name], ~alive  # (C // 2,)
        counts[name] = int(dead.sum())
        fresh = BottleneckBlock(2 * len(dead)).to(block.expand.weight)
        block.spatial.weight[dead] = fresh.spatial.weight[dead]
        block.spatial.bias[dead] = fresh.spatial.bias[dead]
        block.expand.weight[:, dead] = fresh.expand.weight[:, dead]  # small: a block starts so
    return counts
