"""Notebook 01: how well a boundary map agrees with people: the F-measure on BSDS500.

The protocol is a loose version of the benchmark's: predictions are thinned to ridges, a predicted pixel is
right when some annotator marked a boundary within ``tolerance`` pixels, a marked pixel is found when a
prediction lies within ``tolerance``. The benchmark matches pixels one to one instead, so its numbers are
lower; ours compare detectors measured here, nothing else.

References
    [1] Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", TPAMI 2011.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.edges import thin

__all__ = ["THRESHOLDS", "BoundaryCurve", "BoundaryScore", "boundary_curve", "dilate"]

THRESHOLDS = torch.linspace(0.02, 0.98, 49)


def dilate(values: Tensor, radius: int) -> Tensor:
    """Grey dilation by a disc: each pixel of ``(1, 1, H, W)`` takes the largest value within ``radius``."""
    grown = values.float()
    for dy in range(radius + 1):  # a disc is a pile of bars, each as long as its chord
        reach = math.isqrt(radius * radius - dy * dy)
        bar = F.max_pool2d(values.float(), (1, 2 * reach + 1), 1, (0, reach))
        height = bar.shape[2]
        padded = F.pad(bar, (0, 0, dy, dy))
        grown = grown.maximum(padded[:, :, :height]).maximum(padded[:, :, 2 * dy :])
    return grown


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


@dataclass(frozen=True)
class BoundaryCurve:
    """Agreement with people at every threshold, over a whole set.

    Attributes:
        thresholds, precision, recall, f_measure: ``(T,)`` each; all but the thresholds in [0, 1]. Where nothing is
            drawn, precision is undefined and given as 0, and so is the F-measure.
    """

    thresholds: Tensor
    precision: Tensor
    recall: Tensor
    f_measure: Tensor

    @property
    def best(self) -> BoundaryScore:
        """The threshold with the highest F-measure."""
        at = int(self.f_measure.argmax())
        rows = (self.f_measure, self.precision, self.recall, self.thresholds)
        return BoundaryScore(*(float(row[at]) for row in rows))


def boundary_curve(pairs: Iterable[tuple[Tensor, Tensor]], tolerance: int = 3) -> BoundaryCurve:
    """Compare predictions with human boundary maps at every threshold.

    Args:
        pairs: ``(prediction, human)`` maps, each ``(1, 1, H, W)`` of floats in [0, 1]; ``human`` is the mean over
            annotators. At least one of these marks something.
        tolerance: pixels, 0 or more.

    Raises:
        ArgumentError: maps of another shape, type or range, a pair of unlike sizes, or nothing that people marked:
            then nothing can be found.
    """
    if not isinstance(tolerance, int) or tolerance < 0:
        raise ArgumentError(f"tolerance={tolerance!r}: give a whole number of pixels, 0 or more.")

    def above(values: Tensor) -> Tensor:
        """How many values exceed each threshold."""
        ordered = values.flatten().sort().values
        return (len(ordered) - torch.searchsorted(ordered, THRESHOLDS, right=True)).float()

    right, drawn, found = torch.zeros(3, len(THRESHOLDS))
    marked = 0.0
    for number, (prediction, human) in enumerate(pairs, start=1):
        _check_maps(prediction, human, f"pair {number}")
        ridges = thin(prediction)
        truth = human > 0
        near_truth = dilate(truth, tolerance) > 0
        marked += float(truth.sum())
        # A marked pixel is found at every threshold below the strongest ridge near it.
        reach = dilate(ridges, tolerance)
        drawn += above(ridges)
        right += above(ridges[near_truth])
        found += above(reach[truth])
    if not marked:
        raise ArgumentError(
            "pairs: people marked nothing in any of them. Give maps with boundaries."
        )
    precision = right / drawn.clamp_min(1)
    recall = found / marked
    f = 2 * precision * recall / (precision + recall).clamp_min(1e-9)
    return BoundaryCurve(THRESHOLDS, precision, recall, f)


def _check_maps(prediction: Tensor, human: Tensor, name: str) -> None:
    for what, each in (("prediction", prediction), ("human", human)):
        if not isinstance(each, Tensor) or not each.is_floating_point():
            kind = each.dtype if isinstance(each, Tensor) else type(each).__name__
            raise ArgumentError(f"{name}: {what} is {kind}; give a tensor of floats in [0, 1].")
        if each.ndim != 4 or each.shape[:2] != (1, 1) or min(each.shape[2:]) < 2:
            raise ArgumentError(f"{name}: {what} is {tuple(each.shape)}; give (1, 1, H, W).")
        if not (each.min() >= 0 and each.max() <= 1):  # false for NaN too
            raise ArgumentError(
                f"{name}: {what} has values outside of [0, 1]. Divide by 255, or clip."
            )
    if prediction.shape != human.shape:
        sizes = " and ".join(f"{each.shape[3]}x{each.shape[2]}" for each in (prediction, human))
        raise ArgumentError(f"{name}: sizes {sizes} differ.")
