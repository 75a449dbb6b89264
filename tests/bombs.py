"""Small files that would become large, and a process in which what they cost is measured.

``python -m tests.bombs FOLDER`` opens every file of a folder in a fork of its own and prints one JSON object a line.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sketchfusion_lite.bitstream import Header, pack
from sketchfusion_lite.errors import SketchFusionError

ROOT = Path(__file__).parents[1]
_SECONDS = 30  # of processor time: a bomb that needs more has gone off
_ADDRESSES = 12 << 30  # bytes of address space: a test must not take the machine down


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        error: class of the SketchFusionError, or empty; of another exception or signal, its name.
        megabytes: peak memory above that of the process before it opened the file.
    """

    error: str
    megabytes: float


def measure(files: dict[str, bytes], folder: Path) -> dict[str, Outcome]:
    """Open every file in a process of its own; a name's part before the first "/" says how.

    ``decode``: as a stream; ``image``: with load_image; ``upload``: with the explorer's open_photo.
    """
    for number, (name, data) in enumerate(files.items()):
        (folder / f"{number:03} {name.replace('/', ' ')}").write_bytes(data)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.bombs", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: Outcome(*line) for name, line in zip(files, lines, strict=True)}


def stream(model_id: int, width: int, height: int, *words: int, fill: bytes = b"\xff") -> bytes:
    """A stream with sections of so many words, filled with one byte; its checksums are right."""
    return pack(Header(width, height, 0, model_id), *(fill * 4 * count for count in words))


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 1) -> bytes:
    """A grey PNG of any size with any chunks between its header and its end."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*c) for c in chunks) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """A zlib stream of so many zeros: a thousandth of it, or less."""
    packer = zlib.compressobj(9)
    pieces = (min(1_000_000, size - start) for start in range(0, size, 1_000_000))
    return b"".join(packer.compress(bytes(piece)) for piece in pieces) + packer.flush()


def tiled_tiff(side: int, tile_width: int, tile_height: int) -> bytes:
    """A square RGB TIFF of one deflated tile of black."""
    body = zeros(tile_width * tile_height * 3)
    at = 8 + 2 + 12 * 10 + 4
    tags = [
        *((256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, at), (259, 3, 1, 8), (262, 3, 1, 2)),
        *((277, 3, 1, 3), (322, 4, 1, tile_width), (323, 4, 1, tile_height)),
        *((324, 4, 1, at + 8), (325, 4, 1, len(body))),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags)
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + struct.pack("<4H", 8, 8, 8, 0) + body


def jpeg_of_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan is there ``count`` times more."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def animation(kind: str, side: int, frames: int) -> bytes:
    """An animation of plain frames that differ."""
    pictures = [Image.new("L", (side, side), shade % 256) for shade in range(frames)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def _open_all(folder: Path) -> None:
    from sketchfusion_lite.codec import load_codec
    from sketchfusion_lite.images import load_image
    from sketchfusion_workbook.explorer.photos import open_photo
    from sketchfusion_workbook.explorer.state import Upload

    codec = load_codec(device="cpu", dtype="float32")
    codec.decode(codec.encode(Image.new("RGB", (64, 64)), quality=1.0).data)  # libraries warm up
    load_image(png(8, 8, (b"IDAT", zlib.compress(bytes(16)))))
    opened = {
        "decode": codec.decode,
        "image": load_image,
        "upload": lambda data: open_photo(Upload("photo", data)),
    }
    for file in sorted(folder.iterdir()):
        data, how = file.read_bytes(), opened[file.name.split()[1]]
        print(json.dumps(_in_a_fork(how, data)), flush=True)


def _in_a_fork(how, data: bytes) -> tuple[str, float]:
    """Class of the error and growth in MB; signals count as errors."""
    answer, ask = os.pipe()
    if (child := os.fork()) == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
        before, what = _resident(), ""
        try:
            how(data)
        except SketchFusionError as error:
            what = type(error).__name__
        except BaseException as error:
            what = f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.write(ask, json.dumps([what, max(0.0, peak - before)]).encode())
        os._exit(0)
    os.close(ask)
    with os.fdopen(answer, "rb") as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    return tuple(json.loads(said)) if said else (f"signal {status & 0x7F}", float("inf"))


def _resident() -> float:
    """Memory of this process in MB, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    _open_all(Path(sys.argv[1]))
