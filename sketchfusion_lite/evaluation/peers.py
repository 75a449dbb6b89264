"""Other codecs at the same number of bytes: the best file of theirs that fits a budget.

    image --> Lanczos down (scale) --> codec at quality q --> bytes <= max_bytes ?
                                          ^___ searched ___|        |
                          image size <-- Lanczos up <-- decode <----+

Classical codecs run out of quality steps before they reach 0.05 bpp. What a person would do then is
to send a smaller picture and enlarge it, so the budget search takes *scales*: 1 first, smaller ones
only when even the lowest quality does not fit. Bytes are always those of a complete file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ..errors import ArgumentError, BudgetTooSmall, PeerError
from .peer_codecs import AVIF, PEERS, Peer

__all__ = ["AVIF", "PEERS", "SCALES", "Coded", "Peer", "PeerTrials", "encode_at_most", "timed"]

SCALES = (1.0, 0.5, 0.25, 0.125)

_DOUBLINGS = 6  # a codec's whole range of qualities multiplies the size by about 2^6
_PATIENCE = 5  # trials by interpolation, then bisection

_T = TypeVar("_T")


@dataclass(frozen=True)
class Coded:
    """A photo within a budget, decoded from its bytes.

    Attributes:
        data: the whole file.
        image: what a receiver sees, of the original's size.
        quality: the setting that the budget led to, on the codec's own scale.
        scale: share of width and height that was coded: 1 at native resolution.
        encode_s: seconds of the encoder; with the search for the budget where it is part of the codec (ours, PICS),
            without it for peers.
        decode_s: seconds from bytes to picture.
        peer: name of a codec of others.
    """

    data: bytes
    image: Image.Image
    quality: float
    scale: float
    encode_s: float
    decode_s: float
    peer: str = ""

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel of the *original*."""
        return len(self.data) * 8 / (self.image.width * self.image.height)

    @property
    def label(self) -> str:
        """The codec, and the trick if there was one: ``"AVIF at 1/2 size"``."""
        return self.peer if self.scale == 1 else f"{self.peer} at 1/{round(1 / self.scale)} size"


def encode_at_most(
    image: Image.Image, max_bytes: int, peer: Peer = AVIF, scales: Sequence[float] = SCALES
) -> Coded:
    """The best that ``peer`` makes of a photo within a budget.

    Args:
        image: RGB.
        max_bytes: budget for the whole file; never exceeded.
        peer: the codec.
        scales: tried in order; the first one at which any quality fits is taken.

    Raises:
        ArgumentError: no scale, or one outside (0, 1].
        BudgetTooSmall: the lowest quality does not fit at any of the scales.
        DependencyMissing: the codec is not installed.
        PeerError: the codec failed.
    """
    return PeerTrials(image, peer).at_most(max_bytes, scales)


class PeerTrials:
    """One picture and one codec: files at different qualities and scales, each of them made once.

    Args:
        image: RGB.
        peer: the codec.

    Raises:
        DependencyMissing: the codec is not installed.
    """

    def __init__(self, image: Image.Image, peer: Peer = AVIF) -> None:
        peer.require()
        self.image, self.peer = image, peer
        self._small: dict[float, Image.Image] = {}
        self._files: dict[tuple[float, int], tuple[bytes, float]] = {}

    def at_most(self, max_bytes: int, scales: Sequence[float] = SCALES) -> Coded:
        """The best file within a budget; see :func:`encode_at_most`."""
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ArgumentError(f"scales={tuple(scales)!r}: give numbers above 0, at most 1.")
        for scale in scales:
            if len(self._encode(scale, 0)) <= max_bytes:
                index = self._search(scale, max_bytes)
                data, encode_s = self._files[scale, index]
                image, decode_s = timed(self._restore, data, scale)
                quality = self.peer.qualities[index]
                return Coded(data, image, quality, scale, encode_s, decode_s, self.peer.name)
        smallest = min(len(self._encode(scale, 0)) for scale in scales)
        raise BudgetTooSmall.for_image(*self.image.size, smallest, max_bytes)

    def _search(self, scale: float, max_bytes: int) -> int:
        """Index of the finest quality that fits; that of the lowest is known to.

        Interpolation on the logarithm of the size inside a bracket: an encoder's time grows with its
        quality, so trials far above the budget would be the dearest. Files of earlier searches are
        reused but do not steer this one: its result must not depend on what was asked before.
        """
        doubling = self.peer.doubling or len(self.peer.qualities) / _DOUBLINGS
        sizes = {0: len(self._encode(scale, 0))}
        low, high = 0, len(self.peer.qualities) - 1
        while low < high:
            if len(sizes) <= _PATIENCE:
                index = min(max(_interpolate(sizes, max_bytes, doubling), low + 1), high)
            else:
                index = (low + high + 1) // 2
            sizes[index] = len(self._encode(scale, index))
            if sizes[index] <= max_bytes:
                low = index
            else:
                high = index - 1
        return low

    def _encode(self, scale: float, index: int) -> bytes:
        if (scale, index) not in self._files:
            small, quality = self._reduced(scale), self.peer.qualities[index]
            self._files[scale, index] = timed(self._guarded, self.peer.encode, small, quality)
        return self._files[scale, index][0]

    def _reduced(self, scale: float) -> Image.Image:
        """The picture at a scale, its last row and column repeated up to a multiple: that costs the least bits."""
        if scale not in self._small:
            small = _resize(self.image, *self._size(scale))
            right, bottom = -small.width % self.peer.multiple, -small.height % self.peer.multiple
            if right or bottom:
                padding = ((0, bottom), (0, right), (0, 0))
                small = Image.fromarray(np.pad(np.asarray(small), padding, "edge"))
            self._small[scale] = small
        return self._small[scale]

    def _size(self, scale: float) -> tuple[int, int]:
        return max(1, round(self.image.width * scale)), max(1, round(self.image.height * scale))

    def _restore(self, data: bytes, scale: float) -> Image.Image:
        decoded = self._guarded(self.peer.decode, data)
        if decoded.size == self._reduced(scale).size:
            decoded = decoded.crop((0, 0, *self._size(scale)))
        return _resize(decoded, *self.image.size)

    def _guarded(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a codec; whatever it raises becomes an error of ours."""
        try:
            return function(*arguments)
        except (OSError, RuntimeError, SyntaxError, ValueError) as error:
            width, height = self.image.size
            raise PeerError(
                f"{self.peer.name}: failed on a {width}x{height} picture ({error})."
            ) from error


def _interpolate(sizes: dict[int, int], max_bytes: int, doubling: float) -> int:
    """Index at which the size should meet the budget, from the two trials nearest to it."""
    target = log(max_bytes)
    logs = {index: log(max(size, 1)) for index, size in sizes.items()}
    first, *others = sorted(logs, key=lambda i: abs(logs[i] - target))
    slope = log(2) / doubling
    if others and (grown := (logs[first] - logs[others[0]]) / (first - others[0])) > 0:
        slope = grown
    return round(first + (target - logs[first]) / slope)


def timed(action: Callable[..., _T], *arguments: Any) -> tuple[_T, float]:
    """What ``action(*arguments)`` returns, and its seconds."""
    started = time.perf_counter()
    return action(*arguments), time.perf_counter() - started


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)
