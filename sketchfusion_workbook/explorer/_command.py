"""``sketchfusion explore``: the explorer as a page of its own, for a browser on this machine only."""

from __future__ import annotations

from typing import Annotated

import typer

from sketchfusion_lite.cli.console import needs_extra, say


def explore(
    photo: Annotated[
        str, typer.Argument(metavar="[PHOTO]", help="Sample name or picture file to begin with.")
    ] = "coffee",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes any free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    device: Annotated[
        str, typer.Option(help="auto (a GPU if there is one), cpu, cuda ...")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto (bfloat16 where it is faster), float32, bfloat16")
    ] = "auto",
    page: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address of a page that `make web` built, for links. Without it, their ends are shown alone.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Explore rate, stages, search and realism in the browser: before and after, AVIF at equal bytes.

    Serves this machine alone (127.0.0.1), with a token in the address, until Ctrl-C. It writes no
    files: the browser downloads what you want to keep.
    """
    from sketchfusion_lite.hardware import choose_device, choose_dtype
    from sketchfusion_lite.links import check_page

    check_page(page)
    choose_dtype(dtype, choose_device(device))  # an error belongs here, not on a page
    with needs_extra("workbook", "the explorer"):
        from .page import serve
    serve(photo, port, browser, device, say, dtype, page)
