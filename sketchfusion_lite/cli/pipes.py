"""Standard input and output in place of files: ``-``, and every other name of the same pipe, such as ``/dev/stdout``.

What is written there is the file and nothing else: what a command has to say goes to stderr then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from ..errors import ArgumentError, OutputError
from ..files import atomic_write_bytes
from ..folders.coding import read_photo, read_whole
from ..results import read_bounded, read_stream

__all__ = ["check_stdout", "is_stdin", "is_stdout", "label", "photo_from", "stream_from", "write"]

_DASH = Path("-")


def is_stdin(source: Path) -> bool:
    """Whether a source is ``-``; ``/dev/stdin`` is a file like others."""
    return source == _DASH


def is_stdout(target: Path) -> bool:
    """Whether what is written to a target ends up where this process's results do."""
    if target == _DASH:
        return True
    try:
        return os.path.samestat(os.stat(target), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # no such file; or a stdout that is none, as in tests
        return False


def label(source: Path) -> Path:
    """What messages call a source."""
    return Path("stdin") if is_stdin(source) else source


def photo_from(source: Path) -> bytes:
    """The bytes of a picture file; :class:`.ImageError` where it cannot be read, or has 2 GiB or more."""
    return read_whole(_stdin(), "stdin") if is_stdin(source) else read_photo(source)


def stream_from(source: Path, max_pixels: int) -> bytes:
    """The bytes of a ``.skf`` file, within bounds; :class:`.StreamError` where it is no intact stream."""
    if is_stdin(source):
        return read_bounded(_stdin(), max_pixels, "stdin")
    return read_stream(source, max_pixels)


def write(target: Path, data: bytes) -> None:
    """Write an output: a file as a whole or not at all, standard output as it is; or raise :class:`.OutputError`."""
    if not is_stdout(target):
        atomic_write_bytes(target, data)
        return
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # for the command line as a whole: nobody reads any more
        raise
    except OSError as error:
        raise OutputError(f"stdout: cannot be written ({error.strerror}).") from error


def check_stdout() -> None:
    """Refuse, by an :class:`.ArgumentError`, to fill a terminal with bytes."""
    if sys.stdout.isatty():
        raise ArgumentError(
            "-: standard output is a terminal, and the output no text. Redirect it: > FILE, or | COMMAND."
        )


def _stdin() -> BinaryIO:
    if sys.stdin.isatty():
        raise ArgumentError("-: standard input is a terminal. Redirect it: < FILE, or COMMAND |.")
    return sys.stdin.buffer
