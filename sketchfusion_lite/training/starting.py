"""Start a run from trained networks: of an earlier run's checkpoint, or of a weights file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..errors import RecipeError
from ..weights_io import load_weights


def load_start(path: str | Path, modules: Mapping[str, nn.Module]) -> None:
    """Fill modules with the networks of a run folder, a ``checkpoint.pt`` or a codec's weights file.

    Args:
        path: where the networks are; a weights file has those of ``"model"`` only.
        modules: by the names that the task gave them when it was saved.

    Raises:
        RecipeError: nothing there, unreadable, or of another shape.
        WeightsError: a damaged weights file.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "checkpoint.pt"
    if not path.is_file():
        raise RecipeError(f"start_from: {path} does not exist; name a run folder or a weights file")
    if path.suffix == ".safetensors":
        tensors, _ = load_weights(path)
        states = {"model": {k: t for k, t in tensors.items() if not k.startswith("integer.")}}
    else:
        try:
            states = torch.load(path, map_location="cpu", weights_only=True)["modules"]
        except (EOFError, KeyError, OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise RecipeError(f"start_from: {path} is damaged or no checkpoint") from error
    missing = set(modules) - set(states) - {"rate"}  # lambda finds its level by itself
    if missing:
        raise RecipeError(f"start_from: {path} holds {sorted(states)}, but not {sorted(missing)}")
    for name, module in modules.items():
        if name not in states:
            continue
        try:
            module.load_state_dict(states[name])
        except RuntimeError as error:
            raise RecipeError(
                f"start_from: {path} does not fit the recipe's model: {error}"
            ) from error
