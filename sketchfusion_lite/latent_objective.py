"""What a latent is worth to the search: the codec's own objective, with LPIPS where its trunk is at hand.

y_hat --> picture --> MSE ----------------------------+
              +-----> LPIPS-Alex, views in turn ------+--> distortion --+--> objective
  +-----> sketch ---> cross entropy of the lines -----+    bits * lambda-+
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import bitstream
from .errors import DownloadError
from .images import crop, pad_to_multiple
from .integer import UNITS_PER_Y
from .signal_path import SignalPath
from .tiling import STRIDE

if TYPE_CHECKING:
    from lpips import LPIPS

RATE_WEIGHTS = (2.0, 250.0)  # bounds of lambda
MIN_LPIPS_SIDE = 67  # 32 after the largest shift, at half the size
View = tuple[int, int, int]  # rows and columns left out, and by how much the picture is shrunk
# In turn. AlexNet's stride is 4, hence the shifts (training.objectives.PerceptualLoss). At half the size it judges what
# it passes over at full size: with every third view such, a search gains in DISTS and PSNR, too, at a lower cost.
VIEWS: tuple[View, ...] = ((0, 0, 1), (1, 2, 1), (1, 3, 2), (2, 3, 1), (3, 1, 1), (0, 2, 2))
Picture = Callable[[Tensor, Tensor], Tensor]  # y_hat after inverse gain, quality -> what is judged


@dataclass(frozen=True)
class Objective:
    """Weights of the distortion; the defaults are about those of the shipped weights' training, without LPIPS-VGG.

    A search can please one network more than the eye. On five photos (three of BSDS500, two wallpapers) effort 5
    gained 0.24 dB, 0.040 LPIPS-Alex and 0.0095 DISTS with LPIPS at 2; 0.11, 0.047 and 0.0099 at 2.5; and 0.06, 0.050
    and 0.0090 at 3.

    Attributes:
        lpips: LPIPS network of images in [-1, 1], see :func:`cached_lpips`; None searches without it.
        mse_weight: of the squared error, pixel values 0..255.
        lpips_weight: of LPIPS with AlexNet.
        sketch_weight: of the line drawing's cross entropy, which keeps the sketch a sketch.
    """

    lpips: LPIPS | None
    mse_weight: float = 0.002
    lpips_weight: float = 2.2
    sketch_weight: float = 0.05


class Numbers(NamedTuple):
    """A latent measured as it would be sent: rounded and counted by the integer entropy model."""

    objective: float  # lambda * bpp + distortion
    distortion: float  # weighted sum of the last three
    bits: float  # ideal code length; the file is larger by header, checksums and the rounding to words
    bpp: float  # bits per pixel of the photo
    mse: float  # of the picture, pixel values 0..255
    lpips: float  # with AlexNet; nan where it takes no part
    sketch: float  # cross entropy of the drawn lines against the structural cue


class Judge:
    """One photo ``(1, 3, H, W)`` in [0, 1], and how far a latent's picture is from it."""

    def __init__(
        self, path: SignalPath, photo: Tensor, objective: Objective, picture: Picture | None
    ) -> None:
        self.path, self.weights, self.picture = path, objective, picture or path.model.preview
        self.photo, self.size = photo.to(path.device).float(), photo.shape[-2:]
        padded = pad_to_multiple(photo.to(path.device, path.dtype), STRIDE)[0]
        with torch.no_grad():
            lines = path.model.boundary_detector(padded).sigmoid().float()
            self.lines = F.max_pool2d(lines, 2)  # (1, 1, 8h, 8w), as training's sketch_loss
        self.lpips = None
        if objective.lpips is not None and min(self.size) >= MIN_LPIPS_SIDE:
            self.lpips = LpipsViews(objective.lpips.to(path.device), self.photo)

    def distortion(
        self, y_hat: Tensor, index: int, view: View = VIEWS[0], clamp: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted distortion ``()`` of a scaled ``y_hat`` and its terms."""
        y_hat = (y_hat * self.gain(index)[1]).to(self.path.dtype)
        picture = self.picture(y_hat, self.quality(index).to(self.path.dtype))
        picture = crop(picture, self.size).float()
        picture = picture.clamp(0, 1) if clamp else picture
        logits = self.path.model.renderer(y_hat[:, : self.path.model.config.structure_channels])
        mse = (picture - self.photo).square().mean() * 255**2
        sketch = F.binary_cross_entropy_with_logits(logits.float(), self.lines)
        total = self.weights.mse_weight * mse + self.weights.sketch_weight * sketch
        lpips = mse.new_tensor(math.nan)
        if self.lpips is not None:
            lpips = self.lpips(picture, view)
            total = total + self.weights.lpips_weight * lpips
        return total, {"mse": mse, "lpips": lpips, "sketch": sketch}

    @torch.no_grad()
    def measure(self, y: Tensor, z: Tensor, index: int, rate_weight: float) -> Numbers:
        """Numbers of a scaled latent as the codec would send it."""
        sent = self.path.coder.quantise(y, z, index)
        y_hat = (sent.y_hat / UNITS_PER_Y).float().to(self.path.device)
        distortion, terms = self.distortion(y_hat, index, clamp=True)
        bits, total, area = sum(sent.bits), distortion.item(), self.size.numel()
        objective = rate_weight * bits / area + total
        return Numbers(objective, total, bits, bits / area, *(t.item() for t in terms.values()))

    def slope(self, y: Tensor, index: int) -> float:
        """Lambda at which this photo's rate-distortion curve has its tangent: distortion saved per bpp."""
        ends = []
        for near in (max(index - 12, 0), min(index + 12, 255)):
            scaled = y.float() * self.gain(near)[0]
            ends.append(self.measure(scaled, self.hyper(scaled), near, 0.0))
        saved, paid = ends[0].distortion - ends[1].distortion, ends[1].bpp - ends[0].bpp
        slope = saved / paid if paid > 0 else 0.0
        return min(max(slope, RATE_WEIGHTS[0]), RATE_WEIGHTS[1])

    def hyper(self, scaled: Tensor) -> Tensor:
        """The hyper latent that the codec would derive from a scaled latent."""
        return self.path.model.entropy.hyper_latent(scaled.to(self.path.dtype)).float()

    @torch.no_grad()
    def gain(self, index: int) -> tuple[Tensor, Tensor]:
        """Gain and inverse gain ``(1, C, 1, 1)``."""
        gain, inverse = self.path.gains(index)
        return gain.float(), inverse.float()

    def quality(self, index: int) -> Tensor:
        """Quality ``(1,)``, in float32 whatever the networks are in."""
        return torch.tensor([bitstream.index_to_quality(index)], device=self.path.device)


def cached_lpips() -> LPIPS | None:
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
def _lpips_of(path: str) -> LPIPS:
    """Loaded once per process and place of the trunk."""
    from .perception import load_lpips

    return load_lpips("alex")


class LpipsViews:
    """LPIPS against one photo, whose features are computed once per view."""

    def __init__(self, lpips: LPIPS, photo: Tensor) -> None:
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
