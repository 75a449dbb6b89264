"""Recipes: everything a training run depends on, in one small TOML file.

``load_recipe("codec")`` reads a recipe that ships with the library, ``load_recipe("my.toml")`` your own.
Unknown keys are refused, so that a misspelt one cannot silently keep its default.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from ..errors import RecipeError

TASKS = ("cues", "codec", "refiner")
JUDGES = ("alex", "vgg")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        task: ``"cues"`` (boundary detector), ``"codec"`` (encoder, entropy model, preview, renderer) or
            ``"refiner"`` (the second receiver stage of a trained codec).
        start_from: run folder, ``checkpoint.pt`` or weights file whose networks the run starts from; unlike a
            resumed run, it begins at step 0 with fresh optimisers. For task ``"refiner"``, of a refiner.
        transplant: the networks of ``start_from`` are of another size: take the leading part of every tensor that fits.
        graft: task ``"refiner"``: start with the preview decoder's features, see :mod:`.grafting`; a ``start_from``
            takes its place.
        codec: weights file of the codec that task ``"refiner"`` refines; empty = shipped weights.
        photos: folders of training photos.
        hold_out: photos, by file name in sorted order, kept from the last folder for validation.
        short_side: photos are shrunk to this short side.
        steps: length of the run; the learning-rate schedule spans it.
        minutes: if above 0, the schedule spans this much training time instead of ``steps``.
        phases: ``(start, crop, batch)`` rows: from this fraction of the run on, crop side and batch size.
        muon_lr, adamw_lr: learning rates of convolution weights and of the rest.
        gain_lr: learning rate of the gain vectors, whose logarithms must travel far before the range of rates opens;
            0 leaves them with the rest.
        warmup_steps: linear warm-up.
        decay_start: fraction of the run after which both rates fall linearly to zero.
        bpp_targets: mean rate per quality level on training crops, driven by a controller of lambda.
        rate_scale: where lambda times the target rate starts.
        anneal: fraction of the run during which the targets fall from ``anneal_factor`` times their value.
        anneal_factor: see ``anneal``.
        mse_weight: weight of the squared error (pixel values 0..255).
        lpips_weight, lpips_vgg_weight: weights of LPIPS with AlexNet and VGG16 trunks; 0 leaves it out.
        vgg_every: steps between LPIPS-VGG terms; the term stands for all of them.
        lpips_zoom: probability of a magnified view, see :class:`.objectives.PerceptualLoss`.
        texture_weight: task ``"refiner"``: weight of :func:`.objectives.texture_loss`.
        judge: task ``"refiner"``: whose frozen features texture loss and discriminator see, ``"alex"`` or ``"vgg"``.
        adversarial_weight: weight of the generator's hinge loss; 0 trains without a discriminator.
        adversarial_start: fraction of the run at which the discriminator joins; its weight is ramped up over
            the ``adversarial_ramp`` that follows.
        adversarial_ramp: see ``adversarial_start``.
        adversarial_lr: learning rate of the discriminator.
        flow_fraction: task ``"refiner"``: fraction of the run spent on plain flow matching, before the few-step
            sampler itself is fine-tuned.
        sketch_weight: weight of the line drawing's cross entropy.
        drop_tone: fraction of crops decoded from predicted tone, as after truncation.
        focus_quality: a quality level that gets ``focus`` of all crops, the rest are uniform.
        focus: see ``focus_quality``.
        model: overrides of :class:`~sketchfusion_lite.model.ModelConfig`, or for task ``"refiner"`` of
            :class:`~sketchfusion_lite.refiner.RefinerUNet`.
        detector: weights file with a trained boundary detector (task ``codec``); empty = shipped weights.
        validate_minutes, checkpoint_minutes: intervals.
        compile: compile the training step with ``torch.compile``.
        seed: of initialisation and data order.
    """

    task: str
    photos: list[str]
    start_from: str = ""
    transplant: bool = False
    graft: bool = False
    codec: str = ""
    hold_out: int = 12
    short_side: int = 512
    steps: int = 20000
    minutes: float = 0.0
    phases: list[list[float]] = field(default_factory=lambda: [[0.0, 128, 8]])
    muon_lr: float = 1e-3
    adamw_lr: float = 1e-3
    gain_lr: float = 0.0
    warmup_steps: int = 100
    decay_start: float = 0.5
    bpp_targets: list[float] = field(
        default_factory=lambda: [0.013, 0.024, 0.044, 0.075, 0.120, 0.180]
    )
    rate_scale: float = 0.5
    anneal: float = 0.1
    anneal_factor: float = 3.0
    mse_weight: float = 0.0015
    lpips_weight: float = 4.0
    lpips_vgg_weight: float = 0.0
    vgg_every: int = 4
    lpips_zoom: float = 0.0
    texture_weight: float = 0.0
    judge: str = "alex"
    adversarial_weight: float = 0.0
    adversarial_start: float = 0.0
    adversarial_ramp: float = 0.3
    adversarial_lr: float = 2e-4
    flow_fraction: float = 0.25
    sketch_weight: float = 0.05
    drop_tone: float = 0.05
    focus_quality: float = 2.0
    focus: float = 0.3
    model: dict = field(default_factory=dict)
    detector: str = ""
    validate_minutes: float = 5.0
    checkpoint_minutes: float = 3.0
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise RecipeError(f"recipe: task must be one of {TASKS}, not {self.task!r}")
        if self.judge not in JUDGES:
            raise RecipeError(f"recipe: judge must be one of {JUDGES}, not {self.judge!r}")
        if self.steps < 1:
            raise RecipeError(f"recipe: steps must be at least 1, not {self.steps}")
        if not self.phases or self.phases[0][0] != 0:
            raise RecipeError("recipe: the first row of phases must start at 0")

    def adversarial_factor(self, progress: float) -> float:
        """Weight of the adversarial term at ``progress`` in [0, 1]: zero, a ramp, ``adversarial_weight``."""
        if progress < self.adversarial_start:
            return 0.0
        ramp = (progress - self.adversarial_start) / max(1e-9, self.adversarial_ramp)
        return self.adversarial_weight * min(1.0, ramp)

    def phase(self, progress: float) -> tuple[int, int]:
        """Crop side and batch size at ``progress`` in [0, 1]."""
        _, crop, batch = [row for row in self.phases if row[0] <= progress][-1]
        return int(crop), int(batch)


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
        RecipeError: no such recipe, not TOML, unknown or mistyped field.
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
    values |= {k: v for k, v in overrides.items() if v is not None}
    known = {f.name: f for f in dataclasses.fields(Recipe)}
    for key, value in values.items():
        if key not in known:
            raise RecipeError(f"{path.name}: unknown field {key!r}; known are {', '.join(known)}")
        expected = _TYPES[str(known[key].type).split("[")[0]]
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            raise RecipeError(f"{path.name}: {key} must be {known[key].type}, not {value!r}")
    try:
        return Recipe(**values)
    except TypeError as error:
        raise RecipeError(f"{path.name}: {error}") from error


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
    values = dataclasses.asdict(recipe)
    values["photos"] = [Path(folder).name for folder in recipe.photos]
    for key in ("detector", "start_from", "codec"):
        values[key] = Path(values[key]).name
    return {"recipe": values}
