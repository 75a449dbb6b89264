"""Run a convolutional network on a large picture piece by piece, with the result of running it whole.

+-----------------------+     Every tile is computed with a margin of the network's receptive field around it
| margin                |     and then cut back to its core. What a core pixel can see is the same as in the
|   +-------------+     |     whole picture, so there is no seam to hide and nothing to blend: the results
|   |    core     |     |     differ only by rounding of floating-point sums.
|   +-------------+     |
+-----------------------+     Memory then depends on the tile, not on the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from . import checks
from .errors import ArgumentError

STRIDE = 16  # pixels a side of one place of the latent; tiles start and end on these
DEFAULT_TILE = 1024


def cores(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """Cut ``length`` cells into pieces of at most ``tile``, as equal as can be."""
    count = -(-length // tile)
    bounds = [round(i * length / count) for i in range(count + 1)]
    return pairwise(bounds)


def check_tile(name: str, tile: int) -> int:
    """A tile's side in pixels.

    Raises:
        ArgumentError: no multiple of 16 above 0.
    """
    if not checks.is_whole(tile) or tile < 1 or tile % STRIDE:
        raise checks.refusal(name, tile, f"give a multiple of {STRIDE} above 0.")
    return tile


def run_tiled(
    network: Callable[..., Tensor],
    inputs: Sequence[tuple[Tensor, int]],
    out_stride: int,
    margin: int,
    tile: int = DEFAULT_TILE,
) -> Tensor:
    """Apply a network tile by tile.

    Args:
        network: called with a piece of every input; uses nothing that looks at the whole picture (no global
            pooling, no attention, no normalisation over space).
        inputs: ``(tensor (B, C, H / stride, W / stride), stride)``, all of one picture ``H, W``; strides divide 16.
            The sides need to divide by 16 only if the network wants them to.
        out_stride: stride of the result.
        margin: pixels around a core, a multiple of 16, at least the radius of the receptive field.
        tile: pixels per side of a core, a multiple of 16.

    Returns:
        ``(B, C_out, H / out_stride, W / out_stride)``, rounded up; a picture of at most one tile is run whole.

    Raises:
        ArgumentError: tile or margin is not a multiple of 16.
    """
    check_tile("tile", tile)
    if margin < 0 or margin % STRIDE:
        raise ArgumentError(f"margin={margin}: give a multiple of {STRIDE}, or 0.")
    first, stride = inputs[0]
    size = [side * stride for side in first.shape[-2:]]
    if max(size) <= tile:
        return network(*(tensor for tensor, _ in inputs))
    rows, columns = (-(-side // STRIDE) for side in size)  # slices beyond a picture end with it
    reach, side, scale = margin // STRIDE, tile // STRIDE, STRIDE // out_stride
    result: Tensor | None = None
    for top, bottom in cores(rows, side):
        for left, right in cores(columns, side):
            above, below = max(top - reach, 0), min(bottom + reach, rows)
            before, behind = max(left - reach, 0), min(right + reach, columns)
            pieces = (
                tensor[..., above * k : below * k, before * k : behind * k]
                for tensor, k in ((t, STRIDE // s) for t, s in inputs)
            )
            piece = network(*pieces)
            core = piece[
                ...,
                (top - above) * scale : (bottom - above) * scale,
                (left - before) * scale : (right - before) * scale,
            ]
            if result is None:
                sides = (-(-side // out_stride) for side in size)
                result = piece.new_empty((*piece.shape[:2], *sides))
            result[..., top * scale : bottom * scale, left * scale : right * scale] = core
    assert result is not None
    return result
