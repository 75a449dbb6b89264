"""The codec's task: encoder, entropy model, preview decoder and renderer, trained together.

photo crops --> SketchFusionModel --> rate, preview, sketch --> loss <-- PatchDiscriminator (last part)
                                        |
                           RateController (lambda)
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec import SketchFusionCodec, export_weights
from ..images import load_image
from ..model import ModelConfig, SketchFusionModel
from ..weights_io import load_part
from . import data
from .adversarial import PatchDiscriminator, diff_augment, hinge_game
from .objectives import (
    PerceptualLoss,
    RateController,
    SparseLoss,
    draw_quality,
    sketch_loss,
)
from .recipe import Recipe, describe
from .starting import load_start

VALIDATION_QUALITIES = (0.0, 2.0, 4.0)


class CodecTask(nn.Module):
    """Train encoder, entropy model, preview decoder and renderer together.

    The structural cue of every photo is computed once, before training: the detector is frozen. With an
    ``adversarial_weight`` a conditional PatchGAN joins in; the controller goes on holding the rate, and the
    preview objective stays, so that the discriminator only chooses among pictures that are faithful.
    """

    # First and last layers and the factorised prior keep AdamW.
    adamw_only = (
        "model.encoder.structural",
        "model.encoder.perceptual.net.1",
        "model.preview.to_pixels",
        "model.entropy.prior",
    )
    gain_vectors = ("model.gain",)

    def __init__(self, recipe: Recipe, rank: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        config = ModelConfig.from_dict(recipe.model)
        self.model = SketchFusionModel(config).to(memory_format=torch.channels_last)
        self.model.boundary_detector.load_state_dict(
            load_part(recipe.detector or None, "boundary_detector")
        )
        self.rate = RateController(recipe.bpp_targets, recipe.rate_scale)
        if recipe.start_from:
            load_start(recipe.start_from, {"model": self.model}, recipe.transplant)
        self.discriminator = (
            PatchDiscriminator(config.latent_channels) if recipe.adversarial_weight else None
        )
        from ..evaluation.metrics import load_lpips  # fetches the trunks: only this task needs them

        self.lpips = PerceptualLoss(load_lpips("alex"), recipe.lpips_zoom).requires_grad_(False)
        self.lpips_vgg = SparseLoss.of_vgg(recipe.lpips_vgg_weight, recipe.vgg_every)
        natural = (64, max(data.VALIDATION_SIZE))
        self.sampler, self.held = data.photos_of(recipe, self._boundaries, natural, rank)
        self.forward_model = (
            torch.compile(self.model, dynamic=False) if recipe.compile else self.model
        )

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        return [("model", self.model)]

    def adversary(self) -> nn.Module | None:
        return self.discriminator

    @torch.no_grad()
    def _boundaries(self, file: Path, image: Tensor) -> Tensor:
        return self.model.boundary_detector(image).sigmoid()

    def loss(self, step: int, progress: float, device: torch.device) -> tuple[Tensor, dict]:
        r = self.recipe
        crop, batch = r.phase(progress)
        images, boundaries = (x.to(device) for x in self.sampler.batch(step, crop, batch))
        images = images.to(memory_format=torch.channels_last)
        quality = draw_quality(r, step, batch).to(device)
        drop_tone = torch.rand(batch, device=device) < r.drop_tone
        out = self.forward_model(images, boundaries, quality, drop_tone)
        bpp = out.bits_sections.sum(dim=1) / (crop * crop)  # (B,)
        mse = (out.preview - images).square().mean(dim=(1, 2, 3)) * 255**2  # (B,)
        lpips = self.lpips(out.preview, images)  # (B,)
        sketch = sketch_loss(out.sketch_logits, boundaries)
        per_crop = self.rate.weight(quality) * bpp + r.mse_weight * mse + r.lpips_weight * lpips
        if self.lpips_vgg is not None:
            per_crop = per_crop + r.lpips_vgg_weight * self.lpips_vgg(out.preview, images, step)
        loss = per_crop.mean() + r.sketch_weight * sketch
        factor = 1 + (r.anneal_factor - 1) * max(0.0, 1 - progress / max(r.anneal, 1e-9))
        self.rate.update(quality, bpp.detach(), factor)
        logs = {"loss": loss, "bpp": bpp.mean(), "mse": mse.mean(), "lpips": lpips.mean()}
        logs |= {"sketch": sketch, "rate_scale": self.rate.log_scale.exp()}
        logs |= {"rate_tilt": self.rate.log_tilt.exp()}
        weight = r.adversarial_factor(progress)
        if self.discriminator is not None and weight > 0:
            told = out.y_hat.detach()  # the rate is not for the discriminator to spend
            generator_loss, discriminator_loss = hinge_game(
                self.discriminator,
                diff_augment(images, told),
                diff_augment(out.preview, told),
            )
            loss = loss + weight * generator_loss + discriminator_loss
            logs |= {"generator": generator_loss, "discriminator": discriminator_loss}
        return loss, logs

    @torch.no_grad()
    def validate(self, device: torch.device) -> dict[str, float]:
        """Estimated and actual rate, PSNR and LPIPS of held-out photos, cut to 768x512."""
        codec = SketchFusionCodec.from_model(self.model)
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
