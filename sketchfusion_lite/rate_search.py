"""Rate search: the finest quality whose file fits a budget; and Trial, which makes one photo's file of any quality.

y --> Trial --quality--> rough symbols --> size --+--> secant in log size --> quality'  ... --> symbols --> file
                 ^                                |
                 +--------------------------------+

The encoder network runs once. The search only counts: it walks the entropy model in float32, in half of the time that
exact integers take.
"""

from __future__ import annotations

from bisect import bisect_left
from math import ceil, log, sqrt

import torch
from torch import Tensor

from . import bitstream
from .coding import FLUSH_BYTES, Symbols
from .errors import BudgetTooSmall
from .results import Encoded
from .signal_path import SignalPath

_CLOSE_ENOUGH = 0.96  # the rate search stops this near below the budget
_AIM = 0.985
# Sizes of tiny files jump, and a secant then creeps: after so many trials halve the bracket.
_SECANTS = 6
# log bytes over Trial.activity, fitted to 30 photos (none of Kodak) at 12 qualities of model 0x3dd6; other models begin
# a little further off.
_SLOPE, _INTERCEPT = 1.15, -2.47
_SOME = 1 << 16  # values of the latent that tell enough of its activity
_LAST = 255


class Trial:
    """One latent at different qualities: the encoder network ran before, once."""

    def __init__(self, path: SignalPath, y: Tensor, height: int, width: int) -> None:
        self.path, self.y, self.height, self.width = path, y, height, width
        self._symbols: dict[int, Symbols] = {}
        self._activity: dict[int, float] = {}

    def symbols(self, index: int) -> Symbols:
        """Exact symbols of a quality."""
        if index not in self._symbols:
            self._symbols[index] = self.path.quantise(self.y, index)
        return self._symbols[index]

    @torch.inference_mode()
    def activity(self, index: int) -> float:
        """What a quality's size is nearly proportional to, as a logarithm: magnitudes of differences of neighbours."""
        if index not in self._activity:
            gain, _ = self.path.gains(index)  # (1, C, 1, 1)
            height = self.y.shape[-2]
            rows = torch.arange(0, height, max(1, self.y.numel() // _SOME))
            here = (self.y[..., rows, :] * gain).float()  # (1, C, some of h, w)
            above = (self.y[..., (rows - 1) % height, :] * gain).float()
            steps = (here - here.roll(1, -1), here - above)
            bits = sum(torch.log2(1 + step.abs() / sqrt(2)).mean() for step in steps) / 2
            self._activity[index] = log(1 + float(bits) * self.y.numel())
        return self._activity[index]

    def size(self, index: int) -> float:
        """Size of the file in bytes to within a few: code length, coder's flush, header, checksums."""
        bits = self.path.quantise(self.y, index, coder=self.path.counter).bits
        words = [ceil(section / 32) for section in bits]
        rounding = bitstream.WORD_BYTES * sum(words) - sum(bits) / 8
        return bitstream.file_size(self.header(index), *words) - rounding + FLUSH_BYTES

    def header(self, index: int) -> bitstream.Header:
        """What a file of this quality begins with."""
        return bitstream.Header(self.width, self.height, index, self.path.model_id)

    def encode(self, index: int, symbols: Symbols | None = None) -> Encoded:
        """A file at one quality, of the encoder's own symbols or of others."""
        symbols, header = symbols or self.symbols(index), self.header(index)
        data = self.path.pack(symbols, header)
        area = self.width * self.height
        return Encoded(data, len(data) * 8 / area, sum(symbols.bits) / area, header.quality)


def search_rate(trial: Trial, max_bytes: int) -> Encoded:
    """The finest quality whose file fits: secant on the logarithm of the size, kept inside a bracket.

    The search goes by code length, which is the size to within a few bytes; the last word has the file. It ends within
    4 % below the budget where any quality's file lies there.

    Raises:
        BudgetTooSmall: quality 0 does not fit.
    """
    low, high = 0, _LAST
    sizes: dict[int, float] = {}
    target = log(_AIM * max(max_bytes, 1))
    index = _where(trial, (target - _INTERCEPT) / _SLOPE)
    while low <= high:
        sizes[index] = size = trial.size(index)
        if size <= max_bytes:
            low = index + 1
            if size >= _CLOSE_ENOUGH * max_bytes:
                break
        else:
            high = index - 1
        index = min(max(_guess(trial, sizes, target), low), high)
        if len(sizes) >= _SECANTS:
            index = (low + high) // 2
    for fitting in range(max(low - 1, 0), -1, -1):
        encoded = trial.encode(fitting)
        if len(encoded.data) <= max_bytes:
            return encoded
    raise BudgetTooSmall.for_image(trial.width, trial.height, len(encoded.data), max_bytes)


def _guess(trial: Trial, sizes: dict[int, float], target: float) -> int:
    """Index at which the log size should be ``target``, from the two nearest trials."""
    logs = {index: log(size) for index, size in sizes.items()}
    first, *others = sorted(logs, key=lambda i: abs(logs[i] - target))
    slope = _SLOPE
    if others:
        run = trial.activity(first) - trial.activity(others[0])
        slope = max((logs[first] - logs[others[0]]) / (run or 1e-9), 0.2 * _SLOPE)
    return _where(trial, trial.activity(first) + (target - logs[first]) / slope)


def _where(trial: Trial, activity: float) -> int:
    """The first index of at least this activity, which grows with the gains."""
    return min(bisect_left(range(_LAST), activity, key=trial.activity), _LAST)
