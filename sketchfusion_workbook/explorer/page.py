"""The explorer as a page of its own: Voilà serves a notebook of two cells to this machine, and to nobody else.

serve(photo) --> explorer.ipynb in a temporary folder --> Voilà on 127.0.0.1, with a token --> browser
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path

from traitlets.config import Config
from voila.app import Voila

from sketchfusion_lite.errors import ArgumentError

from .photos import open_photo

__all__ = ["free_port", "serve", "server_config", "write_page"]

HOST = "127.0.0.1"
MESSAGE_BYTES = (
    64 << 20
)  # an upload over our own limit shall get our answer, not a closed connection
# The browser is told to load nothing that this server does not give.
CONTENT_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)

_TITLE = "SketchFusion-Lite: explorer"
# Of JupyterLab: what shows widgets. Others, made for another version of it, would complain in the console.
_EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8"]
_TEMPLATE = Path(__file__).with_name("page.html.j2")
# Voilà's page fetches the widgets' state while it loads; pictures that change meanwhile get lost. Hence the wait.
_CELLS = (
    "from sketchfusion_workbook.explorer.widget import explore",
    "explorer = explore({photo!r}, {device!r}, {dtype!r}, page={links!r})\nexplorer.model.wait()\nexplorer",
)


def serve(
    photo: str,
    port: int,
    browser: bool,
    device: str,
    announce: Callable[[str], None],
    dtype: str = "auto",
    links: str = "",
) -> None:
    """Serve the explorer until it is interrupted. It writes nothing: files are saved by the browser.

    Args:
        photo: sample name or picture file to begin with.
        port: on the loopback address; 0 for any free one.
        browser: open the page.
        device: where the codec runs.
        announce: told the address, token included, once the server listens.
        dtype: in which numbers the codec runs.
        links: address of a page that decodes links.

    Raises:
        ArgumentError: the port is taken.
        ImageError: no such photo, or none that can be read.
        DependencyMissing: the package of a sample is not installed.
    """
    start = str(Path(photo).resolve()) if Path(photo).is_file() else photo
    open_photo(start)  # an error belongs here, not on a page without a picture
    port, token = free_port(port), secrets.token_urlsafe(18)
    url = f"http://{HOST}:{port}/?token={token}"

    class Page(Voila):
        def setup_template_dirs(self) -> None:
            super().setup_template_dirs()
            self.template_paths.insert(0, folder)

        def launch_browser(self) -> None:
            """Called once it listens; Voilà's own would open the page without the token."""
            announce(f"{url}\nServing the explorer to this machine; stop with Ctrl-C.")
            if browser:
                webbrowser.open(url)

    with tempfile.TemporaryDirectory(prefix="sketchfusion-") as folder:
        shutil.copy(_TEMPLATE, Path(folder) / "index.html.j2")
        notebook = write_page(Path(folder) / "explorer.ipynb", start, device, dtype, links)
        Page.launch_instance([str(notebook)], config=server_config(port, token))


def server_config(port: int, token: str) -> Config:
    """Settings of the Voilà server: loopback, a token, no other port than the one announced, nothing from elsewhere."""
    settings = {
        "websocket_max_message_size": MESSAGE_BYTES,
        "headers": {"Content-Security-Policy": CONTENT_POLICY},
    }
    return Config(
        VoilaConfiguration={"extension_allowlist": _EXTENSIONS},
        Voila={
            "ip": HOST,
            "port": port,
            "port_retries": 0,
            "token": token,
            "open_browser": True,  # that is: call launch_browser
            "tornado_settings": settings,
            "log_level": "WARN",
        },
    )


def write_page(path: Path, photo: str, device: str, dtype: str = "auto", links: str = "") -> Path:
    """Write the notebook that the page is made of: the explorer, once it has its first answer."""
    cells = []
    for index, source in enumerate(_CELLS):
        cell = {"cell_type": "code", "id": f"cell-{index}", "metadata": {}, "outputs": []}
        cells.append(
            cell
            | {
                "execution_count": None,
                "source": source.format(photo=photo, device=device, dtype=dtype, links=links),
            }
        )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "title": _TITLE}
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4}
    path.write_text(json.dumps(notebook | {"nbformat_minor": 5}), "utf-8")
    return path


def free_port(port: int) -> int:
    """``port`` if it is free, any free one for 0.

    Raises:
        ArgumentError: it is taken.
    """
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ArgumentError(
                f"--port {port}: cannot be used ({error.strerror}). Name another one, or 0 for any."
            ) from error
        return probe.getsockname()[1]
