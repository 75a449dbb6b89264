"""Checkpoints of a run, and starts from trained networks: of a checkpoint, a weights file, or a refiner's folder."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import RecipeError
from ..refiner_io import load_refiner
from ..weights_io import load_weights, without_integers

if TYPE_CHECKING:
    from .loop import TrainingRun

NAME = "checkpoint.pt"  # in the folder of a run


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What :func:`state_of` gave: tensors and plain values, never code.

    Raises:
        RecipeError: damaged, or no checkpoint of a run.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["recipe"]["task"], state["modules"]
    except (EOFError, KeyError, OSError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        raise RecipeError(
            f"{path}: damaged, or no checkpoint of a run. Move it away to begin anew."
        ) from error
    return state


def state_of(run: TrainingRun) -> dict[str, Any]:
    """All that a run needs to go on; ``modules`` are averages, which others want of it, ``weights`` what trains."""
    with run.average.applied():
        modules = {n: copy.deepcopy(m.state_dict()) for n, m in run.stateful().items()}
    return {
        "recipe": run.recipe.to_dict(),
        "step": run.step,
        "seconds": run.seconds,
        "last": run.last,
        "averaged_from": run.averaged_from,
        "modules": modules,
        "weights": {name: p.detach() for name, p in run.weights.items()},
        "optimizers": [o.state_dict()["state"] for o in run.optimizers],
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state() if run.device.type == "cuda" else None,
    }


def restore(run: TrainingRun) -> None:
    """Put a fresh run where its checkpoint was.

    Raises:
        RecipeError: the checkpoint is damaged, of another recipe, or of another release.
    """
    path, recipe = run.checkpoint_path, run.recipe.to_dict()
    state = read_checkpoint(path)
    for key in ("task", "model", "adversarial_weight"):
        was, now = state["recipe"].get(key), recipe.get(key)
        if was != now:
            raise RecipeError(
                f"{path} was trained with {key} = {was!r}, the recipe says {now!r}; use another folder"
            )
    try:
        _fill(run, state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"{path} is of another release, whose runs cannot be resumed. Start a new run from its networks: "
            f"start_from = {str(run.folder)!r} in the recipe, and another folder"
        ) from error


@torch.no_grad()
def _fill(run: TrainingRun, state: dict) -> None:
    for name, module in run.stateful().items():
        module.load_state_dict(state["modules"][name])
    run.average.restart()
    if state["last"]:
        run.hold()
    run.step, run.seconds = state["step"], state["seconds"]
    run.averaged_from = state["averaged_from"]
    for name, weight in run.weights.items():
        weight.copy_(state["weights"][name])
    for optimizer, saved in zip(run.optimizers, state["optimizers"], strict=True):
        # The rates and settings are this recipe's and this device's.
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": saved, "param_groups": groups})
    torch.set_rng_state(state["torch_rng"])
    if state["cuda_rng"] is not None and run.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng"])


def load_start(
    path: str | Path, modules: Mapping[str, nn.Module], transplant: bool = False
) -> None:
    """Fill modules with the networks of a run folder, a ``checkpoint.pt`` or a codec's weights file.

    Args:
        path: where the networks are; a weights file has those of ``"model"`` only, a refiner's folder of ``"unet"``.
        modules: by the names that the task gave them when it was saved.
        transplant: the networks may be smaller than those in the file: every tensor takes the leading part that
            it has room for, and what has no counterpart keeps its initialisation.

    Raises:
        RecipeError: nothing there, unreadable, or of another shape.
        WeightsError: a damaged weights file.
    """
    path = Path(path)
    if (path / "unet").is_dir():
        states = {"unet": load_refiner(path).unet.state_dict()}
    else:
        path = path / NAME if path.is_dir() else path
        if not path.is_file():
            raise RecipeError(
                f"start_from: {path} does not exist; name a run folder or a weights file"
            )
        if path.suffix == ".safetensors":
            states = {"model": without_integers(load_weights(path)[0])}
        else:
            states = read_checkpoint(path)["modules"]
    for name, module in modules.items():
        if name not in states:
            raise RecipeError(f"start_from: {path} holds {sorted(states)}, but not {name!r}")
        state = states[name]
        if transplant:
            state = {k: _leading(state.get(k), own) for k, own in module.state_dict().items()}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise RecipeError(
                f"start_from: {path} does not fit the recipe's model: {error}"
            ) from error


def _leading(source: Tensor | None, like: Tensor) -> Tensor:
    """The leading part of ``source`` in the shape of ``like``, or ``like`` where there is none or it is smaller."""
    if source is None or source.ndim != like.ndim:
        return like
    part = source[tuple(slice(side) for side in like.shape)]
    return part if part.shape == like.shape else like
