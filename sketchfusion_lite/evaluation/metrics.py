"""Image quality metrics, all on 8-bit RGB: PSNR, MS-SSIM, LPIPS (AlexNet and VGG16 trunks), DISTS.

    reference --> 8 bit --+
                          +--> psnr (dB, up)  ms_ssim (up)  lpips_* (down)  dists (down)
    image     --> 8 bit --+

A codec delivers 8-bit pictures, so that is what is measured, whatever precision the tensors have. LPIPS and DISTS use
trained trunks from the cache (:func:`sketchfusion_lite.datasets.fetch`); a random trunk is never used in their place.

References
    [1] Wang et al., "Multiscale structural similarity for image quality assessment", Asilomar 2003.
    [2] Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    [3] Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity", TPAMI 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from .. import checks
from ..errors import ArgumentError, EvaluationError
from ..hardware import choose_device
from ..images import ImageSource, load_image, to_uint8
from ..perception import load_dists, load_lpips

__all__ = ["METRICS", "Comparison", "Metrics", "measure", "psnr"]

METRICS = ("psnr", "ms_ssim", "lpips_alex", "lpips_vgg", "dists")

# Smallest shorter side: MS-SSIM halves the picture four times under an 11-pixel window.
_MIN_SIDE = {"psnr": 1, "ms_ssim": 161, "lpips_alex": 32, "lpips_vgg": 32, "dists": 32}

# Features take 0.4 GB at 0.4 megapixels; larger originals are seen again.
_MAX_KEPT_PIXELS = 1 << 21


@dataclass(frozen=True)
class Metrics:
    """Quality of one picture. ``nan``: not asked for, or the picture is too small for the metric.

    Attributes:
        psnr: peak signal-to-noise ratio of 8-bit RGB in dB; infinite for equal pictures.
        ms_ssim: multi-scale structural similarity on RGB, 1 for equal pictures.
        lpips_alex, lpips_vgg: LPIPS 0.1 distances, 0 for equal pictures.
        dists: DISTS distance, 0 for equal pictures.
    """

    psnr: float = math.nan
    ms_ssim: float = math.nan
    lpips_alex: float = math.nan
    lpips_vgg: float = math.nan
    dists: float = math.nan

    def as_dict(self) -> dict[str, float]:
        """The values by name, for a table row."""
        return asdict(self)


def measure(
    reference: ImageSource,
    image: ImageSource,
    only: Iterable[str] = METRICS,
    device: str | torch.device = "cpu",
) -> Metrics:
    """Compare a decoded picture with its original.

    The two VGG16 metrics take most of the time, and memory in proportion to the pixels: some
    seconds and 1 GB for 768x512 on a CPU.

    Args:
        reference: the original, as :func:`sketchfusion_lite.images.load_image` takes it: 8-bit, or floats in [0, 1].
        image: what came back, of the same size.
        only: names out of ``METRICS``.
        device: where to run the networks.

    Raises:
        ArgumentError: different sizes, or an unknown metric.
        ImageError: no usable picture, or values that are neither 8-bit nor floats in [0, 1].
        DownloadError: the trunks are neither in the cache nor to be had.
        EvaluationError: a metric is no number: its network does not work on this device.
    """
    chosen = check_metrics(only)
    first = eight_bit(reference).to(choose_device(device))
    return _measure(first, eight_bit(image, first), chosen)


def psnr(reference: ImageSource, image: ImageSource) -> float:
    """PSNR in dB of 8-bit RGB; pictures as for :func:`measure`."""
    return measure(reference, image, ("psnr",)).psnr


class Comparison:
    """Many pictures against one original; values are those of :func:`measure`.

    A table holds dozens of decoded versions of each photo, and two passes of a VGG16 are most of the time of a row; the
    one of the original is kept here. Only the newest of several objects is fast; the others are right.

    Args:
        reference, only, device: as for :func:`measure`.

    Raises:
        ArgumentError: an unknown metric, or no such device here.
        ImageError: no usable picture.
        DownloadError: the trunks are neither in the cache nor to be had.
    """

    def __init__(
        self,
        reference: ImageSource,
        only: Iterable[str] = METRICS,
        device: str | torch.device = "cpu",
    ) -> None:
        self.only = check_metrics(only)
        self.reference = eight_bit(reference).to(choose_device(device))  # (1, 3, H, W)
        for name in set(self.only) - {"psnr", "ms_ssim"}:
            _network(name, str(self.reference.device))[1].remember_next()

    def measure(self, image: ImageSource) -> Metrics:
        """Compare one decoded picture, of the original's size; raises as :func:`measure` does."""
        return _measure(self.reference, eight_bit(image, self.reference), self.only)


def _measure(first: Tensor, second: Tensor, only: Iterable[str]) -> Metrics:
    """Metrics of two uint8 pictures ``(1, 3, H, W)`` on one device, as far as they are large enough."""
    side = min(first.shape[-2:])
    found = {name: _value(name, first, second) for name in only if side >= _MIN_SIDE[name]}
    for name, value in found.items():
        if not (math.isfinite(value) or (name == "psnr" and value == math.inf)):
            raise EvaluationError(
                f"{name} is {value}: its network does not work on {first.device}. Try device='cpu'."
            )
    return Metrics(**found)


@torch.no_grad()
def _value(name: str, first: Tensor, second: Tensor) -> float:
    if name == "psnr":
        mse = (first.double() - second.double()).square().mean().item()
        return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
    if name == "ms_ssim":
        from pytorch_msssim import ms_ssim as multi_scale

        return multi_scale(first.float(), second.float(), data_range=255).item()
    network, _ = _network(name, str(first.device))
    if name == "dists":
        return network(first / 255, second / 255).item()
    return network(first / 127.5 - 1, second / 127.5 - 1).item()


class _Trunk(nn.Module):
    """A trunk that can remember its answer to a picture: an original, which it would see again and again."""

    def __init__(self, trunk: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.trunk = trunk
        self._waiting = False
        self._seen: tuple[Tensor, Any] | None = None

    def remember_next(self) -> None:
        """The next picture is an original."""
        self._seen, self._waiting = None, True

    def forward(self, image: Tensor) -> Any:
        """Features of ``image``; looked up if it equals the original."""
        seen = self._seen  # once: another thread may be measuring against another original
        if seen is not None and torch.equal(image, seen[0]):
            return seen[1]
        features = self.trunk(image)
        if self._waiting and image.shape[-2] * image.shape[-1] <= _MAX_KEPT_PIXELS:
            self._seen = image, features
        self._waiting = False
        return features


@cache
def _network(name: str, device: str) -> tuple[nn.Module, _Trunk]:
    """A metric's network, and the trunk inside it."""
    if name == "dists":
        model = load_dists().to(device)
        trunk = _Trunk(model.forward_once)
        model.forward_once = trunk.forward
    else:
        model = load_lpips(name.removeprefix("lpips_")).to(device)
        trunk = model.net = _Trunk(model.net)
    return model, trunk


def check_metrics(only: Iterable[str], argument: str = "only") -> tuple[str, ...]:
    """Names of metrics; an unknown one is an :class:`.ArgumentError`."""
    checks.kind(argument, only, Iterable, "names of metrics")
    chosen = (only,) if isinstance(only, str) else tuple(only)
    if unknown := [name for name in chosen if name not in METRICS]:
        raise ArgumentError(
            f"{argument}: unknown metrics {unknown}; there are: {', '.join(METRICS)}"
        )
    return chosen


def eight_bit(source: ImageSource, like: Tensor | None = None) -> Tensor:
    """The door that every picture to be measured comes through: uint8 ``(1, 3, H, W)``, as large as ``like``.

    Raises:
        ImageError: no usable picture, or values that are neither 8-bit nor floats in [0, 1].
        ArgumentError: another size.
    """
    image = to_uint8(load_image(source))
    if like is None:
        return image
    if image.shape != like.shape:
        sizes = [f"{tensor.shape[-1]}x{tensor.shape[-2]}" for tensor in (like, image)]
        raise ArgumentError(f"the pictures differ in size: {sizes[0]} and {sizes[1]}.")
    return image.to(like.device)
