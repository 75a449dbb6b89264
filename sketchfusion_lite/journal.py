"""Rows that are safe from the moment they are written: a file of JSON lines that survives any kill.

    row --> one write, one fsync --> LINE\n LINE\n LINE\n LI  <-- killed here: this row alone is lost

Tables of evaluations and manifests of folders are kept this way while their rows come in.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import OutputError, ResultsError, SketchFusionError
from .files import atomic_write_bytes

__all__ = ["append", "exclusive", "read", "rewrite"]


def append(path: Path, row: Any) -> None:
    """Add a row, whole or not at all; on return it is on the disk. Several processes may do so at once.

    Args:
        path: in a folder that exists; the file is made if it is absent.
        row: what JSON can hold.

    Raises:
        OutputError: it cannot be written; the file is as it was before.
    """
    data = _bytes(_line(row))
    try:
        # One write to a file opened for appending: lines of several processes do not mix.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if (written := os.write(descriptor, data)) < len(data):
                # A disk that fills up takes the first part without an error; no later row may join it.
                end = os.lseek(descriptor, 0, os.SEEK_CUR)
                if os.fstat(descriptor).st_size == end:
                    os.ftruncate(descriptor, end - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}). Free some space, or check the permissions; "
            "finished rows are kept."
        ) from error


def read(path: Path) -> tuple[list[Any], bool]:
    """All whole rows, and whether the last line was cut off and is left out.

    Args:
        path: may be absent, which means no rows.

    Raises:
        ResultsError: unreadable, or another line than the last is damaged.
    """
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], False
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}).") from error
    rows, torn = [], rest != b""
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines) or torn:
                raise damaged(path, f"line {number} is unreadable") from error
            torn = True
    return rows, torn


def rewrite(path: Path, rows: Iterable[Any]) -> None:
    """Replace the file by these rows, whole or not at all: after a torn line, the next must not join it.

    Raises:
        OutputError: it cannot be written.
    """
    atomic_write_bytes(path, _bytes("".join(map(_line, rows))))


@contextlib.contextmanager
def exclusive(
    path: Path, who: str, refusal: type[SketchFusionError] = OutputError
) -> Iterator[None]:
    """Keep a second process away from a file or folder while it is written, by a lock file beside or in it.

    Args:
        path: the file, in a folder that exists; or the folder.
        who: what another process would be, e.g. ``"evaluation"``.
        refusal: raised where there is one.

    Raises:
        refusal: see there.
        OutputError: the folder cannot be written to.
    """
    lock = path / f".{who}.lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FileLock(lock, timeout=0))
        except Timeout as error:
            raise refusal(
                f"{path}: another {who} is writing it. Wait for its end, or choose another place."
            ) from error
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror}). Check its rights, or choose another place."
            ) from error
        yield


def damaged(path: Path, reason: str) -> ResultsError:
    """The error for a table or journal that cannot be trusted."""
    return ResultsError(
        f"{path}: damaged ({reason}). Restore it from a copy, or move it away to begin anew."
    )


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _bytes(text: str) -> bytes:
    """UTF-8; what no UTF-8 can hold, as of a file name in Latin-1, becomes the escape that JSON reads back."""
    return text.encode("utf-8", "backslashreplace")
