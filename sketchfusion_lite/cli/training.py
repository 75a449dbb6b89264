"""``sketchfusion train``, ``export`` and ``fetch``: how weights come about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    DownloadColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..errors import RecipeError, WeightsError
from ..files import text_of
from .console import needs_extra, note, progress_bar, say
from .options import one_of, option
from .pipes import check_target

if TYPE_CHECKING:
    from ..training.loop import TrainingRun


_RECIPE = "codec, codec-gpu, preview, refiner, refiner-gpu, encoder, lines, cues, or the path of a recipe (.toml)."
_PHOTOS = "Folder of training photos instead of the recipe's; may be repeated."
_STEPS = "Length of the run in steps, instead of the recipe's."
_MINUTES = "Length of the run in minutes of training, instead of steps."
_COMPILE = "Use torch.compile: a slow start, then faster steps."
_DETECTOR = "Weights of a cues run, for the detector of a codec run."
_CODEC = "Weights of the codec that a preview, refiner or encoder is for."
_REFINER = "Folder of the refiner that an encoder is for."
_GRAFT = "Weights of a codec whose preview decoder a refiner begins as."
_RUN = "Run folder of a codec recipe, or its checkpoint.pt."
_SET = (
    "kodak: 24 photos for evaluation; lpips: networks that training and evaluation need; inception: the network under "
    "FID and KID; all: everything."
)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=_RECIPE)],
    photos: Annotated[list[Path] | None, option(_PHOTOS)] = None,
    out: Annotated[Path | None, option("Run folder. Default: runs/RECIPE.")] = None,
    resume: Annotated[bool, option("Go on from the folder's last checkpoint.", "--resume")] = False,
    steps: Annotated[int | None, option(_STEPS, min=1)] = None,
    minutes: Annotated[float | None, option(_MINUTES, min=0.01)] = None,
    compile: Annotated[bool | None, option(_COMPILE)] = None,
    detector: Annotated[Path | None, option(_DETECTOR)] = None,
    codec: Annotated[Path | None, option(_CODEC)] = None,
    graft: Annotated[Path | None, option(_GRAFT)] = None,
    refiner: Annotated[Path | None, option(_REFINER)] = None,
    start_from: Annotated[
        Path | None, option("Run folder, checkpoint or weights to start from.")
    ] = None,
) -> None:
    """Train by a recipe; stop it at any moment and go on with --resume.

    The run folder gets recipe.json, log.csv, validation.csv, checkpoint.pt and, at the end, the
    weights. Options replace what the recipe says. Uses a GPU if there is one: codec-gpu and
    refiner-gpu are made for it. Several GPUs: accelerate launch -m sketchfusion_lite.cli train RECIPE
    """
    one_of(steps=steps, minutes=minutes)
    from ..training.recipe import load_recipe

    files = {"detector": detector, "codec": codec, "graft": graft, "refiner": refiner}
    files |= {"start_from": start_from}
    named = {key: str(path) for key, path in files.items() if path}
    if graft:  # takes the place of a start
        named = {"start_from": ""} | named
    plan = load_recipe(
        recipe,
        photos=[str(folder) for folder in photos] if photos else None,
        steps=steps,
        minutes=0.0 if steps is not None else minutes,  # minutes would win over steps
        compile=compile,
        **named,
    )
    folder = out or Path("runs") / Path(recipe).name.removesuffix(".toml")
    if resume and not (folder / "checkpoint.pt").exists():
        note(f"note: {folder} holds no checkpoint; the run starts from the beginning")
    with needs_extra("train", "training"):
        from ..training.loop import TrainingRun

        run = TrainingRun(plan, folder, resume)
    if run.accelerator.is_main_process:
        held = ", ".join(text_of(photo.name) for photo in run.task.held)
        note(f"{len(run.task.sampler.sizes)} photos to train on; held out to validate on: {held}")
    try:
        _watch(run, str(folder))
    except KeyboardInterrupt:
        note(f"stopped at step {run.step}; go on from the last checkpoint with --resume")
        raise
    if run.accelerator.is_main_process:
        say(f"{folder}  {run.step} steps  {run.seconds / 60:.1f} minutes  weights: {run.exported}")


def _watch(run: TrainingRun, name: str) -> None:
    """Run to the end with a bar, or with a line per row of the log if stderr is no terminal."""
    numbers = TextColumn("{task.fields[numbers]}", markup=False)
    times = TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with progress_bar(*times, numbers) as bar:
        if not run.accelerator.is_main_process:
            bar.disable = True
        done: Any = run.progress  # of 1; Rich's annotation wants an int, its code does not
        task = bar.add_task(name, total=1.0, completed=done, numbers="")

        def on_log(step: int, progress: float, numbers: dict[str, float]) -> None:
            text = "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())
            bar.update(task, completed=progress, numbers=f"step {step}  {text}")
            if not bar.console.is_terminal and run.accelerator.is_main_process:
                note(f"step {step}  {100 * progress:.1f} %  {text}")

        run.run(on_log=on_log)


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help=_RUN)],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.safetensors", help="Weights file to write.")
    ],
    force: Annotated[bool, option("Replace an existing file.", "--force")] = False,
) -> None:
    """Turn the last checkpoint of a codec run, its averaged weights, into a weights file before it ends.

    Prints the model id, which streams made with these weights carry, and the size in bytes.
    """
    check_target(target, force)
    path = run_folder / "checkpoint.pt" if run_folder.is_dir() else run_folder
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. Name the folder of a run that has a checkpoint.")
    from ..codec import export_weights
    from ..model import ModelConfig, SketchFusionModel
    from ..training.checkpoints import read_checkpoint
    from ..training.recipe import CodecRecipe, describe, recipe_of

    try:
        state = read_checkpoint(path)
        recipe = recipe_of(state["recipe"])
        if not isinstance(recipe, CodecRecipe):
            raise WeightsError(
                f"{path}: of a {recipe.task!r} run; weights are exported from a codec run"
            )
        model = SketchFusionModel(ModelConfig.from_dict(recipe.model))
        model.load_state_dict(state["modules"]["model"])
    except (KeyError, RecipeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path}: does not fit this release ({reason}). Export it with the release that trained it."
        ) from error
    took = {"steps": state["step"], "minutes": round(state["seconds"] / 60, 1)}
    model_id = export_weights(model, target, describe(recipe) | took)
    say(f"{target}  model {model_id:#06x}  {target.stat().st_size} bytes  step {state['step']}")


def fetch(name: Annotated[str, typer.Argument(metavar="NAME", help=_SET)]) -> None:
    """Download what is too large or not ours to ship, checked by its sha256, into the cache folder.

    What is there already is not downloaded again. Prints the folder.
    """
    from .. import datasets

    with progress_bar(DownloadColumn(), TimeRemainingColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def on_bytes(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file)
            bar.update(tasks[file], completed=done, total=total or None)

        folder = datasets.fetch(name, report=note, progress=on_bytes)
    say(str(folder))
