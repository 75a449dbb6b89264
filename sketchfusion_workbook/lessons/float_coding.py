"""Code with the float networks of training, to see how that fails: the reason for :mod:`..integer`.

    float networks --FloatNets--> SketchCoder --stream--> SketchCoder(other threads, sums, data type) --> wrong numbers

A decoder whose networks differ from the encoder's in one rounded mean or table row reads garbage from there on, and
cannot know.

References
    [1] Balle et al., "Integer Networks for Data Compression with Latent-Variable Models", ICLR 2019.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sketchfusion_lite.coding import SketchCoder
from sketchfusion_lite.entropy import SCALE_LEVELS, EntropyModel
from sketchfusion_lite.integer import UNITS_PER_Y, IntegerConv, IntegerEntropyModel, Tables

__all__ = ["FloatNets", "misread", "reversed_sums"]


class FloatNets:
    """What a :class:`.SketchCoder` asks of an entropy model, answered by float networks.

    Args:
        nets: the trained networks; copied.
        tables: frequency tables to code with, the shipped ones for a fair comparison.
        dtype: data type that the copy computes in.
    """

    carrier = torch.float64  # of decoded values, whatever the networks compute in

    def __init__(
        self, nets: EntropyModel, tables: Tables, dtype: torch.dtype = torch.float32
    ) -> None:
        self.nets, self.tables, self.dtype = copy.deepcopy(nets).to(dtype), tables, dtype
        self.structure_channels, self.tone_channels = nets.structure_channels, nets.tone_channels
        self.hyper_channels = nets.prior.channels if nets.prior is not None else 0

    @torch.no_grad()
    def psi(self, z_hat: Tensor, quality_index: int, height: int, width: int) -> Tensor:
        """Hyper features, see :meth:`.IntegerEntropyModel.psi`; floats ``(1, P, height, width)``."""
        quality = torch.tensor([quality_index * 5 / 255], dtype=self.dtype)
        return self.nets.synthesis(z_hat.to(self.dtype), quality)[..., :height, :width]

    @torch.no_grad()
    def predict(
        self, group: str, psi: Tensor, known: Tensor | None, seen: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and rows, rounded, see :meth:`.IntegerEntropyModel.predict`."""
        if known is None:
            known = torch.zeros(1, self.structure_channels, *seen.shape)
        values, mask = (known / UNITS_PER_Y).to(self.dtype), seen.to(self.dtype)[None, None]
        net = self.nets.structure_context if group == "structure" else self.nets.tone_context
        means, rows = net(psi, values, mask)
        numbers = UNITS_PER_Y * means, rows.clamp(0, SCALE_LEVELS - 1)
        means, rows = (x[0].flatten(1)[:, places].round().long() for x in numbers)
        return means, rows


def reversed_sums(nets: nn.Module) -> nn.Module:
    """A copy whose convolutions, float or integer, add up their input channels in the opposite order."""
    nets = copy.deepcopy(nets)
    for layer in nets.modules():
        if isinstance(layer, nn.Conv2d | IntegerConv):
            layer.weight.data = layer.weight.data.flip(1)
            layer.forward = lambda x, forward=layer.forward: forward(x.flip(1))
        if isinstance(layer, IntegerConv):
            layer.points = lambda x, points=layer.points: points(x.flip(0))
    return nets


def misread(
    entropy: IntegerEntropyModel | FloatNets, payload: bytes, quality_index: int, y_hat: Tensor
) -> Tensor:
    """Where a decoder with these networks reads something else than was sent.

    Args:
        entropy: the decoder's.
        payload: the whole rANS stream.
        quality_index: it was made at, 0 to 255.
        y_hat: what the encoder coded ``(1, C, h, w)``, in units of 1/8.

    Returns:
        Boolean, of the shape of ``y_hat``.
    """
    coder = SketchCoder(entropy, strict=False)  # it would stop at what is to be counted
    found = coder.decode(payload, quality_index, *y_hat.shape[-2:], ())
    return found != y_hat
