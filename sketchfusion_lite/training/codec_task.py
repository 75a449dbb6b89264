"""The codec's task: encoder, entropy model, preview decoder and renderer, trained together.

photo crops --> SketchFusionModel --> rate, preview, sketch --> loss <-- PatchDiscriminator (last part)
                                        |
                           RateController (lambda)
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..codec import SketchFusionCodec, export_weights
from ..entropy import add_noise, round_ste
from ..images import load_image
from ..model import ModelConfig, SketchFusionModel
from ..weights_io import load_part
from .adversarial import PatchDiscriminator, diff_augment
from .base import Losses, PictureTask, Variant
from .checkpoints import load_start
from .objectives import RateController, sketch_loss
from .recipe import CodecRecipe, describe

VALIDATION_QUALITIES = (0.0, 2.0, 4.0)
START_TILT = 0.55  # of lambda; every run has gone down from 1
# What stands for rounding where the decoder looks and where bits are counted.
QUANTISERS = {
    "mixed": (round_ste, add_noise),
    "straight-through": (round_ste, None),
    "noise": (add_noise, None),
}


class CodecTask(PictureTask):
    """Train encoder, entropy model, preview decoder and renderer together.

    With an ``adversarial_weight`` a conditional PatchGAN joins in; the controller goes on holding the rate, and the
    preview objective stays, so that the discriminator only chooses among pictures that are faithful.
    """

    # The last layer and the factorised prior keep AdamW.
    adamw_only = ("model.preview.to_pixels", "model.entropy.prior")
    gain_vectors = ("model.gain",)
    held_at_last = ("model.encoder", "model.gain", "model.entropy.analysis")

    recipe: CodecRecipe
    discriminator: PatchDiscriminator | None
    rate: RateController

    def __init__(self, recipe: CodecRecipe, rank: int = 0) -> None:
        super().__init__(recipe, rank)
        self.networks = {"model": self.model}
        self.gain_lr, self.last_phase = recipe.gain_lr, recipe.rounded_phase
        self.rate = RateController(recipe.bpp_targets, tilt=START_TILT, gain=recipe.rate_gain)
        if recipe.adversarial_weight:
            self.discriminator = PatchDiscriminator(self.model.config.latent_channels)

    def codec_networks(self) -> SketchFusionModel:
        model = SketchFusionModel(ModelConfig.from_dict(self.recipe.model))
        detector = load_part(self.recipe.detector or None, "boundary_detector")
        model.boundary_detector.load_state_dict(detector)
        if self.recipe.start_from:
            load_start(self.recipe.start_from, {"model": model}, self.recipe.transplant)
        return model

    def settings(self, progress: float) -> dict[str, float]:
        r = self.recipe
        return {
            "adversarial": r.adversarial_factor(progress),
            "target_factor": r.target_factor(progress),
        }

    def variant(self, step: int, progress: float) -> Variant:
        return Variant(
            *self.recipe.phase(progress),
            vgg=self.vgg_is_due(step),
            adversary=self.recipe.adversary_joins(progress),
            rounded=progress >= 1 - self.last_phase,
        )

    def loss(self, variant: Variant) -> Losses:
        r, area = self.recipe, variant.crop**2
        images, boundaries, quality = self.crops(variant, len(r.bpp_targets))
        drop_tone = torch.rand(variant.batch, device=images.device) < r.drop_tone
        scheme = "straight-through" if variant.rounded else r.quantiser
        self.model.entropy.quantiser, self.model.entropy.rate_quantiser = QUANTISERS[scheme]
        out = self.forward_model(images, boundaries, quality, drop_tone)
        preview = out.preview.float()
        bpp = out.bits_sections.sum(dim=1) / area  # (B,)
        rounded_bpp = out.rounded_bits / area  # (B,)
        mse = (preview - images).square().mean() * 255**2
        perceived, lpips = self.perceived(preview, images, variant.vgg)
        sketch = sketch_loss(out.sketch_logits.float(), boundaries)
        loss = (self.rate.weight(quality) * bpp).mean()
        loss = loss + r.mse_weight * mse + perceived + r.sketch_weight * sketch
        # In the last phase the encoder, which the controller moves, is held; and a look at the loss moves nothing.
        if self.training and not variant.rounded:
            self.rate.update(quality, rounded_bpp, self.dials.target_factor)
        logs = {"bpp": rounded_bpp.mean(), "mse": mse, "lpips": lpips, "sketch": sketch}
        logs |= {"rate_scale": self.rate.log_scale.exp(), "rate_tilt": self.rate.log_tilt.exp()}
        if variant.adversary:
            told = out.y_hat.detach()  # the rate is not for the discriminator to spend
            played, more = self.game(diff_augment(images, told), diff_augment(preview, told))
            loss, logs = loss + played, logs | more
        return loss, {"loss": loss} | logs

    def validate(self) -> dict[str, float]:
        """Estimated and actual rate, PSNR and LPIPS of held-out photos, cut to 768x512."""
        # Of a copy: a codec may move what it is given, and a graph writes to where the weights were.
        codec = SketchFusionCodec.from_model(copy.deepcopy(self.model))
        return self.mean_of_held(functools.partial(self._coded, codec))

    def _coded(self, codec: SketchFusionCodec, pixels: Tensor) -> dict[str, float]:
        image = pixels[:, :3]
        found: dict[str, float] = {}
        for quality in VALIDATION_QUALITIES:
            encoded = codec.encode(image.cpu(), quality=quality)
            preview = load_image(codec.decode(encoded.data, "preview").image).to(image.device)
            numbers = {
                "estimated_bpp": encoded.estimated_bpp,
                "actual_bpp": encoded.bpp,
                "psnr": -10 * F.mse_loss(preview, image).log10().item(),
                "val_lpips": self.lpips.net(preview * 2 - 1, image * 2 - 1).item(),
            }
            found |= {f"{name}_q{quality:g}": number for name, number in numbers.items()}
        return found

    def export(self, folder: Path) -> Path:
        """Write ``codec.safetensors``, which :func:`~sketchfusion_lite.load_codec` reads."""
        path = folder / "codec.safetensors"
        export_weights(self.model, path, describe(self.recipe))
        return path
