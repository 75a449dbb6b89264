"""Finding picture files, and writing files so that a reader never meets half of one.

    data --> .photo.skf.3f9c2a71.tmp --fsync--> rename --> photo.skf

The temporary file lies in the folder of the target, because a rename is atomic only within one file
system. Whatever happens, the old file stays whole until the new one is complete.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from . import checks
from .errors import ImageError, OutputError

__all__ = ["IMAGE_SUFFIXES", "atomic_write_bytes", "list_images"]

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff"}
    | {".bmp", ".gif", ".ppm", ".pgm", ".jp2", ".qoi"}
)

_O_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends without it


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> Path:
    """Write ``data`` to ``path``: all of it, or nothing.

    An existing file is replaced, a symbolic link is followed, permissions follow the umask. Devices
    and pipes (``/dev/stdout``) are written to directly.

    Args:
        path: target; its folder must exist.
        data: the whole content.

    Returns:
        ``path`` as a :class:`~pathlib.Path`.

    Raises:
        ArgumentError: ``path`` is no path, or ``data`` are no bytes.
        OutputError: the folder is missing or read-only, ``path`` is a folder, or the disk is full.
    """
    path = checks.path("path", path)
    checks.kind("data", data, (bytes, bytearray, memoryview), "bytes")
    target = Path(os.path.realpath(path))  # replace what a link points at, not the link
    if os.path.isdir(target):
        raise OutputError(f"{path}: is a folder. Name a file inside it.")
    # Through the unresolved path: what /dev/stdout resolves to need not exist as a path.
    is_device = os.path.exists(path) and not os.path.isfile(path)
    if not is_device and not os.path.isdir(target.parent):
        raise OutputError(f"{path}: the folder {path.parent} does not exist. Create it first.")
    try:
        if is_device:
            # Renaming over a device would replace the device itself.
            with open(path, "wb") as device:
                device.write(data)
        else:
            _write_and_rename(target, data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{path}: cannot be written ({reason}). "
            "Check the permissions of the folder and the free space, or choose another place."
        ) from error
    return path


def _write_and_rename(target: Path, data: bytes | bytearray | memoryview) -> None:
    # A long target name must not make the temporary one too long for the file system.
    temporary = target.with_name(f".{target.name[:32]}.{secrets.token_hex(4)}.tmp")
    # Not tempfile.mkstemp: its mode 0600 would stay with the finished file.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with no content
        os.replace(temporary, target)
    except BaseException:  # an interrupt too must not leave the temporary file behind
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def list_images(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """Picture files of a folder by their suffix (``IMAGE_SUFFIXES``), sorted; hidden ones left out.

    Args:
        folder: where to look.
        recursive: look into subfolders too.

    Raises:
        ArgumentError: ``folder`` is no path.
        ImageError: ``folder`` is no folder.
    """
    folder = checks.path("folder", folder)
    if not os.path.isdir(folder):
        raise ImageError(f"{folder}: no such folder. Check the path.")
    return sorted(
        path
        for path in folder.glob("**/*" if recursive else "*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )
