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
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..images import crop
from ..model import ModelConfig
from ..preview import PreviewDecoder
from ..weights_io import load_weights, save_weights
from .receiver import ReceiverTask
from .recipe import PreviewRecipe, describe


class PreviewVariant(NamedTuple):
    """What Python decides within a step."""

    crop: int
    batch: int
    vgg: bool


class PreviewTask(ReceiverTask):
    """Train a preview decoder for the streams of a finished codec."""

    adamw_only = ("preview.to_pixels",)

    def __init__(self, recipe: PreviewRecipe, rank: int = 0) -> None:
        super().__init__(recipe, rank)
        mine = ModelConfig()
        sizes = {"decoder_widths": mine.decoder_widths, "decoder_depths": mine.decoder_depths}
        self.config = replace(self.codec.config, **sizes | recipe.model)
        self.preview = PreviewDecoder(
            self.config.latent_channels,
            self.config.levels,
            tuple(self.config.decoder_widths),
            tuple(self.config.decoder_depths),
            self.config.activation,
        ).to(memory_format=torch.channels_last)
        self.forward_preview = self.compiled(self.preview)

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        return [("preview", self.preview)]

    def variant(self, step: int, progress: float) -> PreviewVariant:
        vgg = self.lpips_vgg is not None and self.lpips_vgg.due(step)
        return PreviewVariant(*self.recipe.phase(progress), vgg)

    def loss(self, variant: PreviewVariant) -> tuple[Tensor, dict[str, Tensor]]:
        r = self.recipe
        images, y_hat, quality, taught = self.receive(variant.crop, variant.batch)
        preview = self.forward_preview(y_hat, quality).float()  # (B, 3, c, c)
        mse, apart = ((preview - x).square().mean() * 255**2 for x in (images, taught))
        lpips = self.lpips(preview, images).mean()
        loss = r.mse_weight * torch.lerp(mse, apart, r.taught) + r.lpips_weight * lpips
        if variant.vgg:
            loss = loss + r.lpips_vgg_weight * self.lpips_vgg(preview, images)
        return loss, {"loss": loss, "mse": mse, "apart": apart, "lpips": lpips}

    def pictures(
        self, y_hat: Tensor, quality: Tensor, preview: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        mine = crop(self.preview(y_hat, quality), size).clamp(0, 1)
        return {"taught": preview, "preview": mine}

    def export(self, folder: Path) -> Path:
        """Write ``codec.safetensors``: the codec with this decoder in the place of its own, and the same model id."""
        path = folder / "codec.safetensors"
        tensors, about = load_weights(self.recipe.codec or None)  # its integers are what codes
        kept = {n: t for n, t in tensors.items() if not n.startswith("preview.")}
        mine = {f"preview.{n}": t for n, t in self.preview.state_dict().items()}
        about["model"] = self.config.to_dict()
        about["training"] = about.get("training", {}) | {"preview": describe(self.recipe)}
        save_weights(path, kept | mine, about)
        return path
