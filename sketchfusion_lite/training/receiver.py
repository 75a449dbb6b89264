"""What the tasks of both receiver stages and of the encoder share: a finished codec, and what it hands to a receiver.

    crops --> frozen encoder, entropy model --> y_hat, quality --> the stage that trains --> picture --> loss

The integers that code cannot change: whatever is trained here decodes every file that the codec ever wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..conditioning import DEFAULT_STEPS, RefinementCondition
from ..images import crop, pad_to_multiple
from ..integer import IntegerEntropyModel
from ..model import ModelConfig, SketchFusionModel
from ..perception import load_dists
from ..refiner import RefinerUNet
from ..sampler import FlowRefiner
from ..tiling import STRIDE
from ..weights_io import (
    load_codec_weights,
    load_weights,
    part,
    save_weights,
    without_integers,
)
from .base import PictureTask, Variant
from .recipe import EncoderRecipe, PreviewRecipe, RefinerRecipe, describe

VALIDATION_QUALITY = 2.0


class ReceiverTask(PictureTask):
    """Base of the tasks of a finished codec: ``model``, frozen but for what a task trains; ``codec_id`` is its id."""

    recipe: PreviewRecipe | RefinerRecipe | EncoderRecipe

    def __init__(
        self, recipe: PreviewRecipe | RefinerRecipe | EncoderRecipe, rank: int = 0
    ) -> None:
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
        """Bits per pixel; PSNR, LPIPS and DISTS of :meth:`pictures`."""
        photo = pixels[:, :3]
        padded, size = pad_to_multiple(photo, STRIDE)
        quality = torch.full((1,), VALIDATION_QUALITY, device=photo.device)
        decoded = self.model(padded, self.boundaries(padded), quality)
        found = {"bpp": decoded.rounded_bits.item() / photo[0, 0].numel()}
        preview = crop(decoded.preview, size).clamp(0, 1)
        for name, picture in self.pictures(decoded.y_hat, quality, preview, size).items():
            found[f"psnr_{name}"] = -10 * F.mse_loss(picture, photo).log10().item()
            found[f"lpips_{name}"] = self.lpips.net(picture * 2 - 1, photo * 2 - 1).item()
            found[f"dists_{name}"] = self.dists(picture, photo).item()
        return found

    def write_codec(
        self, folder: Path, networks: Mapping[str, nn.Module], sizes: ModelConfig
    ) -> Path:
        """Write ``codec.safetensors``: the codec with these networks in the place of its own, by their names.

        Its integers are what codes: they are copied, and the model id with them.
        """
        path = folder / "codec.safetensors"
        tensors, about = load_weights(self.recipe.codec or None)
        kept = {
            n: t for n, t in tensors.items() if not n.startswith(tuple(f"{p}." for p in networks))
        }
        mine = {f"{p}.{n}": t for p, m in networks.items() for n, t in m.state_dict().items()}
        about["model"] = sizes.to_dict()
        trained = {self.recipe.task: describe(self.recipe)}
        about["training"] = about.get("training", {}) | trained
        save_weights(path, kept | mine, about)
        return path


def both_ends(
    unet: RefinerUNet, preview: Tensor, y_hat: Tensor, quality: Tensor
) -> dict[str, Tensor]:
    """The preview and the pictures ``(1, 3, H, W)`` in [0, 1] of a refiner's two ends, as a codec decodes them."""
    told = RefinementCondition(preview, y_hat, preview[:, :1], quality, seed=0)
    ends = {"faithful": 0.0, "realistic": 1.0}
    refiner = FlowRefiner(unet)
    found = {n: refiner.refine(told, DEFAULT_STEPS, realism=r) for n, r in ends.items()}
    return {"preview": preview} | found


def frozen_codec(tensors: dict[str, Tensor], sizes: dict) -> SketchFusionModel:
    """The networks of a weights file, as they are."""
    codec = SketchFusionModel(ModelConfig.from_dict(sizes))
    codec.load_state_dict(without_integers(tensors))
    return codec.eval().requires_grad_(False)
