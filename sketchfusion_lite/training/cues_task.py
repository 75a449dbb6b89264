"""The task of the boundary detector: human boundaries of photos are its aim."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..cues import BoundaryDetector
from ..weights_io import save_weights
from . import data
from .base import Losses, Task, Variant
from .objectives import balanced_boundary_loss
from .recipe import CuesRecipe


class CuesTask(Task):
    """Train the boundary detector on human boundaries."""

    adamw_only = ("detector.fuse",)

    def __init__(self, recipe: CuesRecipe, rank: int = 0) -> None:
        super().__init__(recipe)
        self.detector = BoundaryDetector()
        self.networks = {"detector": self.detector}
        sizes = (16, recipe.short_side)
        self.sampler, self.held = data.photos_of(recipe, data.human_boundaries, sizes, rank)

    def loss(self, variant: Variant) -> Losses:
        images, boundaries = self.sampler.batch(self.dials.step, variant.crop, variant.batch)
        loss = balanced_boundary_loss(self.detector(images), boundaries)
        return loss, {"loss": loss}

    def measure(self, pixels: Tensor) -> dict[str, float]:
        found = self.detector(pixels[:, :3])
        return {"val_loss": balanced_boundary_loss(found, pixels[:, 3:]).item()}

    def export(self, folder: Path) -> Path:
        """Write ``detector.safetensors``, which the ``codec`` recipe reads."""
        path = folder / "detector.safetensors"
        state = {f"boundary_detector.{k}": v for k, v in self.detector.state_dict().items()}
        save_weights(path, state, {"task": "cues"})
        return path
