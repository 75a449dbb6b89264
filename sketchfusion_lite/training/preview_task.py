"""The preview's task: a small decoder learns from the codec's large one, on the same streams.

    y_hat, quality --+--> PreviewDecoder, small --> preview --> loss
                     +--> the codec's own, large --------------> squared error to it, a share of the whole

The large decoder was trained together with the encoder, and becomes the refiner's start (:mod:`.grafting`). Its picture
is nearly the mean of all that the bytes allow, a target with less noise than the photo itself [1].

References
    [1] Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NeurIPS workshop 2014.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..blocks import channels_last
from ..images import crop
from ..model import ModelConfig
from ..preview import PreviewDecoder
from .base import Losses, Variant
from .receiver import ReceiverTask
from .recipe import PreviewRecipe


class PreviewTask(ReceiverTask):
    """Train a preview decoder for the streams of a finished codec."""

    adamw_only = ("preview.to_pixels",)

    recipe: PreviewRecipe

    def __init__(self, recipe: PreviewRecipe, rank: int = 0) -> None:
        super().__init__(recipe, rank)
        small = ModelConfig()
        sizes = {"decoder_widths": small.decoder_widths, "decoder_depths": small.decoder_depths}
        self.config = replace(self.model.config, **sizes | recipe.model)
        self.preview = channels_last(
            PreviewDecoder(
                self.config.latent_channels,
                self.config.levels,
                self.config.decoder_widths,
                self.config.decoder_depths,
                self.config.activation,
            )
        )
        self.networks = {"preview": self.preview}
        self.forward_preview = self.compiled(self.preview)

    def variant(self, step: int, progress: float) -> Variant:
        return Variant(*self.recipe.phase(progress), vgg=self.vgg_is_due(step))

    def loss(self, variant: Variant) -> Losses:
        r = self.recipe
        images, y_hat, quality, taught = self.receive(variant)
        preview = self.forward_preview(y_hat, quality).float()  # (B, 3, c, c)
        mse, apart = ((preview - x).square().mean() * 255**2 for x in (images, taught))
        perceived, lpips = self.perceived(preview, images, variant.vgg)
        loss = r.mse_weight * torch.lerp(mse, apart, r.taught) + perceived
        return loss, {"loss": loss, "mse": mse, "apart": apart, "lpips": lpips}

    def pictures(
        self, y_hat: Tensor, quality: Tensor, preview: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        mine = crop(self.preview(y_hat, quality), size).clamp(0, 1)
        return {"taught": preview, "preview": mine}

    def export(self, folder: Path) -> Path:
        """Write ``codec.safetensors``: the codec with this decoder in the place of its own, and the same model id."""
        return self.write_codec(folder, self.networks, self.config)
