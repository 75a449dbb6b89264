"""What the command line says, and where: results to stdout, everything else to stderr."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from typer.core import TyperGroup

from ..errors import DependencyMissing, SketchFusionError, SketchFusionWarning


class ErrorReportingGroup(TyperGroup):
    """Turns our errors into one line on stderr and the exit status of their class."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command."""
        try:
            with _warnings_as_notes():
                return super().invoke(ctx)
        except SketchFusionError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            report(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            note("interrupted")
            raise typer.Exit(130) from error


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Our warnings become lines on stderr like all others; those of other packages stay what they are."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, SketchFusionWarning):
                note(f"warning: {' '.join(str(message).splitlines())}")
            else:
                others(message, category, *where)

        warnings.simplefilter("always", SketchFusionWarning)
        warnings.showwarning = show_warning
        yield


def say(text: str) -> None:
    """Print a result on stdout."""
    _write(text, sys.stdout)


def note(text: str) -> None:
    """Print a remark on stderr."""
    _write(text, sys.stderr)


def report(error: SketchFusionError, name: str = "") -> None:
    """Print an error on one line of stderr, led by the file's ``name`` unless it says it itself."""
    message = " ".join(str(error).splitlines())
    note(f"error: {message}" if name in message else f"error: {name}: {message}")


def show(table: Table) -> None:
    """Print a table on stdout; in a pipe, which has no width, without breaking its lines."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _write(text: str, stream: TextIO) -> None:
    # File names may hold bytes that are no text, and not every terminal knows every letter.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def progress_bar(*columns: str | ProgressColumn) -> Progress:
    """A bar on stderr that vanishes when done; nothing at all when stderr is no terminal.

    Args:
        columns: what to show behind description and bar.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # results in a pipe must not end up on the terminal
    )


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Name the extra to install when a package of others is missing.

    Raises:
        DependencyMissing: in place of ``ModuleNotFoundError``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "sketchfusion_lite"):
            raise
        raise DependencyMissing.for_extra(package, extra, purpose) from error
