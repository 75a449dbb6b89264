"""How well a boundary map agrees with people: the F-measure on BSDS500.

The protocol is a loose version of the benchmark's: predictions are thinned to ridges, a predicted pixel is
right when some annotator marked a boundary within ``tolerance`` pixels, a marked pixel is found when a
prediction lies within ``tolerance``. The benchmark matches pixels one to one instead, so its numbers are
lower; ours compare detectors measured here, nothing else.

References
    [1] Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cues import gaussian_blur

THRESHOLDS = torch.linspace(0.02, 0.98, 49)


@dataclass(frozen=True)
class BoundaryScore:
    """Best F-measure over one threshold for the whole set (ODS).

    Attributes:
        f_measure, precision, recall: in [0, 1], at ``threshold``.
        threshold: the best one.
    """

    f_measure: float
    precision: float
    recall: float
    threshold: float


def thin(boundaries: Tensor) -> Tensor:
    """Keep only ridges: pixels that are the largest along the direction across the boundary.

    Args:
        boundaries: ``(1, 1, H, W)`` in [0, 1].

    Returns:
        The same, zero off the ridges (non-maximum suppression with four directions, after Canny).
    """
    smooth = gaussian_blur(boundaries, 1.0)
    rows, columns = torch.gradient(smooth[0, 0])
    rr, cc = torch.gradient(rows)[0], torch.gradient(columns)[1]
    rc = torch.gradient(rows)[1]
    # Across a ridge the second derivative is most negative: its direction from the Hessian.
    angle = 0.5 * torch.atan2(2 * rc, cc - rr) + torch.pi / 2  # (H, W), of the normal
    sector = torch.round(angle / (torch.pi / 4)).long() % 4
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")[0, 0]
    height, width = smooth.shape[-2:]
    ridge = torch.zeros(height, width, dtype=torch.bool)
    for index, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        centre = smooth[0, 0]
        ridge |= (sector == index) & (centre >= ahead) & (centre > behind)
    return boundaries * ridge


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow a boolean ``(1, 1, H, W)`` mask by a disc."""
    offsets = torch.arange(-radius, radius + 1).float()
    disc = (offsets[:, None] ** 2 + offsets**2 <= radius**2).float()[None, None]
    return F.conv2d(mask.float(), disc, padding=radius) > 0.5


def boundary_f_measure(pairs: Iterable[tuple[Tensor, Tensor]], tolerance: int = 3) -> BoundaryScore:
    """Score predictions against human boundary maps.

    Args:
        pairs: ``(prediction, human)`` maps, each ``(1, 1, H, W)`` in [0, 1]; ``human`` is the mean over annotators.
        tolerance: pixels.
    """
    right = torch.zeros(len(THRESHOLDS))
    drawn = torch.zeros(len(THRESHOLDS))
    found = torch.zeros(len(THRESHOLDS))
    marked = 0.0
    for prediction, human in pairs:
        ridges = thin(prediction)
        truth = human > 0
        near_truth = dilate(truth, tolerance)
        marked += float(truth.sum())
        for k, threshold in enumerate(THRESHOLDS):
            lines = ridges > threshold
            drawn[k] += lines.sum()
            right[k] += (lines & near_truth).sum()
            found[k] += (truth & dilate(lines, tolerance)).sum()
    precision = right / drawn.clamp_min(1)
    recall = found / max(marked, 1.0)
    f = 2 * precision * recall / (precision + recall).clamp_min(1e-9)
    best = int(f.argmax())
    return BoundaryScore(
        float(f[best]), float(precision[best]), float(recall[best]), float(THRESHOLDS[best])
    )
