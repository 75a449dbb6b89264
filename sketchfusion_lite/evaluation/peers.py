"""Other codecs at the same number of bytes: the best file of theirs that fits a budget.

    image --> Lanczos down (scale) --> codec at quality q --> bytes <= max_bytes ?
                                          ^___ bisected ___|        |
                          image size <-- Lanczos up <-- decode <----+

Classical codecs run out of quality steps before they reach 0.05 bpp. What a person would do then is
to send a smaller picture and enlarge it, so the budget search takes *scales*: 1 first, smaller ones
only when even the lowest quality does not fit. Bytes are always those of a complete file.

A further codec is one more :class:`Peer`: two functions and its range of qualities.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, features

from ..errors import ArgumentError, BudgetTooSmall, DependencyMissing

__all__ = ["AVIF", "PEERS", "Peer", "PeerFile", "encode_at_most"]

SCALES = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True)
class Peer:
    """A codec to compare with.

    Attributes:
        name: as printed.
        qualities: settings from the smallest file to the finest picture.
        encode: ``(image, quality) -> bytes`` of a complete file.
        decode: ``bytes -> RGB image``.
        available: whether it can run here.
        package, extra: what to install, and from which extra, when it cannot.
    """

    name: str
    qualities: range
    encode: Callable[[Image.Image, int], bytes]
    decode: Callable[[bytes], Image.Image]
    available: Callable[[], bool] = lambda: True
    package: str = "pillow"
    extra: str = "peers"


@dataclass(frozen=True)
class PeerFile:
    """A picture as another codec delivers it.

    Attributes:
        peer: name of the codec.
        data: the whole file.
        image: decoded and brought back to the size of the original.
        quality: setting that was used.
        scale: 1 at native resolution, 0.5 at half the width and height, ...
        bpp: bits of the file per pixel of the *original*.
    """

    peer: str
    data: bytes
    image: Image.Image
    quality: int
    scale: float
    bpp: float

    @property
    def label(self) -> str:
        """The codec, and the trick if there was one: ``"AVIF at 1/2 size"``."""
        return self.peer if self.scale == 1 else f"{self.peer} at 1/{round(1 / self.scale)} size"


def _pillow_encoder(kind: str, **options: object) -> Callable[[Image.Image, int], bytes]:
    def encode(image: Image.Image, quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, quality=quality, **options)
        return buffer.getvalue()

    return encode


def _pillow_decode(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


# Speed 4 of 0-10: files are 2-7 % smaller than at Pillow's default of 6, and no larger than at 2,
# which takes four times as long (measured on "coffee" at qualities 0 to 30).
AVIF = Peer(
    "AVIF",
    range(0, 101),
    _pillow_encoder("AVIF", speed=4),
    _pillow_decode,
    available=lambda: bool(features.check("avif")),
)

PEERS = {peer.name: peer for peer in (AVIF,)}


def encode_at_most(
    image: Image.Image, max_bytes: int, peer: Peer = AVIF, scales: Sequence[float] = SCALES
) -> PeerFile:
    """The best that ``peer`` makes of a photo within a budget.

    Args:
        image: RGB.
        max_bytes: budget for the whole file; never exceeded.
        peer: the codec.
        scales: tried in order; the first one at which any quality fits is taken.

    Raises:
        ArgumentError: no scale, or one outside (0, 1].
        BudgetTooSmall: the lowest quality at the smallest scale does not fit.
        DependencyMissing: this Pillow lacks the codec.
    """
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ArgumentError(f"scales={tuple(scales)!r}: give numbers above 0, at most 1.")
    if not peer.available():
        raise DependencyMissing.for_extra(peer.package, peer.extra, f"the codec {peer.name}")
    smallest = 0
    for scale in scales:
        small = _resize(image, *_scaled(image, scale))
        data, quality = _bisect(small, max_bytes, peer)
        if len(data) <= max_bytes:
            restored = _resize(peer.decode(data), image.width, image.height)
            bpp = len(data) * 8 / (image.width * image.height)
            return PeerFile(peer.name, data, restored, quality, scale, bpp)
        smallest = len(data)
    raise BudgetTooSmall.for_image(image.width, image.height, smallest, max_bytes)


def _bisect(image: Image.Image, max_bytes: int, peer: Peer) -> tuple[bytes, int]:
    """File and quality: the finest one that fits, else the smallest there is."""
    low, high = 0, len(peer.qualities) - 1
    quality = peer.qualities[0]
    best = peer.encode(image, quality)
    while len(best) <= max_bytes and low < high:
        middle = (low + high + 1) // 2
        data = peer.encode(image, peer.qualities[middle])
        if len(data) <= max_bytes:
            low, best, quality = middle, data, peer.qualities[middle]
        else:
            high = middle - 1
    return best, quality


def _scaled(image: Image.Image, scale: float) -> tuple[int, int]:
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)
