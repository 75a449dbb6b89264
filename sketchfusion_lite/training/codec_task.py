"""The codec's task: encoder, entropy model, preview decoder and renderer, trained together.

photo crops --> SketchFusionModel --> rate, preview, sketch --> loss <-- PatchDiscriminator (last part)
                                        |
                           RateController (lambda)
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec import SketchFusionCodec, export_weights
from ..entropy import add_noise, round_ste
from ..images import load_image
from ..model import ModelConfig, SketchFusionModel
from ..weights_io import load_part
from . import data
from .adversarial import PatchDiscriminator, diff_augment, hinge_game
from .base import Task
from .objectives import PerceptualLoss, RateController, SparseLoss, draw_quality, sketch_loss
from .recipe import CodecRecipe, describe
from .starting import load_start

VALIDATION_QUALITIES = (0.0, 2.0, 4.0)
START_TILT = 0.55  # of lambda; every run has gone down from 1
# What stands for rounding where the decoder looks and where bits are counted.
QUANTISERS = {
    "mixed": (round_ste, add_noise),
    "straight-through": (round_ste, None),
    "noise": (add_noise, None),
}


class CodecVariant(NamedTuple):
    """What Python decides within a step."""

    crop: int
    batch: int
    vgg: bool
    adversary: bool
    rounded: bool


class CodecTask(Task):
    """Train encoder, entropy model, preview decoder and renderer together.

    The structural cue of every photo is computed once, before training, as the detector is frozen; if some crops are
    shrunk, of the crops of every step. With an ``adversarial_weight`` a conditional PatchGAN joins in; the controller
    goes on holding the rate, and the preview objective stays, so that the discriminator only chooses among pictures
    that are faithful.
    """

    # The last layer and the factorised prior keep AdamW.
    adamw_only = ("model.preview.to_pixels", "model.entropy.prior")
    gain_vectors = ("model.gain",)
    held_at_last = ("model.encoder", "model.gain", "model.entropy.analysis")

    def __init__(self, recipe: CodecRecipe, rank: int = 0) -> None:
        super().__init__(recipe)
        self.gain_lr, self.last_phase = recipe.gain_lr, recipe.rounded_phase
        config = ModelConfig.from_dict(recipe.model)
        self.model = SketchFusionModel(config).to(memory_format=torch.channels_last)
        self.model.boundary_detector.load_state_dict(
            load_part(recipe.detector or None, "boundary_detector")
        )
        self.rate = RateController(recipe.bpp_targets, tilt=START_TILT, gain=recipe.rate_gain)
        if recipe.start_from:
            load_start(recipe.start_from, {"model": self.model}, recipe.transplant)
        self.discriminator = (
            PatchDiscriminator(config.latent_channels) if recipe.adversarial_weight else None
        )
        from ..perception import load_lpips

        self.lpips = PerceptualLoss(load_lpips("alex"), recipe.lpips_zoom).requires_grad_(False)
        self.lpips_vgg = SparseLoss.of_vgg(recipe)
        natural = (64, max(data.VALIDATION_SIZE))
        cue = self._later if recipe.shrunk else self._boundaries
        self.sampler, self.held = data.photos_of(recipe, cue, natural, rank)
        self.forward_model = (
            torch.compile(self.model, dynamic=False) if recipe.compile else self.model
        )

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        return [("model", self.model)]

    def adversary(self) -> nn.Module | None:
        return self.discriminator

    @torch.no_grad()
    def _boundaries(self, file: Path | None, image: Tensor) -> Tensor:
        return self.model.boundary_detector(image).sigmoid().float()

    def _later(self, file: Path, image: Tensor) -> Tensor:
        return torch.zeros_like(image[:, :1])

    def settings(self, progress: float) -> dict[str, float]:
        r = self.recipe
        return {
            "adversarial": r.adversarial_factor(progress),
            "target_factor": r.target_factor(progress),
        }

    def variant(self, step: int, progress: float) -> CodecVariant:
        return CodecVariant(
            *self.recipe.phase(progress),
            vgg=self.lpips_vgg is not None and self.lpips_vgg.due(step),
            adversary=self.recipe.adversary_joins(progress),
            rounded=progress >= 1 - self.last_phase,
        )

    def loss(self, variant: CodecVariant) -> tuple[Tensor, dict[str, Tensor]]:
        r, crop, batch = self.recipe, variant.crop, variant.batch
        images, boundaries = self.sampler.batch(self.dials.step, crop, batch)
        images = images.contiguous(memory_format=torch.channels_last)
        if r.shrunk:
            boundaries = self._boundaries(None, images)
        quality = draw_quality(r, len(r.bpp_targets), self.dials.step, batch)
        drop_tone = torch.rand(batch, device=images.device) < r.drop_tone
        scheme = "straight-through" if variant.rounded else r.quantiser
        self.model.entropy.quantiser, self.model.entropy.rate_quantiser = QUANTISERS[scheme]
        out = self.forward_model(images, boundaries, quality, drop_tone)
        preview = out.preview.float()
        bpp = out.bits_sections.sum(dim=1) / (crop * crop)  # (B,)
        rounded_bpp = out.rounded_bits / (crop * crop)  # (B,)
        mse = (preview - images).square().mean(dim=(1, 2, 3)) * 255**2  # (B,)
        # Without a weight it is a number of the log alone.
        lpips = self.lpips(preview if r.lpips_weight else preview.detach(), images)  # (B,)
        sketch = sketch_loss(out.sketch_logits.float(), boundaries)
        per_crop = self.rate.weight(quality) * bpp + r.mse_weight * mse + r.lpips_weight * lpips
        loss = per_crop.mean() + r.sketch_weight * sketch
        if variant.vgg:
            loss = loss + r.lpips_vgg_weight * self.lpips_vgg(preview, images)
        if not variant.rounded:  # later the encoder, which the controller moves, is held
            self.rate.update(quality, rounded_bpp, self.dials.target_factor)
        logs = {"bpp": rounded_bpp.mean(), "mse": mse.mean(), "lpips": lpips.mean()}
        logs |= {"sketch": sketch, "rate_scale": self.rate.log_scale.exp()}
        logs |= {"rate_tilt": self.rate.log_tilt.exp()}
        if variant.adversary:
            told = out.y_hat.detach()  # the rate is not for the discriminator to spend
            generator_loss, discriminator_loss = hinge_game(
                self.discriminator,
                diff_augment(images, told),
                diff_augment(preview, told),
            )
            loss = loss + self.dials.adversarial * generator_loss + discriminator_loss
            logs |= {"generator": generator_loss, "discriminator": discriminator_loss}
        return loss, {"loss": loss} | logs

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Estimated and actual rate, PSNR and LPIPS of held-out photos, cut to 768x512."""
        # Of a copy: a codec may move what it is given, and a graph writes to where the weights were.
        codec = SketchFusionCodec.from_model(copy.deepcopy(self.model))
        device = self.dials.step.device
        rows: dict[str, list[float]] = {}
        for photo in self.held:
            pixels = photo.pixels[:3, : data.VALIDATION_SIZE[0], : data.VALIDATION_SIZE[1]]
            image = pixels.unsqueeze(0).float() / 255  # (1, 3, H, W)
            for quality in VALIDATION_QUALITIES:
                encoded = codec.encode(image, quality=quality)
                preview = load_image(codec.decode(encoded.data, "preview").image)  # (1, 3, H, W)
                mse = F.mse_loss(preview, image).item()
                lpips = self.lpips.net(preview.to(device) * 2 - 1, image.to(device) * 2 - 1).item()
                for key, value in (
                    ("estimated_bpp", encoded.estimated_bpp),
                    ("actual_bpp", encoded.bpp),
                    ("psnr", -10 * torch.tensor(mse).log10().item()),
                    ("val_lpips", lpips),
                ):
                    rows.setdefault(f"{key}_q{quality:g}", []).append(value)
        return {key: sum(values) / len(values) for key, values in rows.items()}

    def export(self, folder: Path) -> Path:
        """Write ``codec.safetensors``, which :func:`~sketchfusion_lite.load_codec` reads."""
        path = folder / "codec.safetensors"
        export_weights(self.model, path, describe(self.recipe))
        return path
