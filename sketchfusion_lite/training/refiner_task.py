"""The refiner's task: first a conditional flow from preview to photo, then the few-step sampler itself.

    crop --> frozen encoder, entropy model, preview --> preview, y_hat --+--> RefinerUNet --> x0_hat --> loss
                                                                         |        ^
                                              x_t = (1-t) photo + t (preview + noise)

First part (``flow_fraction``): ``|x0_hat - x_0|^2`` at random times, which is flow matching with x-prediction.
Then: times and states as the sampler meets them (steps before the drawn one run without gradient), and L1 + LPIPS +
strength of texture + a discriminator on frozen features. Encoder, entropy model and preview decoder are never
touched: refining cannot change the rate.

References
    [1] Liu et al., "Flow Straight and Fast", ICLR 2023.
    [2] Sauer et al., "Adversarial Diffusion Distillation", ECCV 2024 (few steps by a feature discriminator).
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..conditioning import RefinementCondition
from ..images import crop, pad_to_multiple
from ..integer import IntegerEntropyModel
from ..model import ModelConfig, SketchFusionModel
from ..refinement import FlowRefiner, RefinementPipeline
from ..refiner import RefinerUNet
from ..weights_io import load_codec_weights, part, without_integers
from . import data
from .adversarial import FeatureDiscriminator, hinge_game
from .base import Task
from .grafting import graft
from .objectives import (
    PerceptualLoss,
    SparseLoss,
    draw_quality,
    random_windows,
    shifted,
    texture_loss,
)
from .recipe import RefinerRecipe, describe
from .starting import load_start

STEP_COUNTS = (1, 2, 4)  # samplers that the second part trains
VALIDATION_QUALITY = 2.0
VALIDATION_STEPS = 2


class RefinerVariant(NamedTuple):
    """What Python decides within a step: of ``count`` sampling steps the one after ``last`` learns."""

    crop: int
    batch: int
    vgg: bool
    adversary: bool
    flow: bool
    count: int
    last: int


class RefinerTask(Task):
    """Train the refiner of a finished codec."""

    adamw_only = ("unet.stem", "unet.to_pixels")

    def __init__(self, recipe: RefinerRecipe, rank: int = 0) -> None:
        super().__init__(recipe)
        tensors, sizes, name = load_codec_weights(recipe.codec or None)
        self.codec = SketchFusionModel(ModelConfig.from_dict(sizes))
        self.codec.load_state_dict(without_integers(tensors))
        self.codec.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        codec_id = IntegerEntropyModel(part(tensors, "integer", name)).model_id
        self.unet = RefinerUNet(
            latent_channels=self.codec.config.latent_channels,
            codec_id=codec_id,
            activation=self.codec.config.activation,
            **recipe.model,
        ).to(memory_format=torch.channels_last)
        if recipe.start_from:
            load_start(recipe.start_from, {"unet": self.unet})
        elif recipe.graft:
            graft(self.unet, self.codec.preview, recipe.focus_quality)
        from ..evaluation.metrics import (
            load_dists,
            load_lpips,
        )  # fetch trunks: only training needs them

        alex = load_lpips("alex")
        self.lpips = PerceptualLoss(alex, recipe.lpips_zoom).requires_grad_(False)
        self.lpips_vgg = SparseLoss.of_vgg(recipe)
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

    def settings(self, progress: float) -> dict[str, float]:
        return {"adversarial": self.recipe.adversarial_factor(progress)}

    def variant(self, step: int, progress: float) -> RefinerVariant:
        r = self.recipe
        drawn = random.Random(r.seed * 9_000_011 + step)
        count = drawn.choice(STEP_COUNTS)
        flow = progress < r.flow_fraction
        return RefinerVariant(
            *r.phase(progress),
            vgg=not flow and self.lpips_vgg is not None and self.lpips_vgg.due(step),
            adversary=not flow and r.adversary_joins(progress),
            flow=flow,
            count=0 if flow else count,
            last=0 if flow else drawn.randrange(count),
        )

    def loss(self, variant: RefinerVariant) -> tuple[Tensor, dict[str, Tensor]]:
        images, boundaries = self.sampler.batch(self.dials.step, variant.crop, variant.batch)
        images = images.contiguous(memory_format=torch.channels_last)
        levels = self.codec.config.levels
        quality = draw_quality(self.recipe, levels, self.dials.step, variant.batch)
        with torch.no_grad():
            decoded = self.forward_codec(images, boundaries, quality)
            # What a decoder hands over, in its precision: under autocast it would be bfloat16.
            preview = decoded.preview.float().clamp(0, 1) * 2 - 1
        told = (preview, decoded.y_hat.detach(), quality)
        target = images * 2 - 1  # (B, 3, H, W)
        if variant.flow:
            return self._flow_matching(target, told)
        return self._few_steps(target, told, variant)

    def _flow_matching(self, target: Tensor, told: tuple[Tensor, ...]) -> tuple[Tensor, dict]:
        t = torch.rand(len(target), device=target.device).clamp_min(0.02)  # (B,)
        start = told[0] + self.unet.config.noise * torch.randn_like(target)
        sample = torch.lerp(target, start, t.view(-1, 1, 1, 1))  # x_t
        x0_hat = self.forward_unet(sample, t, *told)
        loss = (x0_hat - target).square().mean()
        before = (told[0] - target).square().mean()
        return 100 * loss, {"loss": loss, "mse": loss * 127.5**2, "before": before * 127.5**2}

    def _few_steps(
        self, target: Tensor, told: tuple[Tensor, ...], variant: RefinerVariant
    ) -> tuple[Tensor, dict]:
        r, count, last = self.recipe, variant.count, variant.last
        start = told[0] + self.unet.config.noise * torch.randn_like(target)
        sample = start
        for k in range(last + 1):
            t = torch.full((len(target),), 1 - k / count, device=target.device)
            if k == last:
                break
            with torch.no_grad():
                x0_hat = self.forward_unet(sample, t, *told)
                sample = torch.lerp(x0_hat, sample, (count - k - 1) / (count - k))
        x0_hat = self.forward_unet(sample, t, *told)
        picture, reference = x0_hat * 0.5 + 0.5, target * 0.5 + 0.5
        mse = (x0_hat - target).square().mean() * 127.5**2
        lpips = self.lpips(picture, reference).mean()
        loss = r.mse_weight * mse + r.lpips_weight * lpips
        loss = loss + (x0_hat - target).abs().mean()
        if variant.vgg:
            loss = loss + r.lpips_vgg_weight * self.lpips_vgg(picture, reference)
        logs = {"mse": mse, "lpips": lpips}
        if self.discriminator is not None:
            judged, more = self._judge(picture, reference, variant.adversary)
            loss, logs = loss + judged, logs | more
        return loss, {"loss": loss} | logs

    def _judge(self, picture: Tensor, reference: Tensor, adversary: bool) -> tuple[Tensor, dict]:
        """What frozen features say of realism: strength of texture, and the discriminator once it has joined."""
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
            generator_loss, discriminator_loss = hinge_game(self.discriminator, real, fake)
            loss = loss + self.dials.adversarial * generator_loss + discriminator_loss
            logs |= {"generator": generator_loss, "discriminator": discriminator_loss}
        return loss, logs

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR, LPIPS and DISTS of previews and of refinements in 2 steps, on held-out photos cut to 768x512."""
        # Of a copy: a pipeline may move what it is given, and a graph writes to where the weights were.
        refiner = FlowRefiner(RefinementPipeline.of(copy.deepcopy(self.unet)))
        device = self.dials.step.device
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
        """Write the pipeline to ``refiner/`` with ``save_pretrained``, in float16."""
        path = folder / "refiner"
        save_refiner(self.unet, path, describe(self.recipe))
        return path


def save_refiner(unet: RefinerUNet, folder: Path, training: dict) -> None:
    """Write a pipeline of a float16 copy of the network; ``training`` goes to ``training.json`` beside it."""
    half = copy.deepcopy(unet).to(memory_format=torch.contiguous_format).half()
    RefinementPipeline.of(half).save_pretrained(folder, safe_serialization=True)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)  # the writer's default keeps other users out
    (folder / "training.json").write_text(json.dumps(training, indent=1, sort_keys=True) + "\n")
