"""Learned codecs of ``compressai.zoo`` as peers: quality where their weights can be had, cost in any case.

    image --> pad to 64 --> compress --> header + strings --> bytes --> decompress --> crop --> image

CompressAI returns strings, not a file; the header here holds what its decoder needs besides them, and is counted:

    ┌─────────┬───────┬────────┬────────────────┬────────────────────────┬─────────────┐
    │ quality │ width │ height │ shape of the   │ length of each string  │ the strings │
    │ uint8   │ u16   │ u16    │ latent, 2 u16  │ but the last, u32      │             │
    └─────────┴───────┴────────┴────────────────┴────────────────────────┴─────────────┘

:func:`architecture_cost` runs a network with *random* weights: its seconds and megabytes are those of the trained one,
its pictures are noise, so it returns no measure of quality and no bytes.

References
    [1] Begaint et al., "CompressAI: a PyTorch library ... for end-to-end compression research", 2020.
"""

from __future__ import annotations

import multiprocessing
import struct
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata

import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import ArgumentError, DownloadError, EvaluationError, PeerError
from ..images import crop, load_image, pad_to_multiple, to_pil
from .machine import peak_megabytes
from .peer_codecs import Peer

__all__ = ["ArchitectureCost", "architecture_cost", "zoo_peer"]

_STRIDE = 64
_HEADER = struct.Struct("<BHHHH")
_LENGTH = struct.Struct("<I")


def zoo_peer(model: str, metric: str = "mse", device: str = "cpu") -> Peer:
    """A pretrained model as a peer; its weights are fetched when a quality is first used.

    Args:
        model: name as in ``compressai.zoo.image_models``, e.g. ``"mbt2018-mean"``.
        metric: what it was trained for, ``"mse"`` or ``"ms-ssim"``.
        device: where the networks run; entropy coding is on the CPU. A file decodes where it was made: CompressAI's
            entropy models are floating-point.

    Raises:
        ArgumentError: there is no such model; names those there are.
    """
    urls = _urls()
    if model not in urls or metric not in urls[model]:
        known = [f"{name} ({', '.join(kinds)})" for name, kinds in urls.items()]
        raise ArgumentError(f"no model {model!r} for {metric!r}; there are: {'; '.join(known)}.")
    network = cache(lambda quality: _pretrained(model, metric, quality).to(device))
    qualities = sorted(urls[model][metric])
    version = f"compressai {metadata.version('compressai')}"
    return Peer(
        f"{model} {metric}",
        qualities,
        lambda image, quality: _encode(network(quality), image, quality, device),
        lambda data: _decode(network, data, qualities, device),
        package="compressai",
        doubling=1.5,
        version=lambda: version,
    )


def _urls() -> dict[str, dict[str, dict[int, str]]]:
    """Addresses of weights by model, metric and quality."""
    from compressai.zoo.image import model_urls

    return model_urls


def _pretrained(model: str, metric: str, quality: int) -> nn.Module:
    """One trained network.

    Raises:
        DownloadError: its weights are neither in torch's cache nor to be had, or are not the published ones.
    """
    from compressai.zoo.image import load_pretrained, model_architectures

    url = _urls()[model][metric][quality]
    try:
        # The name of each file ends in the start of its hash; only tensors are read, no code.
        state = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True, progress=False
        )
    except (OSError, RuntimeError) as error:  # URLError is an OSError, a wrong hash a RuntimeError
        raise DownloadError(
            f"{model}, quality {quality}: its weights cannot be had ({error}). Download {url} elsewhere, and put it "
            f"into {torch.hub.get_dir()}/checkpoints."
        ) from error
    return model_architectures[model].from_state_dict(load_pretrained(state)).eval()


@torch.inference_mode()
def _encode(network: nn.Module, image: Image.Image, quality: int, device: str) -> bytes:
    pixels, _ = pad_to_multiple(load_image(image).to(device), _STRIDE)
    found = network.compress(pixels)
    strings = [one for (one,) in found["strings"]]  # of a batch of one
    header = _HEADER.pack(quality, image.width, image.height, *found["shape"])
    lengths = b"".join(_LENGTH.pack(len(one)) for one in strings[:-1])
    return header + lengths + b"".join(strings)


@torch.inference_mode()
def _decode(network, data: bytes, qualities: list[int], device: str) -> Image.Image:
    quality, width, height, *shape = _HEADER.unpack_from(data)
    if quality not in qualities:
        raise PeerError(f"compressai: the file names quality {quality}, which does not exist.")
    chosen = network(quality)
    count = _string_count(chosen)
    position = _HEADER.size + _LENGTH.size * (count - 1)
    strings = []
    for index in range(count - 1):
        (length,) = _LENGTH.unpack_from(data, _HEADER.size + _LENGTH.size * index)
        strings.append([data[position : position + length]])
        position += length
    strings.append([data[position:]])
    picture: Tensor = chosen.decompress(strings, shape)["x_hat"]
    return to_pil(crop(picture.clamp(0, 1), (height, width)))


def _string_count(network: nn.Module) -> int:
    """One string of the latent, and with a hyperprior one of the side information."""
    return 2 if hasattr(network, "gaussian_conditional") else 1


# --------------------------------------------------------------------------------------------------
# Cost of an architecture


@dataclass(frozen=True)
class ArchitectureCost:
    """What a network takes, measured with random weights: no quality, no rate.

    Attributes:
        model, quality: as in ``compressai.zoo``; quality decides its width.
        weights: always ``"random (untrained)"``, for tables.
        width, height: of the picture, pixels.
        parameters: number of weights.
        encode_s, decode_s: seconds, one thread, after a warm-up on a small picture.
        idle_mb, peak_mb: resident memory of the process before the network was made, and at most.
    """

    model: str
    quality: int
    weights: str
    width: int
    height: int
    parameters: int
    encode_s: float
    decode_s: float
    idle_mb: float
    peak_mb: float


def architecture_cost(
    model: str, quality: int = 1, width: int = 768, height: int = 512, seed: int = 0
) -> ArchitectureCost:
    """Measure speed and memory of an architecture in a process of its own.

    Args:
        model: name as in ``compressai.zoo.image_models``.
        quality: 1 to 8 (6 for cheng2020).
        width, height: of a synthetic picture, pixels.
        seed: of the random weights and the picture.

    Raises:
        ArgumentError: there is no such model or quality.
        EvaluationError: the process died, or this system does not tell its memory.
    """
    urls = _urls()
    if model not in urls or quality not in urls[model]["mse"]:
        raise ArgumentError(
            f"no model {model!r} of quality {quality}; there are: {', '.join(urls)}."
        )
    context = multiprocessing.get_context("spawn")  # memory of its own, not its parent's
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_cost, model, quality, width, height, seed).result()
        except BrokenProcessPool as error:
            raise EvaluationError(
                f"{model}: the process died at {width}x{height}, probably for lack of memory."
            ) from error


@torch.inference_mode()
def _cost(model: str, quality: int, width: int, height: int, seed: int) -> ArchitectureCost:
    from compressai.zoo import image_models

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    idle = peak_megabytes()
    network = image_models[model](quality, pretrained=False).eval()
    network.update(force=True)
    picture = to_pil(_waves(height, width))
    for shown in (picture.crop((0, 0, _STRIDE, _STRIDE)), picture):
        started = time.perf_counter()
        data = _encode(network, shown, quality, "cpu")
        encoded = time.perf_counter()
        _decode(lambda _: network, data, [quality], "cpu")
        ended = time.perf_counter()
    parameters = sum(p.numel() for p in network.parameters())
    cost = partial(ArchitectureCost, model, quality, "random (untrained)", width, height)
    return cost(parameters, encoded - started, ended - encoded, idle, peak_megabytes())


def _waves(height: int, width: int) -> Tensor:
    """Smooth noise ``(1, 3, H, W)`` in [0, 1]."""
    coarse = torch.rand(1, 3, -(-height // 16), -(-width // 16))
    return nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
