"""The command line, ``sketchfusion``: encode, decode, info, evaluate, fid, sweep, train, export, fetch,
export-web, link, explore.

What a script can rely on:

* results go to stdout, progress and warnings to stderr; colours and bars only to a terminal;
* ``-`` is standard input or output of encode, decode and info; where the output goes to stdout, all words go to stderr;
* an error is one line, ``error: ...``, on stderr, and the exit status says which class of error
  (see :mod:`sketchfusion_lite.errors`; 2 also stands for wrong options, 130 for Ctrl-C, 141
  for a reader that went away);
* an output file is whole or absent, and is replaced only with ``--force``.

``--help`` and ``info FILE`` never import torch: heavy imports sit inside the commands that need them.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated

import typer

from .. import __version__
from .console import Command, say
from .evaluation import evaluate, fid
from .pictures import decode, encode
from .streams import info
from .sweep import sweep
from .training import export, fetch, train
from .web import export_web, link

__all__ = ["app"]

app = typer.Typer(
    name="sketchfusion",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"sketchfusion {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="SKETCHFUSION_DEBUG", help="Show the Python traceback of an error."
        ),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Photos in about two kilobytes: generative image compression at ultra-low rate."""


for _command in (encode, decode, evaluate, fid, sweep, train, export, fetch, export_web, link):
    app.command(no_args_is_help=True, cls=Command)(_command)
app.command(cls=Command)(info)
for _point in entry_points(group="sketchfusion.commands"):  # of packages above this one: explore
    app.command(_point.name, cls=Command)(_point.load())
