"""What a task is: it owns networks, photos and loss; the loop owns time.

    Task --+-- CuesTask
           +-- PictureTask --+-- CodecTask
                             +-- ReceiverTask --+-- PreviewTask
                                                +-- RefinerTask
                                                +-- EncoderTask

A new task has a recipe class with its name in ``recipe.RECIPES``, and itself in ``loop.TASKS``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..blocks import channels_last
from ..model import SketchFusionModel
from ..perception import load_lpips
from . import data
from .adversarial import FeatureDiscriminator, PatchDiscriminator, hinge_game
from .graphed import Dials
from .muon import build_optimizers
from .objectives import PerceptualLoss, RateController, draw_quality, random_windows
from .recipe import PictureRecipe, Recipe

VALIDATION_SIZE = (512, 768)  # held-out photos of natural size are cut to this

Losses = tuple[Tensor, dict[str, Tensor]]


class Variant(NamedTuple):
    """All that Python decides within a step. On a GPU each variant is captured once; a task sets what it knows."""

    crop: int
    batch: int
    vgg: bool = False  # LPIPS-VGG takes part
    adversary: bool = False  # the discriminator takes part
    rounded: bool = False  # codec: on real rounding
    flow: bool = False  # refiner: plain flow matching
    realism: int = 0  # refiner, encoder: which end of the dial learns, or judges
    steps: int = 0  # refiner: of this many sampling steps ...
    last: int = 0  # ... the one that learns


class Task(nn.Module):
    """Base of the tasks.

    Args:
        recipe: of the task's own class.

    Attributes:
        adamw_only, gain_vectors: prefixes of parameters that are optimised otherwise.
        held_at_last: prefixes of parameters that the last phase leaves alone.
        last_phase: fraction of the run that it takes.
        networks: what to optimise, by name.
        discriminator, rate: what a checkpoint holds beside them, or None.
        sampler, held: photos to train on, and held-out ones.
    """

    adamw_only: tuple[str, ...] = ()
    gain_vectors: tuple[str, ...] = ()
    held_at_last: tuple[str, ...] = ()
    gain_lr = 0.0
    last_phase = 0.0
    recipe: Recipe
    networks: dict[str, nn.Module]
    discriminator: PatchDiscriminator | FeatureDiscriminator | None
    rate: RateController | None
    sampler: data.CropSampler
    held: list[data.Photo]

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.discriminator = self.rate = None
        torch.manual_seed(recipe.seed)
        self.dials = Dials(step=0, **self.settings(0.0))

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Of the networks, in an order that checkpoints rely on."""
        r = self.recipe
        named, special = self.networks.items(), (self.adamw_only, self.gain_vectors, self.gain_lr)
        return build_optimizers(named, r.muon_lr, r.adamw_lr, *special, r.weight_decay)

    def settings(self, progress: float) -> dict[str, float]:
        """Numbers that change during the run, for the dials."""
        return {}

    def turn(self, step: int, progress: float) -> None:
        """Set the dials for a step."""
        self.dials.turn(step=step, **self.settings(progress))

    def variant(self, step: int, progress: float) -> Variant:
        """What Python decides at this step."""
        return Variant(*self.recipe.phase(progress))

    def loss(self, variant: Variant) -> Losses:
        """Scalar loss of a step, and numbers to log."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Means over the held-out photos."""
        return self.mean_of_held(self.measure)

    @torch.no_grad()
    def mean_of_held(self, measure: Callable[[Tensor], dict[str, float]]) -> dict[str, float]:
        """Means of what ``measure`` says of each held-out photo ``(1, 4, H, W)`` in [0, 1], boundaries last."""
        device = self.dials.step.device
        rows = [measure(photo.pixels.to(device)[None].float() / 255) for photo in self.held]
        return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}

    def measure(self, pixels: Tensor) -> dict[str, float]:
        """Numbers of one held-out photo ``(1, 4, H, W)``."""
        raise NotImplementedError

    def export(self, folder: Path) -> Path:
        """Write the weights; returns the file or folder of them."""
        raise NotImplementedError


class PictureTask(Task):
    """Base of the tasks whose networks make pictures.

    The structural cue of every photo is computed once, before training, as the detector is frozen; if some crops are
    shrunk, of the crops of every step: lines of a shrunk photo are not shrunk lines.

    Attributes:
        model: the codec's networks, in training or finished.
        lpips, lpips_vgg: losses; the second is None where the recipe gives it no weight.
    """

    recipe: PictureRecipe

    def __init__(self, recipe: PictureRecipe, rank: int = 0) -> None:
        super().__init__(recipe)
        self.model = channels_last(self.codec_networks())
        self.lpips = PerceptualLoss(load_lpips("alex"), recipe.lpips_zoom)
        self.lpips_vgg = PerceptualLoss(load_lpips("vgg")) if recipe.lpips_vgg_weight else None

        def cue(file: Path, image: Tensor) -> Tensor:
            return torch.zeros_like(image[:, :1]) if recipe.shrunk else self.boundaries(image)

        height, width = VALIDATION_SIZE
        self.sampler, held = data.photos_of(recipe, cue, (64, width), rank)
        self.held = [data.Photo(p.name, p.pixels[:, :height, :width]) for p in held]
        self.forward_model = self.compiled(self.model)

    def codec_networks(self) -> SketchFusionModel:
        """The networks of the codec."""
        raise NotImplementedError

    def compiled(self, module: nn.Module) -> Callable[..., Any]:
        """The module as the recipe wants it called."""
        return torch.compile(module, dynamic=False) if self.recipe.compile else module

    @torch.no_grad()
    def boundaries(self, image: Tensor) -> Tensor:
        """The structural cue ``(B, 1, H, W)`` in [0, 1] of images ``(B, 3, H, W)``."""
        return self.model.boundary_detector(image).sigmoid().float()

    def crops(self, variant: Variant, levels: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images ``(B, 3, c, c)``, boundaries ``(B, 1, c, c)``, both in [0, 1], and quality ``(B,)`` of a step."""
        step = self.dials.step
        images, boundaries = self.sampler.batch(step, variant.crop, variant.batch)
        images = images.contiguous(memory_format=torch.channels_last)
        if self.recipe.shrunk:
            boundaries = self.boundaries(images)
        return images, boundaries, draw_quality(self.recipe, levels, step, variant.batch)

    def vgg_is_due(self, step: int) -> bool:
        """Whether LPIPS-VGG, which costs twenty times the codec per pixel, takes part in this step."""
        return self.lpips_vgg is not None and step % self.recipe.vgg_every == 0

    def perceived(self, picture: Tensor, reference: Tensor, vgg: bool) -> tuple[Tensor, Tensor]:
        """Weighted LPIPS of pictures ``(B, 3, c, c)``, a scalar, and LPIPS-Alex alone, for the log.

        The VGG16 term is an unbiased estimate: a window of a quarter of the area, of some of the crops, times the
        steps from one to the next.
        """
        r = self.recipe
        # Without a weight it is a number of the log alone.
        alex = self.lpips(picture if r.lpips_weight else picture.detach(), reference).mean()
        total = r.lpips_weight * alex
        if vgg:
            assert self.lpips_vgg is not None  # see vgg_is_due
            some = max(1, round(len(picture) * r.vgg_share))
            views = random_windows(picture[:some], reference[:some])
            total = total + r.lpips_vgg_weight * r.vgg_every * self.lpips_vgg(*views).mean()
        return total, alex

    def game(self, real: tuple[Tensor, ...], fake: tuple[Tensor, ...]) -> Losses:
        """Both players' losses, the generator's with the weight that the dial says; see :func:`.hinge_game`."""
        assert self.discriminator is not None  # of tasks that have an adversary
        generator, discriminator = hinge_game(self.discriminator, real, fake)
        loss = self.dials.adversarial * generator + discriminator
        return loss, {"generator": generator, "discriminator": discriminator}
