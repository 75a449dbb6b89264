"""Figures of the encoder's inside: planes of the latent, and maps of one number per place.

Same manners as :mod:`.figures`: a title that states the finding, alt text as the figure's label.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from .figures import WIDTH, _bare, _figure, _picture, _styled

__all__ = ["maps", "planes"]


@_styled
def planes(latent: np.ndarray, captions: list[str], title: str, columns: int = 9) -> Figure:
    """Channels of a latent side by side, on one scale that is symmetric about zero; integers have integer ticks.

    Args:
        latent: ``(C, h, w)``.
        captions: of each channel; at most a dozen letters.
        title: the finding.
        columns: channels per row.
    """
    count, height, width = latent.shape
    rows = -(-count // columns)
    limit = max(float(np.quantile(np.abs(latent), 0.998)), 1e-6)
    alt = f"{count} planes of {width} x {height} numbers; purple is negative, white zero, orange positive."
    tall = rows * ((WIDTH - 0.5) / columns * height / width + 0.28) + 0.35
    figure = _figure(tall, title, alt)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    for axes, plane, caption in zip(grid.flat, latent, captions, strict=False):
        drawn = axes.imshow(plane, cmap="PuOr_r", vmin=-limit, vmax=limit)
        axes.set(xticks=[], yticks=[])
        axes.set_title(caption, fontsize=8, pad=2)
        for spine in axes.spines.values():
            spine.set(color="0.7", linewidth=0.5)
    whole = MaxNLocator(5, integer=True) if (latent == latent.round()).all() else None
    figure.colorbar(drawn, ax=grid, fraction=0.015, pad=0.01, ticks=whole)
    return figure


@_styled
def maps(
    photo: Image.Image, layers: Mapping[str, np.ndarray], title: str, columns: int = 2
) -> Figure:
    """The photo, and maps of one number per place beside it, each with its own scale from 0: little looks like little.

    Args:
        photo: the original.
        layers: caption -> ``(h, w)``, nothing negative; the scale ends at the 99th percentile.
        title: the finding.
        columns: pictures per row.
    """
    ranges = "; ".join(f"{name}, {m.min():.2f} to {m.max():.2f}" for name, m in layers.items())
    alt = f"The photo, and maps of it, bright where the number is large: {ranges}."
    rows = -(-(1 + len(layers)) // columns)
    height = rows * ((WIDTH / columns - 0.55) * photo.height / photo.width + 0.3) + 0.35
    figure = _figure(height, title, alt)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[1 + len(layers) :]:
        axes.set_axis_off()
    _picture(grid.flat[0], photo, "the photo")
    for axes, (caption, layer) in zip(grid.flat[1:], layers.items(), strict=False):
        _bare(axes, caption)
        drawn = axes.imshow(layer, cmap="cividis", vmin=0, vmax=max(np.percentile(layer, 99), 1e-3))
        figure.colorbar(drawn, ax=axes, fraction=0.035, pad=0.02, shrink=0.85)
    return figure
