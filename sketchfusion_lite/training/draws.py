"""Random numbers that are functions of seed and step, drawn on the device that needs them.

A counter is mixed into 64 bits [1], so nothing is remembered from step to step: a resumed run draws what it would
have drawn, and a CUDA graph, whose step is a tensor, draws something new at every replay.

References
    [1] Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014 (SplitMix64).
"""

from __future__ import annotations

import torch
from torch import Tensor

# As signed numbers, which is what tensors hold; products wrap around.
_GOLDEN, _FIRST, _SECOND = (
    x - 2**64 for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def uniform(seed: int, step: Tensor | int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Numbers ``(rows, columns)`` in [0, 1).

    Args:
        seed: 0 or more; every use needs one of its own.
        step: of the run, an int64 tensor ``()`` on the device, or a number.
        rows, columns: how many.
        device: where to draw.
    """
    at = torch.arange(rows * columns, device=device)
    x = _mixed(_mixed((at * 0 + seed) * _GOLDEN + step) + at * _GOLDEN)
    return ((x >> 40) & 0xFFFFFF).float().mul(2**-24).view(rows, columns)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
