"""The refiner's task: first a conditional flow from preview to photo, then the few-step sampler itself.

    crop --> frozen encoder, entropy model, preview --> preview, y_hat --+--> RefinerUNet --> x0_hat --> loss
                                                                         |        ^
                                              x_t = (1-t) photo + t (preview + noise)

First part (``flow_fraction``): ``|x0_hat - x_0|^2`` at random times, which is flow matching with x-prediction.
Then: times and states as the sampler meets them (steps before the drawn one run without gradient), and L1 + LPIPS +
strength of texture + a discriminator on frozen features. The network's two ends take turns: the faithful one learns in
even steps, without what rewards invention (texture, discriminator), the realistic one in odd steps. Encoder, entropy
model and preview decoder are never touched: refining cannot change the rate.

References
    [1] Liu et al., "Flow Straight and Fast", ICLR 2023.
    [2] Sauer et al., "Adversarial Diffusion Distillation", ECCV 2024 (few steps by a feature discriminator).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..conditioning import RefinementCondition
from ..images import crop, pad_to_multiple
from ..integer import IntegerEntropyModel
from ..model import ModelConfig, SketchFusionModel
from ..refiner import RefinerConfig, RefinerUNet
from ..refiner_io import save_refiner
from ..sampler import FlowRefiner
from ..weights_io import load_codec_weights, part, without_integers
from . import data
from .adversarial import FeatureDiscriminator, hinge_game
from .grafting import graft
from .objectives import PerceptualLoss, SparseLoss, draw_quality, random_windows, texture_loss
from .recipe import Recipe, describe
from .starting import load_start

STEP_COUNTS = (1, 2, 4)  # samplers that the second part trains
VALIDATION_QUALITY = 2.0
VALIDATION_STEPS = 2


class RefinerTask(nn.Module):
    """Train the refiner of a finished codec."""

    adamw_only = ("unet.stem", "unet.faithful.to_pixels", "unet.realistic.to_pixels")
    gain_vectors = ()

    def __init__(self, recipe: Recipe, rank: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        tensors, sizes, name = load_codec_weights(recipe.codec or None)
        self.codec = SketchFusionModel(ModelConfig.from_dict(sizes))
        self.codec.load_state_dict(without_integers(tensors))
        self.codec.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        codec_id = IntegerEntropyModel(part(tensors, "integer", name)).model_id
        known = {
            "latent_channels": self.codec.config.latent_channels,
            "levels": self.codec.config.levels,
            "codec_id": codec_id,
            "activation": self.codec.config.activation,
        }
        config = RefinerConfig.from_dict(RefinerConfig().to_dict() | known | recipe.model, "recipe")
        self.unet = RefinerUNet(config).to(memory_format=torch.channels_last)
        if recipe.start_from:
            load_start(recipe.start_from, {"unet": self.unet})
        elif recipe.graft:
            graft(self.unet, self.codec.preview)
        from ..evaluation.metrics import (
            load_dists,
            load_lpips,
        )  # fetch trunks: only training needs them

        alex = load_lpips("alex")
        self.lpips = PerceptualLoss(alex, recipe.lpips_zoom).requires_grad_(False)
        self.lpips_vgg = SparseLoss.of_vgg(recipe.lpips_vgg_weight, recipe.vgg_every)
        judged = recipe.adversarial_weight > 0 or recipe.texture_weight > 0
        self.dists = load_dists().requires_grad_(False)
        self.discriminator = None
        if judged:
            trunk = alex if recipe.judge == "alex" else load_lpips(recipe.judge)
            self.discriminator = FeatureDiscriminator(trunk.requires_grad_(False))
        natural = (64, max(data.VALIDATION_SIZE))
        self.sampler, self.held = data.photos_of(recipe, self._boundaries, natural, rank)
        compiled = (
            (lambda module: torch.compile(module, dynamic=False))
            if recipe.compile
            else (lambda module: module)
        )
        self.forward_codec, self.forward_unet = compiled(self.codec), compiled(self.unet)

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        return [("unet", self.unet)]

    def adversary(self) -> nn.Module | None:
        return self.discriminator

    def train(self, mode: bool = True) -> RefinerTask:
        super().train(mode)
        self.codec.eval()  # frozen, whatever the loop says
        return self

    @torch.no_grad()
    def _boundaries(self, file: Path, image: Tensor) -> Tensor:
        return self.codec.boundary_detector(image).sigmoid()

    def loss(self, step: int, progress: float, device: torch.device) -> tuple[Tensor, dict]:
        r = self.recipe
        side, batch = r.phase(progress)
        images, boundaries = (x.to(device) for x in self.sampler.batch(step, side, batch))
        images = images.to(memory_format=torch.channels_last)
        quality = draw_quality(r, step, batch).to(device)
        with torch.no_grad():
            decoded = self.forward_codec(images, boundaries, quality)
            # What a decoder hands over, in its precision: under autocast it would be bfloat16.
            preview = decoded.preview.float().clamp(0, 1) * 2 - 1
        told = (preview, decoded.y_hat.detach(), quality)
        target = images * 2 - 1  # (B, 3, H, W)
        if progress < r.flow_fraction:
            return self._flow_matching(target, told, step % 2)
        return self._few_steps(target, told, step, progress)

    def _flow_matching(
        self, target: Tensor, told: tuple[Tensor, ...], realism: int
    ) -> tuple[Tensor, dict]:
        t = torch.rand(len(target), device=target.device).clamp_min(0.02)  # (B,)
        start = told[0] + self.unet.config.noise * torch.randn_like(target)
        sample = torch.lerp(target, start, t.view(-1, 1, 1, 1))  # x_t
        x0_hat = self.forward_unet(sample, t, *told, realism).float()
        loss = (x0_hat - target).square().mean()
        before = (told[0] - target).square().mean()
        return 100 * loss, {"loss": loss, "mse": loss * 127.5**2, "before": before * 127.5**2}

    def _few_steps(
        self, target: Tensor, told: tuple[Tensor, ...], step: int, progress: float
    ) -> tuple[Tensor, dict]:
        r, realism = self.recipe, step % 2
        count = STEP_COUNTS[int(torch.randint(len(STEP_COUNTS), ()))]
        last = int(torch.randint(count, ()))  # the step that learns
        start = told[0] + self.unet.config.noise * torch.randn_like(target)
        sample = start
        for k in range(last + 1):
            t = torch.full((len(target),), 1 - k / count, device=target.device)
            if k == last:
                break
            with torch.no_grad():
                x0_hat = self.forward_unet(sample, t, *told, realism).float()
                sample = torch.lerp(x0_hat, sample, (count - k - 1) / (count - k))
        x0_hat = self.forward_unet(sample, t, *told, realism).float()
        picture, reference = x0_hat * 0.5 + 0.5, target * 0.5 + 0.5
        mse = (x0_hat - target).square().mean() * 127.5**2
        lpips = self.lpips(picture, reference).mean()
        loss = r.mse_weight * mse + r.lpips_weight * lpips
        loss = loss + (x0_hat - target).abs().mean()
        if self.lpips_vgg is not None:
            loss = loss + r.lpips_vgg_weight * self.lpips_vgg(picture, reference, step)
        logs = {"mse": mse, "lpips": lpips}
        if self.discriminator is not None and realism:
            judged, more = self._judge(picture, reference, r.adversarial_factor(progress))
            loss, logs = loss + judged, logs | more
        return loss, {"loss": loss} | logs

    def _judge(self, picture: Tensor, reference: Tensor, weight: float) -> tuple[Tensor, dict]:
        """What frozen features say of realism: strength of texture, and the discriminator once it has a weight."""
        if self.recipe.judge == "alex":
            # As LPIPS sees them: unmagnified, the trunk's stride hides a grid.
            ours, theirs = self.lpips.views(picture, reference)
        else:
            ours, theirs = random_windows(picture, reference)
        with torch.no_grad():
            real = self.discriminator.features(theirs)
        fake = self.discriminator.features(ours)
        texture = texture_loss(fake, real)
        loss, logs = self.recipe.texture_weight * texture, {"texture": texture}
        if weight > 0:
            generator_loss, discriminator_loss = hinge_game(self.discriminator, real, fake)
            loss = loss + weight * generator_loss + discriminator_loss
            logs |= {"generator": generator_loss, "discriminator": discriminator_loss}
        return loss, logs

    @torch.no_grad()
    def validate(self, device: torch.device) -> dict[str, float]:
        """PSNR, LPIPS and DISTS of previews and of refinements in 2 steps, on held-out photos cut to 768x512."""
        refiner = FlowRefiner(self.unet)
        sums: dict[str, float] = {}
        for photo in self.held:
            pixels = photo.pixels[:, : data.VALIDATION_SIZE[0], : data.VALIDATION_SIZE[1]].to(
                device
            )
            image = pixels.unsqueeze(0).float() / 255  # (1, 4, H, W)
            padded, size = pad_to_multiple(image, 16)
            quality = torch.full((1,), VALIDATION_QUALITY, device=device)
            decoded = self.codec(padded[:, :3], padded[:, 3:], quality)
            preview = crop(decoded.preview, size).clamp(0, 1)
            told = RefinementCondition(preview, decoded.y_hat, image[:, 3:], quality, seed=0)
            pictures = {"preview": preview, "refined": refiner.refine(told, VALIDATION_STEPS)}
            for name, picture in pictures.items():
                mse = F.mse_loss(picture, image[:, :3])
                numbers = {
                    f"psnr_{name}": -10 * mse.log10().item(),
                    f"lpips_{name}": self.lpips.net(picture * 2 - 1, image[:, :3] * 2 - 1).item(),
                    f"dists_{name}": self.dists(picture, image[:, :3]).item(),
                }
                for key, value in numbers.items():
                    sums[key] = sums.get(key, 0.0) + value / len(self.held)
        return sums

    def export(self, folder: Path) -> Path:
        """Write the network to ``refiner/``, in float16."""
        path = folder / "refiner"
        save_refiner(self.unet, path, describe(self.recipe))
        return path
