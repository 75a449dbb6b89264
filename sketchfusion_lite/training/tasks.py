"""What a recipe trains: the task of every recipe's class, and that of the boundary detector itself."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..cues import BoundaryDetector
from ..weights_io import save_weights
from . import data
from .base import Task
from .codec_task import CodecTask
from .objectives import balanced_boundary_loss
from .preview_task import PreviewTask
from .recipe import CuesRecipe
from .refiner_task import RefinerTask


class CuesTask(Task):
    """Train the boundary detector on human boundaries."""

    adamw_only = ("detector.fuse",)

    def __init__(self, recipe: CuesRecipe, rank: int = 0) -> None:
        super().__init__(recipe)
        self.detector = BoundaryDetector()
        self.sampler, self.held = data.photos_of(
            recipe, data.human_boundaries, (16, recipe.short_side), rank
        )

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        return [("detector", self.detector)]

    def loss(self, variant: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        images, boundaries = self.sampler.batch(self.dials.step, *variant)
        loss = balanced_boundary_loss(self.detector(images), boundaries)
        return loss, {"loss": loss}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        losses, device = [], self.dials.step.device
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


TASKS: dict[str, type[Task]] = {
    "cues": CuesTask,
    "codec": CodecTask,
    "preview": PreviewTask,
    "refiner": RefinerTask,
}
