"""Finding picture files, and writing files so that a reader never meets half of one.

    data --> .photo.skf.3f9c2a71.tmp --fsync--> rename --> photo.skf

The temporary file lies in the folder of the target, because a rename is atomic only within one file
system. Whatever happens, the old file stays whole until the new one is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from . import checks
from .errors import ImageError, OutputError, SketchFusionError, SketchFusionWarning

__all__ = [
    "IMAGE_SUFFIXES",
    "atomic_write_bytes",
    "list_files",
    "list_images",
    "sha256_of",
    "text_of",
    "warn_left_out",
]

# What is taken for a picture in a folder; one that cannot be read then fails by name.
IMAGE_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif"}
    | {".heic", ".heif", ".hif", ".tif", ".tiff", ".bmp", ".gif", ".qoi"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm"}
    | {".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}
)
_NAMED = 3  # files that a line names for each reason; the others it counts

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


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hash of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_images(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """Picture files of a folder by their suffix (``IMAGE_SUFFIXES``), sorted.

    What is left out is said, see :func:`list_files`.

    Args:
        folder: where to look.
        recursive: look into subfolders too.

    Raises:
        ArgumentError: ``folder`` is no path.
        ImageError: ``folder`` is no folder, or cannot be read.
    """
    checks.flag("recursive", recursive)
    other = "of no picture format that is read here"
    return list_files(folder, IMAGE_SUFFIXES, other, ImageError, recursive)


def list_files(
    folder: str | os.PathLike[str],
    suffixes: Collection[str],
    other: str,
    unusable: type[SketchFusionError],
    recursive: bool = False,
    ours: Collection[str] = (),
) -> list[Path]:
    """Files of a folder by their suffix, sorted; whatever else is there is named in one warning, with the reason.

    A link that leads nowhere is listed: reading it fails, by name. Hidden files and folders are left out, and named
    only where their suffix is one of those asked for.

    Args:
        folder: where to look.
        suffixes: lower case, with the dot.
        other: what a file with another suffix is.
        unusable: raised for the folder.
        recursive: look into subfolders too.
        ours: names of files that this library writes into such folders, left out without a word.

    Raises:
        ArgumentError: ``folder`` is no path.
        unusable: ``folder`` is no folder, or cannot be read.
    """
    folder = checks.path("folder", folder)
    if not os.path.isdir(folder):
        raise unusable(f"{folder}: no such folder. Check the path.")
    found: list[Path] = []
    left_out: dict[str, list[str]] = {}

    def unreadable(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise unusable(
                f"{folder}: cannot be read ({error.strerror}). Check its permissions."
            ) from error
        name = str(Path(error.filename).relative_to(folder))
        left_out.setdefault("a folder that cannot be read", []).append(name)

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if not recursive and folders:
            left_out["folders inside: name them one by one"] = [*folders]
            folders.clear()
        for name in sorted(names):
            path = Path(place, name)
            hidden, fits = name.startswith("."), path.suffix.lower() in suffixes
            if fits and not hidden and (path.is_file() or not path.exists()):
                found.append(path)
            elif fits or not (hidden or name in ours):
                # To read from a pipe would be to wait for ever.
                reason = "hidden" if hidden else "no plain file" if fits else other
                left_out.setdefault(reason, []).append(str(path.relative_to(folder)))
    warn_left_out(folder, left_out)
    return sorted(found)


def warn_left_out(place: str | os.PathLike[str], left_out: Mapping[str, Sequence[str]]) -> None:
    """Say in one line what was not taken of a user's files; nothing if nothing was.

    Args:
        place: where it lies.
        left_out: reason -> names.
    """
    parts = []
    for reason, names in left_out.items():
        if not names:
            continue
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts.append(f"{', '.join(names[:_NAMED])}{more} ({reason})")
    if parts:
        line = " ".join(text_of(f"left out of {place}: {'; '.join(parts)}").splitlines())
        warnings.warn(line, SketchFusionWarning, stacklevel=3)


def text_of(name: str) -> str:
    r"""A file name as text that any file can hold: bytes that are no UTF-8 become ``\udcXX``."""
    return name.encode("utf-8", "backslashreplace").decode()
