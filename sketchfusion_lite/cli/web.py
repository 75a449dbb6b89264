"""``sketchfusion export-web`` and ``link``: photos that decode in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import bitstream, links
from ..errors import OutputError
from .console import note, say
from .options import MaxPixels, option
from .pipes import label, stream_from

_MODELS = "Weights files (.safetensors), or base and lines."
_PAGE = "Address of a page that `make web` built. Without it, the end of the link is printed alone."
_STREAM = "Stream to put into a link, - for stdin."


def export_web(
    weights: Annotated[list[str], typer.Argument(metavar="WEIGHTS...", help=_MODELS)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    force: Annotated[bool, option("Replace the files of an earlier export.", "--force")] = False,
) -> None:
    """Export codecs for the page that decodes in a browser: integers, two ONNX graphs, and a manifest with hashes.

    Every graph is checked against the library. `make web` builds the whole page.
    """
    from ..web_export import MANIFEST, export_web

    if (out / MANIFEST).exists() and not force:
        raise OutputError(f"{out / MANIFEST}: exists already. Pass --force to replace the export.")
    manifest = export_web(weights, out, note)
    say(f"{out}  models {' '.join(manifest['models'])}")


def link(
    source: Annotated[Path, typer.Argument(metavar="IN.skf", help=_STREAM)],
    page: Annotated[str, option(_PAGE, metavar="ADDRESS")] = "",
    max_pixels: MaxPixels = bitstream.DEFAULT_MAX_PIXELS,
) -> None:
    """Print a link that holds the whole photo: whoever opens it sees sketch and preview, and no server is asked.

    What follows the # of an address stays in the browser.
    """
    data = stream_from(source, max_pixels)
    say(links.link(data, page, max_pixels, str(label(source))))
