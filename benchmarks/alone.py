"""One codec in a process of its own, so that its peak memory is its own: ``python -m benchmarks.alone ...``.

    load                                    seconds to import torch and the library, to load codec and refiner
    ours PHOTO BYTES STEPS                  encode within BYTES and decode, with STEPS refining steps unless 0
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


def ours(photo: str, max_bytes: str, steps: str) -> dict[str, float]:
    """Our codec once."""
    from sketchfusion_lite import load_codec

    codec = load_codec(device="cpu", dtype="float32")
    data = codec.encode(photo, max_bytes=int(max_bytes)).data
    codec.decode(data, "refined" if int(steps) else "preview", steps=int(steps) or 1)
    return {}


def size(width: str, height: str) -> dict[str, float]:
    """Seconds of each stage; below two megapixels means of three after a warm-up."""
    from sketchfusion_lite import load_codec

    codec = load_codec(device="cpu", dtype="float32")
    _ = codec.refiner
    picture = smooth_noise(int(width), int(height))
    repeats = 3 if int(width) * int(height) < 2_000_000 else 1

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
    return {"encode": encode, "preview": preview, "refined": refined - preview}


def zoo(model: str, quality: str, width: str, height: str) -> dict[str, float]:
    """Seconds of a network with *random* weights, after a warm-up; its pictures are noise, its bytes mean nothing."""
    import torch
    from compressai.zoo import image_models

    from sketchfusion_lite.evaluation import zoo
    from sketchfusion_lite.images import to_pil

    torch.set_num_threads(1)
    picture = to_pil(smooth_noise(int(width), int(height)))
    network = image_models[model](int(quality), pretrained=False).eval()
    network.update(force=True)
    for shown in (picture.crop((0, 0, 64, 64)), picture):
        started = time.perf_counter()
        data = zoo.encode(network, shown, int(quality))
        encoded = time.perf_counter()
        zoo.decode(lambda _: network, data, [int(quality)])
        found = {"encode": encoded - started, "decode": time.perf_counter() - encoded}
    return found


def smooth_noise(width: int, height: int) -> Any:
    """A picture as a tensor ``(1, 3, height, width)`` in [0, 1]; seeds torch's global generator."""
    import torch

    torch.manual_seed(0)
    coarse = torch.rand(1, 3, -(-height // 16), -(-width // 16))
    size = (height, width)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def peer(name: str, photo: str, max_bytes: str, quality: str, scale: str) -> dict[str, float]:
    """A classical codec once."""
    from dataclasses import replace

    from PIL import Image

    from sketchfusion_lite.evaluation.peers import PEERS, PeerTrials

    with Image.open(photo) as picture:
        trials = PeerTrials(picture.convert("RGB"), replace(PEERS[name], qualities=[int(quality)]))
    trials.at_most(int(max_bytes), (float(scale),))
    return {}


def peak_with_children() -> float:
    """Largest memory of this process, and of the largest program that it started (ffmpeg), together, in MB.

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


def main(what: str, *rest: str) -> None:
    if (action := {"load": load, "ours": ours, "size": size, "zoo": zoo}.get(what)) is None:
        rest, action = (what, *rest), peer
    print(json.dumps(action(*rest) | {"peak MB": peak_with_children()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
