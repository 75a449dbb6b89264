"""The entropy model in integers: what actually codes, bit-exact on every machine.

The decoder must reproduce every mean and scale of the encoder exactly, or the stream turns to garbage.
Floating point does not promise that across devices, thread counts or library versions; integers do [1].
So the trained networks are exported to fixed point: weights of 16 bits, activations of 16 bits in units
of 1/256, and tables of integer cumulative frequencies. The sums run in float64, where integers
below 2^53 are exact in any order of summation; the largest possible here is below 2^44.

    stored int16 weights --> float64 convolution (exact) --> shift right, round --> clip to 16 bits --> ...

With this resolution no quantisation-aware training is needed. The export rounds some means the other way, so
that the code length of a photo moves by up to 2 % in either direction, by -0.2 % on average (two photos at
three qualities, shipped model).

References
    [1] Balle et al., "Integer Networks for Data Compression with Latent-Variable Models", ICLR 2019.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .entropy import MEAN_STEP, SCALE_LEVELS, everywhere_alike, scale_of_index
from .errors import WeightsError

if TYPE_CHECKING:
    from .entropy import EntropyModel

ACTIVATION_BITS = 8  # activations are integers in units of 2^-8
LIMIT = 2**15 - 1  # weights and activations fit 16 bits
UNITS_PER_Y = round(1 / MEAN_STEP)  # y_hat is an integer in units of 1/8
CODER_PRECISION = 16  # bits of the cumulative frequencies
HYPER_RADIUS = 64  # hyper symbols beyond are coded by escape
_BAND_BYTES = 1 << 24  # torch copies k * k inputs per position for a convolution in float64


def _requantise(accumulated: Tensor, shift: int) -> Tensor:
    """Divide by ``2^shift``, round half up, clip to 16 bits; exact in float64."""
    shifted = (accumulated + 2.0 ** (shift - 1)).div_(2.0**shift)
    return shifted.floor_().clamp_(-LIMIT, LIMIT)


def _leaky(x: Tensor) -> Tensor:
    """Integer leaky ReLU of slope 1/8: ``floor(x / 8)`` below zero, where that is the larger."""
    return torch.maximum(x, (x / 8).floor_())


def _at(planes: Tensor, places: Tensor) -> Tensor:
    """Columns of planes ``(1, C, h, w)`` at places ``(N,)``: ``(C, N)``."""
    return planes[0].flatten(1).index_select(1, places)


class IntegerConv(nn.Module):
    """A convolution in fixed point.

    Args:
        weight: int16 ``(out, in, k, k)``.
        bias: int64 ``(out,)`` in units of ``2^-(8 + shift)``.
        shift: bits by which the weights were scaled up.
    """

    def __init__(self, weight: Tensor, bias: Tensor, shift: int) -> None:
        super().__init__()
        self.register_buffer("weight", weight.double())
        self.register_buffer("bias", bias.double())
        self.shift = shift

    @staticmethod
    def quantise(conv: nn.Conv2d) -> dict[str, Tensor]:
        """Fixed-point tensors of a float convolution, at the finest scale that 16 bits hold."""
        weight = conv.weight.detach().double()
        shift = math.floor(math.log2(LIMIT / weight.abs().max().clamp_min(1e-3).item()))
        bias = (conv.bias.detach().double() * 2.0 ** (ACTIVATION_BITS + shift)).round()
        return {
            "weight": (weight * 2.0**shift).round().to(torch.int16),
            "bias": bias.to(torch.int64),
            "shift": torch.tensor([shift], dtype=torch.int16),
        }

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in, h, w)`` integers in float64 -> ``(B, out, h, w)``, same padding.

        Large pictures go in bands of rows, to bound the memory; integers do not notice.
        """
        height, padding = x.shape[2], self.weight.shape[-1] // 2
        x = F.pad(x, (padding,) * 4)  # (B, in, h + k - 1, w + k - 1)
        band = max(1, _BAND_BYTES // (8 * self.weight[0].numel() * x.shape[3]))
        pieces = (x[:, :, top : top + band + 2 * padding] for top in range(0, height, band))
        found = [
            _requantise(F.conv2d(piece, self.weight, self.bias), self.shift) for piece in pieces
        ]
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)

    def points(self, x: Tensor) -> Tensor:
        """A 1x1 convolution on a list of positions: ``(in, N)`` -> ``(out, N)``."""
        weight = self.weight.flatten(1)  # (out, in)
        return _requantise(weight @ x + self.bias.unsqueeze(1), self.shift)


_LAYERS = {
    "synthesis": ("conv1", "up1", "conv2", "up2"),
    "structure_context": ("context", "mix", "hidden", "head"),
    "tone_context": ("context", "mix", "hidden", "head"),
}


def export_entropy_model(model: EntropyModel) -> dict[str, Tensor]:
    """Everything the coder needs, as integer tensors: fixed-point layers and frequency tables.

    Returns:
        Flat names -> int16/int32/int64 tensors, as stored in a weights file under ``integer.``.
    """
    tensors: dict[str, Tensor] = {}
    for network, layers in _LAYERS.items():
        for layer in layers if hasattr(model, network) else ():  # a lines-only model has no tone
            conv = getattr(getattr(model, network), layer)
            if conv is None:  # a model without context has none of this layer
                continue
            for key, value in IntegerConv.quantise(conv).items():
                tensors[f"{network}.{layer}.{key}"] = value
    hyper, gaussian = _hyper_tables(model), _gaussian_tables()
    width = max(hyper["cdf"].shape[1], gaussian["cdf"].shape[1])
    for key in ("cdf", "length", "offset"):
        parts = [hyper[key], gaussian[key]]
        if key == "cdf":
            parts = [F.pad(p, (0, width - p.shape[1])) for p in parts]
        tensors[f"tables.{key}"] = torch.cat(parts).to(torch.int32)
    return tensors


@torch.no_grad()
def _hyper_tables(model: EntropyModel) -> dict[str, Tensor]:
    """Cumulative frequencies of each hyper channel's factorised prior."""
    from compressai._CXX import (
        pmf_to_quantized_cdf,
    )  # takes seconds to import; only exporting needs it

    if model.prior is None:  # a factorised model: no hyper symbols, no rows
        return {
            "cdf": torch.zeros(0, 1),
            "length": torch.zeros(0, dtype=torch.int32),
            "offset": torch.zeros(0, dtype=torch.int32),
        }
    channels = model.prior.channels
    symbols = torch.arange(-HYPER_RADIUS, HYPER_RADIUS + 1)  # (S,)
    grid = symbols.float().view(1, 1, 1, -1).expand(1, channels, 1, -1)
    pmf = model.hyper_likelihood(grid)[0, :, 0].double()  # (Z, S)
    rows, lengths, offsets = [], [], []
    for p in pmf:
        likely = torch.nonzero(p > 2.0**-14).flatten()
        low, high = int(likely.min()), int(likely.max())
        inside = p[low : high + 1]
        escape = max(1.0 - inside.sum().item(), 2.0**-CODER_PRECISION)
        cdf = pmf_to_quantized_cdf([*inside.tolist(), escape], CODER_PRECISION)
        rows.append(torch.tensor(cdf))
        lengths.append(len(cdf))
        offsets.append(int(symbols[low]))
    cdf = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return {"cdf": cdf, "length": torch.tensor(lengths), "offset": torch.tensor(offsets)}


def _gaussian_tables() -> dict[str, Tensor]:
    """Cumulative frequencies of the 64 scales, as CompressAI's GaussianConditional makes them."""
    from compressai.entropy_models import GaussianConditional

    scales = scale_of_index(torch.arange(SCALE_LEVELS)).tolist()
    conditional = GaussianConditional(scales)
    conditional.update()
    return {
        "cdf": conditional.quantized_cdf,
        "length": conditional.cdf_length,
        "offset": conditional.offset,
    }


class IntegerEntropyModel(nn.Module):
    """Predict coding tables in exact integer arithmetic.

    Args:
        tensors: from :func:`export_entropy_model`.

    Raises:
        WeightsError: a tensor is missing or has an impossible shape.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        try:
            has_tone = any(name.startswith("tone_context.") for name in tensors)
            sees = any(".context." in name for name in tensors)  # else each symbol is on its own
            for network, layers in _LAYERS.items():
                if network == "tone_context" and not has_tone:
                    continue  # a lines-only codec
                convs = {}
                for layer in layers:
                    if layer == "context" and not sees:
                        continue
                    prefix = f"{network}.{layer}"
                    shift = int(tensors[f"{prefix}.shift"])
                    convs[layer] = IntegerConv(
                        tensors[f"{prefix}.weight"], tensors[f"{prefix}.bias"], shift
                    )
                setattr(self, network, nn.ModuleDict(convs))
            self.tables = Tables(
                tensors["tables.cdf"], tensors["tables.length"], tensors["tables.offset"]
            )
        except KeyError as error:
            raise WeightsError(
                f"weights: integer tensor {error} is missing; export them again"
            ) from error
        self.hyper_channels = self.synthesis["conv1"].weight.shape[1] - 1
        self.structure_channels = self.structure_context["head"].weight.shape[0] // 2
        self.tone_channels = self.tone_context["head"].weight.shape[0] // 2 if has_tone else 0
        self.model_id = model_id(tensors)

    @property
    def carrier(self) -> torch.dtype:
        """What the integers are carried in: float64, in which they are exact, or float32 after :meth:`rough`."""
        return self.synthesis["conv1"].weight.dtype

    def rough(self) -> IntegerEntropyModel:
        """A copy that computes in float32, twice as fast and nearly right: for counting, never for coding."""
        return copy.deepcopy(self).float()

    @torch.no_grad()
    def psi(self, z_hat: Tensor, quality_index: int, height: int, width: int) -> Tensor:
        """Hyper features of the sketch.

        Args:
            z_hat: integer symbols ``(1, Z, ceil(height/4), ceil(width/4))``, any dtype.
            quality_index: 0 to 255, as in the stream's header.
            height, width: size of the latent.

        Returns:
            ``(1, P, height, width)`` integers in units of 1/256, as :attr:`carrier`.
        """
        unit = 2**ACTIVATION_BITS
        z = (z_hat.to(self.carrier) * unit).clamp(-LIMIT, LIMIT)
        shape = (1, 1, *z.shape[-2:])
        plane = z.new_full(shape, (quality_index * 5 * unit + 127) // 255)
        net = self.synthesis
        x = _leaky(net["conv1"](torch.cat([z, plane], dim=1)))  # (1, 96, h/4, w/4)
        x = _leaky(F.pixel_shuffle(net["up1"](x), 2))  # (1, 64, h/2, w/2)
        x = _leaky(net["conv2"](x))
        psi = F.pixel_shuffle(net["up2"](x), 2)[..., :height, :width]
        return psi if self.hyper_channels else everywhere_alike(psi)

    @torch.no_grad()
    def predict(
        self, group: str, psi: Tensor, known: Tensor | None, seen: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and scale indices of one group at some positions.

        Args:
            group: ``"structure"`` or ``"tone"``.
            psi: from :meth:`psi`.
            known: decoded values ``(1, K, h, w)`` in units of 1/8, zero where unknown; None if nothing is.
            seen: boolean ``(h, w)``, where this group is known.
            places: int64 ``(N,)``, the positions wanted, row by row.

        Returns:
            means ``(C, N)`` in units of 1/8 and table indices ``(C, N)`` in 0..63, both int64.
        """
        net = self.structure_context if group == "structure" else self.tone_context
        unit = 2**ACTIVATION_BITS
        psi_there = _at(psi, places)  # (P, N)
        if "context" not in net:
            return self._head(net, psi_there)
        if known is None:  # the convolution of zeros is its bias
            conv = net["context"]
            bias = _requantise(conv.bias, conv.shift)
            context = bias.unsqueeze(1).expand(-1, psi_there.shape[1])
        else:
            values = (known * (unit // UNITS_PER_Y)).clamp(-LIMIT, LIMIT)
            mask = seen.to(self.carrier).view(1, 1, *seen.shape) * unit
            context = net["context"](torch.cat([values, mask], dim=1))  # (1, 48, h, w)
            context = _at(context, places)  # (48, N)
        return self._head(net, torch.cat([_leaky(context), psi_there]))

    @staticmethod
    def _head(net: nn.ModuleDict, features: Tensor) -> tuple[Tensor, Tensor]:
        """Means and indices, see :meth:`predict`, of what is known of each position ``(48 + P, N)`` or ``(P, N)``."""
        x = _leaky(net["mix"].points(features))  # (128, N)
        x = _leaky(net["hidden"].points(x))  # (96, N)
        means, indices = net["head"].points(x).chunk(2)
        means = torch.floor((means + 16) / 32).long()  # 1/256 -> 1/8, half up
        indices = torch.floor((indices + 16) / 32).long()  # index = 8 * activation
        return means, indices.clamp(0, SCALE_LEVELS - 1)


class Tables(nn.Module):
    """Integer frequency tables: first one row per hyper channel, then one per scale index.

    Args:
        cdf: int32 ``(rows, longest)``, cumulative frequencies ending at 2^16; the last symbol is the escape.
        length: int32 ``(rows,)``, entries used of each row.
        offset: int32 ``(rows,)``, symbol of each row's first entry.
    """

    def __init__(self, cdf: Tensor, length: Tensor, offset: Tensor) -> None:
        super().__init__()
        if cdf.ndim != 2 or len(length) != len(cdf) or len(offset) != len(cdf):
            raise WeightsError(f"weights: frequency tables of shape {tuple(cdf.shape)} do not fit")
        self.register_buffer("offset", offset.long())
        self.register_buffer("length", length.long())
        self.cdf_lists = [row[:n].tolist() for row, n in zip(cdf, length.tolist(), strict=True)]
        self.length_list, self.offset_list = length.tolist(), offset.tolist()
        frequencies = cdf.diff(dim=1).clamp_min(1).double()  # (rows, longest - 1)
        self.register_buffer("bits_of", CODER_PRECISION - frequencies.log2())

    def bits(self, symbols: Tensor, rows: Tensor) -> Tensor:
        """Ideal code length ``-log2 p`` in bits of each symbol ``(N,)`` in its table row ``(N,)``."""
        position = symbols - self.offset[rows]
        escape = self.length[rows] - 2  # the last entry's position
        escaped = (position < 0) | (position >= escape)
        bits = self.bits_of[rows, torch.where(escaped, escape, position)]
        # What does not fit is coded as a count of 4-bit digits and the digits (CompressAI's bypass).
        beyond = torch.where(position < 0, -2 * position - 1, 2 * (position - escape))
        digits = torch.ceil(torch.log2(beyond.clamp_min(0).double() + 1) / 4)
        return bits + torch.where(escaped, 4 * (digits + 1), 0.0)


def model_id(tensors: Mapping[str, Tensor]) -> int:
    """16-bit id of an entropy model: streams decode with any weights whose id is the same.

    It covers what coding depends on and nothing else, so a better preview decoder may be shipped
    without making old streams unreadable.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return int.from_bytes(digest.digest()[:2], "little")


__all__ = [
    "IntegerConv",
    "IntegerEntropyModel",
    "Tables",
    "export_entropy_model",
    "model_id",
]
