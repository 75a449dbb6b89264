"""Notebook 09: what stands around its joint loop.

    photos, held-out photo --photo_folders--> folders of a recipe
    networks of the notebook --library_step--> loss and gradients of the library's own task, to be compared
    codecs, budgets --side_by_side--> one row and one picture for each

The loop itself is in the notebook; the library's own is :mod:`sketchfusion_lite.training.loop`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import BudgetTooSmall
from sketchfusion_lite.evaluation.metrics import measure
from sketchfusion_lite.images import save_image
from sketchfusion_lite.model import SketchFusionModel
from sketchfusion_lite.samples import SAMPLES, Photo, load_photo
from sketchfusion_lite.training.codec_task import CodecTask
from sketchfusion_lite.training.objectives import RateController
from sketchfusion_lite.training.recipe import CodecRecipe

__all__ = ["LibraryStep", "library_step", "photo_folders", "pull", "side_by_side"]


def photo_folders(photos: str, held_out: Photo, folder: Path) -> list[str]:
    """Folders for ``CodecRecipe.photos``, which with ``hold_out=1`` keep one photo out of the training.

    Args:
        photos: folders to train on, divided by commas; empty: the bundled samples but the held-out photo.
        held_out: goes into a folder of its own, the last one.
        folder: an empty one, where they are made.

    Raises:
        OutputError: a file cannot be written.
    """
    given = [each.strip() for each in photos.split(",") if each.strip()]
    samples = [load_photo(name) for name in SAMPLES if name != held_out.name]
    for name, those in (("train", [] if given else samples), ("held_out", [held_out])):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for photo in those:
            save_image(photo.image, folder / name / f"{photo.name}.png")
    return [*(given or [str(folder / "train")]), str(folder / "held_out")]


@dataclass(frozen=True)
class LibraryStep:
    """What the library's task makes of one step.

    Attributes:
        loss: of both players, a scalar.
        gradients: by the names of ``model.*`` and ``discriminator.*``; of parameters that got one.
        rate: the controller after the step.
    """

    loss: Tensor
    gradients: dict[str, Tensor]
    rate: RateController


def library_step(
    recipe: CodecRecipe,
    model: SketchFusionModel,
    judge: nn.Module,
    rate: RateController,
    step: int,
    progress: float,
    seed: int,
) -> LibraryStep:
    """One step of :class:`.CodecTask` on copies of these networks, in float32; they stay as they are.

    Args:
        recipe: names photos, crops and weights of the losses.
        model, judge, rate: where the step begins.
        step, progress: of the run; progress in [0, 1).
        seed: of what the step draws.
    """
    task = CodecTask(recipe).to(next(model.parameters()).device)
    assert task.discriminator is not None, "the recipe has an adversarial_weight"
    for copy, original in ((task.model, model), (task.discriminator, judge), (task.rate, rate)):
        copy.load_state_dict(original.state_dict())
    task.turn(step, progress)
    torch.manual_seed(seed)
    loss, _ = task.loss(task.variant(step, progress))
    loss.backward()
    networks = {"model": task.model, "discriminator": task.discriminator}
    named = [(f"{k}.{n}", p.grad) for k, m in networks.items() for n, p in m.named_parameters()]
    return LibraryStep(loss.detach(), {n: g for n, g in named if g is not None}, task.rate)


def pull(term: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The gradient of a loss on some parameters as one vector, on the CPU; the graph stays for other terms."""
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(parameters, found, strict=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in pairs]
    return torch.cat([part.flatten() for part in parts]).float().cpu()


def side_by_side(
    codecs: Mapping[str, tuple[SketchFusionCodec, str]],
    photo: Image.Image,
    budgets: Sequence[float],
    metrics: Sequence[str] = ("psnr", "lpips_alex"),
) -> tuple[list[dict[str, Any]], dict[tuple[str, float], Image.Image]]:
    """One photo at equal budgets by several codecs.

    Args:
        codecs: name -> codec, and the stage that is decoded, ``"preview"`` or ``"refined"``.
        photo: the original.
        budgets: bits per pixel.
        metrics: out of ``evaluation.metrics.METRICS``.

    Returns:
        rows of ``codec``, ``budget``, ``bpp`` of the file, ``fits``, and the metrics; pictures by codec and budget. A
        codec that cannot make a file that small shows its smallest one, which ``fits`` says.
    """
    rows: list[dict[str, Any]] = []
    pictures: dict[tuple[str, float], Image.Image] = {}
    for name, (codec, stage) in codecs.items():
        for budget in budgets:
            try:
                encoded, fits = codec.encode(photo, bpp=budget), True
            except BudgetTooSmall:
                encoded, fits = codec.encode(photo, quality=0.0), False
            picture = codec.decode(encoded.data, stage).image
            found = measure(photo, picture, metrics, codec.device).as_dict()
            row = {"codec": name, "budget": budget, "bpp": encoded.bpp, "fits": fits}
            rows.append(row | {metric: found[metric] for metric in metrics})
            pictures[name, budget] = picture
    return rows, pictures
