"""Recipes: everything a training run depends on, in one small TOML file.

``load_recipe("codec")`` reads a recipe that ships with the library, ``load_recipe("my.toml")`` your own. Its ``task``
says which class it is of. Unknown keys are refused, so that a misspelt one cannot silently keep its default.

    Recipe --+-- CuesRecipe
             +-- PictureRecipe --+-- AdversarialRecipe --+-- CodecRecipe
                                 |                       +-- RefinerRecipe
                                 +-- ReceiverRecipe -----+-- RefinerRecipe
                                                         +-- PreviewRecipe
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from ..errors import RecipeError

JUDGES = ("alex", "vgg")
QUANTISERS = ("mixed", "straight-through", "noise")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every training run needs.

    Attributes:
        photos: folders of training photos.
        hold_out: photos, by file name in sorted order, kept from the last folder for validation.
        short_side: photos are shrunk to this short side.
        shrunk: fraction of crops that are taken one and a half times larger and shrunk, where photos are large enough.
        start_from: run folder, ``checkpoint.pt`` or weights file whose networks the run starts from; unlike a
            resumed run, it begins at step 0 with fresh optimisers. For task ``"refiner"``, of a refiner.
        steps: length of the run; the learning-rate schedule spans it.
        minutes: if above 0, the schedule spans this much training time instead of ``steps``.
        phases: ``(start, crop, batch)`` rows: from this fraction of the run on, crop side and batch size.
        muon_lr, adamw_lr: learning rates of convolution weights and of the rest.
        weight_decay: of convolution weights, decoupled: a weight shrinks by ``muon_lr * weight_decay`` a step.
        ema: decay per step of the moving average of all weights, which is what is validated and exported; shorter
            while the run is young.
        warmup_steps: linear warm-up.
        decay_start: fraction of the run after which the learning rates fall linearly to zero.
        validate_minutes, checkpoint_minutes: intervals.
        compile: compile the networks with ``torch.compile``.
        seed: of initialisation and of all draws.
    """

    task: ClassVar[str] = ""

    photos: list[str]
    hold_out: int = 12
    short_side: int = 512
    shrunk: float = 0.0
    start_from: str = ""
    steps: int = 20000
    minutes: float = 0.0
    phases: list[list[float]] = field(default_factory=lambda: [[0.0, 128, 8]])
    muon_lr: float = 2e-3
    adamw_lr: float = 1e-3
    weight_decay: float = 0.05
    ema: float = 0.999
    warmup_steps: int = 100
    decay_start: float = 0.4
    validate_minutes: float = 5.0
    checkpoint_minutes: float = 3.0
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RecipeError(f"recipe: steps must be at least 1, not {self.steps}")
        if not self.phases or self.phases[0][0] != 0:
            raise RecipeError("recipe: the first row of phases must start at 0")
        for name in ("ema", "shrunk", "rounded_phase"):
            if not 0 <= getattr(self, name, 0) < 1:
                raise RecipeError(f"recipe: {name} must be in [0, 1), not {getattr(self, name)}")
        for name, choices in (("judge", JUDGES), ("quantiser", QUANTISERS)):
            if getattr(self, name, choices[0]) not in choices:
                raise RecipeError(
                    f"recipe: {name} must be one of {choices}, not {getattr(self, name)!r}"
                )

    def phase(self, progress: float) -> tuple[int, int]:
        """Crop side and batch size at ``progress`` in [0, 1]."""
        _, crop, batch = [row for row in self.phases if row[0] <= progress][-1]
        return int(crop), int(batch)

    def to_dict(self) -> dict[str, Any]:
        """All fields and the task; :func:`recipe_of` is the inverse."""
        return {"task": self.task} | dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class CuesRecipe(Recipe):
    """The boundary detector of the structural cue."""

    task: ClassVar[str] = "cues"


@dataclass(frozen=True, kw_only=True)
class PictureRecipe(Recipe):
    """What networks that make pictures are told to want.

    Attributes:
        mse_weight: weight of the squared error (pixel values 0..255).
        lpips_weight, lpips_vgg_weight: weights of LPIPS with AlexNet and VGG16 trunks; 0 leaves VGG16 out.
        lpips_zoom: fraction of crops that LPIPS sees magnified, see :class:`.objectives.PerceptualLoss`.
        vgg_every, vgg_share: steps between LPIPS-VGG terms, and the fraction of crops that they look at; the term
            stands for all of them.
        focus_quality: a quality level near which ``focus`` of all crops lie; the rest are uniform.
        focus: see ``focus_quality``.
        model: overrides of the network's sizes: :class:`~sketchfusion_lite.model.ModelConfig`, for task
            ``"refiner"`` :class:`~sketchfusion_lite.refiner.RefinerConfig`.
    """

    mse_weight: float = 0.002
    lpips_weight: float = 2.5
    lpips_vgg_weight: float = 0.7
    lpips_zoom: float = 0.25
    vgg_every: int = 4
    vgg_share: float = 1 / 3
    focus_quality: float = 2.2
    focus: float = 0.4
    model: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AdversarialRecipe(PictureRecipe):
    """With a discriminator in the last part of the run.

    Attributes:
        adversarial_weight: weight of the generator's hinge loss; 0 trains without a discriminator.
        adversarial_start: fraction of the run at which the discriminator joins; its weight is ramped up over
            the ``adversarial_ramp`` that follows.
        adversarial_ramp: see ``adversarial_start``.
        adversarial_lr: learning rate of the discriminator.
    """

    adversarial_weight: float = 0.1
    adversarial_start: float = 0.6
    adversarial_ramp: float = 0.15
    adversarial_lr: float = 3e-4

    def adversarial_factor(self, progress: float) -> float:
        """Weight of the adversarial term at ``progress`` in [0, 1]: zero, a ramp, ``adversarial_weight``."""
        ramp = (progress - self.adversarial_start) / max(1e-9, self.adversarial_ramp)
        return self.adversarial_weight * min(1.0, max(0.0, ramp))

    def adversary_joins(self, progress: float) -> bool:
        """Whether the discriminator trains at ``progress``; at first its weight is zero."""
        return self.adversarial_weight > 0 and progress >= self.adversarial_start


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(AdversarialRecipe):
    """Encoder, entropy model, preview decoder and renderer, trained together.

    Attributes:
        detector: weights file with a trained boundary detector; empty = shipped weights.
        transplant: the networks of ``start_from`` are of another size: take the leading part of every tensor that fits.
        gain_lr: learning rate of the gain vectors, whose logarithms must travel far before the range of rates opens.
        quantiser: what stands for rounding. ``"mixed"``: noise where bits are counted, rounding with straight-through
            gradients where the decoder looks; ``"straight-through"`` or ``"noise"``: the same for both.
        rounded_phase: last fraction of the run, on real rounding: encoder and gains stay as they are, the rest goes on
            from the averaged weights, at a learning rate from a quarter to zero.
        bpp_targets: mean rate per quality level on training crops, driven by a controller of lambda.
        rate_gain: relative change of lambda per crop and unit of relative error.
        anneal_factor: the targets start at this many times their value and reach it at half of the run.
        sketch_weight: weight of the line drawing's cross entropy.
        drop_tone: fraction of crops decoded from predicted tone, as after truncation.
    """

    task: ClassVar[str] = "codec"

    detector: str = ""
    transplant: bool = False
    gain_lr: float = 3e-3
    quantiser: str = "mixed"
    rounded_phase: float = 0.05
    bpp_targets: list[float] = field(
        default_factory=lambda: [0.020, 0.036, 0.060, 0.096, 0.150, 0.230]
    )
    rate_gain: float = 0.004
    anneal_factor: float = 3.0
    sketch_weight: float = 0.05
    drop_tone: float = 0.05

    def target_factor(self, progress: float) -> float:
        """By how much the rate may exceed its targets at ``progress``: soon 1.4 times, from the middle on 1."""
        first, half = max(0.0, 1 - progress / 0.12), max(0.0, 1 - progress / 0.5)
        return 1 + (self.anneal_factor - 1) * (0.8 * first + 0.2 * half)


@dataclass(frozen=True, kw_only=True)
class ReceiverRecipe(PictureRecipe):
    """A receiver stage of a finished codec.

    Attributes:
        codec: weights file of the codec; empty = shipped weights.
    """

    codec: str = ""


@dataclass(frozen=True, kw_only=True)
class PreviewRecipe(ReceiverRecipe):
    """A small preview decoder for a codec that was trained with a large one.

    Attributes:
        taught: share of the squared error that is against the large decoder's picture, the rest against the photo.
    """

    task: ClassVar[str] = "preview"

    taught: float = 0.5


@dataclass(frozen=True, kw_only=True)
class RefinerRecipe(ReceiverRecipe, AdversarialRecipe):
    """The second receiver stage.

    Attributes:
        graft: weights file of a codec whose preview decoder the refiner begins as, see :mod:`.grafting`; empty begins
            with the preview itself. A ``start_from`` takes its place: a run, a refiner's folder, or ``"shipped"``.
        flow_fraction: fraction of the run spent on plain flow matching, before the few-step sampler itself is
            fine-tuned.
        faithful_mse_weight: weight of the squared error at the faithful end, which takes no part in the following;
            ``mse_weight`` is the realistic end's.
        texture_weight: weight of :func:`.objectives.texture_loss`.
        judge: whose frozen features texture loss and discriminator see, ``"alex"`` or ``"vgg"``.
    """

    task: ClassVar[str] = "refiner"

    graft: str = ""
    flow_fraction: float = 0.25
    faithful_mse_weight: float = 0.004
    texture_weight: float = 0.0
    judge: str = "alex"


RECIPES: dict[str, type[Recipe]] = {
    kind.task: kind for kind in (CuesRecipe, CodecRecipe, PreviewRecipe, RefinerRecipe)
}


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the library."""
    folder = resources.files("sketchfusion_lite.training") / "recipes"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_recipe(name: str | Path, **overrides: object) -> Recipe:
    """Read a recipe by the name of a shipped one or the path of a TOML file.

    Args:
        name: one of :func:`shipped_recipes`, or a path.
        overrides: fields that replace the file's; None means keep.

    Raises:
        RecipeError: no such recipe, not TOML, unknown task, unknown or mistyped field.
    """
    shipped = resources.files("sketchfusion_lite.training") / "recipes" / f"{name}.toml"
    path = Path(str(shipped)) if shipped.is_file() else Path(name)
    if not path.is_file():
        raise RecipeError(
            f"no recipe {str(name)!r}: give {', '.join(map(repr, shipped_recipes()))} or the path of a TOML file"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path.name}: not a TOML recipe ({error})") from error
    return recipe_of(values | {k: v for k, v in overrides.items() if v is not None}, path.name)


def recipe_of(values: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """A recipe of its fields and its ``task``.

    Args:
        values: field -> value, as in a TOML file or from :meth:`Recipe.to_dict`.
        name: what messages call the place where they come from.

    Raises:
        RecipeError: unknown task, unknown, mistyped or missing field.
    """
    values = dict(values)
    task = values.pop("task", None)
    if task not in RECIPES:
        raise RecipeError(f"{name}: task must be one of {tuple(RECIPES)}, not {task!r}")
    kind = RECIPES[task]
    known = {f.name: f for f in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise RecipeError(
                f"{name}: {kind.__name__} has no field {key!r}; it has {', '.join(known)}"
            )
        expected = _TYPES[str(known[key].type).split("[")[0]]
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            raise RecipeError(f"{name}: {key} must be {known[key].type}, not {value!r}")
    if "photos" not in values:
        raise RecipeError(f"{name}: photos is missing; name folders of training photos")
    return kind(**values)


_TYPES = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list": list,
    "dict": dict,
}


def describe(recipe: Recipe) -> dict:
    """What a weights file says of its training; folders by name only, whose paths are nobody's business."""
    values = recipe.to_dict()
    values["photos"] = [Path(folder).name for folder in recipe.photos]
    for key in ("detector", "start_from", "codec", "graft"):
        if key in values:
            values[key] = Path(values[key]).name
    return {"recipe": values}
