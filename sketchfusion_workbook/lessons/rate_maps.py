"""Where in the picture the bits of a sketch go.

Symbols --tables--> bits of each symbol --> sum over channels --> (h, w) per group
"""

from __future__ import annotations

from torch import Tensor

from sketchfusion_lite.coding import Symbols
from sketchfusion_lite.integer import Tables

from .planes import unfold

__all__ = ["bits_per_place"]


def bits_per_place(symbols: Symbols, tables: Tables) -> dict[str, Tensor]:
    """Ideal code length of each place of the sketch, 16x16 pixels of the photo.

    Args:
        symbols: from :meth:`.SketchCoder.quantise`.
        tables: of the entropy model that predicted them.

    Returns:
        ``"structure"`` and ``"tone"`` -> bits ``(h, w)``, float64; each sums to its entry of ``symbols.bits``.
    """
    sides = symbols.y_hat.shape[-2:]
    return {
        name: unfold(tables.bits(values, rows).double(), *sides).sum(dim=0)
        for name, values, rows in zip(
            ("structure", "tone"), symbols.symbols[1:], symbols.rows[1:], strict=True
        )
    }
