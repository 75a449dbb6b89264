"""Build the page that decodes ``.skf`` in any browser: a folder that any static host serves.

    web/*.html, css, js ------------------------------+
    npm: ONNX Runtime Web, pinned in package-lock.json |--> build/web/index.html, sw.js (keeps all of it, for offline)
    shipped weights --export-web--> models/ -----------+
    the sample photo "coffee" --> example.skf, .jpg ---+

Usage: ``python tools/make_web.py [-o FOLDER] [--serve]``. Exit status: 1 if npm or a package is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from sketchfusion_lite import load_codec  # noqa: E402
from sketchfusion_lite.errors import SketchFusionError  # noqa: E402
from sketchfusion_lite.samples import load_photo  # noqa: E402
from sketchfusion_lite.web_export import export_web  # noqa: E402

WEB = ROOT / "web"
PAGE = ("index.html", "style.css", "page.js", "files.js", "worker.js")
PAGE += ("bitstream.js", "coding.js", "integer.js", "rans.js")
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
MAX_WEIGHTS = 8_000_000  # bytes of both models


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; ``.mjs`` and ``.wasm`` under the names that browsers want."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def server(folder: Path, port: int = 0) -> http.server.ThreadingHTTPServer:
    """A server of a folder for this machine alone."""
    handler = functools.partial(Handler, directory=str(folder))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def runtime() -> Path:
    """The runtime's files, fetched by npm as the lock file says, unless they are here already.

    Raises:
        RuntimeError: npm is missing, or failed.
    """
    package = WEB / "node_modules" / "onnxruntime-web"
    wanted = json.loads((WEB / "package.json").read_text("utf-8"))["dependencies"][package.name]
    here = package / "package.json"
    if not here.is_file() or json.loads(here.read_text("utf-8"))["version"] != wanted:
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError("npm is not installed, and the page needs ONNX Runtime Web from it.")
        done = subprocess.run([npm, "ci", "--no-progress"], cwd=WEB, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"npm ci failed: {done.stderr.strip()[-500:]}")
    return package / "dist"


def build(out: Path) -> None:
    """Fill a folder, which must not exist.

    Raises:
        RuntimeError: see :func:`runtime`; or the weights are larger than promised.
    """
    dist = runtime()
    (out / "models").mkdir(parents=True)
    for file in (*(WEB / name for name in PAGE), *(dist / name for name in RUNTIME)):
        shutil.copy(file, out)
    manifest = export_web(("base", "lines"), out / "models")
    weights = sum(f["bytes"] for m in manifest["models"].values() for f in m["files"].values())
    if weights > MAX_WEIGHTS:
        raise RuntimeError(f"the weights have {weights} bytes, over the {MAX_WEIGHTS} promised.")
    photo = load_photo("coffee").image
    codec = load_codec(device="cpu", dtype="float32")
    codec.encode(photo, max_bytes=2000).save(out / "example.skf")
    photo.save(out / "example.jpg", quality=85)
    files = sorted(file for file in out.rglob("*") if file.is_file())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    names = ["./", *(file.relative_to(out).as_posix() for file in files)]
    head = f"const BUILD = {json.dumps({'id': digest[:12], 'files': names})};\n"
    (out / "sw.js").write_text(head + (WEB / "sw.js").read_text("utf-8"), "utf-8")


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build" / "web")
    how = {"type": int, "nargs": "?", "const": 8000, "metavar": "PORT"}
    parser.add_argument("--serve", help="at 127.0.0.1, until Ctrl-C", **how)
    options = parser.parse_args(argv)
    out = options.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        try:
            build(Path(scratch) / "web")
        except (RuntimeError, SketchFusionError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        shutil.rmtree(out, ignore_errors=True)
        (Path(scratch) / "web").replace(out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out / 'index.html'}  {size / 1e6:.1f} MB; put the folder on any static host")
    if options.serve is not None:
        with server(out, options.serve) as serving:
            print(f"http://127.0.0.1:{serving.server_port}/")
            with contextlib.suppress(KeyboardInterrupt):
                serving.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
