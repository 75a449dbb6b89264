"""Getting one file over the network, or from a folder: checked by hash, never half written.

    mirror folder --|
    https://...   --+--> temporary file --sha256--> rename --> cache

Only what hashes to the pinned value ever gets the final name, so a reader needs no lock; writers of
the same set exclude each other with a lock file.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from .errors import DownloadError, OutputError

__all__ = ["Progress", "Report", "download", "exclusive", "sha256_of"]

Report = Callable[[str], None]  # one line of text for a person
Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all (0: unknown)

CONNECT_SECONDS = 5.0  # a closed network must be noticed quickly: there is a second source
LOCK_SECONDS = 1800.0
CHUNK = 1 << 20
MAX_BYTES = 1 << 30
SCRATCH = ".fetch-"  # how scratch folders are named


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hash of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str,
    target: Path,
    sha256: str,
    *,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
    timeout: float = CONNECT_SECONDS,
) -> Path:
    """Download ``url`` to ``target``, which appears only when complete and correct.

    Args:
        url: http, https or file address.
        target: final name; its folder must exist.
        sha256: expected hash, or the first digits of it where no more is known.
        max_bytes: stop when the server sends more.
        progress: called after each chunk.
        timeout: seconds to wait for the connection, and for each read.

    Raises:
        DownloadError: no connection, an HTTP error, too many bytes or the wrong hash.
        OutputError: the disk is full or the folder read-only.
    """
    where = f"{target.name} from {urlsplit(url).netloc or 'a local folder'}"
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    digest, done = hashlib.sha256(), 0
    try:
        with contextlib.closing(_open(url, where, timeout)) as response, _create(part) as file:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := _read(response, where):
                done += len(chunk)
                if done > max_bytes:
                    raise DownloadError(
                        f"{where}: more than the {max_bytes} bytes expected, refused."
                    )
                digest.update(chunk)
                _write(file, chunk, target)
                if progress:
                    progress(target.name, done, total)
            _finish(file, target)
            if done < total:
                raise DownloadError(f"{where}: ended after {done} of {total} bytes. Try again.")
        found = digest.hexdigest()
        if not found.startswith(sha256):
            raise DownloadError(
                f"{where}: wrong checksum, refused (sha256 {found[:16]}..., expected "
                f"{sha256[:16]}...). A proxy may have replaced the file; try another network."
            )
        _rename(part, target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)
    return target


def _open(url: str, where: str, timeout: float):
    request = urllib.request.Request(url, headers={"User-Agent": "sketchfusion-lite"})
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{where}: the server answered {error.code} {error.reason}.") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(f"{where}: no connection ({reason}).") from error


def _read(response, where: str) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{where}: the connection broke ({error}). Try again.") from error


def _create(part: Path):
    try:
        return open(part, "xb", buffering=0)  # an error belongs to its write, not to the end
    except OSError as error:
        raise not_writable(part.parent, error) from error


def _write(file, chunk: bytes, target: Path) -> None:
    rest = memoryview(chunk)
    try:
        while rest:  # a disk that fills up takes a part without an error
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise not_writable(target.parent, error) from error


def _finish(file, target: Path) -> None:
    try:
        os.fsync(file.fileno())  # else a power cut may leave the final name with no content
    except OSError as error:
        raise not_writable(target.parent, error) from error


def _rename(part: Path, target: Path) -> None:
    try:
        os.replace(part, target)
    except OSError as error:
        raise not_writable(target.parent, error) from error


def not_writable(folder: Path, error: OSError) -> OutputError:
    """The error for a cache folder that cannot be written to."""
    return OutputError(
        f"{folder}: cannot be written ({error.strerror or error}). Free some space, or set "
        "SKETCHFUSION_HOME to a folder that you may write to."
    )


@contextlib.contextmanager
def exclusive(folder: Path, timeout: float = LOCK_SECONDS) -> Iterator[None]:
    """Create ``folder`` and hold its lock file: one process at a time fills it.

    What processes that were killed left there, some 100 MB each, is removed first.

    Raises:
        DownloadError: another process has held the lock for ``timeout`` seconds.
        OutputError: the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=timeout)
        lock.acquire()
    except Timeout as error:
        raise DownloadError(
            f"{folder}: another process has been downloading into it for {timeout:.0f} s. "
            f"Wait for it, or end it and try again."
        ) from error
    except OSError as error:
        raise not_writable(folder, error) from error
    try:
        _remove_leftovers(folder)
        yield
    finally:
        lock.release()


def _remove_leftovers(folder: Path) -> None:
    """Unfinished files and scratch folders; whoever made them held the lock, hence is gone."""
    for pattern in (".*.part", ".*.tmp", f"{SCRATCH}*"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
