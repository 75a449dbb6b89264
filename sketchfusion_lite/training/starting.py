"""Start a run from trained networks: of an earlier run's checkpoint, or of a weights file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..errors import RecipeError
from ..refiner_io import load_refiner
from ..weights_io import load_weights, without_integers


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
    unet = load_refiner(path).unet if (path / "unet").is_dir() else None
    if unet is None and path.is_dir():
        path = path / "checkpoint.pt"
    if unet is None and not path.is_file():
        raise RecipeError(f"start_from: {path} does not exist; name a run folder or a weights file")
    if unet is not None:
        states = {"unet": unet.state_dict()}
    elif path.suffix == ".safetensors":
        tensors, _ = load_weights(path)
        states = {"model": without_integers(tensors)}
    else:
        try:
            states = torch.load(path, map_location="cpu", weights_only=True)["modules"]
        except (EOFError, KeyError, OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise RecipeError(f"start_from: {path} is damaged or no checkpoint") from error
    missing = set(modules) - set(states)
    if missing:
        raise RecipeError(f"start_from: {path} holds {sorted(states)}, but not {sorted(missing)}")
    for name, module in modules.items():
        state = states[name]
        if transplant:
            own = module.state_dict()
            state = {
                key: _leading(state[key], own[key]) if key in state else own[key] for key in own
            }
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise RecipeError(
                f"start_from: {path} does not fit the recipe's model: {error}"
            ) from error


def _leading(source: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The leading part of ``source`` in the shape of ``like``, or ``like`` where the source is smaller."""
    fits = source.ndim == like.ndim and all(
        a >= b for a, b in zip(source.shape, like.shape, strict=True)
    )
    return source[tuple(slice(side) for side in like.shape)] if fits else like
