"""What the tasks of both receiver stages share: a finished codec, held as it is, and what it hands to a receiver.

    crops --> frozen encoder, entropy model --> y_hat, quality --> the stage that trains --> picture --> loss

Rates and streams cannot change: whatever is trained here decodes every file that the codec ever wrote.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images import crop, pad_to_multiple
from ..integer import IntegerEntropyModel
from ..model import ModelConfig, SketchFusionModel
from ..perception import load_dists
from ..tiling import STRIDE
from ..weights_io import load_codec_weights, part, without_integers
from .base import PictureTask, Variant
from .recipe import PreviewRecipe, RefinerRecipe

VALIDATION_QUALITY = 2.0


class ReceiverTask(PictureTask):
    """Base of :class:`.PreviewTask` and :class:`.RefinerTask`; ``model`` is the frozen codec, ``codec_id`` its id."""

    recipe: PreviewRecipe | RefinerRecipe

    def __init__(self, recipe: PreviewRecipe | RefinerRecipe, rank: int = 0) -> None:
        super().__init__(recipe, rank)
        self.dists = load_dists()

    def codec_networks(self) -> SketchFusionModel:
        tensors, sizes, name = load_codec_weights(self.recipe.codec or None)
        self.codec_id = IntegerEntropyModel(part(tensors, "integer", name)).model_id
        return frozen_codec(tensors, sizes)

    def train(self, mode: bool = True) -> ReceiverTask:
        super().train(mode)
        self.model.eval()  # frozen, whatever the loop says
        return self

    def receive(self, variant: Variant) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Crops as a receiver gets them.

        Returns:
            images ``(B, 3, c, c)`` in [0, 1], y_hat ``(B, C, c/16, c/16)``, quality ``(B,)``, and the codec's own
            preview ``(B, 3, c, c)`` in [0, 1].
        """
        images, boundaries, quality = self.crops(variant, self.model.config.levels)
        with torch.no_grad():
            decoded = self.forward_model(images, boundaries, quality)
        # What a decoder hands over, in its precision: under autocast it would be bfloat16.
        return images, decoded.y_hat, quality, decoded.preview.float().clamp(0, 1)

    def pictures(
        self, y_hat: Tensor, quality: Tensor, preview: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Pictures ``(1, 3, H, W)`` in [0, 1] to validate, by name."""
        raise NotImplementedError

    def measure(self, pixels: Tensor) -> dict[str, float]:
        """PSNR, LPIPS and DISTS of :meth:`pictures`."""
        photo = pixels[:, :3]
        found: dict[str, float] = {}
        padded, size = pad_to_multiple(photo, STRIDE)
        quality = torch.full((1,), VALIDATION_QUALITY, device=photo.device)
        decoded = self.model(padded, self.boundaries(padded), quality)
        preview = crop(decoded.preview, size).clamp(0, 1)
        for name, picture in self.pictures(decoded.y_hat, quality, preview, size).items():
            found[f"psnr_{name}"] = -10 * F.mse_loss(picture, photo).log10().item()
            found[f"lpips_{name}"] = self.lpips.net(picture * 2 - 1, photo * 2 - 1).item()
            found[f"dists_{name}"] = self.dists(picture, photo).item()
        return found


def frozen_codec(tensors: dict[str, Tensor], sizes: dict) -> SketchFusionModel:
    """The networks of a weights file, as they are."""
    codec = SketchFusionModel(ModelConfig.from_dict(sizes))
    codec.load_state_dict(without_integers(tensors))
    return codec.eval().requires_grad_(False)
