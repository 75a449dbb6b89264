"""Weights files: safetensors with the configuration in the header, nothing that could run code.

A codec file holds every trained part in float16 and, under ``integer.``, the exact tensors that code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from . import checks
from .errors import WeightsError
from .files import atomic_write_bytes, sha256_of

FORMAT = "sketchfusion-weights-1"
SHIPPED = {
    "base": "sketchfusion-base.safetensors",  # the codec
    "lines": "sketchfusion-lines.safetensors",  # the baseline that sends lines alone
}
MAX_BYTES = 1 << 30


def shipped_weights(name: str = "base") -> Path:
    """Path of weights that come with the library, by their name in ``SHIPPED``."""
    return Path(__file__).parent / "weights" / SHIPPED[name]


def weights_file(path: str | Path | None = None) -> Path:
    """Where weights lie that are named by path, by a name in ``SHIPPED``, or not at all (base).

    Raises:
        ArgumentError: no path.
    """
    file = Path("base") if path is None else checks.path("weights", path)
    return shipped_weights(str(file)) if str(file) in SHIPPED else file


def require_same_weights(path: str | Path | None, sha256: str) -> None:
    """Refuse weights of a worker that are not those of the machine that gave out the work.

    Args:
        path: see :func:`weights_file`.
        sha256: of the file there.

    Raises:
        WeightsError: they are missing here, or others.
    """
    file = weights_file(path)
    if not file.is_file():
        raise WeightsError(
            f"{file}: a worker has no such weights file. Copy it to every machine, under the same path."
        )
    found = sha256_of(file)
    if found != sha256:
        raise WeightsError(
            f"{file}: a worker has other weights under this name ({found[:12]}) than the machine that gave out the "
            f"work ({sha256[:12]}). Copy them to every machine."
        )


def folder_stamp(folder: str | Path | None) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the weights in a folder: a process that lives long must notice new ones.

    Args:
        folder: of a refiner; None, or a folder that is missing, has no stamp.
    """
    files = sorted(Path(folder).rglob("*.safetensors")) if folder else []
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def stored(tensors: Mapping[str, Tensor], file: str | Path) -> dict[str, Tensor]:
    """Tensors as files hold them: floating-point ones in float16, on the CPU.

    Raises:
        WeightsError: a value is no number, or too large for float16: nothing may be saved of such a training.
    """
    halves = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    for name, half in halves.items():
        if not half.isfinite().all():
            raise WeightsError(
                f"{file}: {name} holds values that are no numbers, or too large for float16; nothing was written. The "
                "training diverged: take an earlier checkpoint, or train with lower learning rates."
            )
    return {name: half.detach().cpu().contiguous() for name, half in halves.items()}


def save_weights(path: str | Path, tensors: dict[str, Tensor], config: dict) -> None:
    """Write a weights file.

    Raises:
        WeightsError: see :func:`stored`.
        OutputError: it cannot be written.
    """
    metadata = {"format": FORMAT, "config": json.dumps(config, sort_keys=True)}
    atomic_write_bytes(Path(path), save(stored(tensors, path), metadata))


def load_weights(path: str | Path | None = None) -> tuple[dict[str, Tensor], dict]:
    """Read a weights file: tensors, floating-point ones as float32, and configuration.

    Args:
        path: a file, or the name of one that comes with the library (``"base"``, ``"lines"``); None means base.

    Raises:
        WeightsError: missing, damaged, or not a file of this library.
    """
    path = weights_file(path)
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "weights file not found"
        raise WeightsError(
            f"{path}: {what}; pass weights=FILE, a .safetensors of this library, or reinstall the package"
        )
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError(f"{path.name}: {path.stat().st_size} bytes, no weights of this library")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path.name}: damaged or not safetensors ({error}); fetch it again"
        ) from error
    found = metadata.get("format")
    if found != FORMAT:
        raise WeightsError(f"{path.name}: format {found!r}, this library reads {FORMAT!r}")
    try:
        config = json.loads(metadata["config"])
    except (KeyError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path.name}: its configuration is unreadable ({error})") from error
    floats = {n: t.float() if t.dtype == torch.float16 else t for n, t in tensors.items()}
    return floats, config


def load_codec_weights(path: str | Path | None = None) -> tuple[dict[str, Tensor], dict, str]:
    """A codec's tensors, the fields of its ``ModelConfig``, and what error messages call the file.

    Args:
        path: see :func:`load_weights`.

    Raises:
        WeightsError: missing, damaged, or not a codec.
    """
    tensors, config = load_weights(path)
    name = Path(path).name if path else "shipped weights"
    if "model" not in config:
        raise WeightsError(f"{name}: holds no codec; train one with the recipe 'codec'")
    return tensors, config["model"], name


def without_integers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float networks of a codec's weights file, as ``SketchFusionModel`` names them."""
    return {key: t for key, t in tensors.items() if not key.startswith("integer.")}


def part(tensors: dict[str, Tensor], prefix: str, name: str = "weights") -> dict[str, Tensor]:
    """The tensors below ``prefix.``, without it.

    Raises:
        WeightsError: there are none.
    """
    start = f"{prefix}."
    found = {key[len(start) :]: t for key, t in tensors.items() if key.startswith(start)}
    if not found:
        raise WeightsError(
            f"{name}: holds no {prefix!r}; it has {sorted({k.split('.')[0] for k in tensors})}"
        )
    return found


def load_part(path: str | Path | None, prefix: str) -> dict[str, Tensor]:
    """One part of a weights file, e.g. ``"boundary_detector"``."""
    return part(load_weights(path)[0], prefix, str(path or SHIPPED["base"]))
