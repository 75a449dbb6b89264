"""Where in the picture the bits of a sketch go.

Symbols --tables--> bits of each symbol --> sum over channels --> (h, w) per group
"""

from __future__ import annotations

import torch
from torch import Tensor

from .coding import Symbols
from .entropy import checkerboard
from .integer import Tables

__all__ = ["bits_per_place"]


def bits_per_place(symbols: Symbols, tables: Tables) -> dict[str, Tensor]:
    """Ideal code length of each place of the sketch, 16x16 pixels of the photo.

    Args:
        symbols: from :meth:`.SketchCoder.quantise`.
        tables: of the entropy model that predicted them.

    Returns:
        ``"structure"`` and ``"tone"`` -> bits ``(h, w)``, float64; each sums to its entry of ``symbols.bits``.
    """
    height, width = symbols.y_hat.shape[-2:]
    anchors = checkerboard(height, width)[0, 0]  # (h, w)
    maps = {}
    for name, values, rows in zip(
        ("structure", "tone"), symbols.symbols[1:], symbols.rows[1:], strict=True
    ):
        spent = tables.bits(values, rows)
        channels = len(values) // (height * width)
        grid = torch.zeros(height, width, dtype=torch.float64)
        halves = spent.split([channels * int(where.sum()) for where in (anchors, ~anchors)])
        for where, half in zip((anchors, ~anchors), halves, strict=True):
            grid[where] = half.view(channels, -1).sum(dim=0)
        maps[name] = grid
    return maps
