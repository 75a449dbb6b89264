"""Charts about the decoder: where its pixels look, and how its pictures are distributed.

Same manners as :mod:`.charts`: a title that states the finding, alt text as the figure's label.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from .charts import power_spectrum
from .figures import PALETTE, WIDTH, _bare, _figure, _styled

__all__ = ["densities", "fine_power", "receptive_field"]

_LINES = ("-", "--", "-.", ":")


@_styled
def densities(
    samples: Mapping[str, np.ndarray], label: str, title: str, bins: int = 120, clip: float = 2.0
) -> Figure:
    """Histograms of one number, side by side.

    Args:
        samples: name -> values ``(N,)``.
        label: of the axis, with units.
        title: the finding.
        bins: between ``-clip`` and ``clip``.
        clip: end of the axis.
    """
    edges = np.linspace(-clip, clip, bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    spread = "; ".join(f"{name}: standard deviation {v.std():.2f}" for name, v in samples.items())
    figure = _figure(2.3, title, f"Densities of {label}. {spread}.")
    grid = figure.subplots(1, len(samples), sharex=True, sharey=True, squeeze=False)[0]
    for index, (axes, (name, values)) in enumerate(zip(grid, samples.items(), strict=True)):
        height, _ = np.histogram(values, edges, density=True)
        axes.fill_between(centres, height, color=PALETTE[index % 10], alpha=0.35)
        axes.plot(centres, height, color=PALETTE[index % 10], linestyle=_LINES[index % 4])
        axes.set_title(name)
        axes.set_xlabel(label)
        sns.despine(ax=axes)
    grid[0].set_ylabel("density")
    return figure


@_styled
def receptive_field(
    influence: np.ndarray, title: str, stride: int = 16, share: float = 0.9, around: int = 6
) -> Figure:
    """How much one pixel depends on every latent position: a map, and the sum over growing squares.

    Args:
        influence: ``(n, n)`` non-negative, n odd; the pixel lies in the position in the middle.
        title: the finding.
        stride: pixels per latent position.
        share: part of the influence to mark.
        around: latent positions on each side that the map shows at least; more if influence comes from further.
    """
    radii, within = _within(influence)
    enough = int(radii[np.searchsorted(within, share)])
    reached = int(_rings(influence).nonzero()[0].max())
    alt = (
        f"Left: map of the influence on a logarithmic scale, brightest in the middle. Right: {share:.0%} of it lies "
        f"within {stride * enough} pixels, all of it within {stride * reached}."
    )
    figure = _figure(WIDTH * 0.34, title, alt)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    _bare(left, "influence per latent position (log10)")
    top = influence.max()
    middle = influence.shape[0] // 2
    cut = middle - min(middle, max(around, reached, enough))
    cropped = influence[cut : len(influence) - cut, cut : len(influence) - cut]
    shown = left.imshow(np.log10(cropped.clip(top * 1e-8) / top), cmap="cividis", vmin=-8, vmax=0)
    middle -= cut
    for colour, width in (("black", 2.6), ("white", 1.2)):
        corner, side = middle - enough - 0.5, 2 * enough + 1
        left.add_patch(Rectangle((corner, corner), side, side, fill=False, ec=colour, lw=width))
    figure.colorbar(shown, ax=left, fraction=0.046)
    right.plot(stride * radii, 100 * within, color=PALETTE[0], marker="o")
    right.axhline(100 * share, color=PALETTE[7], linestyle="--")
    right.set_xlabel("distance in pixels (whole latent positions)")
    right.set_ylabel("influence within (%)")
    sns.despine(ax=right)
    return figure


def fine_power(picture: Image.Image, original: Image.Image) -> float:
    """Power of the luma above a quarter of a cycle per pixel, as a share of the original's."""
    ours, theirs = (power_spectrum(each)[1] for each in (picture, original))
    half = len(ours) // 2
    return sum(ours[half:]) / sum(theirs[half:])


def _rings(influence: np.ndarray) -> np.ndarray:
    """Sum of the influence over the square ring of every radius, in positions."""
    middle = influence.shape[0] // 2
    offset = np.abs(np.arange(influence.shape[0]) - middle)
    ring = np.maximum(offset[:, None], offset[None])
    return np.bincount(ring.ravel(), influence.ravel(), middle + 1)


def _within(influence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radii in positions, and the share of the influence in the square of each radius."""
    sums = _rings(influence)
    return np.arange(len(sums)), np.cumsum(sums) / sums.sum()
