"""Recipes: everything a training run depends on, in one small TOML file.

``load_recipe("codec")`` reads a recipe that ships with the library, ``load_recipe("my.toml")`` your own. Its ``task``
says which class it is of. Unknown keys are refused, so that a misspelt one cannot silently keep its default.

    Recipe --+-- CuesRecipe
             +-- PictureRecipe --+-- PreviewRecipe
                                 +-- EncoderRecipe
                                 +-- AdversarialRecipe --+-- CodecRecipe
                                                         +-- RefinerRecipe
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

CHOICES = {"judge": ("alex", "vgg"), "quantiser": ("mixed", "straight-through", "noise")}
_FOLDER = Path(str(resources.files("sketchfusion_lite.training"))) / "recipes"
_BPP_TARGETS = [0.020, 0.036, 0.060, 0.096, 0.150, 0.230]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every training run needs."""

    task: ClassVar[str] = ""

    photos: list[str]  #: folders of training photos
    #: photos of the last folder, evenly spread in sorted order, kept for validation
    hold_out: int = 12
    short_side: int = 512  #: photos are shrunk to this short side
    #: fraction of crops taken 1.5 times larger and shrunk, where photos are large enough
    shrunk: float = 0.0
    #: Run folder, checkpoint.pt or weights file whose networks the run starts from. Unlike a resumed run, it begins at
    #: step 0 with fresh optimisers.
    start_from: str = ""
    steps: int = 20000  #: length of the run; the learning-rate schedule spans it
    #: if above 0, the schedule spans this much training time instead of ``steps``
    minutes: float = 0.0
    #: (start, crop, batch): from this fraction of the run on, crop side and batch size
    phases: list[list[float]] = field(default_factory=lambda: [[0.0, 128, 8]])
    muon_lr: float = 2e-3  #: learning rate of convolution weights
    adamw_lr: float = 1e-3  #: learning rate of the rest
    #: of convolution weights: one shrinks by ``muon_lr * weight_decay`` a step
    weight_decay: float = 0.05
    #: Decay per step of the moving average of all weights, which is what is validated and exported; shorter while the
    #: run is young.
    ema: float = 0.999
    warmup_steps: int = 100  #: linear warm-up
    #: fraction of the run after which learning rates fall linearly to zero
    decay_start: float = 0.4
    validate_minutes: float = 5.0  #: interval
    checkpoint_minutes: float = 3.0  #: interval
    compile: bool = False  #: compile the networks with ``torch.compile``
    seed: int = 0  #: of initialisation and of all draws

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RecipeError(f"recipe: steps must be at least 1, not {self.steps}")
        if not self.phases or self.phases[0][0] != 0:
            raise RecipeError("recipe: the first row of phases must start at 0")
        for name in ("ema", "shrunk", "rounded_phase"):
            if not 0 <= (value := getattr(self, name, 0)) < 1:
                raise RecipeError(f"recipe: {name} must be in [0, 1), not {value}")
        for name, choices in CHOICES.items():
            if (value := getattr(self, name, choices[0])) not in choices:
                raise RecipeError(f"recipe: {name} must be one of {choices}, not {value!r}")

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
    """What networks that make pictures are told to want."""

    mse_weight: float = 0.002  #: of the squared error, pixel values 0..255
    lpips_weight: float = 2.5  #: of LPIPS with AlexNet
    lpips_vgg_weight: float = 0.7  #: of LPIPS with VGG16; 0 leaves it out
    #: fraction of crops that LPIPS sees magnified, see ``objectives.PerceptualLoss``
    lpips_zoom: float = 0.25
    vgg_every: int = 4  #: steps between LPIPS-VGG terms, each of which stands for all of them
    vgg_share: float = 1 / 3  #: fraction of the crops that such a term looks at
    #: a quality level near which ``focus`` of all crops lie; the rest are uniform
    focus_quality: float = 2.2
    focus: float = 0.4
    model: dict = field(
        default_factory=dict
    )  #: overrides of ``ModelConfig``; for a refiner, of ``RefinerConfig``


@dataclass(frozen=True, kw_only=True)
class PreviewRecipe(PictureRecipe):
    """A small preview decoder for a codec that was trained with a large one."""

    task: ClassVar[str] = "preview"

    codec: str = ""  #: weights file of the finished codec; empty = shipped weights
    #: share of the squared error against the large decoder's picture, not the photo
    taught: float = 0.5


@dataclass(frozen=True, kw_only=True)
class AdversarialRecipe(PictureRecipe):
    """With a discriminator in the last part of the run."""

    #: of the generator's hinge loss; 0 trains without a discriminator
    adversarial_weight: float = 0.1
    #: fraction of the run at which the discriminator joins, with weight zero
    adversarial_start: float = 0.6
    adversarial_ramp: float = 0.15  #: fraction of the run over which its weight then grows
    adversarial_lr: float = 3e-4  #: learning rate of the discriminator

    def adversarial_factor(self, progress: float) -> float:
        """Weight of the adversarial term at ``progress`` in [0, 1]: zero, a ramp, ``adversarial_weight``."""
        ramp = (progress - self.adversarial_start) / max(1e-9, self.adversarial_ramp)
        return self.adversarial_weight * min(1.0, max(0.0, ramp))

    def adversary_joins(self, progress: float) -> bool:
        """Whether the discriminator trains at ``progress``; at first its weight is zero."""
        return self.adversarial_weight > 0 and progress >= self.adversarial_start


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(AdversarialRecipe):
    """Encoder, entropy model, preview decoder and renderer, trained together."""

    task: ClassVar[str] = "codec"

    detector: str = ""  #: weights file with a trained boundary detector; empty = shipped weights
    #: The networks of ``start_from`` are of another size: take the leading part of every tensor that fits.
    transplant: bool = False
    gain_lr: float = 3e-3  #: of the gain vectors, whose logarithms must travel far before the range of rates opens
    #: What stands for rounding. "mixed": noise where bits are counted, rounding with straight-through gradients where
    #: the decoder looks; "straight-through" or "noise": the same for both.
    quantiser: str = "mixed"
    #: Last fraction of the run, on real rounding: encoder and gains stay as they are, the rest goes on from the
    #: averaged weights, at a learning rate from a quarter to zero.
    rounded_phase: float = 0.05
    #: Mean bits per pixel per quality level on training crops, held by a controller of lambda
    bpp_targets: list[float] = field(default_factory=_BPP_TARGETS.copy)
    rate_gain: float = 0.004  #: relative change of lambda per crop and unit of relative error
    #: the targets start at this many times their value and reach it at half of the run
    anneal_factor: float = 3.0
    sketch_weight: float = 0.05  #: of the line drawing's cross entropy
    drop_tone: float = 0.05  #: fraction of crops decoded from predicted tone, as after truncation

    def target_factor(self, progress: float) -> float:
        """By how much the rate may exceed its targets at ``progress``: soon 1.4 times, from the middle on 1."""
        first, half = max(0.0, 1 - progress / 0.12), max(0.0, 1 - progress / 0.5)
        return 1 + (self.anneal_factor - 1) * (0.8 * first + 0.2 * half)


@dataclass(frozen=True, kw_only=True)
class RefinerRecipe(AdversarialRecipe):
    """The second receiver stage of a finished codec. ``start_from`` may be ``"shipped"``, too."""

    task: ClassVar[str] = "refiner"

    codec: str = ""  #: weights file of the finished codec; empty = shipped weights
    #: Weights file of a codec whose preview decoder the refiner begins as, see :mod:`.grafting`; empty begins with the
    #: preview itself. A ``start_from`` takes its place.
    graft: str = ""
    #: fraction of the run on plain flow matching, before the few-step sampler itself
    flow_fraction: float = 0.25
    #: of the squared error at the faithful end; ``mse_weight``: realistic end
    faithful_mse_weight: float = 0.004
    texture_weight: float = 0.0  #: of ``objectives.texture_loss``
    #: whose frozen features texture loss and discriminator see, "alex" or "vgg"
    judge: str = "alex"


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe(PictureRecipe):
    """Encoder and hyper analysis of a codec whose receiver is finished."""

    task: ClassVar[str] = "encoder"

    codec: str = ""  #: weights file of the finished codec; empty = shipped weights
    refiner: str = ""  #: folder of its refiner; empty = the shipped one
    preview_weight: float = 0.3  #: of the preview's errors, beside those of the refined picture
    sketch_weight: float = 0.05  #: of the line drawing's cross entropy
    drop_tone: float = 0.05  #: fraction of crops decoded from predicted tone, as after truncation
    #: the rates that the codec was trained for: what lambda follows over the qualities
    bpp_targets: list[float] = field(default_factory=_BPP_TARGETS.copy)
    rate_gain: float = 0.004  #: relative change of lambda per crop and unit of relative error


RECIPES: dict[str, type[Recipe]] = {
    kind.task: kind
    for kind in (CuesRecipe, CodecRecipe, PreviewRecipe, RefinerRecipe, EncoderRecipe)
}


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the library."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def load_recipe(name: str | Path, **overrides: object) -> Recipe:
    """Read a recipe by the name of a shipped one or the path of a TOML file.

    Args:
        name: one of :func:`shipped_recipes`, or a path.
        overrides: fields that replace the file's; None means keep.

    Raises:
        RecipeError: no such recipe, not TOML, unknown task, unknown or mistyped field.
    """
    shipped = shipped_recipes()
    path = _FOLDER / f"{name}.toml" if str(name) in shipped else Path(name)
    if not path.is_file():
        raise RecipeError(
            f"no recipe {str(name)!r}: give {', '.join(map(repr, shipped))} or the path of a TOML file"
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
    fields = dict(values)
    task = fields.pop("task", None)
    if task not in RECIPES:
        raise RecipeError(f"{name}: task must be one of {tuple(RECIPES)}, not {task!r}")
    kind = RECIPES[task]
    examples = {"photos": []} | kind(photos=[]).to_dict()
    del examples["task"]
    for key, value in fields.items():
        if key not in examples:
            raise RecipeError(
                f"{name}: {kind.__name__} has no field {key!r}; it has {', '.join(examples)}"
            )
        # A whole number is a float, too; true is no number.
        wanted = (int, float) if (expected := type(examples[key])) is float else (expected,)
        if type(value) not in wanted:
            raise RecipeError(f"{name}: {key} must be of type {expected.__name__}, not {value!r}")
    if "photos" not in fields:
        raise RecipeError(f"{name}: photos is missing; name folders of training photos")
    return kind(**fields)


def describe(recipe: Recipe) -> dict:
    """What a weights file says of its training; folders by name only, whose paths are nobody's business."""
    values = recipe.to_dict()
    values["photos"] = [Path(folder).name for folder in recipe.photos]
    for key in {"detector", "start_from", "codec", "graft", "refiner"} & values.keys():
        values[key] = Path(values[key]).name
    return {"recipe": values}
