"""Learned codecs of ``compressai.zoo`` as peers, where their weights can be had.

    image --> pad to 64 --> compress --> header + strings --> bytes --> decompress --> crop --> image

CompressAI returns strings, not a file; the header here holds what its decoder needs besides them, and is counted:

    ┌─────────┬───────┬────────┬────────────────┬────────────────────────┬─────────────┐
    │ quality │ width │ height │ shape of the   │ length of each string  │ the strings │
    │ uint8   │ u16   │ u16    │ latent, 2 u16  │ but the last, u32      │             │
    └─────────┴───────┴────────┴────────────────┴────────────────────────┴─────────────┘

References
    [1] Begaint et al., "CompressAI: a PyTorch library ... for end-to-end compression research", 2020.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import ArgumentError, DownloadError, PeerError
from ..images import crop, load_image, pad_to_multiple, to_pil
from .peer_codecs import Peer

if TYPE_CHECKING:
    from compressai.models import CompressionModel

__all__ = ["decode", "encode", "zoo_peer"]

_STRIDE = 64
_HEADER = struct.Struct("<BHHHH")


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
    from compressai.zoo.image import model_urls

    if model not in model_urls or metric not in model_urls[model]:
        known = [f"{name} ({', '.join(kinds)})" for name, kinds in model_urls.items()]
        raise ArgumentError(f"no model {model!r} for {metric!r}; there are: {'; '.join(known)}.")
    urls = model_urls[model][metric]
    network = cache(lambda quality: _pretrained(model, quality, urls[quality]).to(device))
    version = f"compressai {metadata.version('compressai')}"
    return Peer(
        f"{model} {metric}",
        sorted(urls),
        lambda image, quality: encode(network(quality), image, quality, device),
        lambda data: decode(network, data, sorted(urls)),
        version=lambda: version,
        doubling=1.5,
    )


def _pretrained(model: str, quality: int, url: str) -> nn.Module:
    """One trained network.

    Raises:
        DownloadError: its weights are neither in torch's cache nor to be had, or are not the published ones.
    """
    from compressai.zoo.image import load_pretrained, model_architectures

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
def encode(
    network: CompressionModel, image: Image.Image, quality: int, device: str = "cpu"
) -> bytes:
    """A complete file; ``quality`` only goes into the header."""
    pixels, _ = pad_to_multiple(load_image(image).to(device), _STRIDE)
    found = network.compress(pixels)
    strings = [one for (one,) in found["strings"]]  # of a batch of one
    header = _HEADER.pack(quality, image.width, image.height, *found["shape"])
    return (
        header + struct.pack(f"<{len(strings) - 1}I", *map(len, strings[:-1])) + b"".join(strings)
    )


@torch.inference_mode()
def decode(
    network: Callable[[int], CompressionModel], data: bytes, qualities: list[int]
) -> Image.Image:
    """The picture of a file; ``network`` gives that of a quality.

    Raises:
        PeerError: the file names a quality that is not among ``qualities``.
    """
    quality, width, height, *shape = _HEADER.unpack_from(data)
    if quality not in qualities:
        raise PeerError(f"compressai: the file names quality {quality}, which does not exist.")
    chosen, rest, strings = network(quality), data[_HEADER.size :], []
    if hasattr(chosen, "gaussian_conditional"):  # two strings: the latent, and its side information
        (length,) = struct.unpack_from("<I", rest)
        strings, rest = [[rest[4 : 4 + length]]], rest[4 + length :]
    picture: Tensor = chosen.decompress([*strings, [rest]], shape)["x_hat"]
    return to_pil(crop(picture.clamp(0, 1), (height, width)))
