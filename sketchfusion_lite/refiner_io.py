"""Refiner folders: read and written here without diffusers, in the layout that diffusers reads and writes.

refiner/
    model_index.json                            names the parts for diffusers; not read here
    scheduler/scheduler_config.json             Euler steps along the flow; not read here
    unet/config.json                            a RefinerConfig
    unet/diffusion_pytorch_model.safetensors    the network, in float16 where we wrote it
    training.json                               what the model card should know; not read here
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from . import checks
from .blocks import channels_last
from .errors import OutputError, WeightsError
from .files import atomic_write_bytes
from .hardware import choose_device, choose_dtype
from .refiner import RefinerConfig, RefinerUNet
from .sampler import FlowRefiner
from .weights_io import MAX_BYTES, stored

__all__ = ["load_refiner", "refiner_config", "save_refiner", "shipped_refiner"]

CONFIG, WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
_MAX_CONFIG_BYTES = 1 << 16
_WRITER = {"_diffusers_version": "0.42.1"}
_INDEX = _WRITER | {
    "_class_name": "RefinementPipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "unet": ["sketchfusion_lite.refinement", "RefinerModel"],
}
_SCHEDULER = _WRITER | {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 1.0,
}


def shipped_refiner() -> Path:
    """Folder of the refiner that comes with the library."""
    return Path(__file__).parent / "weights" / "sketchfusion-refiner"


def refiner_config(folder: str | Path) -> RefinerConfig:
    """Sizes of the refiner in a folder, and the codec that it is for.

    Raises:
        ArgumentError: ``folder`` is no path.
        WeightsError: there is none, or one of another release.
    """
    path = checks.path("folder", folder) / CONFIG
    if not os.path.isfile(path):
        remedy = "Train one with the recipe 'refiner', or decode with stage='preview'."
        raise WeightsError(f"{folder}: holds no refiner (no {CONFIG}). {remedy}")
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_MAX_CONFIG_BYTES))
        if not isinstance(values, dict):
            raise ValueError("its configuration is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, error) from error
    return RefinerConfig.from_dict(values, str(folder))


def load_refiner(
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = torch.float32,
) -> FlowRefiner:
    """Load a refiner that :func:`save_refiner` or ``RefinementPipeline.save_pretrained`` wrote.

    Args:
        folder: None for the one that comes with the library.
        device, dtype: where and in what the network runs, see :func:`.choose_device`, :func:`.choose_dtype`.

    Raises:
        ArgumentError: no such device or data type here, or ``folder`` is no path.
        WeightsError: missing, damaged, or of another release; only safetensors are read, never pickles.
    """
    folder = shipped_refiner() if folder is None else checks.path("folder", folder)
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    config = refiner_config(folder)
    with torch.device("meta"):  # no time for an initialisation that is overwritten at once
        unet = RefinerUNet(config)
    try:
        if (folder / WEIGHTS).stat().st_size > MAX_BYTES:
            raise ValueError("more bytes than any refiner has")
        tensors = load_file(folder / WEIGHTS)
        unet.load_state_dict({k: t.to(device, dtype) for k, t in tensors.items()}, assign=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    return FlowRefiner(channels_last(unet.eval().requires_grad_(False)))


def save_refiner(unet: RefinerUNet, folder: str | Path, training: dict) -> None:
    """Write a refiner in float16: a whole folder, in the place of one that was there.

    Args:
        unet: the trained network.
        folder: to write; its parent must exist.
        training: what the model card should know (recipe, steps, minutes).

    Raises:
        ArgumentError: an argument of another type.
        OutputError: it cannot be written.
        WeightsError: a weight is no number, or too large for float16.
    """
    checks.kind("unet", unet, RefinerUNet, "a RefinerUNet")
    checks.kind("training", training, dict, "a dict")
    folder = checks.path("folder", folder)
    texts = {
        "model_index.json": _INDEX,
        "scheduler/scheduler_config.json": _SCHEDULER,
        CONFIG: _WRITER | {"_class_name": "RefinerModel"} | unet.config.to_dict(),
        "training.json": training,
    }
    files = {
        name: (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()
        for name, values in texts.items()
    }
    files[WEIGHTS] = save(stored(unet.state_dict(), folder), {"format": "pt"})
    try:
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            new = Path(scratch) / "new"
            for name, data in files.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                atomic_write_bytes(new / name, data)
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            new.rename(folder)
    except OSError as error:
        what = f"{folder}: cannot be written ({error.strerror or error})"
        raise OutputError(f"{what}. Check the folder's permissions and the free space.") from error


def _damaged(folder: str | Path, error: Exception) -> WeightsError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return WeightsError(f"{folder}: damaged or not a refiner ({reason}). Fetch it again.")
