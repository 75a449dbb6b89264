"""Pictures of what is no picture: letters, features, edge maps, curves of detectors.

"A cup of coffee ..."  --> text_page     --> a page that shows them
features (1, C, h, w)  --> false_colour  --> their three strongest directions as red, green and blue
values (H, W)          --> ink           --> an edge map, black on white
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sketchfusion_lite.images import to_pil
from sketchfusion_workbook.lessons.boundaries import BoundaryCurve

from .charts import _MARKERS
from .figures import PALETTE, _figure, _styled

__all__ = ["false_colour", "ink", "precision_recall", "text_page"]


def text_page(text: str, size: tuple[int, int]) -> Image.Image:
    """A white page with a text on it, in the largest letters at which all of it fits.

    Args:
        text: to be shown; broken between words.
        size: width and height in pixels.
    """
    width, height = size
    margin = max(2, min(size) // 16)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for points in range(max(8, height // 6), 5, -1):
        font = ImageFont.load_default(points)
        lines = _wrapped(text, font, width - 2 * margin)
        if len(lines) * 1.3 * points <= height - 2 * margin:
            break
    for number, line in enumerate(lines):
        draw.text((margin, margin + 1.3 * points * number), line, fill="black", font=font)
    return page


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def false_colour(features: Tensor, size: tuple[int, int] | None = None) -> Image.Image:
    """Features as colours: their three directions of largest variance become red, green and blue.

    Args:
        features: ``(1, C, h, w)``, three channels or more. Similar colours mean similar features; which colour it is
            means nothing.
        size: width and height of the picture; None for ``w`` and ``h``.
    """
    height, width = features.shape[-2:]
    rows = features[0].flatten(1).T.double().cpu()  # (h*w, C)
    rows = rows - rows.mean(dim=0)
    _, vectors = torch.linalg.eigh(rows.T @ rows)  # by rising variance
    vectors = vectors[:, -3:].flip(1)
    vectors = vectors * torch.where(
        vectors.sum(dim=0) < 0, -1.0, 1.0
    )  # a sign of its own is arbitrary
    planes = rows @ vectors  # (h*w, 3)
    low, high = (torch.quantile(planes, q, dim=0) for q in (0.02, 0.98))
    shown = ((planes - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    pixels = (shown * 255).round().to(torch.uint8).view(height, width, 3).numpy()
    picture = Image.fromarray(pixels)
    return picture if size is None else picture.resize(size, Image.Resampling.NEAREST)


def ink(values: np.ndarray | Tensor) -> Image.Image:
    """An edge map as black on white.

    Args:
        values: ``(H, W)``, or with dimensions of size 1 before them; 0 stays white, the strongest half per cent black.
    """
    strength = torch.as_tensor(values).float()
    strength = strength.reshape(1, *strength.shape[-2:])
    limit = torch.quantile(strength, 0.995)
    limit = limit if limit > 0 else strength.max().clamp_min(1e-6)  # a few thin lines
    return to_pil(1 - (strength / limit).clamp(0, 1))


@_styled
def precision_recall(curves: Mapping[str, BoundaryCurve], title: str) -> Figure:
    """Precision over recall of several detectors; a marker where the F-measure is highest.

    Args:
        curves: name -> curve.
        title: the finding.
    """
    best = {name: curve.best for name, curve in curves.items()}
    ends = "; ".join(
        f"{name} {b.f_measure:.2f} at recall {b.recall:.2f}" for name, b in best.items()
    )
    figure = _figure(3.4, title, f"Precision over recall. Highest F-measure: {ends}.")
    axes = figure.subplots()
    grid = np.linspace(0.01, 1, 200)
    for f in (0.2, 0.4, 0.6, 0.8):  # curves of equal F
        right = grid[grid > f / 2 + 1e-3]
        level = f * right / (2 * right - f)
        axes.plot(right[level <= 1], level[level <= 1], color="0.8", linewidth=0.8, zorder=1)
        axes.text(1.005, f / (2 - f), f"F = {f:g}", color="0.4", fontsize=7, va="center")
    for index, (name, curve) in enumerate(curves.items()):
        drawn = curve.recall > 0
        style = {"color": PALETTE[index % 10], "linestyle": ("-", "--", "-.", ":")[index % 4]}
        at, label = best[name], f"{name}, F = {best[name].f_measure:.2f}"
        axes.plot(curve.recall[drawn], curve.precision[drawn], **style)
        marker = _MARKERS[index % 6]
        axes.plot([at.recall], [at.precision], marker=marker, markersize=9, label=label, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("recall: share of true pixels that are found")
    axes.set_ylabel("precision: share of drawn pixels that are true")
    axes.grid(False)
    axes.legend(frameon=True, fontsize="small", loc="lower left")
    sns.despine(ax=axes)
    return figure
