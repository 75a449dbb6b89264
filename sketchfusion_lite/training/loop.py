"""The training loop: time, learning rates, averages, checkpoints, logs. What is trained is a task's business.

A run folder holds ``recipe.json``, ``log.csv`` (training), ``validation.csv``, ``checkpoint.pt`` (resume) and, at
the end, the exported weights. A run killed at any moment resumes from its last checkpoint; crops and qualities are
functions of seed and step, other draws of the generators that it holds. A state is written only after one more forward
pass has shown it finite, and the checkpoint before it is kept as ``checkpoint.previous.pt``: a run that diverges
ruins neither.

A step never waits for the device: what changes is set before it, what it found is added up on the device and read with
every row of the log. On a GPU it is one CUDA graph, see :mod:`.graphed`.
"""

from __future__ import annotations

import functools
import io
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from ..errors import OutputError, RecipeError
from ..files import atomic_write_bytes
from .averaging import Average
from .base import Task, Variant
from .checkpoints import NAME, restore, state_of
from .codec_task import CodecTask
from .cues_task import CuesTask
from .encoder_task import EncoderTask
from .graphed import Capture, Step, cuda_graph
from .logs import Log
from .muon import fused_adam
from .preview_task import PreviewTask
from .recipe import AdversarialRecipe, Recipe
from .refiner_task import RefinerTask

TASKS: dict[str, Callable[..., Task]] = {
    "cues": CuesTask,
    "codec": CodecTask,
    "preview": PreviewTask,
    "refiner": RefinerTask,
    "encoder": EncoderTask,
}
LOG_EVERY = 50  # steps per row of log.csv; the last row may stand for fewer
CLOCK_EVERY = 10  # steps between looks at the clock on a GPU, which the host would otherwise outrun
ADVERSARY_LR_MIN = 0.2  # of its learning rate: a judge must follow to the end

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
                f"{self.folder}: cannot be made ({error.strerror}). Choose another run folder."
            ) from error
        self.checkpoint_path = self.folder / NAME
        if self.checkpoint_path.exists() and not resume:
            raise RecipeError(
                f"{self.folder} holds a run already; go on with resume=True, or name another folder"
            )
        self.accelerator = Accelerator(mixed_precision=_precision())
        self.device = device = self.accelerator.device
        self.capture: Capture | None = None
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
            if self.accelerator.num_processes == 1:
                self.capture = cuda_graph()
        self.task = TASKS[recipe.task](recipe, rank=self.accelerator.process_index).to(device)
        self.optimizers = self.task.optimizers()
        if self.task.discriminator is not None:
            assert isinstance(recipe, AdversarialRecipe)
            parameters = self.task.discriminator.parameters()
            self.optimizers.append(fused_adam(parameters, recipe.adversarial_lr, (0.5, 0.95)))
        for group in (o.param_groups[0] for o in self.optimizers):
            group["initial_lr"] = group["lr"]
            group["lr"] = torch.tensor(float(group["lr"]), device=device)  # read by captured steps
        named = (m.named_parameters(prefix=name) for name, m in self.task.networks.items())
        self.weights = {n: p for each in named for n, p in each if p.requires_grad}
        self.average = Average(self.weights, recipe.ema)
        self.variants: dict[Variant, Step] = {}
        self.sums: dict[str, torch.Tensor] = {}
        self.step, self.seconds = 0, 0.0
        self.last = False  # whether the last phase has begun
        self.averaged_from = 0  # first step in the averages
        self.exported: Path | None = None  # the weights, once the run has ended
        if self.checkpoint_path.exists():
            restore(self)
        self.logs: dict[str, Log] = {}
        if self.accelerator.is_main_process:
            ended = self.progress >= 1  # then it validates once more
            for name, kept in (("log.csv", self.step), ("validation.csv", self.step - ended)):
                self.logs[name] = Log(self.folder / name, kept)
            text = json.dumps(recipe.to_dict(), indent=1)
            atomic_write_bytes(self.folder / "recipe.json", text.encode())

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, by training time if the recipe has ``minutes``, else by steps."""
        if self.recipe.minutes > 0:
            return min(1.0, self.seconds / (60 * self.recipe.minutes))
        return min(1.0, self.step / self.recipe.steps)

    def learning_rate_factor(self) -> float:
        """Linear warm-up, constant, linear decay to zero; in a last phase from a quarter to zero."""
        phase = self.task.last_phase
        if self.last:
            return 0.25 * min(1.0, (1 - self.progress) / phase)
        warmup = min(1.0, (self.step + 1) / max(1, self.recipe.warmup_steps))
        done = self.progress / (1 - phase)
        return warmup * min(1.0, (1 - done) / max(1e-9, 1 - self.recipe.decay_start))

    def run(self, on_log: Progress | None = None, max_steps: int | None = None) -> None:
        """Train until the schedule ends (or ``max_steps`` more steps), then validate and save.

        Args:
            on_log: called as ``on_log(step, progress, numbers)`` after every row of the log.
            max_steps: stop early, for tests; the schedule is not shortened.

        Raises:
            RecipeError: the networks diverged; the last checkpoint is sound.
        """
        last_step = None if max_steps is None else self.step + max_steps
        tick = last_validation = last_checkpoint = time.monotonic()
        self._means(1)  # of steps that this run has not made
        summed = 0  # steps in the sums; fewer than LOG_EVERY after a resume
        while self.progress < 1 and self.step != last_step:
            self.train_step()
            summed += 1
            if self.capture is not None and self.step % CLOCK_EVERY == 0:
                torch.cuda.synchronize()
            before, tick = tick, time.monotonic()
            self.seconds += tick - before
            if self.step % LOG_EVERY == 0 or self.progress >= 1:
                numbers, summed = self._means(summed), 0
                self._require_finite(numbers["loss"])
                self._log("log.csv", numbers)
                if on_log:
                    on_log(self.step, self.progress, numbers)
            if tick - last_validation > 60 * self.recipe.validate_minutes:
                self.validate()
                last_validation = tick = time.monotonic()  # validation is not training time
            if tick - last_checkpoint > 60 * self.recipe.checkpoint_minutes:
                self.save()
                last_checkpoint = time.monotonic()
        self.save()
        self.validate()
        if self.accelerator.is_main_process:
            with self.average.applied():
                self.exported = self.task.export(self.folder)

    def train_step(self) -> None:
        """Set what changes from step to step, then make the step."""
        if not self.last and self.progress >= 1 - self.task.last_phase:
            self._begin_last_phase()
        factors = [self.learning_rate_factor()] * len(self.optimizers)
        if self.task.discriminator is not None:
            factors[-1] = max(factors[-1], ADVERSARY_LR_MIN)
        for optimizer, factor in zip(self.optimizers, factors, strict=True):
            group = optimizer.param_groups[0]
            group["lr"].fill_(group["initial_lr"] * factor)
        self.task.turn(self.step, self.progress)
        self.average.pace(self.step - self.averaged_from)
        variant = self.task.variant(self.step, self.progress)
        if variant not in self.variants:
            self.variants[variant] = Step(functools.partial(self._step, variant), self.capture)
        self.variants[variant]()
        self.step += 1

    def _step(self, variant: Variant) -> None:
        """One step of one variant; nothing in it looks at a tensor or leaves the device."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            loss, numbers = self.task.loss(variant)
        self.accelerator.backward(loss)
        if self.accelerator.num_processes > 1:
            # By hand: the step calls parts of several modules, which DDP cannot wrap.
            for p in (p for o in self.optimizers for p in o.param_groups[0]["params"]):
                if p.grad is not None:
                    p.grad = self.accelerator.reduce(p.grad, reduction="mean")
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update()
        for key, value in numbers.items():
            if key not in self.sums:
                self.sums[key] = torch.zeros((), device=value.device)
            self.sums[key].add_(value.detach())

    def _means(self, steps: int) -> dict[str, float]:
        """What was added up, by so many steps; the sums begin anew."""
        numbers = {key: value.item() / steps for key, value in self.sums.items()}
        for value in self.sums.values():
            value.zero_()
        return numbers

    def _begin_last_phase(self) -> None:
        """Go on from the averages, with fresh optimisers, without the parts that the task holds."""
        self.average.take()
        self.hold()
        for optimizer in self.optimizers[: -1 if self.task.discriminator is not None else None]:
            optimizer.state.clear()
        self.variants.clear()  # their graphs write to states that are no more
        self.averaged_from = self.step

    def hold(self) -> None:
        """Enter the last phase: its parts no longer train."""
        self.last = True
        for name, weight in self.weights.items():
            if name.startswith(self.task.held_at_last):
                weight.requires_grad_(False)

    def validate(self) -> dict[str, float]:
        """Measure the averaged networks on held-out photos and append to ``validation.csv``."""
        self.task.eval()
        with self.average.applied():
            numbers = self.task.validate()
        self.task.train()
        self._log("validation.csv", numbers)
        return numbers

    def _log(self, name: str, numbers: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            row = {"step": self.step, "seconds": round(self.seconds, 1)}
            self.logs[name].append(row | {key: f"{x:.6g}" for key, x in numbers.items()})

    def stateful(self) -> dict[str, nn.Module]:
        """Everything a checkpoint must hold, by name."""
        others: dict[str, nn.Module | None]
        others = {"rate": self.task.rate, "adversary": self.task.discriminator}
        return self.task.networks | {name: m for name, m in others.items() if m is not None}

    def save(self) -> None:
        """Write the checkpoint, and keep the one before; a kill while writing leaves both whole.

        Raises:
            RecipeError: the networks diverged; nothing was written.
        """
        if not self.accelerator.is_main_process:
            return
        buffer = io.BytesIO()
        torch.save(state_of(self), buffer)
        self._require_finite(self._next_loss())
        if self.checkpoint_path.exists():
            previous = self.checkpoint_path.with_name("checkpoint.previous.pt")
            atomic_write_bytes(previous, self.checkpoint_path.read_bytes())
        atomic_write_bytes(self.checkpoint_path, buffer.getvalue())

    @torch.no_grad()
    def _next_loss(self) -> float:
        """The loss that the next step would begin with; leaves no trace."""
        self.task.turn(self.step, self.progress)
        self.task.eval()
        with (
            torch.random.fork_rng([self.device] if self.device.type == "cuda" else []),
            self.accelerator.autocast(),
        ):
            loss, _ = self.task.loss(self.task.variant(self.step, self.progress))
        self.task.train()
        return loss.item()

    def _require_finite(self, loss: float) -> None:
        """Refuse to go on from networks whose loss is no number, and say which checkpoint is sound."""
        if not math.isfinite(loss):
            before = f"{self.checkpoint_path} is from before: resume"
            sound = before if self.checkpoint_path.exists() else "begin anew"
            raise RecipeError(
                f"the training diverged: its loss is {loss} by step {self.step}. {sound} with a lower muon_lr or "
                "adamw_lr."
            )


def _precision() -> str | None:
    """bfloat16 on a GPU that has it; elsewhere what Accelerate's environment says."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ or not torch.cuda.is_available():
        return None
    return "bf16" if torch.cuda.is_bf16_supported() else None
