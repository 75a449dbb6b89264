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

_DASH = Path("-")
_TERMINAL = "-: standard {} is a terminal. Redirect it: {}."


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


def _stdin() -> BinaryIO:
    if sys.stdin.isatty():
        raise ArgumentError(_TERMINAL.format("input", "< FILE, or COMMAND |"))
    return sys.stdin.buffer


def check_target(target: Path, force: bool) -> None:
    """Refuse, by an :class:`.OutputError`, an output that exists, or whose folder does not; a terminal is none."""
    if is_stdout(target):
        if sys.stdout.isatty():
            raise ArgumentError(_TERMINAL.format("output", "> FILE, or | COMMAND"))
    elif os.path.isdir(target):
        raise OutputError(f"{target}: is a folder. Name a file inside it.")
    elif os.path.isfile(target) and not force:
        raise OutputError(f"{target}: exists already. Pass --force to replace it.")
    elif not os.path.isdir(target.parent):
        raise OutputError(f"{target}: the folder {target.parent} does not exist. Create it first.")
