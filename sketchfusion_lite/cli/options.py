"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Spread the work over the workers of a Dask scheduler that runs already: tcp://HOST:8786, or its "
        "scheduler file.",
        show_default=False,
    ),
]
