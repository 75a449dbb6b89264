"""What a recipe trains: a task owns modules, data and objective; the loop owns time.

Task.adamw_only, .gain_vectors  prefixes of parameters that are optimised otherwise
Task.modules_to_train()   -> the (name, module) pairs to optimise
Task.adversary()          -> the discriminator, or None
Task.loss(step, progress) -> scalar loss and a dict of numbers to log
Task.validate()           -> a dict of numbers on held-out photos
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..cues import BoundaryDetector
from ..weights_io import save_weights
from . import data
from .codec_task import CodecTask
from .objectives import balanced_boundary_loss
from .recipe import Recipe
from .refiner_task import RefinerTask


class CuesTask(nn.Module):
    """Train the boundary detector on human boundaries."""

    adamw_only = ("detector.stride2.1", "detector.fuse")
    gain_vectors = ()

    def __init__(self, recipe: Recipe, rank: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.detector = BoundaryDetector()
        self.sampler, self.held = data.photos_of(
            recipe, data.human_boundaries, (16, recipe.short_side), rank
        )

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        return [("detector", self.detector)]

    def adversary(self) -> None:
        return None

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


TASKS: dict[str, type[CuesTask] | type[CodecTask] | type[RefinerTask]] = {
    "cues": CuesTask,
    "codec": CodecTask,
    "refiner": RefinerTask,
}
