"""The training loop: time, learning rates, checkpoints, logs. What is trained is a task's business.

A run folder holds ``recipe.json``, ``log.csv`` (training), ``validation.csv``, ``checkpoint.pt`` (resume) and, at
the end, the exported weights. A run killed at any moment resumes from its last checkpoint; data and
quality draws are functions of seed and step. A state is written only after one more forward pass has shown it finite,
and the checkpoint before it is kept as ``checkpoint.previous.pt``: a run that diverges ruins neither.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import torch
from accelerate import Accelerator
from torch import nn

from ..errors import OutputError, RecipeError
from ..files import atomic_write_bytes
from . import logs
from .muon import build_optimizers
from .recipe import Recipe
from .tasks import TASKS

LOG_EVERY = 50  # steps per row of log.csv; the last row may stand for fewer

Progress = Callable[[int, float, dict[str, float]], None]


class TrainingRun:
    """One resumable run of a recipe.

    Args:
        recipe: what to train and how.
        folder: the run folder; created when missing.
        resume: continue from ``checkpoint.pt`` when there is one.

    Raises:
        RecipeError: the folder holds another run and ``resume`` is false, or its recipe differs, or its checkpoint
            is damaged or foreign.
        OutputError: the folder cannot be written to.
    """

    def __init__(self, recipe: Recipe, folder: str | Path, resume: bool = False) -> None:
        self.recipe, self.folder = recipe, Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be made ({error.strerror}). Choose another run folder with --out."
            ) from error
        self.checkpoint_path = self.folder / "checkpoint.pt"
        if self.checkpoint_path.exists() and not resume:
            raise RecipeError(f"{self.folder} holds a run already; pass --resume or another folder")
        self.accelerator = Accelerator()
        self.task = TASKS[recipe.task](recipe, rank=self.accelerator.process_index)
        self.task.to(self.accelerator.device)
        self.optimizers = build_optimizers(
            self.task.modules_to_train(),
            recipe.muon_lr,
            recipe.adamw_lr,
            self.task.adamw_only,
            self.task.gain_vectors,
            recipe.gain_lr,
        )
        self.adversary = self.task.adversary()
        if self.adversary is not None:
            self.optimizers.append(
                torch.optim.Adam(
                    self.adversary.parameters(), lr=recipe.adversarial_lr, betas=(0.5, 0.9)
                )
            )
        self.base_rates = [o.param_groups[0]["lr"] for o in self.optimizers]
        self.step, self.seconds = 0, 0.0
        self.exported: Path | None = None  # the weights, once the run has ended
        if self.checkpoint_path.exists():
            self._load()
        if self.accelerator.is_main_process:
            logs.forget_after(self.folder / "log.csv", self.step)
            ended = self.progress >= 1  # then it validates once more
            logs.forget_after(self.folder / "validation.csv", self.step - ended)
            text = json.dumps(dataclasses.asdict(recipe), indent=1)
            atomic_write_bytes(self.folder / "recipe.json", text.encode())

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, by training time if the recipe has ``minutes``, else by steps."""
        if self.recipe.minutes > 0:
            return min(1.0, self.seconds / (60 * self.recipe.minutes))
        return min(1.0, self.step / self.recipe.steps)

    def learning_rate_factor(self) -> float:
        """Linear warm-up, constant, linear decay to zero."""
        warmup = min(1.0, (self.step + 1) / max(1, self.recipe.warmup_steps))
        decay = (1 - self.progress) / max(1e-9, 1 - self.recipe.decay_start)
        return warmup * min(1.0, decay)

    def run(self, on_log: Progress | None = None, max_steps: int | None = None) -> None:
        """Train until the schedule ends (or ``max_steps`` more steps), then validate and save.

        Args:
            on_log: called as ``on_log(step, progress, numbers)`` after every row of the log.
            max_steps: stop early, for tests; the schedule is not shortened.
        """
        last_step = None if max_steps is None else self.step + max_steps
        last_validation = last_checkpoint = time.monotonic()
        sums: dict[str, float] = {}
        summed = 0  # fewer than LOG_EVERY after a resume
        tick = time.monotonic()
        while self.progress < 1 and self.step != last_step:
            for key, value in self._train_step().items():
                sums[key] = sums.get(key, 0.0) + float(value)
            self.step += 1
            summed += 1
            now = time.monotonic()
            self.seconds += now - tick
            tick = now
            if self.step % LOG_EVERY == 0 or self.progress >= 1:
                numbers = {key: value / summed for key, value in sums.items()}
                sums, summed = {}, 0
                self._log("log.csv", numbers)
                if on_log:
                    on_log(self.step, self.progress, numbers)
            if now - last_validation > 60 * self.recipe.validate_minutes:
                self.validate()
                last_validation = tick = time.monotonic()  # validation is not training time
            if now - last_checkpoint > 60 * self.recipe.checkpoint_minutes:
                self.save()
                last_checkpoint = time.monotonic()
        self.save()
        self.validate()
        if self.accelerator.is_main_process:
            self.exported = self.task.export(self.folder)

    def _train_step(self) -> dict[str, torch.Tensor]:
        factor = self.learning_rate_factor()
        for optimizer, rate in zip(self.optimizers, self.base_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        with self.accelerator.autocast():
            loss, logs = self.task.loss(self.step, self.progress, self.accelerator.device)
        self.accelerator.backward(loss)
        self._require_finite(loss)
        self._average_gradients()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return {key: value.detach() for key, value in logs.items()}

    def _average_gradients(self) -> None:
        """Data parallelism by hand: the step calls parts of several modules, which DDP cannot wrap."""
        if self.accelerator.num_processes == 1:
            return
        for optimizer in self.optimizers:
            for p in optimizer.param_groups[0]["params"]:
                if p.grad is not None:
                    p.grad = self.accelerator.reduce(p.grad, reduction="mean")

    def validate(self) -> dict[str, float]:
        """Measure on held-out photos and append to ``validation.csv``."""
        self.task.eval()
        numbers = self.task.validate(self.accelerator.device)
        self.task.train()
        self._log("validation.csv", numbers)
        return numbers

    def _log(self, name: str, numbers: dict[str, float]) -> None:
        if not self.accelerator.is_main_process:
            return
        row = {"step": self.step, "seconds": round(self.seconds, 1)}
        row |= {key: f"{value:.6g}" for key, value in numbers.items()}
        logs.append(self.folder / name, row)

    def _stateful(self) -> dict[str, nn.Module]:
        """Everything a checkpoint must hold, by name."""
        modules = dict(self.task.modules_to_train())
        if hasattr(self.task, "rate"):
            modules["rate"] = self.task.rate
        if self.adversary is not None:
            modules["adversary"] = self.adversary
        return modules

    def _state(self) -> dict:
        return {
            "recipe": dataclasses.asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "modules": {name: module.state_dict() for name, module in self._stateful().items()},
            "optimizers": [o.state_dict() for o in self.optimizers],
            "torch_rng": torch.get_rng_state(),
        }

    def save(self) -> None:
        """Write the checkpoint, and keep the one before; a kill while writing leaves both whole.

        Raises:
            RecipeError: the networks diverged; nothing was written.
        """
        if not self.accelerator.is_main_process:
            return
        buffer = io.BytesIO()
        torch.save(self._state(), buffer)
        self._require_finite(self._probe())
        if self.checkpoint_path.exists():
            previous = self.checkpoint_path.with_name("checkpoint.previous.pt")
            atomic_write_bytes(previous, self.checkpoint_path.read_bytes())
        atomic_write_bytes(self.checkpoint_path, buffer.getvalue())

    @torch.no_grad()
    def _probe(self) -> torch.Tensor:
        """The loss that the next step would begin with; leaves no trace."""
        touched = {n: m for n, m in self._stateful().items() if n in ("rate", "adversary")}
        before = {name: copy.deepcopy(module.state_dict()) for name, module in touched.items()}
        with torch.random.fork_rng(), self.accelerator.autocast():
            loss, _ = self.task.loss(self.step, self.progress, self.accelerator.device)
        for name, module in touched.items():
            module.load_state_dict(before[name])
        return loss

    def _require_finite(self, loss: torch.Tensor) -> None:
        """Refuse to go on from networks whose loss is no number.

        Raises:
            RecipeError: says which checkpoint is sound and what to change.
        """
        if torch.isfinite(loss):
            return
        sound = (
            f"{self.checkpoint_path} is from before: resume"
            if self.checkpoint_path.exists()
            else "begin anew"
        )
        raise RecipeError(
            f"the training diverged: its loss is {loss.item()} at step {self.step}. {sound} with a lower muon_lr or "
            "adamw_lr."
        )

    def _load(self) -> None:
        try:
            state = torch.load(self.checkpoint_path, map_location="cpu", weights_only=True)
            state["recipe"], state["modules"], state["optimizers"]
        except (EOFError, KeyError, OSError, RuntimeError, TypeError, UnpicklingError) as error:
            raise RecipeError(
                f"{self.checkpoint_path}: damaged, or no checkpoint of a run. Move it away to begin anew."
            ) from error
        for key in ("task", "model", "adversarial_weight"):
            was = state["recipe"].get(key, 0.0)  # 0.1 had no discriminator
            if was != getattr(self.recipe, key):
                raise RecipeError(
                    f"{self.checkpoint_path} was trained with {key} = {was!r}, the recipe says "
                    f"{getattr(self.recipe, key)!r}; use another folder"
                )
        for name, module in self._stateful().items():
            try:
                module.load_state_dict(state["modules"][name])
            except (KeyError, RuntimeError) as error:
                raise RecipeError(
                    f"{self.checkpoint_path}: its {name!r} is of another release. Start a new run from its networks: "
                    f"start_from = {str(self.folder)!r} in the recipe, and another folder"
                ) from error
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["torch_rng"])
