"""The encoder's task: a finished receiver stays as it is, and the sender learns what to tell it.

    crops --> SketchFusionNet, hyper analysis --> y_hat --+--> PreviewDecoder --+--> preview --> loss
                        |                                 +---> RefinerUNet <---+
                        v                                            |
      bits, held by lambda at those of the encoder before            +--> picture, its ends in turn --> loss

A codec is trained with the decoder of its day; its small preview decoder and its refiner come later, and see latents
that were made for another. The model id stays: old files decode as they did, and new ones in old receivers.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from ..blocks import channels_last
from ..errors import RecipeError
from ..refiner_io import load_refiner
from .base import Losses, Variant
from .codec_task import QUANTISERS
from .objectives import RateController, sketch_loss
from .receiver import ReceiverTask, both_ends
from .recipe import EncoderRecipe

START = {"scale": 0.7, "tilt": 0.53}  # of lambda: where the first run came to


class EncoderTask(ReceiverTask):
    """Train the sender of a finished codec; ``before`` is its encoder and entropy model as they were."""

    recipe: EncoderRecipe
    rate: RateController

    def __init__(self, recipe: EncoderRecipe, rank: int = 0) -> None:
        super().__init__(recipe, rank)
        unet = load_refiner(recipe.refiner or None).unet
        if unet.config.codec_id != self.codec_id:
            raise RecipeError(
                f"recipe: the refiner is for codec {unet.config.codec_id:#06x}, not {self.codec_id:#06x}. Name one of "
                "this codec: refiner = FOLDER (--refiner FOLDER)."
            )
        self.unet = channels_last(unet)
        self.before = nn.ModuleList(map(copy.deepcopy, (self.model.encoder, self.model.entropy)))
        self.networks = {"encoder": self.model.encoder}
        if self.model.entropy.analysis is not None:  # a factorised prior has none
            self.networks["entropy.analysis"] = self.model.entropy.analysis
        for network in self.networks.values():
            network.requires_grad_(True)
        self.model.entropy.quantiser, self.model.entropy.rate_quantiser = QUANTISERS["mixed"]
        self.rate = RateController(recipe.bpp_targets, **START, gain=recipe.rate_gain)
        self.forward_unet = self.compiled(self.unet)

    def variant(self, step: int, progress: float) -> Variant:
        vgg = self.vgg_is_due(step // 2)
        return Variant(*self.recipe.phase(progress), vgg=vgg, realism=step % 2)

    def loss(self, variant: Variant) -> Losses:
        r, area = self.recipe, variant.crop**2
        images, boundaries, quality = self.crops(variant, self.model.config.levels)
        drop_tone = torch.rand(variant.batch, device=images.device) < r.drop_tone
        out = self.forward_model(images, boundaries, quality, drop_tone)
        bpp, rounded_bpp = out.bits_sections.sum(dim=1) / area, out.rounded_bits / area  # (B,)
        preview, told = out.preview.float(), (out.y_hat, quality)
        picture = self._refined(preview.clamp(0, 1), told, variant.realism)  # (B, 3, c, c)
        mse, mse_preview = ((x - images).square().mean() * 255**2 for x in (picture, preview))
        perceived, lpips = self.perceived(picture, images, variant.vgg)
        alike, lpips_preview = self.perceived(preview.clamp(0, 1), images, vgg=False)
        loss = (self.rate.weight(quality) * bpp).mean() + r.mse_weight * mse + perceived
        sketch = sketch_loss(out.sketch_logits.float(), boundaries)
        loss = loss + r.sketch_weight * sketch
        loss = loss + r.preview_weight * (r.mse_weight * mse_preview + alike)
        before = self._bpp_before(images, boundaries, quality)  # (B,)
        if self.training:  # each crop aims at what it took before
            self.rate.update(quality, rounded_bpp, before / self.rate.target(quality))
        end = "realistic" if variant.realism else "faithful"
        logs = {"bpp": rounded_bpp.mean(), "spent": (rounded_bpp / before).mean(), "sketch": sketch}
        logs |= {f"mse_{end}": mse, f"lpips_{end}": lpips}
        logs |= {"mse_preview": mse_preview, "lpips_preview": lpips_preview}
        logs |= {"rate_scale": self.rate.log_scale.exp(), "rate_tilt": self.rate.log_tilt.exp()}
        return loss, {"loss": loss} | logs

    def _refined(self, preview: Tensor, told: tuple[Tensor, Tensor], realism: int) -> Tensor:
        """The refiner's picture after its one step, ``(B, 3, c, c)`` in about [0, 1]."""
        start = preview * 2 - 1
        sample = start + self.unet.config.noise * torch.randn_like(start)
        t = torch.ones(len(start), device=start.device)
        return self.forward_unet(sample, t, start, *told, realism).float() * 0.5 + 0.5

    @torch.no_grad()
    def _bpp_before(self, images: Tensor, boundaries: Tensor, quality: Tensor) -> Tensor:
        """Bits per pixel ``(B,)`` that the encoder took as it was."""
        encoder, entropy = self.before
        with torch.autocast(images.device.type, enabled=False):
            y = encoder(images, boundaries) * self.model.gain(quality)[0]
            return entropy(y, quality).rounded_bits / images[0, 0].numel()

    def pictures(
        self, y_hat: Tensor, quality: Tensor, preview: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        return both_ends(self.unet, preview, y_hat, quality)

    def export(self, folder: Path) -> Path:
        """Write ``codec.safetensors``: the codec with this encoder in the place of its own, and the same model id."""
        return self.write_codec(folder, self.networks, self.model.config)
