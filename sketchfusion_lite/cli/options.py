"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ArgumentError


def option(help: str, *names: str, **limits: Any) -> Any:
    """An option whose help says its default, where that is worth saying."""
    return typer.Option(*names, help=help, show_default=False, **limits)


_WEIGHTS = "Weights file (.safetensors). Default: the one that comes with the package."
_DEVICE = "Where the networks run: auto (a GPU if there is one), cpu, cuda, cuda:1 ..."
_DTYPE = (
    "Numbers of the networks: auto (bfloat16 where the processor has units for it, or on a GPU), float32, bfloat16. "
    "Integers decode alike in each."
)
_MAX_PIXELS = "Refuse pictures larger than this. Default: 67108864."
_KEEP_GOING = "Go on with a damaged stream, without its damaged part; says so."
_FORCE = "Replace existing outputs. Without it they are an error (folder: skipped)."
_WORKERS = (
    "Folders: worker processes to start here, of one thread and about 1 GB each. Default: none, this process uses all "
    "cores for one file after the other."
)
_SCHEDULER = "Spread the work over the workers of a running Dask scheduler: tcp://HOST:8786, or its scheduler file."

Weights = Annotated[Path | None, option(_WEIGHTS)]
Device = Annotated[str, option(_DEVICE)]
Dtype = Annotated[str, option(_DTYPE)]
MaxPixels = Annotated[int, option(_MAX_PIXELS, "--max-pixels", min=1, metavar="PIXELS")]
KeepGoing = Annotated[bool, option(_KEEP_GOING, "--keep-going")]
Force = Annotated[bool, option(_FORCE, "--force")]
Workers = Annotated[int | None, option(_WORKERS, min=1)]
Scheduler = Annotated[str | None, option(_SCHEDULER, metavar="ADDRESS")]


def one_of(**options: object) -> None:
    """Refuse, by an :class:`.ArgumentError`, options that exclude each other; None is an option that is not given."""
    if sum(value is not None for value in options.values()) > 1:
        *names, last = (f"--{name.replace('_', '-')}" for name in options)
        raise ArgumentError(f"{', '.join(names)} and {last} exclude each other: pass one of them.")
