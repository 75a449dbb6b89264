"""Rate search: the finest quality whose file fits a budget, with one pass of the encoder network.

y --> Trial --quality--> symbols --> size --+--> secant in log size --> quality'  ... --> file
                 ^                          |
                 +--------------------------+
"""

from __future__ import annotations

from math import ceil, log
from typing import TYPE_CHECKING

from torch import Tensor

from . import bitstream
from .bitstream import WORD_BYTES
from .coding import FLUSH_BYTES, Symbols
from .errors import BudgetTooSmall
from .results import Encoded

if TYPE_CHECKING:
    from .codec import SketchFusionCodec

_CLOSE_ENOUGH = 0.985  # the rate search stops this near below the budget
_SECANTS = (
    6  # sizes of tiny files jump, and a secant then creeps: after so many trials halve the bracket
)


class Trial:
    """One latent at different qualities: the encoder network ran before, once."""

    def __init__(self, codec: SketchFusionCodec, y: Tensor, height: int, width: int) -> None:
        self.codec, self.y, self.height, self.width = codec, y, height, width
        self._symbols: dict[int, Symbols] = {}

    def symbols(self, index: int) -> Symbols:
        if index not in self._symbols:
            self._symbols[index] = self.codec._quantise(self.y, index)
        return self._symbols[index]

    def size(self, index: int) -> float:
        """Size of the file in bytes to within a few: code length, coder's flush, header, checksums."""
        words = [ceil(bits / 32) for bits in self.symbols(index).bits]
        rounding = WORD_BYTES * sum(words) - sum(self.symbols(index).bits) / 8
        return bitstream.file_size(self.header(index), *words) - rounding + FLUSH_BYTES

    def header(self, index: int) -> bitstream.Header:
        return bitstream.Header(self.width, self.height, index, self.codec.model_id)

    def encode(self, index: int, symbols: Symbols | None = None) -> Encoded:
        """A file at one quality, of the encoder's own symbols or of others."""
        symbols, header = symbols or self.symbols(index), self.header(index)
        data = bitstream.pack(header, *self.codec.coder.encode(symbols))
        area = self.width * self.height
        return Encoded(data, len(data) * 8 / area, sum(symbols.bits) / area, header.quality)


def search_rate(trial: Trial, max_bytes: int) -> Encoded:
    """The finest quality whose file fits: secant on the logarithm of the size, kept inside a bracket.

    The search goes by code length, which is the size to within a few bytes; the last word has the file.

    Raises:
        BudgetTooSmall: quality 0 does not fit.
    """
    low, high = 0, 255
    sizes: dict[int, float] = {}
    index = 102  # quality 2
    while low <= high:
        sizes[index] = size = trial.size(index)
        if size <= max_bytes:
            low = index + 1
            if size >= _CLOSE_ENOUGH * max_bytes:
                break
        else:
            high = index - 1
        index = min(max(_guess(sizes, max_bytes), low), high)
        if len(sizes) >= _SECANTS:
            index = (low + high) // 2
    for fitting in range(max(low - 1, 0), -1, -1):
        encoded = trial.encode(fitting)
        if len(encoded.data) <= max_bytes:
            return encoded
    raise BudgetTooSmall.for_image(trial.width, trial.height, len(encoded.data), max_bytes)


def _guess(sizes: dict[int, float], max_bytes: int) -> int:
    """Index at which the size should meet the budget, from the two nearest trials."""
    target = log(max(max_bytes, 1) * (1 + _CLOSE_ENOUGH) / 2)
    logs = {index: log(size) for index, size in sizes.items()}
    first, *others = sorted(logs, key=lambda i: abs(logs[i] - target))
    slope = 0.01  # typical relative growth per index
    if others:
        slope = max((logs[first] - logs[others[0]]) / (first - others[0]), 0.001)
    return round(first + (target - logs[first]) / slope)
