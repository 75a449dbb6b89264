"""The refiner's task: first a conditional flow from preview to photo, then the few-step sampler itself.

    y_hat, preview --+--> RefinerUNet --> x0_hat --> loss
                     |        ^
      x_t = (1-t) photo + t (preview + noise)

First part (``flow_fraction``): ``|x0_hat - x_0|^2`` at random times, which is flow matching with x-prediction.
Then: times and states as the sampler meets them (steps before the drawn one run without gradient). The network's two
ends take turns, from one start: the faithful one goes by squared error and LPIPS, the realistic one by LPIPS, strength
of texture and a discriminator on frozen features.

References
    [1] Liu et al., "Flow Straight and Fast", ICLR 2023.
    [2] Sauer et al., "Adversarial Diffusion Distillation", ECCV 2024 (few steps by a feature discriminator).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..blocks import channels_last
from ..errors import RecipeError
from ..perception import load_lpips
from ..refiner import RefinerConfig, RefinerUNet
from ..refiner_io import refiner_config, save_refiner, shipped_refiner
from ..weights_io import load_codec_weights
from .adversarial import FeatureDiscriminator
from .base import Losses, Variant
from .checkpoints import load_start
from .grafting import graft
from .objectives import random_windows, shifted, texture_loss
from .receiver import ReceiverTask, both_ends, frozen_codec
from .recipe import RefinerRecipe, describe

STEP_COUNTS = (1, 1, 2, 4)  # samplers that the second part trains, as often as they stand here


class RefinerTask(ReceiverTask):
    """Train the refiner of a finished codec."""

    adamw_only = ("unet.stem", "unet.skip", "unet.faithful.to_pixels", "unet.realistic.to_pixels")

    recipe: RefinerRecipe
    discriminator: FeatureDiscriminator | None

    def __init__(self, recipe: RefinerRecipe, rank: int = 0) -> None:
        super().__init__(recipe, rank)
        codec = self.model.config
        known: dict[str, Any] = {"latent_channels": codec.latent_channels, "levels": codec.levels}
        known |= {"codec_id": self.codec_id, "activation": codec.activation}
        config = RefinerConfig.from_dict(RefinerConfig().to_dict() | known | recipe.model, "recipe")
        self.unet = channels_last(RefinerUNet(config))
        self.networks = {"unet": self.unet}
        if recipe.start_from:
            load_start(self._start(), self.networks)
        elif recipe.graft:
            tensors, sizes, _ = load_codec_weights(recipe.graft)
            graft(self.unet, frozen_codec(tensors, sizes).preview)
        if recipe.adversarial_weight > 0 or recipe.texture_weight > 0:
            trunk = self.lpips.net if recipe.judge == "alex" else load_lpips(recipe.judge)
            self.discriminator = FeatureDiscriminator(trunk)
        self.forward_unet = self.compiled(self.unet)

    def _start(self) -> str | Path:
        """Where ``start_from`` is.

        Raises:
            RecipeError: the shipped refiner, for a codec that it was not trained for.
        """
        if self.recipe.start_from != "shipped":
            return self.recipe.start_from
        found = refiner_config(shipped_refiner()).codec_id
        if found != self.codec_id:
            raise RecipeError(
                f"recipe: the shipped refiner is for codec {found:#06x}, not {self.codec_id:#06x}. Name the weights "
                'whose large preview decoder it shall begin as: graft = "FILE" (--graft FILE), or set '
                'start_from = "" to begin with the preview.'
            )
        return shipped_refiner()

    def settings(self, progress: float) -> dict[str, float]:
        return {"adversarial": self.recipe.adversarial_factor(progress)}

    def variant(self, step: int, progress: float) -> Variant:
        r, realism = self.recipe, step % 2
        phase = r.phase(progress)
        if progress < r.flow_fraction:
            return Variant(*phase, flow=True, realism=realism)
        drawn = random.Random(r.seed * 9_000_011 + step)
        count = drawn.choice(STEP_COUNTS)
        return Variant(
            *phase,
            vgg=self.vgg_is_due(step // 2),
            adversary=bool(realism) and r.adversary_joins(progress),
            realism=realism,
            steps=count,
            last=drawn.randrange(count),
        )

    def loss(self, variant: Variant) -> Losses:
        images, y_hat, quality, preview = self.receive(variant)
        told = (preview * 2 - 1, y_hat, quality)
        target = images * 2 - 1  # (B, 3, H, W)
        return (self._flow_matching if variant.flow else self._few_steps)(target, told, variant)

    def _flow_matching(self, target: Tensor, told: tuple[Tensor, ...], variant: Variant) -> Losses:
        t = torch.rand(len(target), device=target.device).clamp_min(0.02)  # (B,)
        start = told[0] + self.unet.config.noise * torch.randn_like(target)
        sample = torch.lerp(target, start, t.view(-1, 1, 1, 1))  # x_t
        x0_hat = self.forward_unet(sample, t, *told, variant.realism).float()
        loss = (x0_hat - target).square().mean()
        before = (told[0] - target).square().mean()
        return 100 * loss, {"loss": loss, "mse": loss * 127.5**2, "before": before * 127.5**2}

    def _few_steps(self, target: Tensor, told: tuple[Tensor, ...], variant: Variant) -> Losses:
        r, count, realism = self.recipe, variant.steps, variant.realism

        def predicted(sample: Tensor, k: int) -> Tensor:
            t = torch.full((len(target),), 1 - k / count, device=target.device)
            return self.forward_unet(sample, t, *told, realism).float()

        sample = told[0] + self.unet.config.noise * torch.randn_like(target)
        with torch.no_grad():
            for k in range(variant.last):
                sample = torch.lerp(predicted(sample, k), sample, (count - k - 1) / (count - k))
        x0_hat = predicted(sample, variant.last)
        picture, reference = x0_hat * 0.5 + 0.5, target * 0.5 + 0.5
        mse = (x0_hat - target).square().mean() * 127.5**2
        perceived, lpips = self.perceived(picture, reference, variant.vgg)
        loss = (r.mse_weight if realism else r.faithful_mse_weight) * mse + perceived
        name = "realistic" if realism else "faithful"
        logs = {f"mse_{name}": mse, f"lpips_{name}": lpips}
        if self.discriminator is not None and realism:
            judged, more = self._judge(picture, reference, variant.adversary)
            loss, logs = loss + judged, logs | more
        return loss, {"loss": loss} | logs

    def _judge(self, picture: Tensor, reference: Tensor, adversary: bool) -> Losses:
        """What frozen features say of realism: strength of texture, and the discriminator once it has joined."""
        assert self.discriminator is not None
        if self.recipe.judge == "alex":
            ours, theirs = shifted(picture, reference)  # as LPIPS sees them
        else:
            ours, theirs = random_windows(picture, reference)
        with torch.no_grad():
            real = self.discriminator.features(theirs)
        fake = self.discriminator.features(ours)
        texture = texture_loss(fake, real)
        loss, logs = self.recipe.texture_weight * texture, {"texture": texture}
        if adversary:
            played, more = self.game(real, fake)
            loss, logs = loss + played, logs | more
        return loss, logs

    def pictures(
        self, y_hat: Tensor, quality: Tensor, preview: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        return both_ends(self.unet, preview, y_hat, quality)

    def export(self, folder: Path) -> Path:
        """Write the network to ``refiner/``, in float16."""
        path = folder / "refiner"
        save_refiner(self.unet, path, describe(self.recipe))
        return path
