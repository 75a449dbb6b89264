"""Many pictures against one original: the metrics of :mod:`.metrics`, whose networks see the original once.

    original --> trunk --> features, kept ---+
                                             +--> lpips_alex, lpips_vgg, dists
    picture  --> trunk --> features ---------+

A table holds dozens of decoded versions of each photo, and two passes of a VGG16 are most of the time of a row; half
of them are those of the original. Values are exactly those of :func:`.metrics.measure`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EvaluationError
from ..hardware import choose_device
from ..images import ImageSource
from ..perception import load_dists, load_lpips
from . import metrics
from .metrics import METRICS, MIN_SIDE, Metrics, check_metrics, eight_bit

__all__ = ["Comparison"]

_MAX_KEPT_PIXELS = (
    1 << 21
)  # features take 0.4 GB at 0.4 megapixels; larger originals are seen again


class Comparison:
    """Measures pictures against one original.

    Only the newest of several objects is fast; the others are right.

    Args:
        reference: the original, as :func:`.load_image` takes it.
        only: names out of ``METRICS``.
        device: where to run the networks.

    Raises:
        ArgumentError: an unknown metric, or no such device here.
        DownloadError: the trunks are neither in the cache nor to be had.
    """

    def __init__(
        self,
        reference: ImageSource,
        only: Iterable[str] = METRICS,
        device: str | torch.device = "cpu",
    ) -> None:
        self.only = check_metrics(only)
        chosen = choose_device(device)
        self.device = str(chosen)
        self.reference = eight_bit(reference).to(chosen)  # (1, 3, H, W)
        for name in ("lpips_alex", "lpips_vgg", "dists"):
            if name in self.only:
                _network(name, self.device)[1].forget()

    def measure(self, image: ImageSource) -> Metrics:
        """Compare one decoded picture, of the original's size.

        Raises:
            ArgumentError: another size.
            ImageError: no usable picture.
            EvaluationError: a metric is no number.
        """
        second = eight_bit(image, self.reference)
        side = min(self.reference.shape[-2:])
        chosen = [name for name in self.only if side >= MIN_SIDE[name]]
        found = Metrics(**{name: self._value(name, second) for name in chosen})
        for name in chosen:
            value = getattr(found, name)
            if not (math.isfinite(value) or (name == "psnr" and value == math.inf)):
                raise EvaluationError(
                    f"{name} is {value}: its network does not work on {self.device}. Try device='cpu'."
                )
        return found

    @torch.no_grad()
    def _value(self, name: str, second: Tensor) -> float:
        first = self.reference
        if name in ("psnr", "ms_ssim"):
            return getattr(metrics, name)(first, second)
        network, _ = _network(name, self.device)
        if name == "dists":
            return network(first / 255, second / 255).item()
        return network(first / 127.5 - 1, second / 127.5 - 1).item()


class _Remembering(nn.Module):
    """A trunk that remembers its answer to the first picture it sees, which is the original."""

    def __init__(self, trunk: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.trunk = trunk
        self._seen: tuple[Tensor, Any] | None = None

    def forget(self) -> None:
        """The next picture is an original."""
        self._seen = None

    def forward(self, image: Tensor) -> Any:
        """Features of ``image``; looked up if it equals the original."""
        seen = self._seen  # once: another thread may be measuring against another original
        if seen is not None and torch.equal(image, seen[0]):
            return seen[1]
        features = self.trunk(image)
        if seen is None and image.shape[-2] * image.shape[-1] <= _MAX_KEPT_PIXELS:
            self._seen = (image, features)
        return features


@cache
def _network(name: str, device: str) -> tuple[nn.Module, _Remembering]:
    """A metric's network, and the trunk inside it."""
    if name == "dists":
        model = load_dists().to(device)
        trunk = _Remembering(model.forward_once)
        model.forward_once = trunk.forward
    else:
        model = load_lpips(name.removeprefix("lpips_")).to(device)
        trunk = model.net = _Remembering(model.net)
    return model, trunk
