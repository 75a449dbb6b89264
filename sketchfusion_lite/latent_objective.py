"""What the search of a photo's latent goes by: the codec's own objective, with LPIPS where its trunk is at hand.

picture --> MSE ----------------------------+
        +-> LPIPS-Alex, views in turn ------+--> distortion
sketch ---> cross entropy of the lines -----+
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import DownloadError

MIN_LPIPS_SIDE = 67  # 32 after the largest shift, at half the size
View = tuple[int, int, int]  # rows and columns left out, and by how much the picture is shrunk
# In turn. AlexNet's stride is 4, hence the shifts (training.objectives.PerceptualLoss). At half the size it judges what
# it passes over at full size: with every third view such, a search gains in DISTS and PSNR, too, at a lower cost.
VIEWS: tuple[View, ...] = ((0, 0, 1), (1, 2, 1), (1, 3, 2), (2, 3, 1), (3, 1, 1), (0, 2, 2))


@dataclass(frozen=True)
class Objective:
    """Weights of the distortion; the defaults are about those of the shipped weights' training, without LPIPS-VGG.

    A search can please one network more than the eye. On five photos (three of BSDS500, two wallpapers) effort 5
    gained 0.24 dB, 0.040 LPIPS-Alex and 0.0095 DISTS with LPIPS at 2; 0.11, 0.047 and 0.0099 at 2.5; and 0.06, 0.050
    and 0.0090 at 3.

    Attributes:
        mse_weight: of the squared error, pixel values 0..255.
        lpips_weight: of LPIPS with AlexNet.
        sketch_weight: of the line drawing's cross entropy, which keeps the sketch a sketch.
        lpips: LPIPS network of images in [-1, 1], see :func:`cached_lpips`; None searches without it.
    """

    mse_weight: float = 0.002
    lpips_weight: float = 2.2
    sketch_weight: float = 0.05
    lpips: nn.Module | None = None


def cached_lpips() -> nn.Module | None:
    """LPIPS with AlexNet if its trunk lies in the cache, else None after a warning; never downloads."""
    from .datasets import lpips_trunk, manifest

    folder = manifest("lpips").folder
    try:
        lpips_trunk("alex", download=False)
    except DownloadError:
        warnings.warn(
            f"no LPIPS trunk in {folder}: the search goes by squared error alone, for which the picture gets "
            "softer. Fetch it once with: sketchfusion fetch lpips",
            stacklevel=2,
        )
        return None
    return _lpips_of(str(folder))


@cache
def _lpips_of(path: str) -> nn.Module:
    """Loaded once per process and place of the trunk."""
    from .perception import load_lpips

    return load_lpips("alex")


class LpipsViews:
    """LPIPS against one photo, whose features are computed once per view."""

    def __init__(self, lpips: nn.Module, photo: Tensor) -> None:
        self.lpips, self.photo = lpips, photo
        self._features: dict[View, list[Tensor]] = {}

    def __call__(self, image: Tensor, view: View) -> Tensor:
        """Distance ``()`` of an image ``(1, 3, H, W)`` in about [0, 1], seen as the photo is."""
        if view not in self._features:
            with torch.no_grad():
                self._features[view] = self._normalised(self.photo, view)
        ours, photos = self._normalised(image, view), self._features[view]
        layers = zip(self.lpips.lins, ours, photos, strict=True)
        return sum(lin.model((a - b).square()).mean() for lin, a, b in layers)

    def _normalised(self, image: Tensor, view: View) -> list[Tensor]:
        """AlexNet's five feature maps, of unit length across channels."""
        top, left, coarser = view
        seen = image[..., top:, left:]
        if coarser > 1:
            seen = F.avg_pool2d(seen, coarser)
        scaled = self.lpips.scaling_layer(seen * 2 - 1)
        # The inner epsilon keeps the gradient finite where nothing fires.
        norms = ((f, (f.square().sum(1, True) + 1e-20).sqrt()) for f in self.lpips.net(scaled))
        return [f / (norm + 1e-10) for f, norm in norms]
