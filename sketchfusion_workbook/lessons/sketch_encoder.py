"""Notebook 02: what the encoder's stages cost, and the symbols of one picture unfolded into planes.

    network, inputs --> Stage(macs, parameters) of each child
    photo --> SketchFusionCodec --> symbols in coding order --> SymbolPlanes, one value per place and channel

For looking and measuring; coding goes without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sketchfusion_lite.bitstream import quality_to_index
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.entropy import checkerboard, scale_of_index
from sketchfusion_lite.images import ImageSource, load_image
from sketchfusion_lite.integer import UNITS_PER_Y

__all__ = ["Stage", "SymbolPlanes", "stages", "symbol_planes", "unfold"]


@dataclass(frozen=True)
class Stage:
    """What one part of a network costs and does.

    Attributes:
        macs: multiply-accumulates for the inputs it was run with.
        parameters: how many.
    """

    macs: int
    parameters: int


@torch.no_grad()
def stages(network: nn.Module, *inputs: Tensor) -> dict[str, Stage]:
    """Run a network once and account for each of its children.

    Args:
        network: whose ``forward`` calls its children as modules.
        inputs: of its ``forward``.

    Returns:
        Name of every child -> :class:`Stage`.
    """
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    counts, found = counter.get_flop_counts(), {}
    for name, child in network.named_children():
        flops = sum(counts.get(f"{type(network).__name__}.{name}", {}).values())
        found[name] = Stage(
            flops // 2,  # torch counts multiplication and addition
            sum(p.numel() for p in child.parameters()),
        )
    return found


@dataclass(frozen=True)
class SymbolPlanes:
    """What the encoder makes of one picture; tensors are float32 ``(1, C, h, w)`` on the CPU, structure group first.

    Attributes:
        y: the latent times the gain of this quality, not rounded.
        symbols: the integers that are coded, ``round(y - means)``.
        means: the predicted means.
        scales: the predicted standard deviations.
        bits: ideal code length of each symbol.
        hyper_bits: ideal code length of the hyper symbols, which have no plane here.
        structure_channels: how many of the channels are structure.
    """

    y: Tensor
    symbols: Tensor
    means: Tensor
    scales: Tensor
    bits: Tensor
    hyper_bits: float
    structure_channels: int

    @property
    def y_hat(self) -> Tensor:
        """What the receiver knows of ``y``: ``means + symbols``."""
        return self.means + self.symbols

    @property
    def zeros(self) -> float:
        """Fraction of the symbols that are zero."""
        return float((self.symbols == 0).double().mean())


def symbol_planes(codec: SketchFusionCodec, image: ImageSource, quality: float) -> SymbolPlanes:
    """Encode a picture as far as its symbols.

    Args:
        codec: whose encoder and entropy model.
        image: path, PIL image, array or tensor; see :func:`.load_image`.
        quality: 0 (smallest) to 5 (finest).

    Raises:
        ArgumentError: quality out of range.
        ImageError: no usable picture.
    """
    index = quality_to_index(quality)
    latent = codec.latent(load_image(image))  # (1, C, h, w)
    with torch.inference_mode():
        gain, _ = codec.model.gain(codec.quality_tensor(index))  # (1, C, 1, 1)
    coded = codec.quantise(latent, index)
    tables, split = codec.coder.tables, codec.entropy.structure_channels
    symbols, rows, bits = (torch.empty(coded.y_hat.shape) for _ in range(3))
    for section, group in ((1, slice(0, split)), (2, slice(split, None))):
        values, places = coded.symbols[section], coded.rows[section]
        cost = tables.bits(values, places)
        for planes, flat in ((symbols, values), (rows, places), (bits, cost)):
            planes[0, group] = unfold(flat.float(), *planes.shape[-2:])
    return SymbolPlanes(
        (latent * gain).float().cpu(),
        symbols,
        coded.y_hat.float() / UNITS_PER_Y - symbols,
        scale_of_index(rows - codec.entropy.hyper_channels),
        bits,
        coded.bits[0],
        split,
    )


def unfold(flat: Tensor, height: int, width: int) -> Tensor:
    """Values of one group in coding order ``(C * h * w,)``, anchors first, then the others -> planes ``(C, h, w)``."""
    anchors = checkerboard(height, width)[0, 0]  # (h, w)
    planes = flat.new_empty(len(flat) // (height * width), height, width)
    first = len(planes) * int(anchors.sum())
    for where, part in ((anchors, flat[:first]), (~anchors, flat[first:])):
        planes[:, where] = part.view(len(planes), int(where.sum()))
    return planes
