"""What the tasks of both receiver stages share: a finished codec, held as it is, and what it hands to a receiver.

    crops --> frozen encoder, entropy model --> y_hat, quality --> the stage that trains --> picture --> loss

Rates and streams cannot change: whatever is trained here decodes every file that the codec ever wrote.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..images import crop, pad_to_multiple
from ..integer import IntegerEntropyModel
from ..model import ModelConfig, SketchFusionModel
from ..tiling import STRIDE
from ..weights_io import load_codec_weights, part, without_integers
from . import data
from .base import Task
from .objectives import PerceptualLoss, SparseLoss, draw_quality
from .recipe import ReceiverRecipe

VALIDATION_QUALITY = 2.0


class ReceiverTask(Task):
    """Base of :class:`.PreviewTask` and :class:`.RefinerTask`.

    Attributes:
        codec: the frozen codec.
        codec_id: its model id.
        lpips, lpips_vgg: losses; the second is None where the recipe gives it no weight.
    """

    def __init__(self, recipe: ReceiverRecipe, rank: int = 0) -> None:
        super().__init__(recipe)
        tensors, sizes, name = load_codec_weights(recipe.codec or None)
        self.codec = frozen_codec(tensors, sizes)
        self.codec_id = IntegerEntropyModel(part(tensors, "integer", name)).model_id
        from ..perception import load_dists, load_lpips

        self.lpips = PerceptualLoss(load_lpips("alex"), recipe.lpips_zoom).requires_grad_(False)
        self.lpips_vgg = SparseLoss.of_vgg(recipe)
        self.dists = load_dists().requires_grad_(False)
        natural = (64, max(data.VALIDATION_SIZE))
        self.sampler, self.held = data.photos_of(recipe, self._boundaries, natural, rank)
        self.forward_codec = self.compiled(self.codec)

    def compiled(self, module: nn.Module) -> nn.Module:
        return torch.compile(module, dynamic=False) if self.recipe.compile else module

    def train(self, mode: bool = True) -> ReceiverTask:
        super().train(mode)
        self.codec.eval()  # frozen, whatever the loop says
        return self

    @torch.no_grad()
    def _boundaries(self, file: Path | None, image: Tensor) -> Tensor:
        return self.codec.boundary_detector(image).sigmoid()

    def receive(self, side: int, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Crops as a receiver gets them.

        Returns:
            images ``(B, 3, c, c)`` in [0, 1], y_hat ``(B, C, c/16, c/16)``, quality ``(B,)``, and the codec's own
            preview ``(B, 3, c, c)`` in [0, 1].
        """
        images, boundaries = self.sampler.batch(self.dials.step, side, batch)
        images = images.contiguous(memory_format=torch.channels_last)
        if self.recipe.shrunk:  # lines of a shrunk photo are not shrunk lines
            boundaries = self._boundaries(None, images).float()
        quality = draw_quality(self.recipe, self.codec.config.levels, self.dials.step, batch)
        with torch.no_grad():
            decoded = self.forward_codec(images, boundaries, quality)
            # What a decoder hands over, in its precision: under autocast it would be bfloat16.
            preview = decoded.preview.float().clamp(0, 1)
        return images, decoded.y_hat.detach(), quality, preview

    def pictures(
        self, y_hat: Tensor, quality: Tensor, preview: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Pictures ``(1, 3, H, W)`` in [0, 1] to validate, by name."""
        raise NotImplementedError

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR, LPIPS and DISTS of :meth:`pictures` of held-out photos cut to 768x512."""
        device, sums = self.dials.step.device, {}
        for photo in self.held:
            pixels = photo.pixels[:, : data.VALIDATION_SIZE[0], : data.VALIDATION_SIZE[1]]
            image = pixels.to(device).unsqueeze(0).float() / 255  # (1, 4, H, W)
            padded, size = pad_to_multiple(image, STRIDE)
            quality = torch.full((1,), VALIDATION_QUALITY, device=device)
            decoded = self.codec(padded[:, :3], padded[:, 3:], quality)
            preview = crop(decoded.preview, size).clamp(0, 1)
            photo_, found = image[:, :3], self.pictures(decoded.y_hat, quality, preview, size)
            for name, picture in found.items():
                numbers = {
                    f"psnr_{name}": -10 * F.mse_loss(picture, photo_).log10(),
                    f"lpips_{name}": self.lpips.net(picture * 2 - 1, photo_ * 2 - 1),
                    f"dists_{name}": self.dists(picture, photo_),
                }
                for key, value in numbers.items():
                    sums[key] = sums.get(key, 0.0) + value.item() / len(self.held)
        return sums


def frozen_codec(tensors: dict[str, Tensor], sizes: dict) -> SketchFusionModel:
    """The networks of a weights file, as they are."""
    codec = SketchFusionModel(ModelConfig.from_dict(sizes))
    codec.load_state_dict(without_integers(tensors))
    return codec.eval().requires_grad_(False).to(memory_format=torch.channels_last)
