"""The entropy model in integers: what actually codes, bit-exact on every machine.

The decoder must reproduce every mean and scale of the encoder exactly, or the stream turns to garbage. Floating point
does not promise that across devices, thread counts or library versions; integers do [1]. So the trained networks are
exported to fixed point: weights and activations (in units of 1/256) of 16 bits, tables of integer cumulative
frequencies, and an id of all that, :func:`model_id`, which every file carries. The sums run in float64, where integers
below 2^53 are exact in any order; the largest here is below 2^44.

    stored int16 weights --> float64 convolution (exact) --> shift right, round --> clip to 16 bits --> ...

With this resolution no quantisation-aware training is needed. The export rounds some means the other way: the code
length of a photo moves by up to 2 %, by -0.2 % on average (two photos at three qualities, shipped model).

References
    [1] Balle et al., "Integer Networks for Data Compression with Latent-Variable Models", ICLR 2019.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import bias_of
from .entropy import MEAN_STEP, SCALE_LEVELS, EntropyModel, everywhere_alike, scale_of_index
from .errors import WeightsError

__all__ = ["IntegerConv", "IntegerEntropyModel", "Tables", "export_entropy_model", "model_id"]

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
    """Integer leaky ReLU of slope 1/8."""
    return torch.maximum(x, (x / 8).floor_())


def columns_at(planes: Tensor, places: Tensor) -> Tensor:
    """Columns of planes ``(1, C, h, w)`` at places ``(N,)``: ``(C, N)``."""
    return planes[0].flatten(1).index_select(1, places)


class IntegerConv(nn.Module):
    """A convolution in fixed point.

    Args:
        weight: int16 ``(out, in, k, k)``.
        bias: int64 ``(out,)`` in units of ``2^-(8 + shift)``.
        shift: bits by which the weights were scaled up.
    """

    def __init__(self, weight: Tensor, bias: Tensor, shift: int | Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight.double())
        self.bias = nn.Buffer(bias.double())
        self.shift = int(shift)

    @staticmethod
    def quantise(conv: nn.Conv2d) -> dict[str, Tensor]:
        """Fixed-point tensors of a float convolution, at the finest scale that 16 bits hold."""
        weight = conv.weight.detach().double()
        shift = math.floor(math.log2(LIMIT / weight.abs().max().clamp_min(1e-3).item()))
        bias = (bias_of(conv).detach().double() * 2.0 ** (ACTIVATION_BITS + shift)).round()
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
        sums = (F.conv2d(piece, self.weight, self.bias) for piece in pieces)
        return torch.cat([_requantise(each, self.shift) for each in sums], dim=2)

    def points(self, x: Tensor) -> Tensor:
        """A 1x1 convolution on a list of positions: ``(in, N)`` -> ``(out, N)``."""
        return _requantise(self.weight.flatten(1) @ x + self.bias.unsqueeze(1), self.shift)


_TENSORS = ("weight", "bias", "shift")  # of a layer
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
            if conv is not None:  # a model without context has none of this layer
                fixed = IntegerConv.quantise(conv)
                tensors |= {f"{network}.{layer}.{key}": value for key, value in fixed.items()}
    cdfs, offsets = zip(*_hyper_tables(model), *_gaussian_tables(), strict=True)
    tables = {
        "cdf": nn.utils.rnn.pad_sequence(list(cdfs), batch_first=True),
        "length": torch.tensor([len(cdf) for cdf in cdfs]),
        "offset": torch.tensor(offsets),
    }
    return tensors | {f"tables.{key}": column.to(torch.int32) for key, column in tables.items()}


@torch.no_grad()
def _hyper_tables(model: EntropyModel) -> Iterator[tuple[Tensor, int]]:
    """Cumulative frequencies and first symbol of each hyper channel, by its factorised prior, if there is one."""
    from compressai._CXX import pmf_to_quantized_cdf  # slow to import; only exporting needs it

    channels = model.prior.channels if model.prior is not None else 0
    symbols = torch.arange(-HYPER_RADIUS, HYPER_RADIUS + 1.0).expand(1, channels, 1, -1)  # (S,)
    for p in model.hyper_likelihood(symbols)[0, :, 0].double():  # (S,)
        likely = torch.nonzero(p > 2.0**-14).flatten()
        low, high = int(likely.min()), int(likely.max())
        inside = p[low : high + 1]
        escape = max(1.0 - inside.sum().item(), 2.0**-CODER_PRECISION)
        cdf = pmf_to_quantized_cdf([*inside.tolist(), escape], CODER_PRECISION)
        yield torch.tensor(cdf), low - HYPER_RADIUS


def _gaussian_tables() -> Iterator[tuple[Tensor, int]]:
    """The same of each of the 64 scales, as CompressAI's GaussianConditional makes them."""
    from compressai.entropy_models import GaussianConditional

    made = GaussianConditional(scale_of_index(torch.arange(SCALE_LEVELS)).tolist())
    made.update()
    for cdf, length, offset in zip(made.quantized_cdf, made.cdf_length, made.offset, strict=True):
        yield cdf[:length], int(offset)


class IntegerEntropyModel(nn.Module):
    """Predict coding tables in exact integer arithmetic.

    Args:
        tensors: from :func:`export_entropy_model`.

    Raises:
        WeightsError: a tensor is missing or has an impossible shape.
    """

    synthesis: Mapping[str, IntegerConv]  # these are of nn.ModuleDict
    structure_context: Mapping[str, IntegerConv]
    tone_context: Mapping[str, IntegerConv]

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        has_tone = any(name.startswith("tone_context.") for name in tensors)  # or sends lines only
        sees = any(".context." in name for name in tensors)  # else each symbol is on its own
        try:
            for network in _LAYERS if has_tone else ("synthesis", "structure_context"):
                convs = nn.ModuleDict()
                for layer in (name for name in _LAYERS[network] if sees or name != "context"):
                    parts = (tensors[f"{network}.{layer}.{key}"] for key in _TENSORS)
                    convs[layer] = IntegerConv(*parts)
                setattr(self, network, convs)
            self.tables = Tables(*(tensors[f"tables.{key}"] for key in ("cdf", "length", "offset")))
        except KeyError as error:
            what = f"weights: integer tensor {error} is missing; export them again"
            raise WeightsError(what) from error
        self.hyper_channels = self.synthesis["conv1"].weight.shape[1] - 1
        self.structure_channels = self.structure_context["head"].weight.shape[0] // 2
        self.tone_channels = self.tone_context["head"].weight.shape[0] // 2 if has_tone else 0
        self.model_id = model_id(tensors)

    @property
    def carrier(self) -> torch.dtype:
        """Carries the integers: float64, in which they are exact, or float32 after :meth:`rough`."""
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
        plane = z.new_full((1, 1, *z.shape[-2:]), (quality_index * 5 * unit + 127) // 255)
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
        x = columns_at(psi, places)  # (P, N)
        if "context" in net:
            conv = net["context"]
            if known is None:  # the convolution of zeros is its bias
                context = _requantise(conv.bias, conv.shift).unsqueeze(1).expand(-1, x.shape[1])
            else:
                values = (known * (unit // UNITS_PER_Y)).clamp(-LIMIT, LIMIT)
                mask = seen.to(self.carrier).view(1, 1, *seen.shape) * unit
                context = columns_at(conv(torch.cat([values, mask], dim=1)), places)  # (48, N)
            x = torch.cat([_leaky(context), x])  # (48 + P, N)
        x = _leaky(net["mix"].points(x))  # (128, N)
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
        self.offset, self.length = nn.Buffer(offset.long()), nn.Buffer(length.long())
        self.cdf_lists = [row[:n].tolist() for row, n in zip(cdf, length.tolist(), strict=True)]
        self.length_list, self.offset_list = length.tolist(), offset.tolist()
        self.bits_of = nn.Buffer(CODER_PRECISION - cdf.diff(dim=1).clamp_min(1).double().log2())

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

    It covers what coding depends on and nothing else: a better preview decoder leaves old streams readable.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return int.from_bytes(digest.digest()[:2], "little")
