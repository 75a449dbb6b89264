"""Notebook 04: what a decoder's block is worth, how far one pixel looks, and the weave that it can leave.

    luma --> windows (Hann, half overlapping) --> mean power spectrum --> peaks at k / period over their surroundings

Photos know no lattice. Decoders do: pixel shuffle draws every place of a 4 x 4 cell with filters of its own, and a
loss that passes over what they leave behind lets a woven texture grow. No metric names it.

References
    [1] Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sketchfusion_lite.blocks import BottleneckBlock
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.preview import PreviewDecoder

__all__ = ["influence", "lattice_power", "muted", "weave"]


def muted(network: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy of a network in which some bottleneck blocks add nothing but a bias.

    How much worse the result is tells what those blocks are worth to this network, which cannot adapt: an upper bound.

    Args:
        network: left as it is.
        names: of its :class:`.BottleneckBlock` modules.
    """
    changed = copy.deepcopy(network)
    for name in names:
        block = changed.get_submodule(name)
        assert isinstance(block, BottleneckBlock)
        nn.init.zeros_(block.expand.weight)
    return changed


def influence(decoder: PreviewDecoder, y_hat: Tensor, quality: Tensor) -> np.ndarray:
    """How much one pixel in the middle of a picture depends on every latent position around it [1].

    Args:
        decoder: in evaluation mode.
        y_hat: latent of one picture ``(1, C, h, w)``.
        quality: ``(1,)``.

    Returns:
        Sum over the channels of the gradient's absolute values, a square ``(n, n)`` of the largest odd n that fits,
        the pixel's own latent position in its middle.
    """
    row, column = (side // 2 for side in y_hat.shape[-2:])
    leaf = y_hat.detach().clone().requires_grad_()
    pixel = decoder(leaf, quality)[..., 16 * row + 8, 16 * column + 8].sum()
    (gradient,) = torch.autograd.grad(pixel, leaf)
    total = gradient.abs().sum(dim=(0, 1)).double().cpu().numpy()  # (h, w)
    radius = (min(total.shape) - 1) // 2
    return total[row - radius : row + radius + 1, column - radius : column + radius + 1]


# Ring of the surroundings, in frequency bins; a Hann window smears a peak over one.
_INNER, _OUTER = 3, 4


def weave(picture: Image.Image, period: int = 4, window: int = 64) -> float:
    """Lattice index of a picture: about 1 or below without a lattice, well above it with one.

    Args:
        picture: any mode; its luma is measured.
        period: of the lattice in pixels; a divisor of ``window``.
        window: side of the windows in pixels, at most the shorter side of the picture.

    Returns:
        Geometric mean, over the lattice's frequencies but 0, of the power there over the mean power of the ring
        of bins around.

    Raises:
        ArgumentError: a window that does not fit.
    """
    peaks, around = _lattice(picture, period, window)
    return float(np.exp(np.mean(np.log(peaks) - np.log(around))))


def lattice_power(picture: Image.Image, period: int = 4, window: int = 64) -> float:
    """Power of a picture at its lattice's frequencies, whatever lies beside them.

    :func:`weave` is a ratio, so that it rises, too, where the surroundings fall. This number does not.

    Args:
        picture, period, window: see :func:`weave`.

    Returns:
        Geometric mean, over the lattice's frequencies but 0, of the power per window, in squared levels of 255.

    Raises:
        ArgumentError: a window that does not fit.
    """
    peaks, _ = _lattice(picture, period, window)
    return float(np.exp(np.mean(np.log(peaks))))


def _lattice(picture: Image.Image, period: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Power at every frequency of the lattice but 0, and the mean power of the ring around each."""
    luma = np.asarray(picture.convert("L"), dtype=np.float64)  # (H, W)
    step = window // period
    if window % period or step <= 2 * _OUTER or min(luma.shape) < window:
        raise ArgumentError(
            f"window={window}, period={period}, picture {picture.width}x{picture.height}: the window must be a "
            f"multiple of the period, more than {2 * _OUTER} of it, and not larger than the picture."
        )
    slope = np.hanning(window + 1)[:-1]
    views = np.lib.stride_tricks.sliding_window_view(luma, (window, window))
    views = views[:: window // 2, :: window // 2].reshape(-1, window, window)  # (N, window, window)
    views = (views - views.mean(axis=(1, 2), keepdims=True)) * np.outer(slope, slope)
    power = np.square(np.abs(np.fft.fft2(views))).mean(axis=0)  # (window, window)
    # A picture of variance v has power v on average, less the window's.
    power = power / window**2 + 1e-9
    reach = range(-_OUTER, _OUTER + 1)
    ring = [(i, j) for i in reach for j in reach if max(abs(i), abs(j)) >= _INNER]
    peaks, surroundings = [], []
    for row in range(0, window, step):
        for column in range(0, window, step):
            if (row, column) != (0, 0):
                around = [power[(row + i) % window, (column + j) % window] for i, j in ring]
                peaks.append(power[row, column])
                surroundings.append(np.mean(around))
    return np.array(peaks), np.array(surroundings)
