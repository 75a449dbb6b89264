"""Seconds and memory beside other codecs, and their ratios to ours: one photo, one budget, one thread each.

The sample photo "coffee" at 768x512 and 0.045 bpp. *encode* is the one run that makes the file, *to budget* the
search for its quality as well, *decode* from bytes to a picture of full size; medians, all codecs in this process.
*peak MB* is of a fresh Python process that does no more than encode and decode the photo, its libraries (and ffmpeg)
included. Ratios are theirs over ours: above 1, ours takes less.

Architectures of CompressAI run with random weights in processes of their own, once: their quality and bytes mean
nothing and are left out, their time is that of the trained networks but for the entropy coder's share.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from sketchfusion_lite import load_codec
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.conditioning import DEFAULT_STEPS
from sketchfusion_lite.errors import SketchFusionError
from sketchfusion_lite.evaluation.peers import PEERS, Peer, PeerTrials
from sketchfusion_lite.samples import load_photo

from .common import machine, markdown, write_rows
from .compute import networks, whole
from .timing import count_macs, in_process, median_seconds, one_thread

RATE, SIZE, STEPS = 0.045, (768, 512), DEFAULT_STEPS
ZOO, ZOO_QUALITY = ("bmshj2018-factorized", "mbt2018-mean", "cheng2020-anchor"), 1


@dataclass(frozen=True)
class Cost:
    """What a codec takes for one photo.

    Attributes:
        codec: as printed.
        encode_s, decode_s: seconds.
        peak_mb: of a process of its own.
        bytes: of the file; None where the weights are random.
        search_s: seconds from the photo to a file within the budget; None where there is no search.
        macs: of encoding and decoding per pixel; None for codecs that are no networks.
    """

    codec: str
    encode_s: float
    decode_s: float
    peak_mb: float
    bytes: int | None = None
    search_s: float | None = None
    macs: float | None = None

    def row(self, ours: Cost) -> dict[str, str]:
        """A row of the table; ratios are to ``ours``."""

        def shown(value: float | None, unit: float, digits: int) -> str:
            return "" if value is None else f"{value / unit:.{digits}f}"

        def ratio(name: str) -> str:
            value = getattr(self, name) / getattr(ours, name)
            return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"

        return {
            "codec": self.codec,
            "bytes": shown(self.bytes, 1, 0),
            "kMAC/pixel": shown(self.macs, 1e3, 1),
            "encode ms": shown(self.encode_s, 1e-3, 1),
            "to budget ms": shown(self.search_s, 1e-3, 1),
            "decode ms": shown(self.decode_s, 1e-3, 1),
            "peak MB": shown(self.peak_mb, 1, 0),
            "encode ratio": ratio("encode_s"),
            "decode ratio": ratio("decode_s"),
            "memory ratio": ratio("peak_mb"),
        }


def our_costs(
    codec: SketchFusionCodec, image: Image.Image, photo: Path, budget: int, repeats: int
) -> list[Cost]:
    """Our codec to its preview and to its refined picture."""
    encoded = codec.encode(image, max_bytes=budget)
    search_s = median_seconds(lambda: codec.encode(image, max_bytes=budget), repeats)
    encode_s = median_seconds(lambda: codec.encode(image, quality=encoded.quality), repeats)
    parts, area = whole(codec, image, networks(codec, image)), image.width * image.height
    macs = {key: sum(stage.macs.values()) / area for key, stage in parts.items()}
    costs = []
    for stage, key, steps in (("preview", "decode", 0), ("refined", "refined", STEPS)):
        dials = {"stage": stage} | ({"steps": steps} if steps else {})
        decode_s = median_seconds(lambda d=dials: codec.decode(encoded.data, **d), repeats)
        peak = in_process("benchmarks.alone", "ours", photo, budget, steps, OMP_NUM_THREADS="1")
        costs.append(
            Cost(f"SketchFusion-Lite, {stage}", encode_s, decode_s, peak["peak MB"],
                 len(encoded.data), search_s, macs["encode"] + macs[key])
        )  # fmt: skip
    return costs


def peer_cost(peer: Peer, image: Image.Image, photo: Path, budget: int, repeats: int) -> Cost:
    """A classical codec: its best file within the budget, made anew several times; the search was the warm-up.

    Raises:
        SketchFusionError: it is not installed, failed, or does not reach the budget.
    """
    started = time.perf_counter()
    file = PeerTrials(image, peer).at_most(budget)
    search_s = time.perf_counter() - started - file.decode_s
    alone = replace(peer, qualities=[file.quality])
    again = [PeerTrials(image, alone).at_most(budget, (file.scale,)) for _ in range(repeats)]
    encode_s = statistics.median(one.encode_s for one in again)
    decode_s = statistics.median(one.decode_s for one in again)
    found = in_process("benchmarks.alone", peer.name, photo, budget, file.quality, file.scale)
    return Cost(file.label, encode_s, decode_s, found["peak MB"], len(file.data), search_s)


def zoo_cost(model: str, width: int, height: int) -> Cost:
    """An architecture of CompressAI with random weights."""
    arguments = ("zoo", model, ZOO_QUALITY, width, height)
    found = in_process("benchmarks.alone", *arguments, OMP_NUM_THREADS="1")
    name = f"{model}, quality {ZOO_QUALITY} (random weights)"
    return Cost(name, found["encode"], found["decode"], found["peak MB"], macs=zoo_macs(model))


def zoo_macs(model: str, side: int = 64) -> float:
    """MACs per pixel of encoding and decoding, counted on a small square; ``side`` is a multiple of 64."""
    from compressai.zoo import image_models

    network = image_models[model](ZOO_QUALITY, pretrained=False).eval().requires_grad_(False)
    return count_macs(lambda: network(torch.zeros(1, 3, side, side))) / side**2


def main(
    size: tuple[int, int] = SIZE,
    repeats: int = 5,
    peers: Sequence[str] = tuple(PEERS),
    zoo: Sequence[str] = ZOO,
) -> None:
    image = load_photo("coffee").image.resize(size)
    budget = int(RATE * image.width * image.height / 8)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        print(machine())
        photo = Path(folder) / "photo.png"
        image.save(photo)
        costs = our_costs(load_codec(device="cpu", dtype="float32"), image, photo, budget, repeats)
        for name in peers:
            try:
                costs.append(peer_cost(PEERS[name], image, photo, budget, repeats))
            except SketchFusionError as error:
                print(f"{name} left out: {error}")
        costs += [zoo_cost(model, *size) for model in zoo]
        rows = [cost.row(costs[0]) for cost in costs]
        print(markdown(rows))
        write_rows("peers_speed", rows)


if __name__ == "__main__":
    main()
