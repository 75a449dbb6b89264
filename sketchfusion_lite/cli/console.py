"""What the command line says, and where: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import chain
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from typer.core import TyperCommand

from ..errors import DependencyMissing, SketchFusionError, SketchFusionWarning

_BROKEN_PIPE = 141  # 128 + SIGPIPE, as 130 is 128 + SIGINT

# The context of the command that runs: what it was given, and its options by their names in Python.
_running: ContextVar[Any] = ContextVar("running", default=None)


class Command(TyperCommand):
    """A command that refuses empty arguments, and whose errors are a line in the words of its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty arguments: an empty path would mean the current folder."""
        for before, arg in zip(["", *args], args, strict=False):
            if not arg or (arg.startswith("--") and arg.endswith("=")):
                option = arg[:-1] or before
                named = f" for {option}" if option.startswith("--") else ""
                raise typer.BadParameter(
                    f"an empty argument (''){named}: name a file, or leave it out."
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors end with one line on stderr and the exit status of their class."""
        token = _running.set(ctx)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", SketchFusionWarning)
                warnings.showwarning = partial(_show_warning, warnings.showwarning)
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            note("interrupted")
            raise typer.Exit(130) from error
        except BrokenPipeError as error:  # nobody reads any more, which is no mistake
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_BROKEN_PIPE) from error
        except (SketchFusionError, OSError) as error:
            if isinstance(error, SketchFusionError):
                ours = error
            elif error.filename is None or not error.strerror:
                raise
            else:
                name = os.fsdecode(error.filename)
                ours = SketchFusionError(
                    f"{name}: {error.strerror}. Check its name and permissions."
                )
            if ctx.find_root().params.get("debug"):
                traceback.print_exc()
            report(ours)
            raise typer.Exit(ours.exit_code) from error
        finally:
            _running.reset(token)


def _show_warning(
    others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any
) -> None:
    """Our warnings become lines on stderr like all others; those of other packages stay what they are."""
    if issubclass(category, SketchFusionWarning):
        note(f"warning: {one_line(str(message))}")
    else:
        others(message, category, *where)


def in_options(message: str, *names: str) -> str:
    """A message of the library in the words of the command line: ``max_pixels=9`` is ``--max-pixels 9`` there.

    Args:
        message: of an error; on one line in what is returned.
        names: of files, which stay as they are, as do the arguments of the command.
    """
    message, context = one_line(message), _running.get()
    if context is None:
        return message
    parameters = context.command.params
    options = {p.name: p.opts[0] for p in parameters if p.opts[0].startswith("--")}
    if not options:
        return message
    values = (v if isinstance(v, list | tuple) else [v] for v in context.params.values())
    given = (str(v) for v in chain(*values) if v is not None)
    whole = sorted({*map(one_line, names), *given}, key=len, reverse=True)
    kept = [re.escape(name) for name in whole if "=" in name or "_" in name]
    sure = sorted((name for name in options if "_" in name), key=len, reverse=True)
    words = "|".join(sorted(options, key=len, reverse=True))
    pattern = rf"\b({words})=('[^']*'|\S*[^\s,.:;)])|\b({'|'.join(sure) or '(?!)'})\b|(?<=\(or )({words})(?=\))"

    def spoken(found: re.Match[str]) -> str:
        name, value = found[1] or found[3] or found[4], (found[2] or "").strip("'")
        return options[name] if value in ("", "True") else f"{options[name]} {value}"

    parts = re.split(f"({'|'.join(kept)})", message) if kept else [message]
    return "".join(p if i % 2 else re.sub(pattern, spoken, p) for i, p in enumerate(parts))


def one_line(text: str) -> str:
    """Without line ends, which file names may hold."""
    return " ".join(text.splitlines())


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a result on stdout."""
    stream = stream or sys.stdout
    # File names may hold bytes that are no text, and not every terminal knows every letter.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def note(text: str) -> None:
    """Print a remark on stderr."""
    say(text, sys.stderr)


def report(error: SketchFusionError, name: str = "") -> None:
    """Print an error on one line of stderr, led by the file's ``name`` unless it says it itself."""
    message = in_options(str(error), name)
    name = one_line(name)
    note(f"error: {message}" if name in message else f"error: {name}: {message}")


def show(table: Table) -> None:
    """Print a table on stdout; in a pipe, which has no width, without breaking its lines."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    with console.capture() as shown:
        console.print(table)
    say(shown.get().removesuffix("\n"))


def progress_bar(*columns: str | ProgressColumn) -> Progress:
    """A bar on stderr, with more columns, that vanishes when done; nothing when stderr is no terminal."""
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
    """:class:`.DependencyMissing`, with the extra to install, in place of ``ModuleNotFoundError``."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package.startswith("sketchfusion_"):
            raise
        raise DependencyMissing.for_extra(package, extra, purpose) from error
