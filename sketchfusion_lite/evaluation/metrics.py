"""Image quality metrics, all on 8-bit RGB: PSNR, MS-SSIM, LPIPS (AlexNet and VGG16 trunks), DISTS.

    reference --> 8 bit --+
                          +--> psnr (dB, up)  ms_ssim (up)  lpips_* (down)  dists (down)
    image     --> 8 bit --+

A codec delivers 8-bit pictures, so that is what is measured, whatever precision the tensors have. All pictures come
through one door, :func:`.load_image`: 8-bit values, or floats in [0, 1]; anything else is refused.
LPIPS and DISTS use trained trunks from the cache (:func:`sketchfusion_lite.datasets.fetch`); a
random trunk is never used in their place.

References
    [1] Wang et al., "Multiscale structural similarity for image quality assessment", Asilomar 2003.
    [2] Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    [3] Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity", TPAMI 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache

import torch
from torch import Tensor, nn

from .. import checks
from ..errors import ArgumentError
from ..hardware import choose_device
from ..images import ImageSource, load_image, to_uint8
from ..perception import load_dists, load_lpips

__all__ = [
    "METRICS",
    "MIN_SIDE",
    "Metrics",
    "dists",
    "lpips_distance",
    "measure",
    "ms_ssim",
    "psnr",
]

METRICS = ("psnr", "ms_ssim", "lpips_alex", "lpips_vgg", "dists")

# Smallest shorter side: MS-SSIM halves the picture four times under an 11-pixel window.
MIN_SIDE = {"psnr": 1, "ms_ssim": 161, "lpips_alex": 32, "lpips_vgg": 32, "dists": 32}


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
        reference: the original, as :func:`sketchfusion_lite.images.load_image` takes it.
        image: what came back, of the same size.
        only: names out of ``METRICS``.
        device: where to run the networks.

    Raises:
        ArgumentError: different sizes, or an unknown metric.
        ImageError: no usable picture, or values that are neither 8-bit nor floats in [0, 1].
        DownloadError: the trunks are neither in the cache nor to be had.
    """
    chosen = check_metrics(only)
    first = eight_bit(reference).to(choose_device(device))
    second = eight_bit(image, first)
    side = min(first.shape[-2:])
    compute = {
        "psnr": psnr,
        "ms_ssim": ms_ssim,
        "lpips_alex": lambda a, b: lpips_distance(a, b, "alex"),
        "lpips_vgg": lambda a, b: lpips_distance(a, b, "vgg"),
        "dists": dists,
    }
    return Metrics(**{n: compute[n](first, second) for n in chosen if side >= MIN_SIDE[n]})


def psnr(reference: ImageSource, image: ImageSource) -> float:
    """PSNR in dB of 8-bit RGB.

    Args:
        reference, image: as for :func:`measure`; rounded to 8 bits here.
    """
    first, second = _pair(reference, image, "psnr")
    mse = (first.double() - second.double()).square().mean().item()
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ms_ssim(reference: ImageSource, image: ImageSource) -> float:
    """MS-SSIM [1] of 8-bit RGB, mean over the channels.

    Args:
        reference, image: as for :func:`measure`; rounded to 8 bits here; sides above 160.
    """
    from pytorch_msssim import ms_ssim as multi_scale

    first, second = _pair(reference, image, "ms_ssim")
    return multi_scale(first.float(), second.float(), data_range=255).item()


@torch.no_grad()
def lpips_distance(reference: ImageSource, image: ImageSource, net: str = "alex") -> float:
    """LPIPS 0.1 [2] of 8-bit RGB.

    Args:
        reference, image: as for :func:`measure`; rounded to 8 bits here; sides from 32.
        net: ``"alex"`` or ``"vgg"``.
    """
    if net not in ("alex", "vgg"):
        raise ArgumentError(f"no LPIPS net {net!r}; there are: alex, vgg")
    first, second = _pair(reference, image, f"lpips_{net}")
    return _cached_lpips(net, str(first.device))(first / 127.5 - 1, second / 127.5 - 1).item()


@torch.no_grad()
def dists(reference: ImageSource, image: ImageSource) -> float:
    """DISTS [3] of 8-bit RGB, at full size.

    Args:
        reference, image: as for :func:`measure`; rounded to 8 bits here; sides from 32.
    """
    first, second = _pair(reference, image, "dists")
    return _cached_dists(str(first.device))(first / 255, second / 255).item()


@cache
def _cached_lpips(net: str, device: str) -> nn.Module:
    return load_lpips(net).to(device)


@cache
def _cached_dists(device: str) -> nn.Module:
    return load_dists().to(device)


def check_metrics(only: Iterable[str], argument: str = "only") -> tuple[str, ...]:
    """Names of metrics.

    Raises:
        ArgumentError: an unknown one.
    """
    checks.kind(argument, only, Iterable, "names of metrics")
    chosen = (only,) if isinstance(only, str) else tuple(only)
    if unknown := [name for name in chosen if name not in METRICS]:
        raise ArgumentError(
            f"{argument}: unknown metrics {unknown}; there are: {', '.join(METRICS)}"
        )
    return chosen


def eight_bit(source: ImageSource, like: Tensor | None = None) -> Tensor:
    """The door that every picture to be measured comes through.

    Args:
        source: as :func:`.load_image` takes it.
        like: picture whose size and device this one shall have.

    Returns:
        uint8 ``(1, 3, H, W)``.

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


def _pair(reference: ImageSource, image: ImageSource, metric: str) -> tuple[Tensor, Tensor]:
    """Both as uint8, checked."""
    first = eight_bit(reference)
    second = eight_bit(image, first)
    if min(first.shape[-2:]) < MIN_SIDE[metric]:
        raise ArgumentError(
            f"{metric} needs a shorter side of at least {MIN_SIDE[metric]} pixels; "
            f"this picture has {first.shape[-1]}x{first.shape[-2]}."
        )
    return first, second
