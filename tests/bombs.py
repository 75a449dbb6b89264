"""Small files that would become large, and a process in which what they cost is measured.

``python -m tests.bombs FOLDER`` opens every file of a folder in a fork of its own and prints one JSON object a line.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sketchfusion_lite.bitstream import Header, pack
from sketchfusion_lite.errors import SketchFusionError

from .formats.by_hand import png_of, tags_of, tiff
from .formats.cells import saved
from .shell import ROOT, python

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
    options = {"capture_output": True, "text": True, "cwd": ROOT}
    done = python("-m", "tests.bombs", folder, **options)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: Outcome(*line) for name, line in zip(files, lines, strict=True)}


def stream(model_id: int, width: int, height: int, *words: int, fill: bytes = b"\xff") -> bytes:
    """A stream with sections of so many words, filled with one byte; its checksums are right."""
    return pack(Header(width, height, 0, model_id), *(fill * 4 * count for count in words))


def zeros(size: int) -> bytes:
    """A zlib stream of so many zeros: a thousandth of it, or less."""
    packer = zlib.compressobj(9)
    pieces = (min(1_000_000, size - start) for start in range(0, size, 1_000_000))
    return b"".join(packer.compress(bytes(piece)) for piece in pieces) + packer.flush()


def tiled_tiff(side: int, tile_width: int, tile_height: int) -> bytes:
    """A square RGB TIFF of one deflated tile of black."""
    tags = tags_of(
        (side, side, 3), 8, 2, t259=("H", 8), t322=("I", tile_width), t323=("I", tile_height)
    )
    del tags[278]
    return tiff(tags, zeros(tile_width * tile_height * 3), tiled=True)


def jpeg_of_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan is there ``count`` times more."""
    data = saved(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def animation(kind: str, side: int, frames: int) -> bytes:
    """An animation of plain frames that differ."""
    first, *others = (Image.new("L", (side, side), shade % 256) for shade in range(frames))
    return saved(first, kind, save_all=True, append_images=others)


def _open_all(folder: Path) -> None:
    from sketchfusion_lite.codec import load_codec
    from sketchfusion_lite.images import load_image
    from sketchfusion_workbook.explorer.photos import open_photo
    from sketchfusion_workbook.explorer.state import Upload

    codec = load_codec(device="cpu", dtype="float32")
    codec.decode(codec.encode(Image.new("RGB", (64, 64)), quality=1.0).data)  # libraries warm up
    load_image(png_of((8, 8), 1, 0, (b"IDAT", zlib.compress(bytes(16)))))
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
