"""From a latent to words of a rANS stream and back, through the integer entropy model.

    y --gain--> z --> psi --> four passes of (means, indices) --> symbols --> CompressAI's rANS --> words

Encoder and decoder walk the same four passes (structure anchors, the other structure, tone anchors, the
other tone); the encoder rounds the latent, the decoder reads symbols, and both go on from the same integers.

rANS is last in, first out: the coder is fed in reverse, so that the words of the hyper symbols come first in
the stream, then structure, then tone. How many words belong to each is the difference in length between
the streams of all, of structure + tone, and of tone alone.

The coder also begins and ends in one known state. A decoder that has read a whole stream and is not back there has
read other symbols than were written: wrong weights, inexact arithmetic or a forgery, whatever the checksums say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .bitstream import WORD_BYTES
from .entropy import checkerboard
from .errors import CorruptStream
from .integer import UNITS_PER_Y, Tables, columns_at
from .rans import BufferedRansEncoder, RansDecoder

SYMBOL_LIMIT = 2**13  # symbols are clipped here; trained models stay below 50
FLUSH_BYTES = 8  # rANS's final state
_GROUPS = ("structure", "tone")

# CompressAI's decoder does not know where its input ends. An escaped symbol counts its 4-bit digits in digits of up to
# 15, so n bytes of payload can claim 15 n bytes of digits; ordinary symbols take at most 2 bytes each.
_PAD_PER_BYTE, _PAD_PER_SYMBOL, _PAD = 16, 8, 1024
# Put behind a whole stream, and read as two ones with this table if the coder is back in its first state, 2^31.
_END_MARK = b"\x01\0\x01\0"
_END_TABLE, _END_SYMBOLS = [0, 1, 2, 65535, 65536], [0, 1, 1]


@dataclass(frozen=True)
class Symbols:
    """The symbols of one image, in coding order.

    Attributes:
        symbols, rows: per section (hyper, structure, tone), int64 ``(N,)``: values and their table rows.
        bits: ideal code length per section.
        y_hat: quantised latent ``(1, C, h, w)`` in units of 1/8, float64.
    """

    symbols: tuple[Tensor, Tensor, Tensor]
    rows: tuple[Tensor, Tensor, Tensor]
    bits: tuple[float, ...]
    y_hat: Tensor


class Predictor(Protocol):
    """What the coder asks of an entropy model; :class:`.IntegerEntropyModel` says what each means."""

    tables: Tables
    structure_channels: int
    tone_channels: int
    hyper_channels: int

    @property
    def carrier(self) -> torch.dtype: ...

    def psi(self, z_hat: Tensor, quality_index: int, height: int, width: int) -> Tensor: ...

    def predict(
        self, group: str, psi: Tensor, known: Tensor | None, seen: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]: ...


class SketchCoder:
    """Code quantised latents with the integer entropy model.

    Args:
        entropy: the exported model; runs on the CPU whatever the device of the other networks.
        strict: refuse a payload that no encoder writes. Without it noise is decoded without an error, as other coders
            do; only for showing that (notebook 03).
    """

    def __init__(self, entropy: Predictor, strict: bool = True) -> None:
        self.entropy = entropy
        self.strict = strict
        self.tables = tables = entropy.tables
        self._lists = (tables.cdf_lists, tables.length_list, tables.offset_list)

    def quantise(self, y: Tensor, z: Tensor, quality_index: int) -> Symbols:
        """Round a latent to symbols.

        Args:
            y: scaled latent ``(1, C, h, w)``.
            z: hyper latent ``(1, Z, ceil(h/4), ceil(w/4))``, rounded here.
            quality_index: 0 to 255.
        """
        y = y.to("cpu", self.entropy.carrier)
        z_hat = z.double().cpu().round().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT).long()

        def rounded(group: slice, places: Tensor, means: Tensor, _: Tensor) -> Tensor:
            values = columns_at(y[:, group], places)  # (C, N)
            symbols = torch.round(values - means / UNITS_PER_Y)
            return symbols.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT).long()

        y_hat, coded = self._walk(z_hat, quality_index, y.shape[2], y.shape[3], rounded, _GROUPS)
        hyper = (z_hat.flatten(), self._hyper_rows(z_hat.shape))
        none = (torch.zeros(0, dtype=torch.int64),) * 2  # a lines-only codec has no tone
        groups = (zip(none, *coded[group], strict=True) for group in _GROUPS)
        sections = [hyper, *(tuple(map(torch.cat, both)) for both in groups)]
        symbols, rows = zip(*sections, strict=True)
        bits = tuple(float(self.tables.bits(s, r).sum()) for s, r in sections)
        return Symbols(symbols, rows, bits, y_hat)

    def encode(self, symbols: Symbols) -> tuple[bytes, bytes, bytes]:
        """The three sections of the rANS stream, whole 32-bit words each."""
        sizes, stream = [], b""
        for first in (2, 1, 0):  # tone alone, structure + tone, all
            if not any(map(len, symbols.symbols[first:])):  # flushing an empty coder crashes
                sizes.append(0)
                continue
            coder = BufferedRansEncoder()
            for s, r in zip(symbols.symbols[first:], symbols.rows[first:], strict=True):
                coder.encode_with_indexes(s.tolist(), r.tolist(), *self._lists)
            stream = coder.flush()
            sizes.append(len(stream) - FLUSH_BYTES)
        structure, tone = len(stream) - sizes[1], len(stream) - sizes[0]
        return stream[:structure], stream[structure:tone], stream[tone:]

    def decode(
        self,
        payload: bytes,
        quality_index: int,
        height: int,
        width: int,
        missing: tuple[str, ...],
        name: str = "stream",
    ) -> Tensor:
        """Decode a stream, or as much of it as arrived.

        Args:
            payload: the usable sections, joined.
            quality_index: from the header.
            height, width: size of the latent.
            missing: groups that did not arrive; their predicted means stand in.
            name: what error messages call the stream.

        Returns:
            ``y_hat`` ``(1, C, h, w)`` in units of 1/8, float64.

        Raises:
            CorruptStream: no encoder writes such a payload: too short for the picture's size, a symbol out of range,
                or an end that does not fit what was read.
        """
        channels = self.entropy.structure_channels + self.entropy.tone_channels
        z_shape = (1, self.entropy.hyper_channels, -(-height // 4), -(-width // 4))
        self._check_length(payload, z_shape, name)  # before anything of the picture's size is made
        count = channels * height * width + torch.Size(z_shape).numel()
        pad = _PAD_PER_BYTE * len(payload) + _PAD_PER_SYMBOL * count + _PAD
        decoder = RansDecoder()
        decoder.set_stream(payload + (b"" if missing else _END_MARK) + bytes(pad // 4 * WORD_BYTES))

        def read(rows: Tensor) -> Tensor:
            values = decoder.decode_stream(rows.tolist(), *self._lists)
            symbols = torch.tensor(values, dtype=torch.int64)
            if self.strict and symbols.numel() and symbols.abs().max() > SYMBOL_LIMIT:
                raise _forged(name, f"a symbol beyond {SYMBOL_LIMIT}")
            return symbols.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)

        z_hat = read(self._hyper_rows(z_shape)).view(z_shape)

        def decoded(_group: slice, _places: Tensor, _means: Tensor, rows: Tensor) -> Tensor:
            return read(rows.flatten()).view(rows.shape)

        groups = tuple(g for g in _GROUPS if g not in missing)
        y_hat = self._walk(z_hat, quality_index, height, width, decoded, groups)[0]
        if self.strict and not missing:
            end = decoder.decode_stream([0] * 3, [_END_TABLE], [len(_END_TABLE)], [0])
            if end != _END_SYMBOLS:
                raise _forged(name, "an end that does not fit its symbols")
        return y_hat

    def _check_length(self, payload: bytes, z_shape: tuple[int, ...], name: str) -> None:
        """Refuse less than the likeliest hyper symbols take: a few bytes shall not claim a large picture's memory."""
        rows = self.tables.bits_of[: z_shape[1]]
        least = float(rows.amin(dim=1).sum()) * z_shape[2] * z_shape[3]
        if 8 * len(payload) < 0.99 * least:  # the coder's rounding may save a little
            raise _forged(
                name, f"{len(payload)} bytes for a picture that takes {least / 8:.0f} at least"
            )

    def _hyper_rows(self, shape: tuple[int, ...] | torch.Size) -> Tensor:
        """Table row of every hyper symbol, channel by channel: ``(Z * h * w,)``."""
        return torch.arange(shape[1]).repeat_interleave(shape[2] * shape[3])

    def _walk(
        self,
        z_hat: Tensor,
        quality_index: int,
        height: int,
        width: int,
        symbols_of: Callable[[slice, Tensor, Tensor, Tensor], Tensor],
        groups: tuple[str, ...],
    ) -> tuple[Tensor, dict[str, list[tuple[Tensor, Tensor]]]]:
        """The four passes, common to encoder and decoder.

        Args:
            symbols_of: ``(channels, places (N,), means (C, N), rows (C, N))`` -> symbols ``(C, N)``.
            groups: groups that are coded; the others get their predicted means.

        Returns:
            ``y_hat`` in units of 1/8 and, per group, the (symbols, rows) of its two passes.
        """
        model = self.entropy
        split = model.structure_channels
        channels = {"structure": slice(0, split), "tone": slice(split, split + model.tone_channels)}
        y_hat = torch.zeros(1, split + model.tone_channels, height, width, dtype=model.carrier)
        psi = model.psi(z_hat, quality_index, height, width)
        anchors = checkerboard(height, width)[0, 0]  # (h, w)
        first, second = (where.flatten().nonzero()[:, 0] for where in (anchors, ~anchors))
        nowhere, anywhere = torch.zeros_like(anchors), torch.arange(height * width)
        coded: dict[str, list[tuple[Tensor, Tensor]]] = {g: [] for g in _GROUPS}
        for group in _GROUPS if model.tone_channels else _GROUPS[:1]:
            own = channels[group]
            known = y_hat[:, : own.stop]  # a view: what is decoded appears in it
            is_coded = group in groups
            passes = ((first, nowhere), (second, anchors)) if is_coded else ((anywhere, nowhere),)
            for places, seen in passes:
                blind = group == "structure" and seen is nowhere
                means, indices = model.predict(group, psi, None if blind else known, seen, places)
                rows = indices + model.hyper_channels
                symbols = symbols_of(own, places, means, rows) if is_coded else 0 * means
                values = (UNITS_PER_Y * symbols + means).to(model.carrier)  # (C, N)
                y_hat[0, own].flatten(1).index_copy_(1, places, values)
                coded[group].append((symbols.flatten(), rows.flatten()))
        return y_hat, coded


def _forged(name: str, what: str) -> CorruptStream:
    return CorruptStream(
        f"{name}: the entropy-coded data hold {what}: damaged, or not written by this codec. Fetch the file again."
    )
