"""What a recipe trains: a task owns modules, data and objective; the loop owns time.

Task.modules()            -> the (name, module) pairs to optimise
Task.loss(step, progress) -> scalar loss and a dict of numbers to log
Task.validate()           -> a dict of numbers on held-out photos
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec import SketchFusionCodec, export_weights
from ..cues import BoundaryDetector
from ..images import load_image
from ..model import ModelConfig, SketchFusionModel
from ..weights_io import load_part, save_weights
from . import data
from .objectives import PerceptualLoss, RateController, balanced_boundary_loss, sketch_loss
from .recipe import Recipe

VALIDATION_QUALITIES = (0.0, 2.0, 4.0)
VGG_EVERY = 4  # steps between LPIPS-VGG terms
VALIDATION_SIZE = (512, 768)


class CuesTask(nn.Module):
    """Train the boundary detector on human boundaries."""

    adamw_only = ("detector.stride2.1", "detector.fuse")

    def __init__(self, recipe: Recipe, rank: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.detector = BoundaryDetector()
        files = data.training_files(recipe.photos)
        train, held = data.split(files, recipe.hold_out)
        smallest = max(int(row[1]) for row in recipe.phases)
        self.photos = data.load_photos(train, data.human_boundaries, smallest, recipe.short_side)
        self.held = data.load_photos(held, data.human_boundaries, 16, recipe.short_side)
        self.sampler = data.CropSampler(self.photos, recipe.seed + 7919 * rank)

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        return [("detector", self.detector)]

    def loss(self, step: int, progress: float, device: torch.device) -> tuple[Tensor, dict]:
        crop, batch = self.recipe.phase(progress)
        images, boundaries = (x.to(device) for x in self.sampler.batch(step, crop, batch))
        loss = balanced_boundary_loss(self.detector(images), boundaries)
        return loss, {"loss": loss}

    @torch.no_grad()
    def validate(self, device: torch.device) -> dict[str, float]:
        losses = []
        for photo in self.held:
            pixels = photo.pixels.to(device).float().div(255).unsqueeze(0)  # (1, 4, H, W)
            losses.append(
                balanced_boundary_loss(self.detector(pixels[:, :3]), pixels[:, 3:]).item()
            )
        return {"val_loss": sum(losses) / len(losses)}

    def export(self, folder: Path) -> Path:
        """Write ``detector.safetensors``, which the ``codec`` recipe reads."""
        path = folder / "detector.safetensors"
        state = {f"boundary_detector.{k}": v for k, v in self.detector.state_dict().items()}
        save_weights(path, state, {"task": "cues"})
        return path


class CodecTask(nn.Module):
    """Train encoder, entropy model, preview decoder and renderer together.

    The structural cue of every photo is computed once, before training: the detector is frozen.
    """

    # First and last layers and the factorised prior keep AdamW.
    adamw_only = (
        "model.encoder.structural",
        "model.encoder.perceptual.net.1",
        "model.preview.to_pixels",
        "model.entropy.prior",
    )

    def __init__(self, recipe: Recipe, rank: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        config = ModelConfig.from_dict(recipe.model)
        self.model = SketchFusionModel(config).to(memory_format=torch.channels_last)
        self.model.boundary_detector.load_state_dict(
            load_part(recipe.detector or None, "boundary_detector")
        )
        self.rate = RateController(recipe.bpp_targets)
        from ..evaluation.metrics import load_lpips  # fetches the trunks: only this task needs them

        self.lpips = PerceptualLoss(load_lpips("alex"), recipe.lpips_zoom).requires_grad_(False)
        self.lpips_vgg = (
            PerceptualLoss(load_lpips("vgg")).requires_grad_(False)
            if recipe.lpips_vgg_weight
            else None
        )
        files = data.training_files(recipe.photos)
        train, held = data.split(files, recipe.hold_out)
        smallest = max(int(row[1]) for row in recipe.phases)
        self.photos = data.load_photos(train, self._boundaries, smallest, recipe.short_side)
        self.held = data.load_photos(held, self._boundaries, 64, max(VALIDATION_SIZE))
        self.sampler = data.CropSampler(self.photos, recipe.seed + 7919 * rank)
        self.forward_model = (
            torch.compile(self.model, dynamic=False) if recipe.compile else self.model
        )

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        return [("model", self.model)]

    @torch.no_grad()
    def _boundaries(self, file: Path, image: Tensor) -> Tensor:
        return self.model.boundary_detector(image).sigmoid()

    def _draw_quality(self, step: int, batch: int) -> Tensor:
        """Quality per crop: uniform over the range, or the focus level."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 7_000_003 + step)
        quality = torch.rand(batch, generator=generator) * (len(self.recipe.bpp_targets) - 1)
        focused = torch.rand(batch, generator=generator) < self.recipe.focus
        return torch.where(focused, torch.tensor(self.recipe.focus_quality), quality)

    def loss(self, step: int, progress: float, device: torch.device) -> tuple[Tensor, dict]:
        r = self.recipe
        crop, batch = r.phase(progress)
        images, boundaries = (x.to(device) for x in self.sampler.batch(step, crop, batch))
        images = images.to(memory_format=torch.channels_last)
        quality = self._draw_quality(step, batch).to(device)
        drop_tone = torch.rand(batch, device=device) < r.drop_tone
        out = self.forward_model(images, boundaries, quality, drop_tone)
        bpp = out.bits_sections.sum(dim=1) / (crop * crop)  # (B,)
        mse = (out.preview - images).square().mean(dim=(1, 2, 3)) * 255**2  # (B,)
        lpips = self.lpips(out.preview, images)  # (B,)
        sketch = sketch_loss(out.sketch_logits, boundaries)
        per_crop = self.rate.weight(quality) * bpp + r.mse_weight * mse + r.lpips_weight * lpips
        if self.lpips_vgg is not None:
            per_crop = per_crop + r.lpips_vgg_weight * self._vgg_term(out.preview, images, step)
        loss = per_crop.mean() + r.sketch_weight * sketch
        factor = 1 + (r.anneal_factor - 1) * max(0.0, 1 - progress / max(r.anneal, 1e-9))
        self.rate.update(quality, bpp.detach(), factor)
        logs = {"loss": loss, "bpp": bpp.mean(), "mse": mse.mean(), "lpips": lpips.mean()}
        return loss, logs | {"sketch": sketch, "lambda2": self.rate.log_lambda[2].exp()}

    def _vgg_term(self, preview: Tensor, images: Tensor, step: int) -> Tensor:
        """An unbiased, cheap estimate of LPIPS-VGG: VGG16 costs twenty times the codec per pixel.

        A window of a quarter of the area, of a third of the crops, every fourth step.
        """
        if step % VGG_EVERY:
            return preview.new_zeros(())
        side, some = preview.shape[-1] // 2, max(1, len(preview) // 3)
        top, left = torch.randint(side, (2,)).tolist()
        window = (slice(0, some), ..., slice(top, top + side), slice(left, left + side))
        return VGG_EVERY * self.lpips_vgg(preview[window], images[window]).mean()

    @torch.no_grad()
    def validate(self, device: torch.device) -> dict[str, float]:
        """Estimated and actual rate, PSNR and LPIPS of held-out photos, cut to 768x512."""
        codec = SketchFusionCodec.from_model(self.model)
        rows: dict[str, list[float]] = {}
        for photo in self.held:
            pixels = photo.pixels[:3, : VALIDATION_SIZE[0], : VALIDATION_SIZE[1]]
            image = pixels.unsqueeze(0).float() / 255  # (1, 3, H, W)
            for quality in VALIDATION_QUALITIES:
                encoded = codec.encode(image, quality=quality)
                preview = load_image(codec.decode(encoded.data).image)  # (1, 3, H, W)
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


def describe(recipe: Recipe) -> dict:
    """What a weights file says of its training; folders by name only, whose paths are nobody's business."""
    values = dataclasses.asdict(recipe)
    values["photos"] = [Path(folder).name for folder in recipe.photos]
    values["detector"] = Path(recipe.detector).name if recipe.detector else ""
    return {"recipe": values}


TASKS: dict[str, type[CuesTask] | type[CodecTask]] = {"cues": CuesTask, "codec": CodecTask}
