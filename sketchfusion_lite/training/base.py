"""What a task is: it owns modules, data and objective; the loop owns time.

Task.adamw_only, .gain_vectors   prefixes of parameters that are optimised otherwise
Task.held_at_last                prefixes of parameters that the last phase leaves alone
Task.modules_to_train()          -> the (name, module) pairs to optimise
Task.adversary()                 -> the discriminator, or None
Task.settings(progress)          -> numbers that change during the run, for the dials
Task.variant(step, progress)     -> everything that Python decides within a step; each variant is captured once
Task.loss(variant)               -> scalar loss and a dict of numbers to log
Task.validate()                  -> a dict of numbers on held-out photos
Task.export(folder)              -> the file or folder of weights that was written

A new task has a recipe class with its name in ``recipe.RECIPES``, and itself in ``tasks.TASKS``.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import torch
from torch import Tensor, nn

from .graphed import Dials
from .muon import build_optimizers
from .recipe import Recipe


class Task(nn.Module):
    """Base of the tasks; see the head of this module.

    Args:
        recipe: of the task's own class.
    """

    adamw_only: tuple[str, ...] = ()
    gain_vectors: tuple[str, ...] = ()
    held_at_last: tuple[str, ...] = ()
    gain_lr = 0.0
    last_phase = 0.0  # fraction of the run

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        self.dials = Dials(step=0, **self.settings(0.0))

    def modules_to_train(self) -> list[tuple[str, nn.Module]]:
        raise NotImplementedError

    def adversary(self) -> nn.Module | None:
        return None

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Of :meth:`modules_to_train`, in an order that checkpoints rely on."""
        r = self.recipe
        return build_optimizers(
            self.modules_to_train(),
            r.muon_lr,
            r.adamw_lr,
            self.adamw_only,
            self.gain_vectors,
            self.gain_lr,
            r.weight_decay,
        )

    def settings(self, progress: float) -> dict[str, float]:
        return {}

    def turn(self, step: int, progress: float) -> None:
        """Set the dials for a step."""
        self.dials.turn(step=step, **self.settings(progress))

    def variant(self, step: int, progress: float) -> Hashable:
        return self.recipe.phase(progress)

    def loss(self, variant: Hashable) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        raise NotImplementedError

    def export(self, folder: Path) -> Path:
        raise NotImplementedError
