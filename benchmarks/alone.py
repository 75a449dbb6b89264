"""One codec in a process of its own, so that its peak memory is its own: ``python -m benchmarks.alone ...``.

    load                                    seconds to import torch and the library, to load codec and refiner
    ours PHOTO BYTES [STEPS]                encode within BYTES and decode, with STEPS refining steps if given
    size WIDTH HEIGHT                       seconds of encode, preview and refined, of a smooth picture
    zoo MODEL QUALITY WIDTH HEIGHT          seconds of an architecture of CompressAI with random weights
    PEER PHOTO BYTES QUALITY SCALE          the same with a classical codec, at a quality and scale known to fit

Prints one JSON object. Torch is imported by the first four only: a classical codec does not need it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load() -> dict[str, float]:
    """Seconds of each part of a cold start, in the order in which a program meets them."""
    marks = [time.perf_counter()]
    import torch  # noqa: F401

    marks.append(time.perf_counter())
    from sketchfusion_lite import load_codec

    marks.append(time.perf_counter())
    codec = load_codec(device="cpu", dtype="float32")
    marks.append(time.perf_counter())
    _ = codec.refiner
    marks.append(time.perf_counter())
    names = ("import torch", "import the library", "load the codec", "load the refiner")
    return {name: b - a for name, a, b in zip(names, marks, marks[1:], strict=False)}


def ours(photo: str, max_bytes: int, steps: int = 0) -> dict[str, float]:
    """Peak memory of our codec, in MB."""
    from sketchfusion_lite import load_codec

    codec = load_codec(device="cpu", dtype="float32")
    data = codec.encode(photo, max_bytes=max_bytes).data
    codec.decode(data, "refined" if steps else "preview", steps=steps or 1)
    return {"peak MB": peak_with_children()}


def size(width: int, height: int) -> dict[str, float]:
    """Seconds of each stage, and peak memory in MB; below two megapixels means of three after a warm-up."""
    import torch

    from sketchfusion_lite import load_codec

    codec = load_codec(device="cpu", dtype="float32")
    _ = codec.refiner
    torch.manual_seed(0)
    picture = smooth_noise(width, height)
    repeats = 3 if width * height < 2_000_000 else 1

    def timed(action: Callable[[], Any]) -> tuple[Any, float]:
        if repeats > 1:
            action()
        started = time.perf_counter()
        for _ in range(repeats):
            value = action()
        return value, (time.perf_counter() - started) / repeats

    encoded, encode = timed(lambda: codec.encode(picture, quality=2.0))
    picture = None  # its memory is not the decoder's
    _, preview = timed(lambda: codec.decode(encoded.data, "preview"))
    _, refined = timed(lambda: codec.decode(encoded.data, "refined"))
    found = {"encode": encode, "preview": preview, "refined": refined - preview}
    return found | {"peak MB": peak_with_children()}


def zoo(model: str, quality: int, width: int, height: int) -> dict[str, float]:
    """Seconds of a network with *random* weights, after a warm-up on a small picture, and peak memory in MB.

    Its pictures are noise, so neither quality nor bytes are returned.
    """
    import torch
    from compressai.zoo import image_models

    from sketchfusion_lite.evaluation import zoo
    from sketchfusion_lite.images import to_pil

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = image_models[model](quality, pretrained=False).eval()
    network.update(force=True)
    picture = to_pil(smooth_noise(width, height))
    for shown in (picture.crop((0, 0, 64, 64)), picture):
        started = time.perf_counter()
        data = zoo.encode(network, shown, quality)
        encoded = time.perf_counter()
        zoo.decode(lambda _: network, data, [quality])
        found = {"encode": encoded - started, "decode": time.perf_counter() - encoded}
    return found | {"peak MB": peak_megabytes()}


def smooth_noise(width: int, height: int) -> Any:
    """A picture as a tensor ``(1, 3, height, width)`` in [0, 1], by torch's global generator."""
    import torch

    coarse = torch.rand(1, 3, -(-height // 16), -(-width // 16))
    size = (height, width)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def peer(name: str, photo: str, max_bytes: int, quality: int, scale: float) -> dict[str, float]:
    """Peak memory of a classical codec, in MB."""
    from dataclasses import replace

    from PIL import Image

    from sketchfusion_lite.evaluation.peers import PEERS, PeerTrials

    with Image.open(photo) as picture:
        trials = PeerTrials(picture.convert("RGB"), replace(PEERS[name], qualities=[quality]))
    trials.at_most(max_bytes, (scale,))
    return {"peak MB": peak_with_children()}


def peak_with_children() -> float:
    """Largest memory of this process, and of the largest program that it started (ffmpeg), together.

    The system counts towards a child what its parent held when it started it, so a child counts only where it grew
    beyond that.
    """
    own = peak_megabytes()
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return own + (child if child > own else 0.0)


def peak_megabytes() -> float:
    """Largest resident memory of this process so far, on Linux; other systems lack the file.

    Not ``ru_maxrss``: that of a child starts at what its parent had.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(arguments: list[str]) -> None:
    what, *rest = arguments
    if what == "load":
        found = load()
    elif what == "size":
        found = size(*map(int, rest))
    elif what == "zoo":
        found = zoo(rest[0], *map(int, rest[1:]))
    elif what == "ours":
        found = ours(rest[0], *map(int, rest[1:]))
    else:
        found = peer(what, rest[0], int(rest[1]), int(rest[2]), float(rest[3]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
